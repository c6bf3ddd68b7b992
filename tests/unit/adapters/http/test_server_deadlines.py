"""What happens to a client that is too slow, on a clock that the test owns."""

import pytest

from headrace.adapters.http.server import ServerLimits
from tests.unit.ingress.harness import DeferredHandler, accept, connect, request, server_of

LIMITS = ServerLimits()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    """Silence from the start ends at the head deadline, without an answer."""
    server = server_of(accept)
    connection, transport = connect(server)
    connection.sweep(server.now + LIMITS.head_seconds - 0.1)
    assert not transport.is_closing()
    connection.sweep(server.now + LIMITS.head_seconds + 0.1)
    assert transport.is_closing()
    assert b"" == bytes(transport.written)


async def test_half_a_head_is_a_408() -> None:
    """The whole head has one deadline, however slowly the bytes arrive."""
    server = server_of(accept)
    connection, transport = connect(server)
    for byte in request()[:40]:
        connection.data_received(bytes([byte]))
        connection.sweep(server.now + LIMITS.head_seconds - 0.1)
    assert [] == transport.statuses
    connection.sweep(server.now + LIMITS.head_seconds + 0.1)
    assert [408] == transport.statuses


@pytest.mark.parametrize(
    ("sent", "seconds", "answered"),
    [
        (0, 4.0, False),
        (0, 6.0, True),
        (100, 6.0, True),
        (50_000, 30.0, False),
        (99_000, 61.0, True),
    ],
)
async def test_a_body_has_a_minimum_rate_and_a_deadline(
    sent: int, seconds: float, answered: bool
) -> None:
    """After a grace time the body must have come at 1 KiB a second; at the deadline it must be
    complete.
    """
    server = server_of(accept)
    connection, transport = connect(server)
    raw = request(b"x" * 100_000)
    connection.data_received(raw[: len(raw) - 100_000 + sent])
    connection.sweep(server.now + seconds)
    assert ([408] if answered else []) == transport.statuses


async def test_a_handler_that_never_answers_is_a_503() -> None:
    """The response deadline expires; a later response of the handler is discarded."""
    held = DeferredHandler()
    server = server_of(held)
    connection, transport = connect(server)
    connection.data_received(request())
    connection.sweep(server.now + LIMITS.answer_seconds + 0.1)
    held.answer()
    assert [503] == transport.statuses


async def test_idle_connections_are_kept_for_a_while() -> None:
    """Between requests the idle deadline applies, which is longer than the head deadline."""
    server = server_of(accept)
    connection, transport = connect(server)
    connection.data_received(request())
    connection.sweep(server.now + LIMITS.head_seconds + 1)
    assert not transport.is_closing()
    connection.sweep(server.now + LIMITS.idle_seconds + 1)
    assert transport.is_closing()


async def test_a_refused_sender_has_some_time_to_read_why() -> None:
    """After a refusal input is thrown away until the client ends, or the linger time does."""
    server = server_of(accept)
    connection, transport = connect(server)
    connection.data_received(b"nonsense")
    assert [400] == transport.statuses
    assert transport.ended
    assert not transport.is_closing()
    connection.sweep(server.now + LIMITS.linger_seconds + 0.1)
    assert transport.aborted
