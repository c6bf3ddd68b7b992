"""Options of the HTTP sender, set by composition roots, and its counters."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

AddressPolicy = Callable[[IPv4Address | IPv6Address, int], str]
"""Returns the reason why events must not be posted to an address and port, or an empty string if
they may be. It is called with the address that is then connected to, so a host name that resolves
to a different address later cannot bypass the policy.
"""


def deny_none(address: IPv4Address | IPv6Address, port: int) -> str:
    """Allow every address."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Limits and deadlines of requests and connections. Durations are in seconds, sizes in
    bytes.
    """

    user_agent: str = "headrace"
    connect_seconds: float = 5.0
    """For name lookup, TCP and TLS together. An attempt stops waiting at its own deadline."""
    idle_seconds: float = 4.0
    """How long a connection may be idle before it is closed. Less than the 5 s after which common
    servers (uvicorn, Node.js) close it, because a request sent at that moment would be lost.
    """
    age_seconds: float = 300.0
    """Maximum age of a connection that is reused, so that new addresses behind a host name receive
    their share of requests.
    """
    stale_seconds: float = 0.5
    """How soon after the write a reused connection must fail for the request to be sent again
    immediately.
    """
    waiting_max: int = 1_024
    """Maximum number of requests of one target that wait for a connection."""
    head_bytes_max: int = 65_536
    head_fields_max: int = 128
    framing_bytes_max: int = 65_536
    """For chunk sizes, chunk extensions and trailers, in addition to one byte of framing per byte
    of the body.
    """
    body_bytes_max: int = 65_536
    """Larger response bodies are truncated and their connection is closed, except for reply events
    (see `HttpSender.target`).
    """
    bodies_bytes_max: int = 8 * 1_048_576
    """For all reply events larger than `body_bytes_max` together, from the moment their body
    exceeds that size until they are passed on.
    """
    addresses_seconds: float = 10.0
    """How long the result of a name lookup is used. While lookups fail, an old result is used for
    up to 30 times as long.
    """
    address_denied: AddressPolicy = deny_none


@dataclass(slots=True)
class ClientCounts:
    """Counters for metrics. They never decrease."""

    connections_opened: int = 0
    connections_failed: int = 0
    stale_retries: int = 0
    """Requests sent again because their reused connection was closed. The subscriber may have
    received each of them twice.
    """
    timeouts: int = 0
    surplus: int = 0
    """Connections closed because the peer sent bytes that belong to no request."""
