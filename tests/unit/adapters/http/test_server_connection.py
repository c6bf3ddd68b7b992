"""One connection: requests cut anywhere, sent ahead, answered late, and the end of it all."""

import pytest
from structlog.testing import capture_logs

from headrace.adapters.http.server import Exchange
from headrace.adapters.http.server_connection import Phase
from tests.unit.ingress.harness import DeferredHandler, accept, connect, request, server_of

WHOLE = {
    "length": (request(b"abcdef"), b"abcdef"),
    "chunked": (request(chunks=[b"abc", b"def"]), b"abcdef"),
    "empty": (request(b""), b""),
}


@pytest.mark.parametrize("form", WHOLE)
async def test_a_request_cut_at_any_byte_is_the_same_request(form: str) -> None:
    """Two pieces, cut at every place there is, arrive as one request with the same headers and
    body, and the next one is understood.
    """
    raw, body = WHOLE[form]
    seen: list[Exchange] = []

    def handle(exchange: Exchange) -> None:
        seen.append(exchange)
        accept(exchange)

    server = server_of(handle)
    for cut in range(1, len(raw)):
        connection, transport = connect(server)
        connection.data_received(raw[:cut])
        connection.data_received(raw[cut:] + raw)
        assert [202, 202] == transport.statuses, cut
        connection.connection_lost(None)
    assert {body} == {exchange.body for exchange in seen}
    assert 1 == len({tuple(exchange.headers) for exchange in seen})


@pytest.mark.parametrize("form", WHOLE)
async def test_a_request_may_come_byte_by_byte(form: str) -> None:
    """One byte at a time, twice on the same connection, is two requests."""
    raw, body = WHOLE[form]
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    for _ in range(2):
        for index in range(len(raw)):
            connection.data_received(raw[index : index + 1])
        assert body == held.answer().body
    assert [202, 202] == transport.statuses


async def test_no_request_is_looked_at_before_the_one_ahead_is_answered() -> None:
    """A pipelining client gets its responses one by one, and reading pauses meanwhile."""
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    connection.data_received(request(b"1") + request(b"2") + request(b"3"))
    for number in (b"1", b"2", b"3"):
        assert [number] == [exchange.body for exchange in held.exchanges]
        assert (number != b"3") == (not transport.is_reading())
        held.answer()
    assert [202, 202, 202] == transport.statuses


async def test_pipelined_bytes_are_kept_while_a_request_is_in_flight() -> None:
    """Bytes that come while an answer is outstanding are not lost and stop the reading."""
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    connection.data_received(request(b"1"))
    assert transport.is_reading()
    second = request(b"2")
    connection.data_received(second[:30])
    assert not transport.is_reading()
    held.answer()
    assert transport.is_reading()
    connection.data_received(second[30:])
    assert b"2" == held.answer().body


async def test_thousands_of_requests_sent_ahead_neither_recurse_nor_starve_others() -> None:
    """A burst of small requests, answered at once, is worked through in turns."""
    server = server_of(accept)
    connection, transport = connect(server)
    raw = request(b"", fields=())
    connection.data_received(raw * 2000)
    first = len(transport.statuses)
    assert 0 < first < 2000
    while len(transport.statuses) < 2000:
        connection._advance()
    assert [202] * 2000 == transport.statuses
    assert transport.is_reading()


async def test_nothing_is_answered_while_the_client_does_not_read() -> None:
    """When the transport's buffer is full, requests wait; they continue when it is empty."""
    held = DeferredHandler()
    connection, _ = connect(server_of(held))
    connection.pause_writing()
    connection.data_received(request(b"1"))
    assert [] == held.exchanges
    connection.resume_writing()
    assert b"1" == held.answer().body


async def test_a_second_answer_and_an_answer_to_nobody_are_dropped() -> None:
    """An exchange answers once; after the client has gone it answers nothing."""
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    connection.data_received(request())
    exchange = held.answer()
    exchange.respond(500)
    assert [202] == transport.statuses
    connection.data_received(request())
    connection.connection_lost(None)
    assert held.exchanges[0].answered
    held.answer()
    assert [202] == transport.statuses


async def test_admission_may_refuse_before_the_body_is_read() -> None:
    """A response from the admission hook closes the connection if the body is incomplete, and does
    not if it is complete.
    """

    def refuse(exchange: Exchange) -> None:
        exchange.respond(404)

    server = server_of(accept, admit=refuse)
    connection, transport = connect(server)
    connection.data_received(request(b"abc"))
    connection.data_received(request(b"abc"))
    assert [404, 404] == transport.statuses
    assert b"connection: close" not in transport.written
    connection.data_received(request(b"abc")[:-1])
    assert [404, 404, 404] == transport.statuses
    assert transport.ended
    assert b"connection: close" in transport.written
    connection.data_received(b"c" * 1000)
    assert [404, 404, 404] == transport.statuses


async def test_continue_is_said_when_the_body_is_wanted_and_not_here() -> None:
    """`Expect: 100-continue` gets a 100 before the body, and none with the body or a refusal."""
    expect = ((b"Expect", b"100-continue"),)
    raw = request(b"abc", fields=expect)
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    connection.data_received(raw[:-3])
    assert [100] == transport.statuses
    connection.data_received(b"abc")
    assert b"abc" == held.answer().body
    connection.data_received(raw)
    held.answer()
    assert [100, 202, 202] == transport.statuses

    def limit(exchange: Exchange) -> None:
        exchange.body_bytes_max = 2

    connection, transport = connect(server_of(accept, admit=limit))
    connection.data_received(raw[:-3])
    assert [413] == transport.statuses


