"""Parsing of the URLs that events may be posted to. A URL is parsed once, when a target is created,
and never for each event.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

_URL_MAX = 2_048
_HOST_MAX = 253
_PORTS = {"http": 80, "https": 443}
_HOST_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")


class UnsupportedScheme(ValueError):
    """The URL has a scheme and a host, as Knative requires of a destination, but is neither http
    nor https, so it can never be called.
    """


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """The parts of a URL: where to connect, and what to request there."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name or an address in lower case; an IPv6 address has no brackets."""
    port: int
    path: str
    """Path and query as sent in the request line."""

    @property
    def authority(self) -> str:
        """The Host header, with brackets around an IPv6 address. The port is omitted if it is the
        default of the scheme.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target_url(url: str) -> TargetUrl:
    """Parse a URL.

    Raises ValueError with the reason for anything but an absolute http or https URL in ASCII: no
    user information (it would be written to logs), no fragment (it is never sent), no IPv6 zone, no
    spaces or control characters (they would end the request line early). If only the scheme is
    wrong, the error is an `UnsupportedScheme`.
    """
    if len(url) > _URL_MAX:
        raise ValueError(f"the URL has {len(url)} characters, at most {_URL_MAX} are taken")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(
            "the URL contains a space, a control character or a character outside ASCII;"
            " percent-encode it"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("the URL has brackets that enclose no IPv6 address") from None
    if not parts.scheme or (parts.scheme not in _PORTS and not parts.netloc):
        raise ValueError(_wrong_scheme(parts.scheme))
    if "@" in parts.netloc:
        raise ValueError("the URL must not contain user information (user@host)")
    if "#" in url:
        raise ValueError("the URL must not have a fragment (#…)")
    host, port = _host(parts.hostname), _port(parts.netloc)
    if parts.scheme not in _PORTS:
        raise UnsupportedScheme(_wrong_scheme(parts.scheme))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return TargetUrl(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)


def _wrong_scheme(scheme: str) -> str:
    return (
        "the URL must begin with http:// or https://, not"
        f" {scheme[:20] + ':' if scheme else 'without a scheme'}"
    )


def _host(host: str | None) -> str:
    if not host:
        raise ValueError("the URL names no host")
    if ":" in host:
        if "%" in host:
            raise ValueError("the URL must not name an IPv6 zone")
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise ValueError("the URL's host is not an IPv6 address") from None
    if len(host) > _HOST_MAX or not _HOST_LETTERS.issuperset(host) or host.startswith((".", "-")):
        raise ValueError("the URL's host is neither a DNS name nor an IP address")
    return host


def _port(netloc: str) -> int | None:
    """Return the port as written. It is parsed here because some versions of `urlsplit` accept
    `:+80`, `:8_0` and an empty port, and others do not.
    """
    tail = netloc.rpartition("]")[2] if netloc.startswith("[") else netloc
    _, colon, digits = tail.partition(":")
    if not colon:
        if tail and netloc.startswith("["):
            raise ValueError("the URL has something other than a port after the IPv6 address")
        return None
    if not (digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= 65_535):
        raise ValueError("the URL's port must be a number from 1 to 65535")
    return int(digits)


def is_address(host: str) -> bool:
    """Whether a host is an IP address in its canonical form. `127.1` and `0x7f.1` are not: they are
    names, which the resolver handles.
    """
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
