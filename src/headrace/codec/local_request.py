"""Whether a request to a loopback address comes from this machine and not from a web page.

A browser on this machine reaches loopback addresses for every page that it shows. Three header
fields show this: `Host` after a page's DNS name was rebound to a loopback address, `Origin` and
`Sec-Fetch-Site` (Fetch Metadata) when a page sends a request to another site. Programs other than
browsers send neither of the last two.
"""

import re
from collections.abc import Container
from ipaddress import IPv6Address, ip_address
from typing import Final

HOST_BYTES_MAX: Final = 255
"""Of a `Host` field value: a DNS name has at most 253 characters (RFC 1035, 2.3.4); the longest
port still fits beside usual names.
"""
_SHOWN_MAX: Final = 80

_HOST: Final = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]"
    r"|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)
"""`uri-host [ ":" port ]` (RFC 9110, 7.2; RFC 3986, 3.2.2). One alternative per first character, so
matching takes linear time.

A comma is not taken, although a registered name may have one: it is how two `Host` fields look
after a proxy has joined them.
"""


def split_host(host: str) -> tuple[str, str] | None:
    """Name and port of a `Host` field value: the name in lower case without brackets and final dot,
    the port empty when there is none.

    None when the value is not a host with an optional port, or is longer than `HOST_BYTES_MAX`.
    """
    if len(host) > HOST_BYTES_MAX or (found := _HOST.fullmatch(host)) is None:
        return None
    name, port = found["name"].lower(), found["port"] or ""
    if port and int(port) > 65_535:
        return None
    if not name.startswith("["):
        return name.removesuffix("."), port
    name = name[1:-1]
    if not name.startswith("v"):
        try:
            IPv6Address(name)
        except ValueError:
            return None
    return name, port


def host_is_local(host: str) -> bool:
    """Whether a `Host` field value (with or without a port) is `localhost` or a loopback address:
    all of 127.0.0.0/8, or ::1.
    """
    parts = split_host(host)
    return parts is not None and _name_is_local(parts[0])


def refusal(
    host: str, origin: str | None, sec_fetch_site: str | None, names: Container[str]
) -> str | None:
    """Why a request to a loopback address is refused; None when it is not.

    `host` is the `Host` field value, empty when the request has none (no browser omits it).
    `origin` and `sec_fetch_site` are None when the request lacks the field. `names` are further
    allowed host names, in lower case and without ports. The caller appends how to allow a name.
    """
    if host and not _allowed(host, names):
        return f"the Host {_shown(host)} is neither a loopback address nor an allowed name"
    if sec_fetch_site is not None and sec_fetch_site.strip().lower() == "cross-site":
        return "a web page of another site sent this request (Sec-Fetch-Site: cross-site)"
    if origin is not None and not _origin_allowed(origin, names):
        return f"a web page from {_shown(origin)} sent this request (Origin)"
    return None


def _origin_allowed(origin: str, names: Container[str]) -> bool:
    scheme, separator, host = origin.strip().lower().partition("://")
    return bool(separator) and scheme in ("http", "https") and _allowed(host, names)


def _allowed(host: str, names: Container[str]) -> bool:
    parts = split_host(host)
    return parts is not None and (_name_is_local(parts[0]) or parts[0] in names)


def _name_is_local(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}…")
