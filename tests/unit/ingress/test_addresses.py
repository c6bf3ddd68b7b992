"""From a request target to a path: decoded once, and never into a neighbour's."""

import pytest

from headrace_ingress.addresses import decode_host, decode_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/ns/name", "/ns/name"),
        (b"/ns/name/", "/ns/name"),
        (b"/ns/name?a=/b", "/ns/name"),
        (b"/ns/name#x", "/ns/name"),
        (b"/n%73/name", "/ns/name"),
        (b"/ns/n%C3%A4me", "/ns/näme"),
        (b"http://host:80/ns/name", "/ns/name"),
        (b"https://host", "/"),
        (b"/", "/"),
        (b"//", "/"),
        (b"//ns/name", "//ns/name"),
        (b"/ns%2Fname", None),
        (b"/ns/..%2fname", None),
        (b"/ns/%2e%2e/name", None),
        (b"/ns/./name", None),
        (b"/ns/name%00", None),
        (b"/ns/na%0d%0ame", None),
        (b"/ns/%C0%AF", None),
        (b"/ns/%ff", None),
        (b"*", None),
        (b"host:443", None),
        (b"ftp://host/ns/name", None),
    ],
)
def test_a_target_is_one_path_or_none(target: bytes, path: str | None) -> None:
    """Query, fragment and one slash at the end do not count; anything that could be read in two ways is no path."""
    assert path == decode_path(target)


@pytest.mark.parametrize(
    ("field", "name"), [(b"A.Example:8080", "a.example"), (b"a.example.", "a.example"), (b"[::1]:80", "[::1]:80"), (b"\xff", "ÿ")]
)
def test_a_host_is_compared_without_port_and_case(field: bytes, name: str) -> None:
    """`Host` names a machine; port, case and the root's dot do not matter."""
    assert name == decode_host(field)
