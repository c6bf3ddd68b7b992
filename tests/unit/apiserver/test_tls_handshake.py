"""TLS handshakes: the connections count from the first packet, and have a deadline."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import uvloop

from headrace_apiserver.asgi import AsgiServer
from headrace_apiserver.connection_limiter import ConnectionLimiter
from headrace_apiserver.connections import ConnectionLimits
from headrace_apiserver.credentials import TlsFiles
from headrace_apiserver.listener import http_options
from tests.support.certificates import Authority, Certificate
from tests.support.wait_until import wait_until_async
from tests.unit.apiserver.http_peers import GET, Application, Peer

SECONDS = 0.5


class Secured:
    """Opens connections to a TLS server, with or without a handshake."""

    def __init__(self, port: int, authority: Path, stack: AsyncExitStack) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(authority))
        self._stack = stack

    async def open(self, *, handshake: bool) -> Peer:
        """Open one connection."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context if handshake else None
        )
        self._stack.callback(writer.transport.abort)
        self._stack.callback(writer.close)
        return Peer(reader, writer)


def _tls(own: Certificate) -> Callable[[], ssl.SSLContext]:
    files = TlsFiles(certificate=own.certificate, key=own.key).renewed()
    assert files is not None
    return lambda: files.value.context


@pytest.fixture
def limits() -> ConnectionLimits:
    """Tests may override them."""
    return ConnectionLimits(head_seconds=SECONDS, stall_seconds=SECONDS)


@pytest.fixture
async def secured(
    tmp_path: Path, application: Application, limits: ConnectionLimits, limiter: ConnectionLimiter
) -> AsyncIterator[Secured]:
    """A TLS server with 8 idle connections."""
    authority = Authority(tmp_path / "ca")
    own = authority.sign("api")
    options = http_options(limits, limiter, tls=_tls(own))
    server = AsgiServer(
        application,
        host="127.0.0.1",
        port=0,
        purpose="a test",
        option="",
        uvicorn_options=options,
        tls=True,
    )
    await server.start()
    async with AsyncExitStack() as stack:
        yield Secured(server.port, authority.file, stack)
    application.gate.set()
    await server.stop()


async def test_requests_are_served(secured: Secured) -> None:
    """Also one that arrives with the last packet of its handshake."""
    for _ in range(5):
        peer = await secured.open(handshake=True)
        assert (200, b"ok") == await peer.ask(GET + b"\r\n")
        assert (200, b"ok") == await peer.ask(GET + b"\r\n")


@pytest.mark.parametrize(
    "sent", [b"", b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "a part", "no TLS"]
)
async def test_a_handshake_has_a_deadline(secured: Secured, sent: bytes) -> None:
    """10 s, as a head; the default of asyncio is 60 s."""
    peer = await secured.open(handshake=False)
    peer.writer.write(sent)
    async with asyncio.timeout(5):
        await peer.ended_any()


@pytest.mark.parametrize("limits", [ConnectionLimits()])
async def test_connections_count_before_their_handshake(
    secured: Secured, limiter: ConnectionLimiter
) -> None:
    """However many are silent, 8 are kept, and a client with a request is served."""
    silent = [await secured.open(handshake=False) for _ in range(60)]
    for peer in silent[:52]:
        async with asyncio.timeout(5):
            await peer.ended_any()
    assert 8 == limiter.connections
    assert (200, b"ok") == await (await secured.open(handshake=True)).ask(GET + b"\r\n")


async def test_a_client_that_reads_nothing_is_disconnected(
    secured: Secured, application: Application
) -> None:
    """The buffer of the TLS layer counts too."""
    application.answer = [b"x" * 65_536] * 400
    peer = await secured.open(handshake=True)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    peer.writer.write(GET + b"\r\n")
    await wait_until_async(lambda: application.working == 1, 5, "the request in flight")
    await wait_until_async(lambda: application.working == 0, 10, "the request to end")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_handshake_that_starts_at_once_is_not_lost(tmp_path: Path, loop: str) -> None:
    """Its first packet arrives before the TLS layer is set up. Services run on uvloop, which reads
    while a connection is made although reading is paused.
    """
    authority = Authority(tmp_path / "ca")
    own = authority.sign("api")
    context = ssl.create_default_context(cafile=str(authority.file))
    number = 50

    def handshake(port: int) -> int:
        done = 0
        for _ in range(number):
            plain = socket.create_connection(("127.0.0.1", port), timeout=5)
            with (
                suppress(OSError),
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
            ):
                secured.sendall(GET + b"Connection: close\r\n\r\n")
                done += secured.recv(12) == b"HTTP/1.1 200"
        return done

    async def serve() -> int:
        application = Application()
        options = http_options(
            ConnectionLimits(head_seconds=SECONDS),
            tls=_tls(own),
        )
        server = AsgiServer(
            application,
            host="127.0.0.1",
            port=0,
            purpose="a test",
            option="",
            uvicorn_options=options,
            tls=True,
        )
        await server.start()
        try:
            return await asyncio.to_thread(handshake, server.port)
        finally:
            application.gate.set()
            await server.stop()

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        assert number == runner.run(serve())
