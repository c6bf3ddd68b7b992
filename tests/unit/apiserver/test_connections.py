"""Limits of a connection before authentication: size and time of the head of a request, and the
number of idle connections.
"""

import asyncio
import json

import pytest

from headrace_apiserver.asgi import AsgiServer
from headrace_apiserver.connection_limiter import ConnectionLimiter
from headrace_apiserver.connections import ConnectionLimits
from tests.support.wait_until import wait_until_async
from tests.unit.apiserver.http_peers import GET, LIMITS, Application, Opened
from tests.unit.apiserver.running_api import running_api


async def test_a_connection_serves_several_requests(
    opened: Opened, application: Application
) -> None:
    """Also after a time longer than the deadline of a head: the deadline does not apply between
    requests.
    """
    peer = await opened()
    assert (200, b"ok") == await peer.ask(GET + b"\r\n")
    loop = asyncio.get_running_loop()
    later = loop.time() + 2 * LIMITS.head_seconds
    await wait_until_async(lambda: loop.time() > later)
    assert (200, b"ok") == await peer.ask(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
    )
    assert 2 == application.seen


@pytest.mark.parametrize(
    "endless",
    [b"GET /" + b"a" * 4_000, GET + b"X: ", b"\r\nX: " + b"y" * 4_000, b"\r\nx:y" * 200],
    ids=["a URL", "one header", "long headers", "many headers"],
)
async def test_an_endless_head_is_rejected(
    opened: Opened, application: Application, endless: bytes
) -> None:
    """431 with a Status, and the connection ends: what follows is not buffered."""
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
    await peer.ended()  # without another response
    assert 0 == application.seen


async def test_a_large_head_and_body_pass(opened: Opened, application: Application) -> None:
    """A head up to the limit is accepted, and the bytes of a body do not count."""
    peer = await opened()
    head = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nX: "
        + b"y" * 60_000
        + b"\r\nContent-Length: 200000\r\n\r\n"
    )
    assert (200, b"ok") == await peer.ask(head + b"b" * 200_000)
    assert (200, b"ok") == await peer.ask(GET + b"\r\n")
    assert 2 == application.seen


async def test_trailers_are_limited_and_ignored(opened: Opened, application: Application) -> None:
    """Fields after a chunked body are not added to the headers of the request. Endless ones end the
    connection.
    """
    start = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    )
    peer = await opened()
    assert (200, b"ok") == await peer.ask(start + b"Authorization: Bearer late\r\n\r\n")
    assert [b"host", b"transfer-encoding"] == [name for name, _ in application.headers]
    application.gate.clear()
    peer.writer.write(start + b"X: " + b"y" * 100_000)
    await peer.ended()


@pytest.mark.parametrize("part", [b"", b"\r\n", GET], ids=["nothing", "a line end", "half a head"])
async def test_a_head_has_a_deadline(opened: Opened, part: bytes) -> None:
    """A client that sends no complete head gets a 408 if it has started a request, and is
    disconnected.
    """
    peer = await opened()
    peer.writer.write(part)
    if part == GET:
        assert 408 == (await peer.answer())[0]
    await peer.ended()


async def test_the_head_of_a_later_request_has_a_deadline(opened: Opened) -> None:
    """The keep-alive timeout ends with its first byte, and further bytes do not extend the
    deadline.
    """
    peer = await opened()
    assert 200 == (await peer.ask(GET + b"\r\n"))[0]
    peer.writer.write(GET)
    assert 408 == (await peer.answer())[0]
    await peer.ended()


async def test_bytes_after_a_request_do_not_end_its_response(
    opened: Opened, application: Application
) -> None:
    """A line end or half a request after the one in flight does not end it, even if it is slow."""
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
async def test_idle_connections_do_not_lock_out_others(
    opened: Opened, application: Application
) -> None:
    """One too many closes the one that has been idle longest; connections with a request in flight
    do not count.
    """
    application.gate.clear()
    working = []
    for number in range(1, 13):
        working.append(await opened())
        working[-1].writer.write(GET + b"\r\n")
        await wait_until_async(
            lambda number=number: application.seen == number,  # type: ignore[misc]
            5,
            "the request in flight",
        )
    idle = [await opened() for _ in range(30)]
    for peer in idle[:22]:
        await peer.ended()
    for peer in idle[22:]:
        peer.writer.write(GET + b"\r\n")
    await wait_until_async(
        lambda: application.seen == 20, 5, "the requests of the idle connections"
    )
    application.gate.set()
    for peer in (*working, *idle[22:]):
        assert (200, b"ok") == await peer.answer()


