"""A server over raw bytes, for tests of what a connection may do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from headrace_controller.api.asgi import AsgiServer
from headrace_controller.api.connections import ConnectionLimits
from headrace_controller.api.listener import http_options
from headrace_controller.api.waiting_room import WaitingRoom
from tests.unit.controller.api.peers import LIMITS, Application, Opened, Peer


@pytest.fixture
def application() -> Application:
    """What is behind the connections."""
    return Application()


@pytest.fixture
def limits() -> ConnectionLimits:
    """Of the server; tests may have others."""
    return LIMITS


@pytest.fixture
def room() -> WaitingRoom:
    """Of the server; tests may have others."""
    return WaitingRoom(8)


@pytest.fixture
async def server(application: Application, limits: ConnectionLimits, room: WaitingRoom) -> AsyncIterator[AsgiServer]:
    """A server with small limits, which ends with the test."""
    server = AsgiServer(application, host="127.0.0.1", port=0, purpose="a test", option="", served_with=http_options(limits, room))
    await server.start()
    yield server
    application.gate.set()
    await server.stop()


@pytest.fixture
async def opened(server: AsgiServer) -> AsyncIterator[Opened]:
    """Opens connections to it."""
    async with AsyncExitStack() as stack:

        async def connect() -> Peer:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            return Peer(reader, writer)

        yield connect
