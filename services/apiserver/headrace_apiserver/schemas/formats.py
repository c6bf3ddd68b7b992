"""String formats that Kubernetes checks; any other format of a schema is only documentation.

(pure)
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from urllib.parse import urlsplit

_UUID = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE
)
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_GO_DURATION = re.compile(
    r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*"
)
_WORDY_DURATION = re.compile(
    r"[0-9]+ *"
    r"(d|days?|w|weeks?|h|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|millis?|milliseconds?)"
)
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")
_EMAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+")
TEXT_MAX = 4_096
"""Characters of a text that can match a format; a longer one matches none of these."""


def has_format(text: str, name: str) -> bool:
    """Whether `text` matches the format; True for formats that are not checked."""
    check = FORMATS.get(name.replace("-", ""))
    return check is None or ((check is _base64 or len(text) <= TEXT_MAX) and check(text))


def is_checked(name: str) -> bool:
    """Whether a format of a schema is checked here."""
    return name.replace("-", "") in FORMATS


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _uri(text: str) -> bool:
    # A request URI: absolute, or a path that starts at the root.
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return (
        bool(text)
        and text.isprintable()
        and " " not in text
        and (bool(parts.scheme) or text.startswith("/"))
    )


def _instant(text: str) -> bool:
    if not _INSTANT.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text[:19].upper())
    except ValueError:
        return False
    return True


def _hostname(text: str) -> bool:
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _network(text: str) -> bool:
    return "/" in text and _parses(lambda each: ipaddress.ip_network(each, strict=False))(text)


FORMATS: Mapping[str, Callable[[str], bool]] = {
    "byte": _base64,
    "cidr": _network,
    "date": _parses(date.fromisoformat),
    "datetime": _instant,
    "duration": lambda text: (
        bool(_GO_DURATION.fullmatch(text) or _WORDY_DURATION.fullmatch(text)) or text == "0"
    ),
    "email": lambda text: bool(_EMAIL.fullmatch(text)),
    "hostname": _hostname,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "mac": lambda text: bool(_MAC.fullmatch(text)),
    "password": lambda text: True,
    "uri": _uri,
    "uuid": lambda text: bool(_UUID.fullmatch(text)),
}
"""By name without hyphens: `date-time` and `datetime` are the same format."""
