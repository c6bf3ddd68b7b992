"""Rules of HTTP that prevent request smuggling, and HTTP/1.0 (RFC 9112, RFC 9110)."""

import asyncio
import json

import pytest

from tests.unit.apiserver.http_peers import GET, Application, Opened, Peer

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNK = b"\r\n1\r\nx\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + CHUNK, 400, "not part of HTTP/1.0"),
        (
            b"POST / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding:"
            b" chunked\r\n" + CHUNK,
            400,
            "HTTP/1.0",
        ),
        (GET + b"Host: localhost\r\n\r\n", 400, "more than one Host"),
        (GET + b"Host: evil.example\r\n\r\n", 400, "more than one Host"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "one host"),
        (b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400, "one host"),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, "one host"),
        (b"GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n", 400, "one host"),
        (b"GET / HTTP/1.1\r\nHost: localhost:http\r\n\r\n", 400, "one host"),
        (b"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400, "one host"),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * 300 + b"\r\n\r\n", 400, "255 bytes"),
        (POST + b"Transfer-Encoding: gzip\r\n" + CHUNK, 400, "chunked"),
        (POST + b"Transfer-Encoding: identity\r\n" + CHUNK, 400, "chunked"),
        (
            POST + b"Transfer-Encoding: gzip, chunked\r\n" + CHUNK,
            501,
            "only supported transfer coding",
        ),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n" + CHUNK, 400, ""),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy", 400, ""),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "HTTP/1.1"),
    ],
)
async def test_an_ambiguous_request_is_rejected(
    opened: Opened, application: Application, request_: bytes, code: int, message: str
) -> None:
    """With a Status, before the application is called. The connection ends, so that what follows is
    not parsed as a request.
    """
    peer = await opened()
    got, body = await peer.ask(request_ + GET + b"\r\n")
    assert (code, "Status") == (got, json.loads(body)["kind"])
    assert message in json.loads(body)["message"]
    await peer.ended()
    assert 0 == application.seen


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"localhost:8001", b"[::1]:8001", b"127.0.0.1", b"a-b.example.", b"localhost:"],
)
async def test_valid_hosts_are_accepted(opened: Opened, host: bytes) -> None:
    """Names and addresses, with or without a port."""
    assert 200 == (await (await opened()).ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"))[0]


async def _rest(peer: Peer, request_: bytes) -> tuple[list[bytes], bytes]:
    """The header lines and the body of a response that ends with its connection."""
    peer.writer.write(request_)
    async with asyncio.timeout(5):
        head, _, body = (await peer.reader.read()).partition(b"\r\n\r\n")
    return head.lower().split(b"\r\n"), body


async def test_http_1_0_needs_no_host_and_gets_no_chunks(
    opened: Opened, application: Application
) -> None:
    """RFC 9112, 3.2 requires a Host in HTTP/1.1 only. The connection closes, and ends a response
    without a length.
    """
    lines, body = await _rest(await opened(), b"GET / HTTP/1.0\r\n\r\n")
    assert (b"http/1.1 200 ok", b"ok") == (lines[0], body)
    assert b"connection: close" in lines
    application.length = False
    application.answer = [b"one ", b"two"]
    lines, body = await _rest(await opened(), b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"one two" == body
    assert b"connection: close" in lines
    assert not any(line.startswith(b"transfer-encoding") for line in lines)


async def test_http_1_0_may_keep_the_connection(opened: Opened, application: Application) -> None:
    """After responses with a length."""
    peer = await opened()
    old = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert (200, b"ok") == await peer.ask(old)
    assert (200, b"ok") == await peer.ask(old)
    assert (200, b"ok") == await peer.ask(b"GET / HTTP/1.0\r\n\r\n")
    await peer.ended()
    assert 3 == application.seen


async def test_http_1_0_gets_no_interim_response(opened: Opened, application: Application) -> None:
    """RFC 9110, 10.1.1: 100 Continue is only for HTTP/1.1."""
    application.reads = True
    expecting = b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    lines, body = await _rest(await opened(), b"POST / HTTP/1.0\r\n" + expecting + b"hi")
    assert (b"http/1.1 200 ok", b"ok") == (lines[0], body)
    peer = await opened()
    peer.writer.write(POST + expecting)
    async with asyncio.timeout(5):
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await peer.reader.readuntil(b"\r\n\r\n")
    assert (200, b"ok") == await peer.ask(b"hi")
