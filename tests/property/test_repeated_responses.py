"""A response that a subscriber has given before means the same again, although it is not parsed."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.client_response import ResponseReader, respond
from tests.support.event_builders import seeded

ACCEPTED = b"HTTP/1.1 202 Accepted\r\ndate: now\r\ncontent-length: 0\r\n\r\n"
RESPONSES = (
    ACCEPTED,
    b"HTTP/1.1 204 No Content\r\nretry-after: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nce-id: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED,
    b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000,
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    ACCEPTED + ACCEPTED,
    ACCEPTED[:30],
    b"no response",
)


@seeded
@given(
    st.lists(
        st.tuples(st.sampled_from(RESPONSES), st.sampled_from((1, 7, 40, 100_000))), max_size=12
    )
)
def test_the_same_bytes_have_the_same_outcome(answers: list[tuple[bytes, int]]) -> None:
    """Whatever came before, whole or in pieces."""
    reader = ResponseReader()
    for raw, piece in answers:
        assert respond(raw, piece=piece) == reader.read(raw, piece=piece)


def test_a_repeated_response_is_not_parsed() -> None:
    reader = ResponseReader()
    first, second = (reader.read(ACCEPTED, piece=100_000) for _ in range(2))
    assert first is second
    assert respond(ACCEPTED, piece=100_000) == first
