"""How many connections one listener has, and which of them ends when there are too many."""

from collections import OrderedDict
from typing import Protocol

PLACES = 512
"""Connections between requests, and in a TLS handshake."""
CONNECTIONS_MAX = 2_048
"""All connections: 1,000 watches, 256 requests at work, 256 bodies on their way and those between requests fit in."""


class Member(Protocol):
    """A connection."""

    def cut(self) -> None:
        """End it now."""
        ...


class WaitingRoom:
    """The connections of one listener: all of them, and those that wait for a request or for the end of their handshake.

    One too many ends the connection that has waited longest. To refuse the newest instead would shut out every client, and the probes with
    them, for as long as one client holds idle connections. A connection that comes with a request leaves the room at once.
    """

    def __init__(self, places: int = PLACES, connections_max: int = CONNECTIONS_MAX) -> None:
        self._places = places
        self._connections_max = connections_max
        self._waiting: OrderedDict[Member, None] = OrderedDict()
        self._all: OrderedDict[Member, None] = OrderedDict()
        """In the order in which they were last served: who waits for its client longest is at the front."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._all)

    def admit(self, connection: Member) -> None:
        """`connection` is new; another ends for it where there are too many."""
        self._all[connection] = None
        if len(self._all) > self._connections_max:
            self._cut(next(iter(self._waiting or self._all)))

    def enter(self, connection: Member) -> None:
        """`connection` has no request now."""
        if connection not in self._all:
            return
        self._waiting[connection] = None
        self._all.move_to_end(connection)
        if len(self._waiting) > self._places:
            self._cut(next(iter(self._waiting)))

    def leave(self, connection: Member) -> None:
        """`connection` has one. Idempotent."""
        self._waiting.pop(connection, None)

    def forget(self, connection: Member) -> None:
        """`connection` has ended. Idempotent."""
        self._waiting.pop(connection, None)
        self._all.pop(connection, None)

    def _cut(self, connection: Member) -> None:
        self.forget(connection)
        connection.cut()
