"""Connections at the limits of their server: an idle client makes room, a client that reads nothing
is cut, heads have a budget.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from headrace.adapters.http.server import (
    ConnectionEvent,
    Exchange,
    HttpServer,
    PreparedResponse,
    ServerLimits,
)
from headrace.runtime.sockets import listen, port_of
from tests.support.certificates import Authority
from tests.support.wait_until import wait_until_async
from tests.unit.ingress.harness import DeferredHandler, accept, connect, request, server_of, talk


@contextlib.asynccontextmanager
async def serving(
    handler: Any = accept, *, tls: ssl.SSLContext | None = None, **limits: Any
) -> AsyncIterator[tuple[HttpServer, int]]:
    """A server with these limits on any free port."""
    server = HttpServer(
        handler, limits=ServerLimits(**{"sweep_seconds": 0.02, "drain_seconds": 0.1, **limits})
    )
    bound = listen("127.0.0.1", 0, purpose="a test", option="none")
    port = port_of(bound)
    await server.start(bound, tls=None if tls is None else lambda: tls)
    try:
        yield server, port
    finally:
        await server.stop()


def dial(port: int, *, receive_bytes: int = 0) -> socket.socket:
    """Return the socket of a client."""
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.connect(("127.0.0.1", port))
    return client


def large(exchange: Exchange) -> None:
    """Answer with more than any socket buffer takes at once."""
    exchange.send(PreparedResponse(200, (), b"x" * 1_000_000))


async def test_clients_that_read_nothing_are_cut() -> None:
    """They fill their buffers, never read, and are gone after the deadline; before, each kept its
    place forever.
    """
    async with serving(large, write_seconds=0.2, connections_max=20) as (server, port):
        clients = [dial(port, receive_bytes=4_096) for _ in range(10)]
        try:
            for client in clients:
                client.sendall(request() * 20)
            await wait_until_async(lambda: server.connections == 10, what="all are connected")
            await wait_until_async(lambda: server.connections == 0, what="all are cut")
            assert 10 == server.connection_table.counts[ConnectionEvent.STALLED]
        finally:
            for client in clients:
                client.close()


async def test_a_client_that_reads_slowly_is_served() -> None:
    """Progress between two sweeps is enough."""
    server = server_of(accept, limits={"idle_seconds": 1000.0})
    connection, transport = connect(server)
    connection.data_received(request())
    transport.unread = len(transport.written)
    step = ServerLimits().write_seconds - 1
    for number in range(20):
        transport.unread -= 1
        connection.sweep(server.now + number * step)
    assert not transport.aborted
    connection.sweep(server.now + 19 * step + ServerLimits().write_seconds + 0.1)
    assert transport.aborted


async def test_a_client_that_reads_nothing_is_cut_in_every_phase() -> None:
    """Also while its next request is in flight."""
    held = DeferredHandler()
    server = server_of(held, limits={"answer_seconds": 1000.0})
    connection, transport = connect(server)
    connection.data_received(request())
    held.answer()
    connection.data_received(request())
    transport.unread = 10
    connection.sweep(server.now + 1)
    connection.sweep(server.now + 2 + ServerLimits().write_seconds)
    assert transport.aborted


async def test_an_idle_connection_with_unread_answers_does_not_outlive_its_deadline() -> None:
    """`close` alone waits without end until everything is sent."""
    server = server_of(accept, limits={"write_seconds": 1e9})
    connection, transport = connect(server)
    connection.data_received(request())
    transport.unread = 10
    connection.sweep(server.now + 76)
    assert transport.closed
    connection.since = server.now
    connection.sweep(server.now + 3)
    assert transport.aborted


async def test_the_longest_idle_connection_makes_room() -> None:
    """At the limit a new connection is served."""
    async with serving(connections_max=10) as (server, port):
        clients = [dial(port) for _ in range(10)]
        try:
            for client in clients:
                client.sendall(request())
                await asyncio.to_thread(client.recv, 1_000)
            first = clients[0]
            for _ in range(3):
                assert (await talk(port, request())).startswith(b"HTTP/1.1 202 ")
                await wait_until_async(lambda: server.connections <= 10, what="the limit holds")
            assert b"" == await asyncio.to_thread(first.recv, 1_000)
            assert 1 <= server.connection_table.counts[ConnectionEvent.EVICTED] <= 3
            assert 0 == server.connection_table.counts[ConnectionEvent.REFUSED]
        finally:
            for client in clients:
                client.close()


async def test_silent_connections_make_room() -> None:
    """200 that never send a byte do not keep a probe out for longer than a second."""
    async with serving(connections_max=20) as (server, port):
        clients = [dial(port) for _ in range(20)]
        try:
            await wait_until_async(lambda: server.connections == 20, what="all are connected")

            async def served() -> bool:
                with contextlib.suppress(ConnectionError):
                    return (await talk(port, request())).startswith(b"HTTP/1.1 202 ")
                return False

            async with asyncio.timeout(5):
                while not await served():
                    await asyncio.sleep(0.05)
        finally:
            for client in clients:
                client.close()


async def test_requests_in_flight_are_not_closed_for_newcomers() -> None:
    """When no connection is idle, the new one is rejected."""
    held = DeferredHandler()
    async with serving(held, connections_max=2) as (server, port):
        answers = [asyncio.create_task(talk(port, request())) for _ in range(2)]
        await wait_until_async(lambda: len(held.exchanges) == 2, what="two requests are in flight")
        refused = await talk(port)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"2 connections are open" in refused
        assert 1 == server.connection_table.counts[ConnectionEvent.REFUSED]
        held.answer()
        held.answer()
        assert all(answer.startswith(b"HTTP/1.1 202 ") for answer in await asyncio.gather(*answers))


async def test_handshakes_take_places(tmp_path: Path) -> None:
    """300 connections that never begin their handshake: the limit of 100 holds, and they end at
    their deadline.
    """
    authority = Authority(tmp_path)
    certificate = authority.sign("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    highest = 0
    async with serving(tls=context, connections_max=100, handshake_seconds=0.5) as (server, port):
        clients = []
        try:
            for _ in range(300):
                clients.append(dial(port))
                await asyncio.sleep(0)
                highest = max(highest, server.connections)
            await wait_until_async(
                lambda: (
                    server.connection_table.counts[ConnectionEvent.REFUSED] + server.connections
                    >= 300
                ),
                what="all were accepted",
            )
            highest = max(highest, server.connections)
            assert 100 == highest
            await wait_until_async(lambda: server.connections == 0, what="the handshakes ended")
            trust = ssl.create_default_context(cafile=str(authority.file))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trust, server_hostname="localhost"
            )
            writer.write(request())
            assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
            assert 1 == server.connections
            writer.close()
        finally:
            for client in clients:
                client.close()
        await wait_until_async(lambda: server.connections == 0, what="no place is lost")
        assert {} == server.connection_table._per_peer


async def test_unfinished_heads_have_a_budget() -> None:
    """1,500 clients with 56 kB each: what is over the budget is refused with 503, and given back at
    the end.
    """
    async with serving(heads_bytes_max=1_000_000) as (server, port):
        half = b"POST /shop/orders HTTP/1.1\r\nHost: a\r\n" + b"x: " + b"y" * 50_000
        clients = [dial(port) for _ in range(40)]
        try:
            for client in clients:
                client.sendall(half)
            await wait_until_async(
                lambda: server.connection_table.counts[ConnectionEvent.HEADS_FULL] >= 20,
                what="some are refused",
            )
            assert 1_000_000 >= server.buffered_head_bytes > 0
            assert (await asyncio.to_thread(clients[-1].recv, 1_000)).startswith(b"HTTP/1.1 503 ")
        finally:
            for client in clients:
                client.close()
        await wait_until_async(
            lambda: server.buffered_head_bytes == 0, what="the bytes are given back"
        )


async def test_requests_sent_ahead_have_the_same_budget() -> None:
    """The request in flight is answered, and the connection ends after it; the next clients are
    served.
    """
    held = DeferredHandler()
    server = server_of(held, limits={"heads_bytes_max": 1_000})
    connection, transport = connect(server)
    connection.data_received(request() + request(b"x" * 2_000) * 3)
    assert 1 == len(held.exchanges)
    assert 0 == server.buffered_head_bytes
    held.answer()
    assert [202] == transport.statuses
    assert b"connection: close" in transport.written
    assert transport.ended
    other, kept = connect(server)
    other.data_received(request())
    held.answer()
    assert [202] == kept.statuses


async def test_a_lack_of_file_descriptors_is_logged_and_over_when_it_is_over() -> None:
    """`accept` fails with EMFILE: one log line, no loop that turns for nothing, and service
    afterwards.
    """
    async with serving() as (server, port):
        acceptor = server._acceptors[0]
        listener, failures = acceptor._listener, 0

        class Exhausted:
            def accept(self) -> object:
                nonlocal failures
                failures += 1
                raise OSError(errno.EMFILE, "Too many open files")

            def fileno(self) -> int:
                return listener.fileno()

        acceptor._listener = Exhausted()  # type: ignore[assignment]
        with capture_logs() as logs:
            answer = asyncio.create_task(talk(port, request()))
            await wait_until_async(lambda: failures == 2, what="it is tried again")
        acceptor._listener = listener
        assert (await answer).startswith(b"HTTP/1.1 202 ")
        assert [("accept_failed", "Too many open files")] == [
            (line["event"], line["error"]) for line in logs
        ]
        assert 2 == server.connection_table.counts[ConnectionEvent.NO_DESCRIPTORS]


async def test_a_body_of_single_bytes_occupies_what_is_counted() -> None:
    """One object per segment would occupy forty times as much."""
    server = server_of(accept)
    connection, _ = connect(server)
    raw = request(b"x" * 100_000)
    connection.data_received(raw[:-100_000])
    tracemalloc.start()
    try:
        for _ in range(99_999):
            connection.data_received(b"x"[:])
        assert 300_000 > tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
