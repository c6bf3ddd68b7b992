"""Sending one request over HTTP: what is sent, and what is returned."""

import pytest

from headrace.adapters.http.request import HttpAnswer, HttpRequester
from headrace.domain.egress import EgressPolicy
from headrace.domain.errors import Permanent, Temporary
from tests.unit.adapters.http.test_fetch import server


def requester(*, loopback: bool = True, seconds: float = 5.0) -> HttpRequester:
    """A requester of answers of at most 100 bytes."""
    policy = EgressPolicy(loopback=loopback)
    return HttpRequester(address_denied=policy, bytes_max=100, seconds=seconds)


async def test_method_headers_and_body_are_sent_and_the_answer_is_returned() -> None:
    """Whatever its status is."""
    answer = b"HTTP/1.1 422 No\r\nX-Left: 1\r\ncontent-length: 2\r\n\r\n{}"
    async with server(answer) as (url, requests):
        found = await requester().request("PATCH", f"{url}/a", {"authorization": "token t"}, b"{}")
    assert found == HttpAnswer(422, {"x-left": "1", "content-length": "2"}, b"{}")
    head = requests[0]
    assert head.startswith(b"PATCH /a HTTP/1.1\r\n")
    assert b"\r\nauthorization: token t\r\n" in head
    assert b"\r\ncontent-length: 2\r\n" in head


async def test_an_answer_without_a_body_is_complete() -> None:
    """204 has none."""
    async with server(b"HTTP/1.1 204 No Content\r\n\r\n", ends=False) as (url, _):
        assert 204 == (await requester().request("DELETE", url)).status


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n" + b"x" * 200, "more than 100 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nx", "closed before"),
        (b"nothing of HTTP\r\n\r\n", "is not HTTP"),
    ],
)
async def test_an_incomplete_answer_is_an_error(answer: bytes, reason: str) -> None:
    """Its reason says what was wrong."""
    async with server(answer) as (url, _):
        with pytest.raises(Temporary, match=reason):
            await requester().request("GET", url)


async def test_no_answer_in_time_is_an_error() -> None:
    """The deadline covers everything."""
    async with server(b"", ends=False) as (url, _):
        with pytest.raises(Temporary, match=r"within 0\.2 s"):
            await requester(seconds=0.2).request("GET", url)


async def test_the_address_policy_applies() -> None:
    """A denied address is never connected to."""
    async with server(b"HTTP/1.1 200 OK\r\n\r\n") as (url, requests):
        with pytest.raises(Temporary):
            await requester(loopback=False).request("GET", url)
    assert [] == requests


async def test_a_header_value_that_would_begin_another_header_is_refused() -> None:
    """And the value, which may be a secret, is not in the message."""
    with pytest.raises(Permanent) as caught:
        await requester().request("GET", "http://127.0.0.1:1/", {"authorization": "a\r\nb: sesame"})
    assert "authorization" in str(caught.value)
    assert "sesame" not in str(caught.value)
