"""The `Retry-After` header as subscribers send it: seconds or an HTTP date."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.retry_after import parse_http_date, retry_after_seconds

NOW = 1_700_000_000.0
IMF = b"Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120.0),
        (b" 120 ", 120.0),
        (b"0", 0.0),
        (IMF, 0.0),
        (b"Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        (b"Tuesday, 14-Nov-23 22:13:30 GMT", 10.0),
        (b"Tue Nov 14 22:13:30 2023", 10.0),
        (b"Tue Nov  7 22:13:30 2023", 0.0),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"soon", None),
        (b"Tue, 14 Nov 2023 22:13:30 CET", None),
        (b"Tue, 31 Feb 2024 22:13:30 GMT", None),
        (b"Tue, 14 Foo 2023 22:13:30 GMT", None),
        (b"1" * 65, None),
        (b"99999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    """Both forms of RFC 9110 are read, a past date means no wait, and anything else is ignored."""
    assert seconds == retry_after_seconds(value, NOW)


def test_a_two_digit_year_far_ahead_is_in_the_past() -> None:
    """RFC 9110, 5.6.7: a year more than 50 years ahead belongs to the previous century."""
    assert parse_http_date(b"Sunday, 06-Nov-94 08:49:37 GMT", NOW) == parse_http_date(
        b"Sun, 06 Nov 1994 08:49:37 GMT", NOW
    )


def test_a_leap_second_is_a_date() -> None:
    """The grammar allows a leap second, so it must be accepted."""
    assert parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) is not None


@given(st.binary(max_size=80))
def test_reading_retry_after_never_fails(value: bytes) -> None:
    """Every input results in a wait that is not negative, or in None."""
    seconds = retry_after_seconds(value, NOW)
    assert seconds is None or seconds >= 0
