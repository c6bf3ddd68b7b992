"""The places of a server: how many connections it has, and which one ends for a new one when all
places are taken.

A connection takes its place when it is accepted, so that TLS handshakes count. At the limit the
longest idle connection is closed: otherwise a client that opens all places and does nothing would
keep probes and everybody else out.
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
"""Connections above the limit that are being answered with 503; those above are cut without an
answer.
"""
_HANDSHAKE_SPARED_SECONDS: Final = 1.0
_LOOK_AGAIN_SECONDS: Final = 0.05
"""After a search that found no connection to close."""


class Handshake:
    """An accepted socket before its TLS handshake has ended."""

    __slots__ = ("peer", "since", "sock")

    def __init__(self, sock: socket.socket, peer: str, since: float) -> None:
        self.sock = sock
        self.peer = peer
        self.since = since

    def end(self) -> None:
        """End it from here: its handshake reads the end of input."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class ConnectionTable:
    """Connections and handshakes of one server."""

    def __init__(self, limits: ServerLimits, clock: Callable[[], float]) -> None:
        """`clock` gives the loop's time."""
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
        """Count a new connection; a refusal when there are too many."""
        self.connections[connection] = None
        return self._enter(connection.peer)

    def remove(self, connection: ServerConnection) -> None:
        """Forget a connection. Idempotent."""
        if connection in self.connections:
            del self.connections[connection]
            self._leave(connection.peer)

    def begin_handshake(self, handshake: Handshake) -> bool:
        """Count an accepted socket; False when there are too many, and then it is not counted."""
        self.handshakes[handshake] = None
        if self._enter(handshake.peer) is None:
            return True
        self.end_handshake(handshake)
        return False

    def end_handshake(self, handshake: Handshake) -> None:
        """Forget a handshake: it failed, or a connection takes its place. Idempotent."""
        if handshake in self.handshakes:
            del self.handshakes[handshake]
            self._leave(handshake.peer)

    @property
    def is_full(self) -> bool:
        """Whether there are so many connections above the limit that the next one gets no
        answer.
        """
        return len(self) > self._limits.connections_max + _REFUSED_MAX

    def evict_idle(self) -> bool:
        """Close the connection that has been idle the longest; False when none is idle."""
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
        # Counted again: the one that was closed may be of the same peer.
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
