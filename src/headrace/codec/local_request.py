"""Check that a request to a loopback address comes from a local program, not from a web page.

A browser on this machine can send requests to loopback addresses for every page that it shows.
Three header fields reveal these requests: `Host` if the page's DNS name was rebound to a loopback
address, and `Origin` and `Sec-Fetch-Site` (Fetch Metadata) if a page sends a request to another
site. Programs other than browsers send neither of the last two.
"""

import re
from collections.abc import Container
from ipaddress import IPv6Address, ip_address
from typing import Final

HOST_BYTES_MAX: Final = 255
"""Maximum length of a `Host` field value. A DNS name has at most 253 characters (RFC 1035, 2.3.4),
and names of usual length leave room for the longest port.
"""
_SHOWN_MAX: Final = 80

_HOST: Final = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]"
    r"|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)
"""`uri-host [ ":" port ]` (RFC 9110, 7.2; RFC 3986, 3.2.2). The first character selects the
alternative, so matching takes linear time.

A comma is not accepted, although a registered name may contain one, because a proxy that joins two
`Host` fields separates them with a comma.
"""


def split_host(host: str) -> tuple[str, str] | None:
    """Return the name and the port of a `Host` field value.

    The name is in lower case, without brackets and without a final dot. The port is empty if there
    is none. Returns None if the value is not a host with an optional port, or is longer than
    `HOST_BYTES_MAX`.
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
    """Return whether a `Host` field value is `localhost` or a loopback address.

    Loopback addresses are all of 127.0.0.0/8, and ::1. The value may contain a port.
    """
    parts = split_host(host)
    return parts is not None and _name_is_local(parts[0])


def refusal(
    host: str, origin: str | None, sec_fetch_site: str | None, names: Container[str]
) -> str | None:
    """Return why a request to a loopback address is refused, or None if it is allowed.

    `host` is the `Host` field value, empty if the request has none (every browser sends it).
    `origin` and `sec_fetch_site` are None if the request lacks the field. `names` are additional
    allowed host names, in lower case and without ports. The caller adds how to allow a name to the
    message.
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
