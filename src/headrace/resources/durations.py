"""ISO-8601 durations, as used in the delivery fields of Knative resources (`PT0.2S`, `P1D`, `P2W`,
`PT1,5S`), and durations of Go, which a few of its resources have.

Inside Headrace a duration is always a float of seconds; only manifests use these texts.
"""

import re
from fractions import Fraction

_TEXT_MAX = 64
_SECONDS_MAX = 100 * 365.2425 * 86_400
"""A century: far above any sensible value, far below where float arithmetic on Unix times loses its
milliseconds.
"""

_NUMBER = r"([0-9]+(?:[.,][0-9]+)?)"
_DURATION = re.compile(
    rf"([+-]?)P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?(T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.ASCII,
)
_UNITS = (
    Fraction("31556952"),
    Fraction("2629746"),
    Fraction(604_800),
    Fraction(86_400),
    Fraction(3_600),
    Fraction(60),
    Fraction(1),
)
"""Seconds of year, month, week, day, hour, minute, second; year and month are the Gregorian
calendar's average.
"""


_GO_UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3_600),
}
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern})+|0")


class InvalidDuration(ValueError):
    """The text is not a duration; the message quotes it and gives an example."""


def parse_duration(text: str) -> float:
    """The seconds of an ISO-8601 duration; negative ones are parsed too (each field decides whether
    it accepts them).

    Weeks may be combined with other units and a comma may be the decimal sign; only the last number
    may have a fraction (ISO 8601-1, 5.5.2.4). Raises `InvalidDuration`.
    """
    match = _DURATION.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if match is None:
        raise InvalidDuration(
            f"{_quoted(text)} is not an ISO-8601 duration such as PT0.2S, PT10M or P1D"
        )
    sign, years, months, weeks, days, time, hours, minutes, seconds = match.groups()
    numbers = (years, months, weeks, days, hours, minutes, seconds)
    given = [
        (number.replace(",", "."), unit)
        for number, unit in zip(numbers, _UNITS, strict=True)
        if number is not None
    ]
    if not given or time == "T":
        raise InvalidDuration(f"{_quoted(text)} has no amount of time; use for example PT0S")
    if any("." in number for number, _ in given[:-1]):
        raise InvalidDuration(
            f"{_quoted(text)} has a fraction before its last number; only the last may have one"
        )
    total = float(sum((Fraction(number) * unit for number, unit in given), Fraction(0)))
    if total > _SECONDS_MAX:
        raise InvalidDuration(f"{_quoted(text)} is longer than 100 years")
    return -total if sign == "-" else total


def parse_go_duration(text: str) -> float:
    """The seconds of a duration as Go writes it (`168h`, `1h30m`, `1.5s`), which some resources use
    instead. Raises `InvalidDuration`.
    """
    valid = len(text) <= _TEXT_MAX and _GO_DURATION.fullmatch(text)
    if not valid:
        raise InvalidDuration(f"{_quoted(text)} is not a duration such as 168h, 1h30m or 1.5s")
    parts = _GO_PART.findall(text)
    total = float(sum((Fraction(number) * _GO_UNITS[unit] for number, unit in parts), Fraction(0)))
    if total > _SECONDS_MAX:
        raise InvalidDuration(f"{_quoted(text)} is longer than 100 years")
    return total


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "…")
