"""What a composition root may choose about the HTTP sender, and what the sender counts."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

AddressPolicy = Callable[[IPv4Address | IPv6Address, int], str]
"""Why events may not be posted to this address and port, empty when they may. Asked about the very
address that is then connected to, so a name that resolves to something else a moment later gains
nothing.
"""


def deny_none(address: IPv4Address | IPv6Address, port: int) -> str:
    """Everything may be called."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Bounds and deadlines of every request and connection; durations in seconds, sizes in
    bytes.
    """

    user_agent: str = "headrace"
    connect_seconds: float = 5.0
    """For name lookup, TCP and TLS together; an attempt's own deadline ends its wait earlier."""
    idle_seconds: float = 4.0
    """A connection unused for so long is closed: shorter than the 5 s after which common servers
    (uvicorn, Node.js) close it themselves, which would cost a request sent at that moment.
    """
    age_seconds: float = 300.0
    """A connection is not used again after so long, so that new addresses behind a name get their
    share.
    """
    stale_seconds: float = 0.5
    """How soon after the write a reused connection must fail for the request to be sent again at
    once.
    """
    waiting_max: int = 1_024
    """Requests of one target that may wait for a connection."""
    head_bytes_max: int = 65_536
    head_fields_max: int = 128
    framing_bytes_max: int = 65_536
    """Chunk sizes, chunk extensions and trailers, beside one byte of them for each byte of the
    body.
    """
    body_bytes_max: int = 65_536
    """Larger response bodies are cut here and their connection is closed, but for reply events
    (`HttpSender.target`).
    """
    bodies_bytes_max: int = 8 * 1_048_576
    """Of all reply events together that are larger than `body_bytes_max`, from the head of the
    response until they are passed on.
    """
    addresses_seconds: float = 10.0
    """How long a name lookup is believed. Old answers are used up to 30 times as long when the
    resolver is silent.
    """
    address_denied: AddressPolicy = deny_none


@dataclass(slots=True)
class ClientCounts:
    """What happened so far, for metrics. Only ever grows."""

    connections_opened: int = 0
    connections_failed: int = 0
    stale_retries: int = 0
    """Requests sent again because a kept connection was closed under them: each may have reached
    the subscriber twice.
    """
    timeouts: int = 0
    surplus: int = 0
    """Connections closed because the peer sent bytes nobody had asked for."""
