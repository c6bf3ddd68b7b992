"""The number of connections of one listener, and which of them is closed if there are too many."""

from collections import OrderedDict
from typing import Protocol

IDLE_CONNECTIONS_MAX = 512
"""Connections between requests, and in a TLS handshake."""
CONNECTIONS_MAX = 2_048
"""All connections: room for 1,000 watches, 256 requests in flight, 256 pending bodies and the idle
connections.
"""


class LimitedConnection(Protocol):
    """A connection."""

    def abort(self) -> None:
        """End it now."""
        ...


class ConnectionLimiter:
    """Tracks all connections of one listener, and the idle ones: those that wait for a request or
    for the end of their handshake.

    If there is one too many, the connection that has been idle longest is closed. Rejecting the
    newest instead would lock out every client and the probes for as long as one client holds idle
    connections. A connection that arrives with a request is not idle.
    """

    def __init__(
        self, idle_max: int = IDLE_CONNECTIONS_MAX, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        self._idle_max = idle_max
        self._connections_max = connections_max
        self._idle: OrderedDict[LimitedConnection, None] = OrderedDict()
        self._all: OrderedDict[LimitedConnection, None] = OrderedDict()
        """In the order of their last response: at the front is the one whose client has taken
        longest.
        """

    def __len__(self) -> int:
        return len(self._idle)

    @property
    def connections(self) -> int:
        """Number of all connections."""
        return len(self._all)

    def add(self, connection: LimitedConnection) -> None:
        """Add a new connection; closes another one if there are too many."""
        self._all[connection] = None
        if len(self._all) > self._connections_max:
            self._abort(next(iter(self._idle or self._all)))

    def mark_idle(self, connection: LimitedConnection) -> None:
        """The connection has no request now."""
        if connection not in self._all:
            return
        self._idle[connection] = None
        self._all.move_to_end(connection)
        if len(self._idle) > self._idle_max:
            self._abort(next(iter(self._idle)))

    def mark_active(self, connection: LimitedConnection) -> None:
        """The connection has a request. Idempotent."""
        self._idle.pop(connection, None)

    def remove(self, connection: LimitedConnection) -> None:
        """The connection has ended. Idempotent."""
        self._idle.pop(connection, None)
        self._all.pop(connection, None)

    def _abort(self, connection: LimitedConnection) -> None:
        self.remove(connection)
        connection.abort()
