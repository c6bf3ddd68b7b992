"""A task that is cancelled while it waits for NATS ends, and a closed connection stays closed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from nats.aio.client import Client

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import LogUnavailable
from tests.support.nats_server import NatsServer

Call = Callable[[NatsConnection], Coroutine[Any, Any, object]]


async def _ignore(_message: object) -> None:
    """Do nothing with a message."""


async def _subscribe(connection: NatsConnection) -> None:
    await connection.subscribe("subject", _ignore)


CALLS: list[tuple[str, Call]] = [
    ("request", lambda connection: connection.request("subject", b"", timeout_seconds=5)),
    ("flush", lambda connection: connection.flush(5)),
    ("subscribe", _subscribe),
]


class IgnoredCancellation:
    """A call of the client library that returns when it is cancelled. That is what the library
    does: `asyncio.wait_for` of Python 3.11 returns the answer, and its flush catches the
    cancellation.
    """

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def __call__(self, *_: object, **__: object) -> None:
        """Wait."""
        self.called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
async def test_a_cancellation_beside_the_answer_ends_the_task(
    name: str, call: Call, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = IgnoredCancellation()
    connection = NatsConnection(nats_server.options)
    await connection.wait_connected(10)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Client, name, ignored)
            task = asyncio.ensure_future(call(connection))
            async with asyncio.timeout(10):
                await ignored.called.wait()
                task.cancel()
                await asyncio.wait([task])
        assert task.cancelled()
    finally:
        await connection.close()


async def test_the_sender_ends_although_the_library_ignores_its_cancellation(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = IgnoredCancellation()
    connection = NatsConnection(nats_server.options)
    await connection.wait_connected(10)
    monkeypatch.setattr(Client, "publish", ignored)
    connection.send("subject", b"")
    async with asyncio.timeout(10):
        await ignored.called.wait()
        sender = connection._sender
        await connection.close()
    assert sender is not None
    assert sender.done()


async def test_a_closed_connection_is_not_opened_again(nats_server: NatsServer) -> None:
    connection = NatsConnection(nats_server.options)
    await connection.wait_connected(10)
    await connection.close()
    with pytest.raises(LogUnavailable, match="closed"):
        await connection.request("subject", b"")
    connection.start()
    assert not connection.is_connected
    await connection.close()


async def test_a_connection_closed_before_it_began_stays_closed() -> None:
    connection = NatsConnection(NatsOptions(servers=("nats://127.0.0.1:1",)))
    await connection.close()
    with pytest.raises(LogUnavailable, match="closed"):
        await connection.wait_connected(10)
