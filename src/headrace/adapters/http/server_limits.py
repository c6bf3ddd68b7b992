"""What the HTTP door takes from a stranger: sizes, counts and deadlines, as one frozen value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds of one `HttpServer`. Seconds are kept to within one `sweep_seconds`, because one timer
    serves every connection.
    """

    header_count_max: int = 128
    head_bytes_max: int = 65_536
    """Request line and all header lines, line ends included (431)."""
    target_bytes_max: int = 8_192
    """The request target alone (414)."""
    body_bytes_max: int = 16 * 1_048_576
    """Largest body of any request (413); an admission hook may lower it for one request."""
    unread_bytes_max: int = 64 * 1_048_576
    """Bodies still arriving, of all connections together; past it new ones are refused with 503."""
    heads_bytes_max: int = 16 * 1_048_576
    """Unfinished heads, and requests sent ahead of their turn, of all connections together; past it
    a head is refused with 503, and a connection that sent ahead is closed after its answer.
    """
    connections_max: int = 4_096
    """From the accept on, TLS handshakes included. At the limit the longest idle connection is
    closed for a new one; when none is idle, the new one is refused with 503.
    """
    connections_per_peer_max: int = 4_096
    """Per remote address. As high as the cap of all, because behind a proxy there is but one
    address; lower it at an open door.
    """
    head_seconds: float = 10.0
    """From the first byte of a request (or from the accept, for the first one) to the end of its
    headers (408).
    """
    body_seconds: float = 60.0
    """From the end of the headers to the end of the body (408)."""
    body_grace_seconds: float = 5.0
    """How long a body may be slower than `body_bytes_per_second_min`."""
    body_bytes_per_second_min: int = 1_024
    answer_seconds: float = 10.0
    """From the end of the body to the answer (503); a backstop behind the deadlines of the code
    that answers.
    """
    idle_seconds: float = 75.0
    """Between an answer and the first byte of the next request; above the 60 s that common proxies
    keep connections.
    """
    write_seconds: float = 10.0
    """How long a client may read nothing of what waits to be sent to it; then its connection is
    cut.
    """
    handshake_seconds: float = 10.0
    """From the accept to the end of the TLS handshake."""
    linger_seconds: float = 2.0
    """How long a refused sender may continue to send, unread, so that it sees the refusal and not a
    reset.
    """
    drain_seconds: float = 10.0
    """How long a stopping server waits for answers before it cuts connections."""
    sweep_seconds: float = 0.25