async def test_pipelined_requests_are_limited(opened: Opened, application: Application) -> None:
    """Each waits in memory for the previous response, before its client is authenticated."""
    application.gate.clear()
    peer = await opened()
    peer.writer.write((GET + b"\r\n") * 5_000)
    await peer.ended()
    assert 1 == application.seen


async def test_a_client_that_reads_nothing_is_disconnected(
    opened: Opened, application: Application
) -> None:
    """A response that is not read ends with the connection, and with it the request."""
    application.answer = [b"x" * 65_536] * 400
    peer = await opened()
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    peer.writer.write(GET + b"\r\n")
    await wait_until_async(lambda: application.working == 1, 5, "the request in flight")
    await wait_until_async(lambda: application.working == 0, 5, "the request to end")


async def test_a_slow_client_gets_the_whole_response(
    opened: Opened, application: Application
) -> None:
    """As long as it reads something now and then."""
    application.answer = [b"x" * 65_536] * 200
    peer = await opened()
    peer.writer.write(GET + b"\r\n")
    size = 0
    while size < 65_536 * 200:
        piece = await peer.reader.read(2**22)
        assert piece
        size += len(piece)
        await asyncio.sleep(0.01)
    await wait_until_async(lambda: application.working == 0, 5, "the request to end")


async def test_a_client_that_leaves_little_unread_is_disconnected(
    opened: Opened, application: Application, server: AsgiServer
) -> None:
    """Less than what pauses the application: otherwise a watch with a few changes that its client
    does not read would keep its slot.
    """
    peer = await opened()
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def unsent() -> int:
        return sum(
            each.transport.get_write_buffer_size()
            for each in server._server.server_state.connections
        )

    application.enough = lambda: unsent() > 0
    application.answer = [b"x" * 8_192] * 4_000
    peer.writer.write(GET + b"\r\n")
    await wait_until_async(lambda: unsent() > 0, 5, "unsent bytes")
    await wait_until_async(lambda: application.working == 0, 5, "the request to end")


@pytest.mark.parametrize(
    ("limits", "limiter"), [(ConnectionLimits(), ConnectionLimiter(20, connections_max=10))]
)
async def test_a_new_connection_replaces_the_oldest_idle_one(
    opened: Opened, application: Application, limiter: ConnectionLimiter
) -> None:
    """At the limit of all connections, an idle one is closed, or else the one that has waited
    longest for its client.
    """
    application.gate.clear()
    working = [await opened() for _ in range(8)]
    for peer in working:
        peer.writer.write(GET + b"\r\n")
    await wait_until_async(lambda: application.seen == 8, 5, "the requests in flight")
    idle = [await opened() for _ in range(4)]
    for peer in idle[:2]:
        await peer.ended()
    assert 10 == limiter.connections
    application.gate.set()
    for peer in (*working, *idle[2:]):
        if peer in idle:
            peer.writer.write(GET + b"\r\n")
        assert (200, b"ok") == await peer.answer()


async def test_a_body_after_its_response_has_a_deadline(
    opened: Opened, application: Application
) -> None:
    """A request whose response was sent before its body arrived does not keep the connection by
    sending on.
    """
    peer = await opened()
    assert (
        200
        == (
            await peer.ask(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        )[0]
    )

    # A connection that is closed with unread bytes is reset, and a reset is no end of file.
    def has_ended() -> bool:
        return peer.reader.at_eof() or isinstance(peer.reader.exception(), ConnectionError)

    # Ten deadlines. On a busy machine the pauses take longer, and so does their sum.
    for _ in range(100):
        if has_ended():
            break
        peer.writer.write(b"x")
        await asyncio.sleep(LIMITS.head_seconds / 10)
    assert has_ended()


def test_the_api_has_these_limits() -> None:
    """The port of the controller rejects heads that are too large before it authenticates."""
    with running_api() as api:
        code, status = api.call("GET", "/api", headers={"X-Long": "y" * 70_000})
        assert (431, 431, "Failure") == (code, status["code"], status["status"])
        code, status = api.call(
            "GET", "/api", headers={f"X-{number}": "y" for number in range(300)}
        )
        assert (431, "the request has more than 256 headers, which is the limit") == (
            code,
            status["message"],
        )
        assert 200 == api.call("GET", "/api")[0]
