"""Durations, HTTP dates and target URLs: texts from manifests and subscribers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.retry_after import parse_http_date, retry_after_seconds
from headrace.domain.target_url import TargetUrl, is_address, parse_target_url
from headrace.resources.durations import InvalidDuration, parse_duration

NOW = 1_700_000_000.0
IMF = b"Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT0,2S", 0.2),
        ("PT0S", 0.0),
        ("P0D", 0.0),
        ("PT30S", 30.0),
        ("PT10M", 600.0),
        ("PT1H30M", 5_400.0),
        ("P1D", 86_400.0),
        ("P2W", 1_209_600.0),
        ("P1W1DT1S", 691_201.0),
        ("P0.5D", 43_200.0),
        ("P1M", 2_629_746.0),
        ("P1Y", 31_556_952.0),
        ("-PT5S", -5.0),
        ("+PT5S", 5.0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """Every unit, both decimal signs, and a sign."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "10s",
        "1",
        "PT1",
        "PT1S1M",
        "PT1.5M1S",
        "pt1s",
        " PT1S",
        "PT1S ",
        "PT.5S",
        "PT1.S",
        "P1S",
        "PT1D",
        "PT١S",
        "PT1e3S",
        "P" + "1" * 70 + "D",
    ],
)
def test_an_invalid_duration_is_refused_with_its_text(text: str) -> None:
    """The error quotes the text."""
    with pytest.raises(InvalidDuration) as caught:
        parse_duration(text)
    assert repr(text)[1:10].rstrip("'") in str(caught.value)


def test_a_duration_beyond_a_century_is_refused() -> None:
    """Times far beyond the calendar would lose precision."""
    with pytest.raises(InvalidDuration, match="longer than 100 years"):
        parse_duration("P101Y")


@settings(deadline=None)
@given(
    st.integers(min_value=0, max_value=10**14),
    st.sampled_from(["", "-"]),
    st.sampled_from([".", ","]),
)
def test_a_duration_is_read_to_the_microsecond(micros: int, sign: str, point: str) -> None:
    """Nothing is lost in days, hours, minutes, seconds and their fraction."""
    seconds, fraction = divmod(micros, 1_000_000)
    time = f"{seconds // 3_600 % 24}H{seconds // 60 % 60}M{seconds % 60}{point}{fraction:06d}S"
    text = f"{sign}P{seconds // 86_400}DT{time}"
    assert micros == round(abs(parse_duration(text)) * 1e6)
    assert (parse_duration(text) < 0) is (sign == "-" and micros > 0)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_reading_a_duration_never_fails_otherwise(text: str) -> None:
    """Any text gives a number or `InvalidDuration`."""
    try:
        assert isinstance(parse_duration(text), float)
    except InvalidDuration as error:
        assert str(error)


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
    """Both forms of RFC 9110 are read, a past date means no wait, anything else is ignored."""
    assert seconds == retry_after_seconds(value, NOW)


def test_a_two_digit_year_far_ahead_is_in_the_past() -> None:
    """RFC 9110, 5.6.7: more than 50 years ahead means the century before."""
    assert parse_http_date(b"Sunday, 06-Nov-94 08:49:37 GMT", NOW) == parse_http_date(
        b"Sun, 06 Nov 1994 08:49:37 GMT", NOW
    )


def test_a_leap_second_is_a_date() -> None:
    """The grammar allows it, so it must be accepted."""
    assert parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) is not None


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_reading_retry_after_never_fails(value: bytes) -> None:
    """Anything that a subscriber sends gives a non-negative wait, or nothing."""
    seconds = retry_after_seconds(value, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("url", "parsed", "authority"),
    [
        (
            "http://svc.ns.svc.cluster.local",
            TargetUrl("http", "svc.ns.svc.cluster.local", 80, "/"),
            "svc.ns.svc.cluster.local",
        ),
        ("http://Svc/path?a=1&b=%20", TargetUrl("http", "svc", 80, "/path?a=1&b=%20"), "svc"),
        ("https://host:8443/x", TargetUrl("https", "host", 8443, "/x"), "host:8443"),
        ("https://host:443", TargetUrl("https", "host", 443, "/"), "host"),
        ("http://[::1]:8080/", TargetUrl("http", "::1", 8080, "/"), "[::1]:8080"),
        ("http://[0:0::1]?q", TargetUrl("http", "::1", 80, "/?q"), "[::1]"),
        ("http://127.0.0.1:1/a/../b", TargetUrl("http", "127.0.0.1", 1, "/a/../b"), "127.0.0.1:1"),
    ],
)
def test_a_url_is_taken_apart(url: str, parsed: TargetUrl, authority: str) -> None:
    """Scheme, host, port, request target and Host header."""
    assert (parsed, authority) == (parse_target_url(url), parse_target_url(url).authority)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "without a scheme"),
        ("host/path", "without a scheme"),
        ("file:///etc/passwd", "file:"),
        ("gopher://host", "gopher:"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://user:secret@host/", "user information"),
        ("http://host/#", "fragment"),
        ("http://host:0/", "port"),
        ("http://host:65536/", "port"),
        ("http://host:+80/", "port"),
        ("http://host:8_0/", "port"),
        ("http://host:/", "port"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[::1]x/", "IPv6"),
        ("http://[::g]/", "IPv6"),
        ("http://ho$t/", "host"),
        ("http://-host/", "host"),
        ("http://host/a b", "space"),
        ("http://host/a\r\nx: y", "control"),
        ("http://host/ü", "ASCII"),
        ("http://" + "a" * 3_000, "characters"),
    ],
)
def test_an_invalid_url_is_refused_with_the_reason(url: str, said: str) -> None:
    """The message says what is wrong, and never repeats a password."""
    with pytest.raises(ValueError, match=said) as caught:
        parse_target_url(url)
    assert "secret" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60).map("http://{}".format))
def test_reading_a_url_raises_nothing_else(url: str) -> None:
    """Any text gives a URL or a ValueError, and no way to break the request line."""
    try:
        parsed = parse_target_url(url)
    except ValueError:
        return
    assert not set(parsed.path + parsed.authority) & set(" \r\n\t\0")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("127.1", False), ("0x7f.1", False), ("localhost", False)],
)
def test_only_canonical_addresses_skip_the_resolver(host: str, expected: bool) -> None:
    """Unusual spellings of addresses are resolved, so that the address policy checks the actual
    address.
    """
    assert expected is is_address(host)
