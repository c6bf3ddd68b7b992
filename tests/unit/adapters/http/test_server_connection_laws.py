"""Laws of a connection: however bytes arrive, the same requests come out; whatever they are,
nothing escapes.
"""

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.adapters.http.server import Exchange
from headrace.adapters.http.server_connection import Phase
from tests.unit.ingress.harness import accept, connect, request, server_of

BODIES = st.lists(st.binary(max_size=40), min_size=1, max_size=5)
TOKENS = (
    b"POST /a HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 3\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b": x\r\n",
    b" folded\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"ffffffff\r\n",
    b"\x00",
    b"\xff",
    b"GET / HTTP/1.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\n",
)
HOSTILE = st.lists(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=8), max_size=30)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces of `data` between these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(
    bodies=BODIES,
    chunked=st.booleans(),
    places=st.lists(st.integers(min_value=0, max_value=10_000), max_size=12),
)
@settings(max_examples=150)
def test_requests_do_not_depend_on_how_their_bytes_arrive(
    bodies: list[bytes], chunked: bool, places: list[int]
) -> None:
    """Any number of requests, cut anywhere, arrive whole, in order and answered once each."""

    async def scenario() -> None:
        seen: list[bytes] = []

        def handle(exchange: Exchange) -> None:
            seen.append(exchange.body)
            accept(exchange)

        connection, transport = connect(server_of(handle))
        raw = b"".join(
            request(
                body, chunks=[part for part in (body[:7], body[7:]) if part] if chunked else None
            )
            for body in bodies
        )
        for piece in cut(raw, places):
            connection.data_received(piece)
        assert bodies == seen
        assert [202] * len(bodies) == transport.statuses
        assert Phase.IDLE is connection.phase

    asyncio.run(scenario())


@given(pieces=HOSTILE)
@settings(max_examples=300)
def test_no_input_escapes_as_an_exception_or_leaves_bytes_reserved(pieces: list[bytes]) -> None:
    """A hostile client gets an answer, a closed connection or nothing; the server gives back all
    that it held for it.
    """

    async def scenario() -> None:
        server = server_of(accept)
        connection, transport = connect(server)
        for piece in pieces:
            connection.data_received(piece)
        assert {202, 100, 400, 408, 413, 417, 501, 505} >= set(transport.statuses)
        connection.sweep(server.now + 1e6)
        connection.connection_lost(None)
        assert (0, Phase.CLOSED) == (server.connections, connection.phase)
        assert server.reserve(server.limits.unread_bytes_max)

    asyncio.run(scenario())
