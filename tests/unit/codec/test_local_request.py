"""Which requests to a loopback port are allowed: those of local programs, not of web pages."""

from collections.abc import Callable

import pytest

from headrace.codec.local_request import host_is_local, refusal, split_host
from tests.support.complexity import assert_linear


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8080",
        "localhost.",
        "127.0.0.1",
        "127.0.0.2:80",
        "127.255.255.254",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
    ],
)
def test_loopback_hosts_are_local(host: str) -> None:
    assert host_is_local(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example:127",
        "128.0.0.1",
        "0.0.0.0",
        "[::2]",
        "::1",
        "localhost:99999",
        "localhost:8080:8080",
        "[::1",
        "local host",
    ],
)
def test_other_hosts_are_not_local(host: str) -> None:
    assert not host_is_local(host)


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        (
            "Orders-kn-channel.shop.svc.cluster.local:80",
            ("orders-kn-channel.shop.svc.cluster.local", "80"),
        ),
        ("a.", ("a", "")),
        ("a:", ("a", "")),
        ("[2001:DB8::1]:1", ("2001:db8::1", "1")),
        ("[v1.a:b]", ("v1.a:b", "")),
        ("%41b", ("%41b", "")),
        ("[::g]", None),
        ("[:::]", None),
        ("a b", None),
        ("a/b", None),
        ("a@b", None),
        ("a\x00", None),
        ("a\n", None),
        ("%4", None),
        ("a:b", None),
        ("a,b", None),
        ("é", None),
        ("a" * 256, None),
    ],
)
def test_host_grammar(host: str, parts: tuple[str, str] | None) -> None:
    assert split_host(host) == parts


def test_programs_on_this_machine_are_served() -> None:
    assert refusal("localhost:8080", None, None, ()) is None
    assert refusal("", None, None, ()) is None
    assert refusal("127.0.0.2:8080", "http://localhost:3000", "same-site", ()) is None
    assert (
        refusal(
            "headrace.internal:8080",
            "https://headrace.internal",
            "same-origin",
            {"headrace.internal"},
        )
        is None
    )
    assert refusal("localhost", None, "none", ()) is None


@pytest.mark.parametrize(
    ("host", "origin", "site", "named"),
    [
        ("evil.example:8080", None, None, "evil.example"),
        ("localhost:8080", None, "cross-site", "Sec-Fetch-Site"),
        ("localhost:8080", None, " Cross-Site ", "Sec-Fetch-Site"),
        ("localhost:8080", "https://evil.example", None, "Origin"),
        ("localhost:8080", "null", None, "Origin"),
        ("localhost:8080", "", None, "Origin"),
        ("localhost:8080", "file://localhost", None, "Origin"),
        ("localhost:8080", "http://localhost, http://evil.example", None, "Origin"),
    ],
)
def test_web_pages_are_refused(host: str, origin: str | None, site: str | None, named: str) -> None:
    reason = refusal(host, origin, site, ())

    assert reason is not None
    assert named in reason


def test_a_long_value_is_shown_in_part() -> None:
    reason = refusal("a" * 100_000, None, None, ())

    assert reason is not None
    assert len(reason) < 200


@pytest.mark.parametrize("repeated", ["a", "[", "%41", "[v1.", ":", "127.", "://", "\t"])
def test_the_check_takes_linear_time(repeated: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        hostile = repeated * (size // len(repeated))
        return lambda: (
            refusal(hostile, None, None, ()),
            refusal("", "http://" + hostile, hostile, ()),
        )

    assert_linear(prepare, largest=65_536)
