"""What a connection may cost before anybody knows who is there: the size and time of a request's head, and how many wait with none."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from headrace_controller.api.asgi import AsgiServer
from headrace_controller.api.connections import ConnectionLimits
from headrace_controller.api.listener import http_options
from tests.support.waiting import wait_until_async
from tests.unit.controller.server import running_api

LIMITS = ConnectionLimits(head_seconds=0.3, stall_seconds=0.3)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
Opened = Callable[[], Awaitable["Peer"]]


class Application:
    """Answers `ok`, or `answer`, when `gate` is open; knows how many requests it has seen."""

    def __init__(self) -> None:
        self.seen = 0
        self.working = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.answer: list[bytes] = [b"ok"]
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen += 1
        self.working += 1
        self.headers = scope["headers"]
        try:
            await self.gate.wait()
            length = str(sum(map(len, self.answer))).encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
            for piece in self.answer:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.working -= 1


class Peer:
    """A client of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, text: bytes) -> tuple[int, bytes]:
        """Send, and read one answer: its code and body."""
        self.writer.write(text)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        """The next answer."""
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            return int(head.split()[1]), await self.reader.readexactly(int(length.split(b":")[1]))

    async def ended(self) -> None:
        """Return once the server has closed the connection."""
        async with asyncio.timeout(5):
            try:
                assert b"" == await self.reader.read()
            except ConnectionError:
                return


@pytest.fixture
def application() -> Application:
    """What is behind the connections."""
    return Application()


@pytest.fixture
def limits() -> ConnectionLimits:
    """Of the server; tests may have others."""
    return LIMITS


@pytest.fixture
async def opened(application: Application, limits: ConnectionLimits) -> AsyncIterator[Opened]:
    """Opens connections to a server with small limits, which ends with the test."""
    server = AsgiServer(application, host="127.0.0.1", port=0, purpose="a test", option="", served_with=http_options(limits, places=8))
    await server.start()
    async with AsyncExitStack() as stack:

        async def connect() -> Peer:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            return Peer(reader, writer)

        yield connect
    application.gate.set()
    await server.stop()


