"""A head that has the form of an earlier one means what the parser makes of it, although it is not
parsed.
"""

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.http.server import Exchange, HttpServer, PreparedResponse
from headrace.adapters.http.server_connection import Phase, ServerConnection
from headrace.adapters.http.server_repeated_head import RepeatedHead
from tests.support.event_builders import seeded
from tests.unit.ingress.harness import connect, server_of

Line = tuple[bytes, bytes]
LINE = b"POST /shop/orders HTTP/1.1"
FIELDS: tuple[Line, ...] = (
    (b"Host", b"localhost"),
    (b"Content-Length", b"2"),
    (b"Content-Type", b"application/json; charset=utf-8"),
    (b"ce-id", b"7"),
    (b"ce-source", b"/shops/1"),
)
VALUES = (
    *(b"7", b"8", b"/shops/22", b"0", b"1", b"02", b"+2", b"2, 2", b"1" * 16, b"9" * 400),
    *(b"", b" ", b" 7", b"7 ", b"7\t", b"a b", b"a\x00b", b"a\nb", b"a\rb", b"a\x7fb", b"\xc3\xbc"),
    *(b"chunked", b"close", b"keep-alive", b"100-continue", b"h2c", b"other.example", b"a,b", b":"),
)
NAMES = (
    *(b"ce-id", b"ce-source", b"ce-ids", b"CE-ID", b"Host", b"host", b"Connection", b"Expect"),
    *(b"Content-Length", b"Transfer-Encoding", b"Upgrade", b"Origin", b"Content-Type", b"", b"a b"),
)
LINES = (
    *(LINE, b"POST /shop/others HTTP/1.1", b"POST /shop/orders?a=1 HTTP/1.1", b"POST /a  HTTP/1.1"),
    *(b"PUT /shop/orders HTTP/1.1", b"POST /shop/orders HTTP/1.0", b"\r\n" + LINE, b"no request"),
)


BASE = b"\r\n".join([LINE, *(name + b": " + value for name, value in FIELDS)]) + b"\r\n\r\n{}"
BODIES = (b"{}",) * 4 + (b"", b"{", b"{}P", b"{ }")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that differs from `BASE`: most in one value."""
    line, fields, colon = LINE, list(FIELDS), b": "
    at = draw(st.integers(0, len(fields) - 1))
    name, value = fields[at]
    match draw(st.integers(0, 12)):
        case 0:
            line = draw(st.sampled_from(LINES))
        case 1:
            fields[at] = draw(st.sampled_from(NAMES)), value
        case 2:
            fields.insert(at, (draw(st.sampled_from(NAMES)), draw(st.sampled_from(VALUES))))
        case 3:
            del fields[at]
        case 4:
            fields = draw(st.permutations(fields))
        case 5:
            colon = draw(st.sampled_from((b":", b":  ", b" : ")))
        case _:
            fields[at] = name, draw(st.sampled_from(VALUES))
    head = [line, *(name + colon + value for name, value in fields)]
    body: bytes = draw(st.sampled_from(BODIES))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


class Answering:
    """A server whose connections are replaced when they close, and what its handler was given."""

    def __init__(self) -> None:
        self.given: list[tuple[object, ...]] = []
        self.server: HttpServer = server_of(self)
        self.server.date_line = b"date: now\r\n\r\n"
        self.connection, self.transport = connect(self.server)

    def __call__(self, exchange: Exchange) -> None:
        given = exchange.method, exchange.target, exchange.headers, exchange.host, exchange.length
        self.given.append((*given, exchange.body))
        exchange.send(PreparedResponse(202))

    def outcome(self, request: bytes) -> tuple[object, ...]:
        """What the handler is given, what is answered, and the phase that the connection is in."""
        self.given.clear()
        self.transport.written.clear()
        self.connection.data_received(request)
        transport, phase = self.transport, self.connection.phase
        if phase is not Phase.IDLE:
            self.connection.connection_lost(None)
            self.connection, self.transport = connect(self.server)
        return list(self.given), bytes(transport.written), transport.ended, phase


@seeded
@given(st.lists(requests(), min_size=1, max_size=8))
def test_a_head_means_the_same_as_on_a_new_server(sent: list[bytes]) -> None:
    """Whatever was sent before on the connection, and on others."""

    async def compare() -> None:
        server = Answering()
        for each in sent:
            server.outcome(BASE)
            assert server.outcome(each) == Answering().outcome(each)

    asyncio.run(compare())


async def test_a_head_of_an_earlier_form_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Answering()
    first = server.outcome(BASE)

    def parsed(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(ServerConnection, "_parse", parsed)
    assert server.outcome(BASE) == first
    server.outcome(BASE.replace(b"ce-id: 7", b"ce-id: 8").replace(b": 2", b": 3") + b"!")
    [(*_, headers, _, length, body)] = server.given
    assert (dict(headers)[b"ce-id"], length, body) == (b"8", 3, b"{}!")  # type: ignore[call-overload]


async def test_what_is_remembered_is_bounded() -> None:
    """Although each connection refers to a head."""
    server = Answering()
    for number in range(4_000):
        server.connection, server.transport = connect(server.server)
        server.outcome(BASE.replace(b"/orders", b"/%d" % number))
        assert server.given
    heads = [each for each in gc.get_objects() if isinstance(each, RepeatedHead)]
    assert 100 < len(heads) < 2_000
