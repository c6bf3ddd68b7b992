"""Reading one document over HTTP: what is accepted, and what is an error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from headrace.adapters.http.fetch import HttpFetcher
from headrace.domain.egress import EgressPolicy
from headrace.domain.errors import HeadraceError, Permanent, Temporary


@asynccontextmanager
async def server(answer: bytes, *, ends: bool = True) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives this answer to every request; its URL, and the requests."""
    requests: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if ends:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", requests
    finally:
        listener.close()
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def fetcher(*, loopback: bool = True, seconds: float = 5.0) -> HttpFetcher:
    """A fetcher of at most 100 bytes."""
    policy = EgressPolicy(loopback=loopback)
    return HttpFetcher(address_denied=policy, bytes_max=100, seconds=seconds)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
async def test_a_document_is_read(answer: bytes) -> None:
    """With a length, in chunks, or up to the end of the connection."""
    async with server(answer) as (url, requests):
        assert b"{}" == await fetcher().fetch(f"{url}/a?b=c")
    assert requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "status 404"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            "redirects are not followed",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200, "more than 100 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\nx", "content-encoding"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort", "closed before"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", "head of the answer"),
        (b"not HTTP at all\r\n\r\n", "not HTTP"),
        (b"", "closed before"),
    ],
)
async def test_anything_else_is_an_error_with_a_reason(answer: bytes, reason: str) -> None:
    """Bounded in size, without redirects; to be tried again."""
    async with server(answer) as (url, _):
        with pytest.raises(Temporary, match=reason):
            await fetcher().fetch(url)


async def test_a_slow_server_is_given_up() -> None:
    """After the deadline for everything."""
    async with server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", ends=False) as (url, _):
        with pytest.raises(Temporary, match=r"no complete answer within 0\.2 s"):
            await fetcher(seconds=0.2).fetch(url)


async def test_the_egress_policy_applies() -> None:
    """The same as for the dispatcher's requests."""
    async with server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") as (url, requests):
        with pytest.raises(HeadraceError, match=r"the egress policy denies 127\.0\.0\.1"):
            await fetcher(loopback=False).fetch(url)
    assert [] == requests


@pytest.mark.parametrize("url", ["ftp://x/", "http://u:p@x/", "file:///etc/passwd", "x"])
async def test_only_http_urls_are_read(url: str) -> None:
    """Another one is not tried again."""
    with pytest.raises(Permanent):
        await fetcher().fetch(url)
