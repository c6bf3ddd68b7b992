"""The HTTP/1.1 server under the ingress and other small listeners: requests to a callback, answers
from any callback.

It runs by itself (`HttpServer.start`) or under uvicorn
(`uvicorn.Config(http=server.uvicorn_protocol)`), and knows nothing of CloudEvents. There is no
task, future or timer per request: a request is a call of `handler(exchange)`, its answer a call of
`exchange.send`, now or later, and one sweep a quarter second serves all deadlines.
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
"""Makes fields and body of an answer that the server gives by itself."""

logger = structlog.get_logger(__name__)


def plain_text_rejection(refusal: RequestRejected) -> tuple[Fields, bytes]:
    """Say the reason as plain text."""
    return ((b"content-type", b"text/plain; charset=utf-8"),), refusal.detail.encode() + b"\n"


def admit_all(exchange: Exchange) -> None:
    """Let every request's body be read."""


class HttpServer:
    """Connections, their limits and their end.

    `admit(exchange)` is called when the headers are complete and may answer at once, unread, or
    lower `exchange.body_bytes_max`; `handler(exchange)` is called with the body when nobody has
    answered. An exception in either is a 500 and a log line.
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
        """`guard` refuses requests of web pages, where the server listens on a loopback address."""
        self.limits = limits or ServerLimits()
        self.refused = refused
        self.now = 0.0
        """The loop's time at the last sweep."""
        self.date_line = b""
        """The `date` field and the empty line after it, for the end of every answer's head."""
        self.draining = False
        self.guard = guard
        self.loop: asyncio.AbstractEventLoop
        self.connection_table = ConnectionTable(self.limits, self._time)
        self._handler = handler
        self._admit = admit
        self._unread = 0
        self._heads = 0
        self._acceptors: list[Acceptor] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    async def start(
        self, *sockets: socket.socket, tls: ssl.SSLContext | None = None, backlog: int = 2048
    ) -> None:
        """Accept connections on bound sockets, which the server closes at its end."""
        self.open(asyncio.get_running_loop())
        for each in sockets:
            acceptor = Acceptor(self, self.connection_table, each, tls, backlog)
            acceptor.start()
            self._acceptors.append(acceptor)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch deadlines on `loop`; `start` does it, and so does the first connection
        under uvicorn. Idempotent.
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
        """The class-like factory for `uvicorn.Config(http=…)`; uvicorn then accepts, and asks each
        connection to end at its shutdown.
        """
        del config, app_state
        self.open(_loop or asyncio.get_running_loop())
        return _UvicornConnection(self, server_state)

    @property
    def connections(self) -> int:
        """How many are open, those in their TLS handshake included."""
        return len(self.connection_table)

    @property
    def buffered_head_bytes(self) -> int:
        """What unfinished heads and requests sent ahead occupy."""
        return self._heads

    @property
    def buffered_body_bytes(self) -> int:
        """What unfinished bodies occupy."""
        return self._unread

    def enter_lame_duck(self) -> None:
        """From now on every answer is the last of its connection, so that clients move elsewhere
        before the end.
        """
        self.draining = True

    async def stop(self) -> None:
        """Accept no more, close idle connections, wait for pending answers, cut what is left
        after the drain deadline.
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
                await asyncio.wait_for(self._emptied.wait(), self.limits.drain_seconds)
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

    # What connections call.

    def admit(self, exchange: Exchange) -> None:
        """Ask whether the body should be read."""
        try:
            self._admit(exchange)
        except Exception as error:
            self._failed(exchange, error)

    def handle(self, exchange: Exchange) -> None:
        """Hand on a complete request."""
        try:
            self._handler(exchange)
        except Exception as error:
            self._failed(exchange, error)

    def _failed(self, exchange: Exchange, error: Exception) -> None:
        logger.error("request_failed", error=repr(error), exc_info=error)
        fields, body = self.refused(
            RequestRejected(500, "the request could not be handled; the server's log says why")
        )
        exchange.respond(500, fields, body)

    @property
    def is_full(self) -> bool:
        """Whether a connection that was refused is cut without an answer."""
        return self.connection_table.is_full

    def opened(self, connection: ServerConnection) -> RequestRejected | None:
        """Count a new connection; a refusal when there are too many."""
        return self.connection_table.add(connection)

    def closed(self, connection: ServerConnection) -> None:
        """Forget a connection."""
        self.connection_table.remove(connection)
        if not self.connection_table.connections and self._emptied is not None:
            self._emptied.set()

    def count(self, event: ConnectionEvent) -> None:
        """Count what was done to a connection for a limit."""
        self.connection_table.counts[event] += 1

    def reserve(self, size: int) -> bool:
        """Take `size` bytes of what bodies still arriving may occupy; False when there is not that
        much left.
        """
        if self._unread + size > self.limits.unread_bytes_max:
            self.count(ConnectionEvent.BODIES_FULL)
            return False
        self._unread += size
        return True

    def release(self, size: int) -> None:
        """Give reserved bytes back."""
        self._unread -= size

    def hold(self, more: int) -> bool:
        """Take `more` bytes of what unfinished heads may occupy, or give some back; False when
        there is not that much left.
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
    """A connection that uvicorn's server counts among its own."""

    def __init__(self, server: HttpServer, server_state: Any) -> None:
        super().__init__(server)
        self._state = server_state

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._state.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        super().connection_lost(exc)
