"""The address on this machine that Camel posts to: each request becomes an event, and gets 204 only
when the sink has taken it.

The path is random, and only Camel knows it. The number of requests that wait is bounded.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from headrace.adapters.http.server import Exchange, HttpServer, LocalGuard, ServerLimits
from headrace.cloudevents import read_http_batch
from headrace.codec.content_mode import ContentMode, mode
from headrace.domain.event import BatchTooLarge, Event, InvalidEvent, UnsupportedContent
from headrace.domain.ports import Clock
from headrace.runtime.sockets import LOOPBACK, listen, port_of
from headrace_sources.adapters.camel.config import CamelConfig
from headrace_sources.source import Emit, NotDelivered, event_time

logger = structlog.get_logger(__name__)

EXCHANGE_HEADER: Final = "headrace-exchange"
HANDLE_SECONDS: Final = 170.0
"""Camel's HTTP component waits for 180 s."""
IN_FLIGHT_MAX: Final = 256
BODY_BYTES_MAX: Final = 16 * 1_048_576
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_RETRY: Final = ((b"retry-after", b"5"),)


class SinkEndpoint:
    """Turns the requests of one Camel process into events."""

    def __init__(
        self, config: CamelConfig, clock: Clock, emit: Emit, received: Callable[[], None]
    ) -> None:
        """`received` is called for each request."""
        self._received = received
        self._config = config
        self._clock = clock
        self._emit = emit
        self._path = f"/{secrets.token_urlsafe(24)}"
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Accept requests while the context manager is open; its value is the URL."""
        listener = listen(LOOPBACK, 0, purpose="the endpoint for Camel", option="no option")
        server = HttpServer(
            self._handle,
            admit=self._admit,
            limits=ServerLimits(
                body_bytes_max=BODY_BYTES_MAX,
                answer_seconds=HANDLE_SECONDS + 5,
                connections_max=IN_FLIGHT_MAX,
                drain_seconds=0.5,
            ),
            guard=LocalGuard(frozenset(), setting="nothing"),
        )
        await server.start(listener)
        try:
            yield f"http://{LOOPBACK}:{port_of(listener)}{self._path}"
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await server.stop()

    def _admit(self, exchange: Exchange) -> None:
        target, _, _ = exchange.target.decode("latin-1").partition("?")
        if not secrets.compare_digest(target.encode(), self._path.encode()):
            exchange.respond(404, (_TEXT,), b"not found\n")
        elif len(self._tasks) >= IN_FLIGHT_MAX:
            exchange.respond(503, (_TEXT, *_RETRY), b"%d events are in flight\n" % IN_FLIGHT_MAX)

    def _handle(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange) -> None:
        self._received()
        try:
            async with asyncio.timeout(HANDLE_SECONDS):
                headers = [(name.decode("latin-1"), value) for name, value in exchange.headers]
                for event in read_events(headers, exchange.body, self._config, self._clock.now()):
                    await self._emit(event)
        except (InvalidEvent, UnsupportedContent, BatchTooLarge) as error:
            logger.warning(
                "camel_event_refused",
                error=str(error),
                next_step="correct what the route sets in its ce- headers",
            )
            exchange.respond(400, (_TEXT,), f"{error}\n".encode())
        except (NotDelivered, TimeoutError) as error:
            text = str(error) or "the sink did not take the event in time"
            exchange.respond(503, (_TEXT, *_RETRY), f"{text}\n".encode())
        except Exception:
            logger.exception("camel_request_failed")
            exchange.respond(500, (_TEXT,), b"internal error\n")
        else:
            exchange.respond(204)


def read_events(
    headers: list[tuple[str, bytes]], body: bytes, config: CamelConfig, now: float
) -> list[Event]:
    """Return the events of a request. In binary mode, attributes that the route has not set have
    the values of `config`, and the id is that of Camel's exchange. Raises what `read_http_batch`
    raises.
    """
    given = dict(headers)
    pairs = [(name, value.decode("latin-1")) for name, value in headers]
    content_type = given.get("content-type")
    if content_type is None or mode(content_type) is ContentMode.BINARY:
        defaults = {
            "ce-specversion": "1.0",
            "ce-id": given.get(EXCHANGE_HEADER, b"").decode("latin-1"),
            "ce-type": config.type,
            "ce-source": config.source,
            "ce-time": event_time(now),
        }
        pairs = [pair for pair in pairs if pair[0].startswith("ce-") or pair[0] == "content-type"]
        pairs += [(name, value) for name, value in defaults.items() if name not in given]
    return [_without_empty_data(event) for event in read_http_batch(pairs, body)]


def _without_empty_data(event: Event) -> Event:
    """An exchange without a body has no data."""
    return Event(event.attributes, event.data or None)
