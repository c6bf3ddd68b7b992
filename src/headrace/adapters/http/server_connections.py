"""The connection table of a server: it limits the connections and evicts idle ones.

Connections count from the accept on, so that TLS handshakes are included. At the limit, the
connection that has been idle longest is closed. Otherwise a client that opens the maximum number of
connections and sends nothing would lock out probes and all other clients.
"""

import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from typing import Final

from headrace.adapters.http.server_connection import ServerConnection
from headrace.adapters.http.server_connection_event import ConnectionEvent
from headrace.adapters.http.server_head import RequestRejected
from headrace.adapters.http.server_limits import ServerLimits

_REFUSED_MAX: Final = 64
"""Connections above the limit that receive a 503; further ones are closed without a response."""
_HANDSHAKE_SPARED_SECONDS: Final = 1.0
_LOOK_AGAIN_SECONDS: Final = 0.05
"""Time until the next search after one that found no connection to close."""


class Handshake:
    """An accepted socket before its TLS handshake has ended."""

    __slots__ = ("peer", "since", "sock")

    def __init__(self, sock: socket.socket, peer: str, since: float) -> None:
        self.sock = sock
        self.peer = peer
        self.since = since

    def end(self) -> None:
        """Shut down the socket, so that the handshake reads end of file and fails."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class ConnectionTable:
    """The connections and handshakes of one server."""

    def __init__(self, limits: ServerLimits, clock: Callable[[], float]) -> None:
        """Create an empty table; `clock` returns the event loop's time in seconds."""
        self.connections: dict[ServerConnection, None] = {}
        """Oldest first."""
        self.handshakes: dict[Handshake, None] = {}
        """Oldest first."""
        self.counts: Counter[ConnectionEvent] = Counter()
        self._limits = limits
        self._clock = clock
        self._per_peer: dict[str, int] = {}
        self._candidates: deque[tuple[float, ServerConnection]] = deque()
        self._looked = float("-inf")

    def __len__(self) -> int:
        return len(self.connections) + len(self.handshakes)

    def add(self, connection: ServerConnection) -> RequestRejected | None:
        """Register a new connection; return a rejection if there are too many."""
        self.connections[connection] = None
        return self._enter(connection.peer)

    def remove(self, connection: ServerConnection) -> None:
        """Remove a connection. Idempotent."""
        if connection in self.connections:
            del self.connections[connection]
            self._leave(connection.peer)

    def begin_handshake(self, handshake: Handshake) -> bool:
        """Register an accepted socket; return False, and do not count it, if there are too many."""
        self.handshakes[handshake] = None
        if self._enter(handshake.peer) is None:
            return True
        self.end_handshake(handshake)
        return False

    def end_handshake(self, handshake: Handshake) -> None:
        """Remove a handshake that failed or has become a connection. Idempotent."""
        if handshake in self.handshakes:
            del self.handshakes[handshake]
            self._leave(handshake.peer)

    @property
    def is_full(self) -> bool:
        """Whether the limit is exceeded so far that the next connection receives no response."""
        return len(self) > self._limits.connections_max + _REFUSED_MAX

    def evict_idle(self) -> bool:
        """Close the connection that has been idle longest; return False if none is idle."""
        while True:
            while self._candidates:
                since, connection = self._candidates.popleft()
                if (
                    connection in self.connections
                    and connection.since == since
                    and connection.idle_rank(self._clock()) is not None
                ):
                    self.counts[ConnectionEvent.EVICTED] += 1
                    self.remove(connection)
                    connection.abort()
                    return True
            now = self._clock()
            if now - self._looked < _LOOK_AGAIN_SECONDS:
                return False
            ranked = [
                (rank, each.since, each)
                for each in self.connections
                if (rank := each.idle_rank(now)) is not None
            ]
            ranked.sort(key=itemgetter(0, 1))
            self._candidates.extend((since, each) for _, since, each in ranked)
            if not ranked:
                self._looked = now
                return self._evict_handshake(now)

    def _evict_handshake(self, now: float) -> bool:
        oldest = next(iter(self.handshakes), None)
        if oldest is None or now - oldest.since < _HANDSHAKE_SPARED_SECONDS:
            return False
        self._looked = float("-inf")
        self.counts[ConnectionEvent.EVICTED] += 1
        self.end_handshake(oldest)
        oldest.end()
        return True

    def _enter(self, peer: str) -> RequestRejected | None:
        limits = self._limits
        self._per_peer[peer] = self._per_peer.get(peer, 0) + 1
        if len(self) > limits.connections_max and not self.evict_idle():
            self.counts[ConnectionEvent.REFUSED] += 1
            return RequestRejected(
                503,
                f"{limits.connections_max} connections are open, the limit here, and none is idle",
            )
        # Read again: the evicted connection may belong to the same peer.
        if self._per_peer[peer] > limits.connections_per_peer_max:
            self.counts[ConnectionEvent.REFUSED] += 1
            return RequestRejected(
                503,
                f"{limits.connections_per_peer_max} connections are open from this address, the"
                " limit here",
            )
        return None

    def _leave(self, peer: str) -> None:
        count = self._per_peer[peer] - 1
        if count:
            self._per_peer[peer] = count
        else:
            del self._per_peer[peer]
