"""The callback-based HTTP/1.1 server used by the ingress and other small listeners.

It runs standalone (`HttpServer.start`) or under uvicorn
(`uvicorn.Config(http=server.uvicorn_protocol)`), and does not depend on CloudEvents. It creates no
task, future or timer per request: the server calls `handler(exchange)` for each request, the
response is sent by calling `exchange.send`, immediately or later, and one sweep every quarter of a
second enforces all deadlines.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import structlog

from headrace.adapters.http.server_acceptor import Acceptor
from headrace.adapters.http.server_connection import ServerConnection
from headrace.adapters.http.server_connection_event import ConnectionEvent
from headrace.adapters.http.server_connections import ConnectionTable
from headrace.adapters.http.server_exchange import Exchange
from headrace.adapters.http.server_head import RequestRejected
from headrace.adapters.http.server_limits import ServerLimits
from headrace.adapters.http.server_local_guard import LocalGuard
from headrace.adapters.http.server_repeated_head import RepeatedHeads
from headrace.adapters.http.server_response import Fields, PreparedResponse

__all__ = [
    "ConnectionEvent",
    "Exchange",
    "Fields",
    "HttpServer",
    "LocalGuard",
    "PreparedResponse",
    "RequestRejected",
    "ServerConnection",
    "ServerLimits",
]

RenderRejection = Callable[[RequestRejected], tuple[Fields, bytes]]
"""Creates the header fields and body of a response that the server sends on its own."""

logger = structlog.get_logger(__name__)


def plain_text_rejection(refusal: RequestRejected) -> tuple[Fields, bytes]:
    """Return the reason as a plain-text response."""
    return ((b"content-type", b"text/plain; charset=utf-8"),), refusal.detail.encode() + b"\n"


def admit_all(exchange: Exchange) -> None:
    """Admit every request, so that its body is read."""


class HttpServer:
    """An HTTP server that accepts connections, enforces their limits and closes them.

    `admit(exchange)` is called when the headers are complete. It may respond before the body is
    read, or lower `exchange.body_bytes_max`. `handler(exchange)` is called with the body if no
    response has been sent. An exception in either results in a 500 and a log line.
    """

    def __init__(
        self,
        handler: Callable[[Exchange], None],
        *,
        admit: Callable[[Exchange], None] = admit_all,
        refused: RenderRejection = plain_text_rejection,
        limits: ServerLimits | None = None,
        guard: LocalGuard | None = None,
    ) -> None:
        """Use `guard` to reject requests from web pages to a server on a loopback address."""
        self.limits = limits or ServerLimits()
        self.refused = refused
        self.now = 0.0
        """The event loop's time at the last sweep, in seconds."""
        self.date_line = b""
        """The `date` field and the empty line that end the head of every response."""
        self.repeated_heads = RepeatedHeads(self.limits.head_bytes_max)
        self.draining = False
        self.guard = guard
        self.loop: asyncio.AbstractEventLoop
        self.connection_table = ConnectionTable(self.limits, self._time)
        self._handler = handler
        self.admit = admit
        self._unread = 0
        self._heads = 0
        self._acceptors: list[Acceptor] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    async def start(
        self,
        *sockets: socket.socket,
        tls: Callable[[], ssl.SSLContext] | None = None,
        backlog: int = 2048,
    ) -> None:
        """Accept connections on bound sockets. The server closes the sockets when it stops. `tls`
        is called for each connection: its certificate may be renewed.
        """
        self.open(asyncio.get_running_loop())
        for each in sockets:
            acceptor = Acceptor(self, self.connection_table, each, tls, backlog)
            acceptor.start()
            self._acceptors.append(acceptor)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to enforce deadlines on `loop`. Idempotent.

        `start` calls it, and so does the first connection under uvicorn.
        """
        if self._sweep_timer is None:
            self.loop = loop
            self._emptied = asyncio.Event()
            self._sweep()

    def uvicorn_protocol(
        self,
        *,
        config: Any,
        server_state: Any,
        app_state: Any,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> ServerConnection:
        """Create a connection; the protocol factory for `uvicorn.Config(http=…)`.

        uvicorn accepts the connections, and asks each of them to shut down when it stops.
        """
        del config, app_state
        self.open(_loop or asyncio.get_running_loop())
        return _UvicornConnection(self, server_state)

    @property
    def connections(self) -> int:
        """The number of open connections, including those in their TLS handshake."""
        return len(self.connection_table)

    @property
    def buffered_head_bytes(self) -> int:
        """The size in bytes of incomplete heads and pipelined requests."""
        return self._heads

    @property
    def buffered_body_bytes(self) -> int:
        """The size in bytes of incomplete bodies."""
        return self._unread

    def enter_lame_duck(self) -> None:
        """Close each connection after its next response, so that clients move to other servers
        before this one stops.
        """
        self.draining = True

    async def stop(self) -> None:
        """Stop the server.

        It stops accepting, closes idle connections, waits for pending responses, and aborts the
        remaining connections after the drain deadline.
        """
        if self._sweep_timer is None:
            return
        self.draining = True
        for acceptor in self._acceptors:
            acceptor.close()
        for acceptor in self._acceptors:
            await acceptor.wait()
        for connection in tuple(self.connection_table.connections):
            connection.shutdown()
        if self.connection_table.connections and self._emptied is not None:
            self._emptied.clear()
            try:
                async with asyncio.timeout(self.limits.drain_seconds):
                    await self._emptied.wait()
            except TimeoutError:
                logger.warning(
                    "connections_cut_at_drain_deadline",
                    connections=len(self.connection_table.connections),
                )
        for connection in tuple(self.connection_table.connections):
            connection.abort()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None

    # Called by connections.

    def handle(self, exchange: Exchange) -> None:
        """Pass a complete request to the handler."""
        try:
            self._handler(exchange)
        except Exception as error:
            self.failed(exchange, error)

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """Answer a request that could not be handled, and log the error."""
        logger.error("request_failed", error=repr(error), exc_info=error)
        fields, body = self.refused(
            RequestRejected(500, "the request could not be handled; the server's log says why")
        )
        exchange.respond(500, fields, body)

    @property
    def is_full(self) -> bool:
        """Whether a rejected connection is closed without a response."""
        return self.connection_table.is_full

    def opened(self, connection: ServerConnection) -> RequestRejected | None:
        """Register a new connection; return a rejection if there are too many."""
        return self.connection_table.add(connection)

    def closed(self, connection: ServerConnection) -> None:
        """Remove a closed connection."""
        self.connection_table.remove(connection)
        if not self.connection_table.connections and self._emptied is not None:
            self._emptied.set()

    def count(self, event: ConnectionEvent) -> None:
        """Count an action that a limit caused on a connection."""
        self.connection_table.counts[event] += 1

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes for incomplete bodies; return False if the limit is exceeded."""
        if self._unread + size > self.limits.unread_bytes_max:
            self.count(ConnectionEvent.BODIES_FULL)
            return False
        self._unread += size
        return True

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        self._unread -= size

    def hold(self, more: int) -> bool:
        """Reserve `more` bytes for incomplete heads; return False if the limit is exceeded.

        A negative number releases bytes.
        """
        if more > 0 and self._heads + more > self.limits.heads_bytes_max:
            self.count(ConnectionEvent.HEADS_FULL)
            return False
        self._heads += more
        return True

    def _time(self) -> float:
        return self.loop.time()

    def _sweep(self) -> None:
        self.now = now = self.loop.time()
        self.date_line = b"date: " + formatdate(usegmt=True).encode() + b"\r\n\r\n"
        for connection in tuple(self.connection_table.connections):
            connection.sweep(now)
        self._sweep_timer = self.loop.call_later(self.limits.sweep_seconds, self._sweep)


class _UvicornConnection(ServerConnection):
    """A connection that is also registered with uvicorn's server."""

    def __init__(self, server: HttpServer, server_state: Any) -> None:
        super().__init__(server)
        self._state = server_state

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._state.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        super().connection_lost(exc)
