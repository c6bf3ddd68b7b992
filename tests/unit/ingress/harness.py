"""An ingress on the in-memory adapters, a transport that keeps what is written to it, and requests
as bytes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from headrace.adapters.http.server import (
    Exchange,
    HttpServer,
    PreparedResponse,
    ServerConnection,
    ServerLimits,
)
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.routing import MemoryRoutingLog, MemoryRoutingReader
from headrace.codec import routing
from headrace.domain.routing import Addressable, route_key
from headrace.runtime.metrics import Metrics
from headrace_ingress.ingress import Ingress
from headrace_ingress.settings import IngressSettings

TOPIC = "knative-broker-shop-orders"
PATH = b"/shop/orders"
ATTRIBUTES = (
    (b"ce-specversion", b"1.0"),
    (b"ce-id", b"7"),
    (b"ce-source", b"/shops/1"),
    (b"ce-type", b"order.placed"),
)


class RecordingTransport(asyncio.Transport):
    """A transport without a network. It keeps what the server writes, and records whether the
    server closed it or paused reading.
    """

    def __init__(self, peer: str = "192.0.2.1") -> None:
        super().__init__({"peername": (peer, 4711)})
        self.written = bytearray()
        self.unread = 0
        self.paused = self.ended = self.closed = self.aborted = False

    def is_reading(self) -> bool:
        """Return whether reading is not paused."""
        return not self.paused

    def is_closing(self) -> bool:
        """Return whether the transport was closed or aborted."""
        return self.closed

    def write(self, data: Any) -> None:
        """Keep the data."""
        self.written += data

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the client has not read, as set by a test."""
        return self.unread

    def write_eof(self) -> None:
        """Record the end of the responses."""
        self.ended = True

    def can_write_eof(self) -> bool:
        """Return True, as for TCP."""
        return True

    def pause_reading(self) -> None:
        """Record the call."""
        self.paused = True

    def resume_reading(self) -> None:
        """Record the call."""
        self.paused = False

    def close(self) -> None:
        """Record the call."""
        self.closed = True

    def abort(self) -> None:
        """Record the call."""
        self.closed = self.aborted = True

    @property
    def statuses(self) -> list[int]:
        """The status codes that were written so far, including 100."""
        return [int(part[:3]) for part in bytes(self.written).split(b"HTTP/1.1 ")[1:]]


class DeferredHandler:
    """A handler that keeps requests and answers them on request."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def answer(self, status: int = 202) -> Exchange:
        """Answer the oldest request."""
        exchange = self.exchanges.pop(0)
        exchange.send(PreparedResponse(status))
        return exchange


def accept(exchange: Exchange) -> None:
    """A handler that answers immediately."""
    exchange.send(PreparedResponse(202))


def server_of(handler: Callable[[Exchange], None] = accept, **options: Any) -> HttpServer:
    """Return a server on the running loop that never sweeps by itself. `limits` takes keyword
    arguments of `ServerLimits`.
    """
    limits = ServerLimits(**{"sweep_seconds": 3600.0, **options.pop("limits", {})})
    server = HttpServer(handler, limits=limits, **options)
    server.open(asyncio.get_running_loop())
    return server


def connect(
    server: HttpServer, peer: str = "192.0.2.1"
) -> tuple[ServerConnection, RecordingTransport]:
    """Open a new connection to the server."""
    connection, transport = ServerConnection(server), RecordingTransport(peer)
    connection.connection_made(transport)
    return connection, transport


def request(
    body: bytes = b"{}",
    *,
    method: bytes = b"POST",
    target: bytes = PATH,
    fields: Sequence[tuple[bytes, bytes]] = ATTRIBUTES,
    host: bytes | None = b"localhost",
    chunks: Sequence[bytes] | None = None,
) -> bytes:
    """Return a well-formed request; with `chunks`, a chunked one."""
    lines = [method + b" " + target + b" HTTP/1.1"]
    if host is not None:
        lines.append(b"Host: " + host)
    lines += [name + b": " + value for name, value in fields]
    if chunks is None:
        lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body
    lines.append(b"Transfer-Encoding: chunked")
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return b"\r\n".join(lines) + b"\r\n\r\n" + framed


class IngressHarness:
    """An ingress in front of a memory log with one broker, `shop/orders`."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("hosts", "a")
        self.log = MemoryLog(topic_bytes_max=2 * 1_048_576)
        self.log.create(TOPIC)
        self.routes = MemoryRoutingLog()
        self.follower = MemoryRoutingReader(self.routes)
        self.metrics = Metrics(process=False)
        self.ingress = Ingress(
            IngressSettings(port=0, **settings),
            log=self.log,
            routes=self.follower,
            metrics=self.metrics,
        )

    def add(self, name: str = "orders", **fields: Any) -> None:
        """Write an addressable to the routing table."""
        route = Addressable(
            uid=fields.pop("uid", name),
            generation=1,
            epoch=1,
            namespace="shop",
            name=name,
            topic=fields.pop("topic", TOPIC),
            paths=fields.pop("paths", (f"/shop/{name}",)),
            **fields,
        )
        self.routes.append(route_key(route), routing.write(route))

    def metric(self, sample: str, **labels: str) -> float:
        """Return the value of a sample on the metrics page, 0 if it does not exist."""
        for line in self.metrics.expose()[0].decode().splitlines():
            if line.startswith(sample + "{") and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                return float(line.rpartition(" ")[2])
        return 0.0


@contextlib.asynccontextmanager
async def ingress_harness(
    *, started: bool = True, **settings: Any
) -> AsyncIterator[IngressHarness]:
    """An ingress that is ready, and is stopped at the end."""
    running = IngressHarness(**settings)
    running.add()
    try:
        if started:
            await running.ingress.start()
        yield running
    finally:
        await running.ingress.stop()
        await running.log.stop()


async def talk(port: int, *pieces: bytes, answers: int = 1, seconds: float = 5.0) -> bytes:
    """Send the pieces over a socket and return what comes back until the connection ends or
    `answers` complete responses have arrived.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        received = b""
        async with asyncio.timeout(seconds):
            while _complete(received) < answers and (data := await reader.read(65_536)):
                received += data
        return received
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _complete(received: bytes) -> int:
    count = 0
    while b"\r\n\r\n" in received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.startswith(b"content-length")
            ),
            0,
        )
        if len(rest) < length:
            break
        received = rest[length:]
        count += not head.startswith(b"HTTP/1.1 100")
    return count