async def test_a_request_is_answered_and_the_connection_stays(opened: Opened, application: Application) -> None:
    """For longer than a head may take: the deadline is for heads, not for the time between requests."""
    peer = await opened()
    assert (200, b"ok") == await peer.ask(GET + b"\r\n")
    loop = asyncio.get_running_loop()
    later = loop.time() + 2 * LIMITS.head_seconds
    await wait_until_async(lambda: loop.time() > later)
    assert (200, b"ok") == await peer.ask(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
    assert 2 == application.seen


@pytest.mark.parametrize(
    "endless",
    [b"GET /" + b"a" * 4_000, GET + b"X: ", b"\r\nX: " + b"y" * 4_000, b"\r\nx:y" * 200],
    ids=["a URL", "one header", "long headers", "many headers"],
)
async def test_a_head_without_end_is_refused(opened: Opened, application: Application, endless: bytes) -> None:
    """431 as a Status, and the connection ends: nothing keeps what comes after."""
    peer = await opened()
    if not endless.startswith(b"GET"):
        peer.writer.write(GET[:-2])
    peer.writer.write(endless)
    repeated = b"a" * 4_096 if endless.startswith(b"GET") else endless
    for _ in range(20):
        peer.writer.write(repeated)
    code, body = await peer.answer()
    assert (431, "Status") == (code, json.loads(body)["kind"])
    assert "which is the limit" in json.loads(body)["message"]
    await peer.ended()  # with nothing behind that answer
    assert 0 == application.seen


async def test_a_large_head_and_body_pass(opened: Opened, application: Application) -> None:
    """Up to the limit a head is taken, and the bytes of a body do not count."""
    peer = await opened()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 60_000 + b"\r\nContent-Length: 200000\r\n\r\n"
    assert (200, b"ok") == await peer.ask(head + b"b" * 200_000)
    assert (200, b"ok") == await peer.ask(GET + b"\r\n")
    assert 2 == application.seen


async def test_trailers_are_bounded_and_are_no_headers(opened: Opened, application: Application) -> None:
    """Fields behind a body in chunks are not added to the request's headers; without end they end the connection."""
    start = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    peer = await opened()
    assert (200, b"ok") == await peer.ask(start + b"Authorization: Bearer late\r\n\r\n")
    assert [b"host", b"transfer-encoding"] == [name for name, _ in application.headers]
    application.gate.clear()
    peer.writer.write(start + b"X: " + b"y" * 100_000)
    await peer.ended()


@pytest.mark.parametrize("part", [b"", b"\r\n", GET], ids=["nothing", "a line end", "half a head"])
async def test_a_head_has_a_deadline(opened: Opened, part: bytes) -> None:
    """Whoever connects and sends no whole head is told so, if there is a request to answer, and cut off."""
    peer = await opened()
    peer.writer.write(part)
    if part == GET:
        assert 408 == (await peer.answer())[0]
    await peer.ended()


async def test_the_head_of_a_later_request_has_a_deadline_too(opened: Opened) -> None:
    """The keep-alive timeout ends with its first byte, and drops do not prolong what follows."""
    peer = await opened()
    assert 200 == (await peer.ask(GET + b"\r\n"))[0]
    peer.writer.write(GET)
    assert 408 == (await peer.answer())[0]
    await peer.ended()


async def test_a_long_answer_is_not_cut_by_what_comes_behind_its_request(opened: Opened, application: Application) -> None:
    """A line end or half a request behind the one at work lets it be, however long it takes."""
    application.gate.clear()
    peer = await opened()
    peer.writer.write(GET + b"\r\n" + GET)
    loop = asyncio.get_running_loop()
    later = loop.time() + 2 * LIMITS.head_seconds
    await wait_until_async(lambda: loop.time() > later)
    application.gate.set()
    assert (200, b"ok") == await peer.answer()
    assert (200, b"ok") == await peer.ask(b"\r\n")


@pytest.mark.parametrize("limits", [ConnectionLimits()])
async def test_idle_connections_shut_nobody_out(opened: Opened, application: Application) -> None:
    """One too many ends the longest waiting; those with a request at work do not count."""
    application.gate.clear()
    working = []
    for number in range(1, 13):
        working.append(await opened())
        working[-1].writer.write(GET + b"\r\n")
        await wait_until_async(lambda number=number: application.seen == number, 5, "the request at work")  # type: ignore[misc]
    idle = [await opened() for _ in range(30)]
    for peer in idle[:22]:
        await peer.ended()
    for peer in idle[22:]:
        peer.writer.write(GET + b"\r\n")
    await wait_until_async(lambda: application.seen == 20, 5, "the idle that are left to be heard")
    application.gate.set()
    for peer in (*working, *idle[22:]):
        assert (200, b"ok") == await peer.answer()


async def test_a_heap_of_requests_on_one_connection_is_refused(opened: Opened, application: Application) -> None:
    """Each waits in memory for the answer to the one before, long before anybody knows who asks."""
    application.gate.clear()
    peer = await opened()
    peer.writer.write((GET + b"\r\n") * 5_000)
    await peer.ended()
    assert 1 == application.seen


async def test_who_fetches_nothing_is_cut(opened: Opened, application: Application) -> None:
    """An answer that nobody reads ends with the connection, and with it the request."""
    application.answer = [b"x" * 65_536] * 400
    peer = await opened()
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    peer.writer.write(GET + b"\r\n")
    await wait_until_async(lambda: application.working == 1, 5, "the request at work")
    await wait_until_async(lambda: application.working == 0, 5, "the request to end")


async def test_who_fetches_slowly_gets_everything(opened: Opened, application: Application) -> None:
    """As long as something is fetched now and then."""
    application.answer = [b"x" * 65_536] * 200
    peer = await opened()
    peer.writer.write(GET + b"\r\n")
    fetched = 0
    while fetched < 65_536 * 200:
        piece = await peer.reader.read(2**22)
        assert piece
        fetched += len(piece)
        await asyncio.sleep(0.01)
    await wait_until_async(lambda: application.working == 0, 5, "the request to end")


def test_the_api_listens_with_these_limits() -> None:
    """The controller's own port refuses what is too large, before it asks who is there."""
    with running_api() as api:
        code, status = api.call("GET", "/api", headers={"X-Long": "y" * 70_000})
        assert (431, 431, "Failure") == (code, status["code"], status["status"])
        code, status = api.call("GET", "/api", headers={f"X-{number}": "y" for number in range(300)})
        assert (431, "the request has more than 256 headers, which is the limit") == (code, status["message"])
        assert 200 == api.call("GET", "/api")[0]
