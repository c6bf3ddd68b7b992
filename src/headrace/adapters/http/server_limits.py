"""The limits of the HTTP server for untrusted clients: sizes, counts and deadlines."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """The limits of one `HttpServer`.

    Deadlines are accurate to one `sweep_seconds`, because one timer serves all connections.
    """

    header_count_max: int = 128
    head_bytes_max: int = 65_536
    """Largest request line and header lines together, including line ends (431)."""
    target_bytes_max: int = 8_192
    """Largest request target (414)."""
    body_bytes_max: int = 16 * 1_048_576
    """Largest body of any request (413); an admission hook may lower it for one request."""
    unread_bytes_max: int = 64 * 1_048_576
    """Largest total of incomplete bodies, over all connections; above it new ones get a 503."""
    heads_bytes_max: int = 16 * 1_048_576
    """Largest total of incomplete heads and pipelined requests, over all connections.

    Above it a head is rejected with 503, and a connection with pipelined requests is closed after
    its response.
    """
    connections_max: int = 4_096
    """Most connections, counted from the accept on, including TLS handshakes.

    At the limit, the connection that has been idle longest is closed for a new one. If none is
    idle, the new one is rejected with 503.
    """
    connections_per_peer_max: int = 4_096
    """Most connections per remote address.

    The default equals `connections_max`, because behind a proxy all clients share one address.
    Lower it if the server is exposed directly.
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
    """From the end of the body to the response (503). The deadlines of the handler are expected to
    expire first.
    """
    idle_seconds: float = 75.0
    """Between a response and the first byte of the next request. Longer than the 60 s for which
    common proxies keep idle connections.
    """
    write_seconds: float = 10.0
    """How long a client may read none of the data waiting to be sent to it before its connection
    is aborted.
    """
    handshake_seconds: float = 10.0
    """From the accept to the end of the TLS handshake."""
    linger_seconds: float = 2.0
    """How long a rejected client may continue to send. The data is discarded, so that the client
    sees the rejection and not a connection reset.
    """
    drain_seconds: float = 10.0
    """How long a stopping server waits for responses before it aborts connections."""
    sweep_seconds: float = 0.25
