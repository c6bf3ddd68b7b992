"""Target URLs of subscribers, replies and dead letter sinks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.target_url import TargetUrl, is_address, parse_target_url


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
def test_a_url_that_is_none_is_refused_with_the_reason(url: str, said: str) -> None:
    """The message contains the reason, and never a password."""
    with pytest.raises(ValueError, match=said) as caught:
        parse_target_url(url)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=60).map("http://{}".format))
def test_reading_a_url_raises_nothing_else(url: str) -> None:
    """Every text results in a URL or a ValueError, and no URL can break the request line."""
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
    """Other notations of addresses are resolved, so that the egress policy checks the address they
    refer to.
    """
    assert expected is is_address(host)
