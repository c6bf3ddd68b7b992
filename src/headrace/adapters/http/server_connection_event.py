"""What a server does to its connections when a limit is reached."""

from enum import StrEnum


class ConnectionEvent(StrEnum):
    """What a server does to connections for their limits, and the label `reason` of the metric that
    counts it.
    """

    EVICTED = "evicted"
    """Closed, idle, because a new one needed its place."""
    IDLE = "idle"
    """Closed at the idle deadline, or because no request began in time."""
    STALLED = "stalled"
    """Cut, because the client read nothing of what waited to be sent."""
    HANDSHAKE = "handshake-failed"
    """Closed, because the TLS handshake failed or took too long."""
    REFUSED = "refused"
    """Refused, because there are too many connections."""
    NO_DESCRIPTORS = "no-file-descriptors"
    """Not accepted at once, because the process has no file descriptor left."""
    HEADS_FULL = "heads-full"
    """Refused or closed, because unfinished heads and requests sent ahead occupy all that
    they may.
    """
    BODIES_FULL = "bodies-full"
    """Refused, because unfinished bodies occupy all that they may."""