async def test_a_body_over_its_limit_is_refused_while_it_comes() -> None:
    """With a length, before the body is read; in chunks, as soon as a chunk would pass the
    limit.
    """
    server = server_of(accept, limits={"body_bytes_max": 10})
    connection, transport = connect(server)
    connection.data_received(request(b"x" * 11)[:-11])
    assert [413] == transport.statuses
    connection, transport = connect(server)
    connection.data_received(request(chunks=[b"x" * 6, b"x" * 6])[:-10])
    assert [413] == transport.statuses
    assert b"10 bytes" in transport.written


async def test_bodies_still_arriving_share_one_budget() -> None:
    """Past it a body is refused with 503; a body that ends gives its bytes back."""
    held = DeferredHandler()
    server = server_of(held, limits={"unread_bytes_max": 100})
    first, _ = connect(server)
    raw = request(b"x" * 90)
    first.data_received(raw[:-10])
    second, transport = connect(server)
    second.data_received(raw[:-10])
    assert [503] == transport.statuses
    first.data_received(raw[-10:])
    third, transport = connect(server)
    third.data_received(raw[:-10])
    assert [] == transport.statuses
    third.connection_lost(None)
    assert server.reserve(100)


async def test_connections_are_capped_in_all_and_per_peer() -> None:
    """A connection over the limit is rejected with the reason and closed."""
    server = server_of(accept, limits={"connections_max": 3, "connections_per_peer_max": 2})
    kept = [connect(server, peer)[0] for peer in ("192.0.2.1", "192.0.2.1")]
    _, transport = connect(server, "192.0.2.1")
    assert [503] == transport.statuses
    assert transport.is_closing()
    kept[0].connection_lost(None)
    assert 2 == server.connections
    connect(server, "192.0.2.2")
    _, transport = connect(server, "192.0.2.3")
    assert [503] == transport.statuses


async def test_a_failing_handler_is_a_500_and_not_the_end_of_the_server() -> None:
    """An exception in the handler answers that request alone."""

    def fail(exchange: Exchange) -> None:
        raise RuntimeError("broken")

    connection, transport = connect(server_of(fail))
    with capture_logs() as logs:
        connection.data_received(request())
        connection.data_received(request())
    assert [500, 500] == transport.statuses
    assert [("request_failed", "RuntimeError('broken')", "broken")] * 2 == [
        (line["event"], line["error"], str(line["exc_info"])) for line in logs
    ]


async def test_a_half_closed_client_still_gets_its_answer() -> None:
    """A client that has sent everything and closed its side is answered, and then closed."""
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    connection.data_received(request())
    assert connection.eof_received()
    held.answer()
    assert [202] == transport.statuses
    assert transport.ended
    assert not connect(server_of(held))[0].eof_received()


async def test_the_last_answers_of_a_draining_server_say_so() -> None:
    """Idle connections close immediately, busy ones after their response."""
    held = DeferredHandler()
    server = server_of(held)
    idle, idle_transport = connect(server)
    busy, busy_transport = connect(server)
    busy.data_received(request())
    server.enter_lame_duck()
    idle.shutdown()
    busy.shutdown()
    assert idle_transport.is_closing()
    assert not busy_transport.is_closing()
    held.answer()
    assert b"connection: close" in busy_transport.written
    assert Phase.LINGER is busy.phase


@pytest.mark.clause("D4")
async def test_an_upgrade_offer_is_ignored() -> None:
    """A client that would rather speak h2c is served in HTTP/1.1, again and again."""
    offer = (
        (b"Connection", b"Upgrade, HTTP2-Settings"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"AAMAAABkAAQAoAAAAAIAAAAA"),
    )
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    for _ in range(2):
        connection.data_received(request(b"abc", fields=offer))
        assert b"abc" == held.answer().body
    assert [202, 202] == transport.statuses


async def test_a_head_response_has_no_body() -> None:
    """The answer to HEAD announces its length and carries nothing (RFC 9110, 9.3.2)."""

    def refuse(exchange: Exchange) -> None:
        exchange.respond(405, (), b"text")

    connection, transport = connect(server_of(accept, admit=refuse))
    connection.data_received(request(b"", method=b"HEAD"))
    assert b"content-length: 4" in transport.written
    assert transport.written.endswith(b"\r\n\r\n")


async def test_a_header_field_cannot_smuggle_a_line() -> None:
    """A line break in a header field raises and sends nothing."""
    held = DeferredHandler()
    connection, transport = connect(server_of(held))
    connection.data_received(request())
    with pytest.raises(ValueError, match="line break"):
        held.exchanges[0].respond(200, ((b"x", b"a\r\nset-cookie: b"),))
    assert b"" == bytes(transport.written)


async def test_an_answer_to_a_connection_that_just_broke_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop may refuse to write before it reports that the connection is lost; the one who answers
    must not suffer for it.
    """
    held = DeferredHandler()
    server = server_of(held)
    connection, transport = connect(server)
    connection.data_received(request())

    def refuse(data: object) -> None:
        raise RuntimeError("the handler is closed")

    monkeypatch.setattr(transport, "write", refuse)
    held.answer()
    connection.connection_lost(None)
    assert 0 == server.connections
