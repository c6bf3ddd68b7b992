"""How many connections one listener has, and which of them ends when there are too many."""

from collections import OrderedDict
from typing import Protocol

IDLE_CONNECTIONS_MAX = 512
"""Connections between requests, and in a TLS handshake."""
CONNECTIONS_MAX = 2_048
"""All connections: 1,000 watches, 256 requests at work, 256 bodies on their way and those between
requests fit in.
"""


class LimitedConnection(Protocol):
    """A connection."""

    def abort(self) -> None:
        """End it now."""
        ...


class ConnectionLimiter:
    """The connections of one listener: all of them, and those that wait for a request or for the
    end of their handshake.

    One too many ends the connection that has waited longest. To refuse the newest instead would
    shut out every client, and the probes with them, for as long as one client holds idle
    connections. A connection that comes with a request leaves the room at once.
    """

    def __init__(
        self, idle_max: int = IDLE_CONNECTIONS_MAX, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        self._idle_max = idle_max
        self._connections_max = connections_max
        self._idle: OrderedDict[LimitedConnection, None] = OrderedDict()
        self._all: OrderedDict[LimitedConnection, None] = OrderedDict()
        """In the order in which they were last served: who waits for its client longest is at the
        front.
        """

    def __len__(self) -> int:
        return len(self._idle)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._all)

    def add(self, connection: LimitedConnection) -> None:
        """`connection` is new; another ends for it where there are too many."""
        self._all[connection] = None
        if len(self._all) > self._connections_max:
            self._abort(next(iter(self._idle or self._all)))

    def mark_idle(self, connection: LimitedConnection) -> None:
        """`connection` has no request now."""
        if connection not in self._all:
            return
        self._idle[connection] = None
        self._all.move_to_end(connection)
        if len(self._idle) > self._idle_max:
            self._abort(next(iter(self._idle)))

    def mark_active(self, connection: LimitedConnection) -> None:
        """`connection` has one. Idempotent."""
        self._idle.pop(connection, None)

    def remove(self, connection: LimitedConnection) -> None:
        """`connection` has ended. Idempotent."""
        self._idle.pop(connection, None)
        self._all.pop(connection, None)

    def _abort(self, connection: LimitedConnection) -> None:
        self.remove(connection)
        connection.abort()
