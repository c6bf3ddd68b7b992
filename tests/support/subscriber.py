"""A scripted HTTP subscriber on a raw transport: it can misbehave in ways that no HTTP server
library supports.

    async with serving(status(503), ok()) as subscriber:
        ...  # post to subscriber.url
        await subscriber.wait_for_requests(2)

Each request takes the next answer of the script; the last one repeats. Every request is recorded
before it is answered.
"""

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

REQUEST_BYTES_MAX = 8 * 1_048_576


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as received; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    header_lines: tuple[bytes, ...]
    body: bytes
    arrived_at: float
    """`time.monotonic()` when the last byte was received."""
    connection: int
    """Number of its connection, from 1."""


@dataclass(slots=True)
class Exchange:
    """A request and the means to answer it."""

    request: ReceivedRequest
    transport: asyncio.Transport
    later: Callable[[float, Callable[[], None]], None]
    """Run something after so many seconds, unless the connection has ended by then."""


Answer = Callable[[Exchange], None]


def respond(code: int, *, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """The bytes of a response with a Content-Length."""
    lines = [f"HTTP/1.1 {code} Scripted", *(f"{name}: {value}" for name, value in headers)]
    if code >= 200 and code != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def raw(*chunks: bytes, close: bool = False, interval_seconds: float = 0.0) -> Answer:
    """Send these bytes unchanged, one chunk per `interval_seconds`, and optionally close the
    connection afterwards.
    """

    def send(exchange: Exchange, rest: tuple[bytes, ...]) -> None:
        if rest:
            exchange.transport.write(rest[0])
            rest = rest[1:]
        if rest:
            exchange.later(interval_seconds, lambda: send(exchange, rest))
        elif close:
            exchange.transport.close()

    return lambda exchange: send(exchange, chunks)


def status(code: int, *, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Answer:
    """Answer with this status."""
    return raw(respond(code, headers=headers, body=body))


def ok() -> Answer:
    """Answer 202."""
    return status(202)


def redirect(location: str, code: int = 307) -> Answer:
    """Redirect the client."""
    return status(code, headers=[("Location", location)])


def retry_after(value: str, code: int = 503) -> Answer:
    """Answer 503 with Retry-After."""
    return status(code, headers=[("Retry-After", value)])


def reply(
    attributes: dict[str, str],
    data: bytes = b"",
    *,
    content_type: str = "application/json",
    code: int = 200,
) -> Answer:
    """Answer with an event in binary mode; `attributes` without the `ce-` prefix."""
    headers = [(f"ce-{name}", value) for name, value in attributes.items()]
    return status(code, headers=[*headers, ("Content-Type", content_type)], body=data)


def hang() -> Answer:
    """Never answer, and keep the connection open."""
    return lambda exchange: None


def after(seconds: float, answer: Answer) -> Answer:
    """Answer after a delay."""
    return lambda exchange: exchange.later(seconds, lambda: answer(exchange))


def drip(interval_seconds: float = 0.02) -> Answer:
    """Send the head, then a byte of an endless body from time to time."""

    def drop(exchange: Exchange) -> None:
        exchange.transport.write(b"1\r\nx\r\n")
        exchange.later(interval_seconds, lambda: drop(exchange))

    def begin(exchange: Exchange) -> None:
        exchange.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        drop(exchange)

    return begin


def drip_head(interval_seconds: float = 0.02) -> Answer:
    """Never complete the head."""

    def drop(exchange: Exchange) -> None:
        exchange.transport.write(b"x: y\r\n")
        exchange.later(interval_seconds, lambda: drop(exchange))

    def begin(exchange: Exchange) -> None:
        exchange.transport.write(b"HTTP/1.1 200 OK\r\n")
        drop(exchange)

    return begin


def reset(*, first: bytes = b"") -> Answer:
    """Close the connection after `first`."""

    def act(exchange: Exchange) -> None:
        if first:
            exchange.transport.write(first)
            exchange.later(0.01, exchange.transport.abort)
        else:
            exchange.transport.abort()

    return act


def close() -> Answer:
    """Close the connection without an answer."""
    return lambda exchange: exchange.transport.close()


def gzip_bomb(unpacked_bytes: int = 16 * 1_048_576) -> Answer:
    """A small compressed body that unpacks to a large one, whatever the client accepts."""
    body = gzip.compress(bytes(unpacked_bytes))
    return status(
        200, headers=[("Content-Encoding", "gzip"), ("Content-Type", "application/json")], body=body
    )


def large_body(size: int) -> Answer:
    """A body of so many bytes."""
    return status(200, body=b"x" * size)


def interim_first(code: int = 103, *, count: int = 1, then: Answer | None = None) -> Answer:
    """1xx responses before the real one."""
    final = then or ok()

    def act(exchange: Exchange) -> None:
        exchange.transport.write(respond(code, headers=[("Link", "</style.css>")]) * count)
        final(exchange)

    return act


def endless(first: bytes, again: bytes) -> Answer:
    """Start with `first` and send `again` at full speed until the connection ends."""

    def flood(exchange: Exchange) -> None:
        transport = exchange.transport
        if transport.get_write_buffer_size() < 1_048_576:
            transport.write(again)
        exchange.later(0.0, lambda: flood(exchange))

    def begin(exchange: Exchange) -> None:
        exchange.transport.write(first)
        flood(exchange)

    return begin


def huge_header(size: int) -> Answer:
    """One header field of so many bytes."""
    return status(202, headers=[("X-Huge", "x" * size)])


def many_headers(count: int) -> Answer:
    """So many header fields."""
    return status(202, headers=[(f"X-{number}", "x") for number in range(count)])


@dataclass
class Subscriber:
    """What a test sees of the server."""

    script: list[Answer]
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    """Connections accepted so far."""
    connections_open: int = 0
    close_after: int | None = None
    """Close a connection after so many answers on it."""
    early: bytes | None = None
    """Answer with this when a head has been read whose body has not arrived, and read no more."""
    url: str = ""
    port: int = 0
    _taken: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def answer_with(self, *script: Answer) -> None:
        """Replace the script from the next request on."""
        self.script, self._taken = list(script), 0

    def take(self, request: ReceivedRequest) -> Answer:
        """Record a request and return how to answer it."""
        self.requests.append(request)
        answer = self.script[min(self._taken, len(self.script) - 1)]
        self._taken += 1
        self.changed()
        return answer

    def changed(self) -> None:
        """Wake the waiting tests."""
        self._changed.set()

    async def wait_for_requests(self, count: int, *, timeout_seconds: float = 10.0) -> None:
        """Return when `count` requests have been received in total."""
        await self._wait_until(
            lambda: len(self.requests) >= count, f"{count} requests", timeout_seconds
        )

    async def wait_until_open(self, count: int, *, timeout_seconds: float = 10.0) -> None:
        """Return when exactly `count` connections are open."""
        await self._wait_until(
            lambda: self.connections_open == count, f"{count} open connections", timeout_seconds
        )

    async def _wait_until(
        self, reached: Callable[[], bool], what: str, timeout_seconds: float
    ) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"no {what} within {timeout_seconds} s: {len(self.requests)} requests,"
                f" {self.connections_open} open connections"
            ) from None


class _Connection(asyncio.Protocol):
    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._answers = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is not a subclass
        self._subscriber.connections += 1
        self._subscriber.connections_open += 1
        self._number = self._subscriber.connections
        self._subscriber.changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._subscriber.connections_open -= 1
        self._subscriber.changed()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._subscriber.early is not None and b"\r\n\r\n" in self._buffer:
            self._transport.pause_reading()
            self._transport.write(self._subscriber.early)
            return
        assert len(self._buffer) <= REQUEST_BYTES_MAX, "the request is larger than any test needs"
        while (request := self._read_request()) is not None:
            self._subscriber.take(request)(Exchange(request, self._transport, self._later))
            self._answers += 1
            if self._answers == self._subscriber.close_after:
                self._transport.close()

    def _read_request(self) -> ReceivedRequest | None:
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.split(b"\r\n")
        method, path, _ = first.decode("ascii").split(" ")
        fields = (line.decode("latin-1").partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        size = int(headers.get("content-length", "0"))
        if len(rest) < size:
            return None
        self._buffer = bytearray(rest[size:])
        return ReceivedRequest(
            method, path, headers, tuple(lines), rest[:size], time.monotonic(), self._number
        )

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(
            seconds, lambda: None if self._transport.is_closing() else act()
        )


@asynccontextmanager
async def serving(
    *script: Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Subscriber]:
    """Serve on a free port; answers 202 to every request without a script."""
    loop = asyncio.get_running_loop()
    subscriber = Subscriber(list(script) or [ok()])
    transports: set[_Connection] = set()

    def accept() -> _Connection:
        connection = _Connection(subscriber)
        transports.add(connection)
        return connection

    server = await loop.create_server(accept, host, 0, ssl=tls)
    subscriber.port = server.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    subscriber.url = f"{'https' if tls else 'http'}://{name}:{subscriber.port}/"
    try:
        yield subscriber
    finally:
        server.close()
        for connection in transports:
            if hasattr(connection, "_transport"):
                connection._transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)
