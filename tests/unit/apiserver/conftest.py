"""A server and clients of raw bytes, for tests of connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from headrace_apiserver.asgi import AsgiServer
from headrace_apiserver.connection_limiter import ConnectionLimiter
from headrace_apiserver.connections import ConnectionLimits
from headrace_apiserver.listener import http_options
from tests.unit.apiserver.http_peers import LIMITS, Application, Opened, Peer


@pytest.fixture
def application() -> Application:
    """The application behind the connections."""
    return Application()


@pytest.fixture
def limits() -> ConnectionLimits:
    """Limits of the server; tests may override them."""
    return LIMITS


@pytest.fixture
def limiter() -> ConnectionLimiter:
    """Limiter of the server; tests may override it."""
    return ConnectionLimiter(8)


@pytest.fixture
async def server(
    application: Application, limits: ConnectionLimits, limiter: ConnectionLimiter
) -> AsyncIterator[AsgiServer]:
    """A server with low limits."""
    server = AsgiServer(
        application,
        host="127.0.0.1",
        port=0,
        purpose="a test",
        option="",
        uvicorn_options=http_options(limits, limiter),
    )
    await server.start()
    yield server
    application.gate.set()
    await server.stop()


@pytest.fixture
async def opened(server: AsgiServer) -> AsyncIterator[Opened]:
    """Opens connections to the server."""
    async with AsyncExitStack() as stack:

        async def connect() -> Peer:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            return Peer(reader, writer)

        yield connect
