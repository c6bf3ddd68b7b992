"""The server: standalone, under uvicorn, and during shutdown."""

import asyncio
import socket

import uvicorn
from structlog.testing import capture_logs

from headrace.adapters.http.server import Exchange, HttpServer, ServerLimits
from headrace.runtime.sockets import listen, port_of
from headrace_apiserver.asgi import QuietServer
from tests.support.wait_until import wait_until_async
from tests.unit.ingress.harness import DeferredHandler, accept, request, talk


def listener() -> socket.socket:
    """Return a socket on any free port."""
    return listen("127.0.0.1", 0, purpose="a test", option="none")


async def test_it_serves_under_uvicorn_and_ends_with_it() -> None:
    """uvicorn accepts connections for our protocol, and its shutdown waits for the answer
    in flight.
    """
    held = DeferredHandler()
    server = HttpServer(held)

    async def no_app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("uvicorn must not reach an application")

    config = uvicorn.Config(
        no_app,
        http=server.uvicorn_protocol,  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    under = QuietServer(config)
    bound = listener()
    serving = asyncio.create_task(under.serve(sockets=[bound]))
    await wait_until_async(lambda: under.started, what="uvicorn has started")
    answer = asyncio.create_task(talk(port_of(bound), request()))
    await wait_until_async(lambda: held.exchanges, what="the request is in flight")
    under.should_exit = True
    await wait_until_async(lambda: not under.servers[0].is_serving(), what="uvicorn takes no more")
    assert not serving.done()
    held.answer()
    assert (await answer).startswith(b"HTTP/1.1 202 ")
    await asyncio.wait_for(serving, 5)
    assert 0 == server.connections
    await server.stop()


async def test_stopping_cuts_what_is_not_answered_at_the_drain_deadline() -> None:
    """A handler that never answers cannot keep the process; the log says how many were cut."""
    held = DeferredHandler()
    server = HttpServer(held, limits=ServerLimits(drain_seconds=0.05, sweep_seconds=0.02))
    bound = listener()
    await server.start(bound)
    answer = asyncio.create_task(talk(port_of(bound), request()))
    await wait_until_async(lambda: held.exchanges, what="the request is in flight")
    with capture_logs() as logs:
        await server.stop()
        await server.stop()
    assert await asyncio.gather(answer, return_exceptions=True)
    assert [("connections_cut_at_drain_deadline", 1)] == [
        (line["event"], line["connections"]) for line in logs
    ]
    await wait_until_async(lambda: server.connections == 0, what="it is gone")
    bound.close()


async def test_its_own_sweep_keeps_deadlines() -> None:
    """Nobody has to call `sweep`: a silent connection is gone soon after its deadline."""
    server = HttpServer(accept, limits=ServerLimits(head_seconds=0.05, sweep_seconds=0.02))
    bound = listener()
    await server.start(bound)
    assert b"" == await talk(port_of(bound))
    await server.stop()
    bound.close()


async def test_every_answer_has_a_date() -> None:
    """RFC 9110, 6.6.1: a server with a clock says when it answered."""

    def answer(exchange: Exchange) -> None:
        exchange.respond(200, ((b"x-peer", exchange.peer.encode()),), b"hello")

    server = HttpServer(answer)
    bound = listener()
    await server.start(bound)
    raw = await talk(port_of(bound), request())
    assert b"\r\ndate: " in raw
    assert b"\r\nx-peer: 127.0.0.1\r\n" in raw
    assert raw.endswith(b"\r\n\r\nhello")
    await server.stop()
    bound.close()
