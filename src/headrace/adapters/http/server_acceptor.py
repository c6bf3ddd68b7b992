"""Accepts connections, counts them from the accept on, and logs a lack of file descriptors.

The servers of the event loops count no connection before its TLS handshake has ended, and reset
connections without a log line if `accept` fails because no file descriptor is available.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from headrace.adapters.http.server_connection import ConnectionOwner, ServerConnection
from headrace.adapters.http.server_connection_event import ConnectionEvent
from headrace.adapters.http.server_connections import ConnectionTable, Handshake

logger = structlog.get_logger(__name__)

_TURN_ACCEPTS_MAX: Final = 64
"""Connections accepted before control returns to the event loop."""
_PAUSE_SECONDS: Final = 0.25
"""Time until the next attempt if no file descriptor was available."""
_LOG_INTERVAL_SECONDS: Final = 10.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts the connections of one listening socket, and closes the socket when it stops."""

    def __init__(
        self,
        server: ConnectionOwner,
        connection_table: ConnectionTable,
        listener: socket.socket,
        tls: Callable[[], ssl.SSLContext] | None,
        backlog: int,
    ) -> None:
        self._server = server
        self._connection_table = connection_table
        self._listener = listener
        self._tls = tls
        self._backlog = backlog
        self._loop = server.loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._logged_at = float("-inf")
        self._reading = False

    def start(self) -> None:
        """Start to listen and accept."""
        self._listener.setblocking(False)
        self._listener.listen(self._backlog)
        self._resume()

    def close(self) -> None:
        """Stop accepting, and abort pending handshakes. Idempotent."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for handshake in tuple(self._connection_table.handshakes):
            handshake.end()

    async def wait(self) -> None:
        """Wait for the handshakes that `close` aborted to end, for at most one second."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def _resume(self) -> None:
        self._pause = None
        self._reading = True
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_TURN_ACCEPTS_MAX):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._exhausted(error)
                    return
                continue  # this connection was closed before it was accepted
            self._take(accepted, str(address[0]) if isinstance(address, tuple) else "local")

    def _take(self, accepted: socket.socket, peer: str) -> None:
        accepted.setblocking(False)
        with suppress(OSError):  # not TCP, or already closed
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            if self._connection_table.is_full:
                accepted.close()
                return
            work = self._loop.create_task(self._connect(accepted))
        else:
            handshake = Handshake(accepted, peer, self._loop.time())
            if not self._connection_table.begin_handshake(handshake):
                accepted.close()
                return
            work = self._loop.create_task(self._handshake_tls(handshake, self._tls))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: ServerConnection(self._server), accepted
            )
        except OSError:
            accepted.close()

    async def _handshake_tls(self, handshake: Handshake, tls: Callable[[], ssl.SSLContext]) -> None:
        server, connection_table = self._server, self._connection_table
        try:
            await self._loop.connect_accepted_socket(
                lambda: _TlsConnection(server, connection_table, handshake),
                handshake.sock,
                ssl=tls(),
                ssl_handshake_timeout=server.limits.handshake_seconds,
                ssl_shutdown_timeout=server.limits.linger_seconds,
            )
        except (OSError, ssl.SSLError):  # a missed deadline raises ConnectionAbortedError
            connection_table.counts[ConnectionEvent.HANDSHAKE] += 1
        finally:
            connection_table.end_handshake(handshake)

    def _exhausted(self, error: OSError) -> None:
        """Close an idle connection, and pause accepting for a short time.

        Without the pause the event loop would spin, because the listening socket stays readable.
        """
        connection_table = self._connection_table
        connection_table.counts[ConnectionEvent.NO_DESCRIPTORS] += 1
        connection_table.evict_idle()
        self._reading = False
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
        now = self._loop.time()
        if now - self._logged_at >= _LOG_INTERVAL_SECONDS:
            self._logged_at = now
            logger.error(
                "accept_failed",
                error=error.strerror,
                connections=len(connection_table),
                next_step=(
                    "raise the limit of open files (ulimit -n), or lower the limit of connections"
                ),
            )


class _TlsConnection(ServerConnection):
    """A connection that replaces its handshake in the connection table."""

    def __init__(
        self, server: ConnectionOwner, connection_table: ConnectionTable, handshake: Handshake
    ) -> None:
        super().__init__(server)
        self._connection_table = connection_table
        self._handshake = handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection_table.end_handshake(self._handshake)
        super().connection_made(transport)
