"""The port on which outside systems send requests to sources: `/<namespace>/<name>`.

Requests wait for the sink, so their number is bounded, and each has a deadline.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

import structlog

from headrace.adapters.http.server import Exchange, HttpServer, LocalGuard, ServerLimits
from headrace.adapters.http.server_local_guard import is_local_bind, names_of
from headrace.runtime.sockets import http_url, listen, port_of
from headrace_sources.settings import SourcesSettings
from headrace_sources.source import WebhookHandler, WebhookRequest

logger = structlog.get_logger(__name__)

HANDLE_SECONDS: Final = 30.0
IN_FLIGHT_MAX: Final = 256
_RETRY: Final = ((b"retry-after", b"5"),)
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class Receiver:
    """A component of the service."""

    def __init__(self, settings: SourcesSettings, *, listener: socket.socket | None = None) -> None:
        """Open the socket. Raises `PortInUse`."""
        self._handlers: dict[str, WebhookHandler] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = listener or listen(
            settings.host, settings.port, purpose="the receiver of sources", option="--port"
        )
        self.port = port_of(self._listener)
        self._public_url = (
            settings.public_url or http_url(settings.host, self.port, tls=False)
        ).rstrip("/")
        self._server = HttpServer(
            self._handle,
            admit=self._admit,
            limits=ServerLimits(body_bytes_max=settings.request_bytes_max),
            # Without a public URL nothing outside this machine sends anything.
            guard=LocalGuard(names_of(settings.hosts), setting="HEADRACE_SOURCES_HOSTS")
            if is_local_bind(settings.host) and not settings.public_url
            else None,
        )

    @property
    def url(self) -> str:
        """The public URL, without a final slash."""
        return self._public_url

    async def start(self) -> None:
        """Accept requests."""
        await self._server.start(self._listener)

    async def drain(self) -> None:
        """Answer the requests in flight, and accept no more."""
        self._server.enter_lame_duck()
        await self._server.stop()

    async def stop(self) -> None:
        """Close the port."""
        await self._server.stop()
        for task in list(self._tasks):
            task.cancel()
        self._listener.close()

    @contextmanager
    def handle(self, namespace: str, name: str, handler: WebhookHandler) -> Iterator[str]:
        """Pass the requests for this source to `handler`; the value is their public URL."""
        path = f"/{namespace}/{name}"
        self._handlers[path] = handler
        try:
            yield self._public_url + path
        finally:
            if self._handlers.get(path) is handler:
                del self._handlers[path]

    def _admit(self, exchange: Exchange) -> None:
        path, _, _ = exchange.target.decode("latin-1").partition("?")
        handler = self._handlers.get(unquote(path).rstrip("/"))
        if handler is None:
            exchange.respond(404, (_TEXT,), b"no source receives requests at this address\n")
        elif len(self._tasks) >= IN_FLIGHT_MAX:
            exchange.respond(503, (_TEXT, *_RETRY), b"%d requests are in flight\n" % IN_FLIGHT_MAX)
        else:
            exchange.context = handler

    def _handle(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange) -> None:
        handler: Callable[..., object] = exchange.context
        _, _, query = exchange.target.decode("latin-1").partition("?")
        request = WebhookRequest(
            exchange.method.decode("latin-1"),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.headers},
            query,
            exchange.body,
        )
        try:
            async with asyncio.timeout(HANDLE_SECONDS):
                answer = await exchange.context(request)
        except TimeoutError:
            exchange.respond(503, (_TEXT, *_RETRY), b"the sink did not take the event in time\n")
            return
        except Exception:
            logger.exception("request_failed", handler=getattr(handler, "__qualname__", ""))
            exchange.respond(500, (_TEXT,), b"internal error\n")
            return
        fields = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        if not any(name == b"content-type" for name, _ in fields):
            fields.append(_TEXT)
        exchange.respond(answer.status, fields, answer.body.encode())
