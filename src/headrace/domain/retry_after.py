"""The `Retry-After` response header (RFC 9110, 10.2.3): seconds, or one of the three date formats
of 5.6.7.

It is parsed here because the result must not depend on the locale of the process, and the domain
has no clock.
"""

import re
from datetime import UTC, datetime

_VALUE_MAX = 64
_SECONDS = re.compile(rb"[0-9]{1,10}")
_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split(), start=1
    )
}
_CLOCK = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_FORMS = (
    re.compile(
        rb"[A-Z][a-z]{2}, (?P<day>[0-9]{2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4}) (?P<clock>"
        + _CLOCK
        + rb") GMT"
    ),
    re.compile(
        rb"[A-Z][a-z]{5,8}, (?P<day>[0-9]{2})-(?P<month>[A-Z][a-z]{2})-(?P<year>[0-9]{2})"
        rb" (?P<clock>" + _CLOCK + rb") GMT"
    ),
    re.compile(
        rb"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[0-9 ][0-9]) (?P<clock>"
        + _CLOCK
        + rb") (?P<year>[0-9]{4})"
    ),
)


def retry_after_seconds(value: bytes, now: float) -> float | None:
    """Return how many seconds from `now` (Unix seconds) the server asks to wait, never negative;
    None if the value has neither form.
    """
    value = value.strip()
    if len(value) > _VALUE_MAX:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    date = parse_http_date(value, now)
    return None if date is None else max(0.0, date - now)


def parse_http_date(value: bytes, now: float) -> float | None:
    """Return an HTTP date as Unix seconds, or None if the value is not a date.

    `now` determines the century of the two-digit year of the RFC 850 format: a year that would be
    more than 50 years in the future is in the past (5.6.7).
    """
    match = next((found for form in _FORMS if (found := form.fullmatch(value))), None)
    if match is None or match["month"] not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    hour, minute, second = (int(part) for part in match["clock"].split(b":"))
    try:
        # The grammar allows a leap second, which datetime does not support.
        return datetime(
            year,
            _MONTHS[match["month"]],
            int(match["day"]),
            hour,
            minute,
            min(second, 59),
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None
