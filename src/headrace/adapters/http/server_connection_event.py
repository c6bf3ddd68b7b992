"""Actions of a server on its connections when a limit is reached."""

from enum import StrEnum


class ConnectionEvent(StrEnum):
    """An action that a limit causes on a connection.

    The value is the label `reason` of the metric that counts the actions.
    """

    EVICTED = "evicted"
    """Closed while idle, to make room for a new connection."""
    IDLE = "idle"
    """Closed at the idle deadline, or because no request began in time."""
    STALLED = "stalled"
    """Aborted, because the client read none of the data waiting to be sent."""
    HANDSHAKE = "handshake-failed"
    """Closed, because the TLS handshake failed or took too long."""
    REFUSED = "refused"
    """Rejected, because there are too many connections."""
    NO_DESCRIPTORS = "no-file-descriptors"
    """Not accepted immediately, because the process has no free file descriptor."""
    HEADS_FULL = "heads-full"
    """Rejected or closed, because incomplete heads and pipelined requests have reached their
    limit.
    """
    BODIES_FULL = "bodies-full"
    """Rejected, because incomplete bodies have reached their limit."""
