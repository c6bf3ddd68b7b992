"""The HTTP endpoint over raw sockets: malformed, oversized and smuggled requests, and every status
code of the ingress's contract.
"""

import asyncio
import json
from collections.abc import Sequence

import pytest

from headrace.domain.errors import LogUnavailable
from tests.support.wait_until import wait_until_async
from tests.unit.ingress.harness import ATTRIBUTES, TOPIC, ingress_harness, request, talk

GOOD = request()
HEAD = b"POST /shop/orders HTTP/1.1\r\nHost: a\r\n" + b"".join(
    b"%s: %s\r\n" % field for field in ATTRIBUTES
)

MALFORMED = {
    "content-length and chunked": (
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "chunked and content-length": (
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "two different content-lengths": (
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        400,
    ),
    "the same content-length twice": (
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        400,
    ),
    "content-length list": (HEAD + b"Content-Length: 2, 2\r\n\r\n{}", 400),
    "content-length with a sign": (HEAD + b"Content-Length: +2\r\n\r\n{}", 400),
    "negative content-length": (HEAD + b"Content-Length: -2\r\n\r\n{}", 400),
    "hexadecimal content-length": (HEAD + b"Content-Length: 0x2\r\n\r\n{}", 400),
    "content-length with an underscore": (HEAD + b"Content-Length: 1_0\r\n\r\n{}", 400),
    "empty content-length": (HEAD + b"Content-Length: \r\n\r\n{}", 400),
    "endless content-length": (HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}", 400),
    "space before the colon": (HEAD + b"Content-Length : 2\r\n\r\n{}", 400),
    "NUL in a value": (HEAD + b"x: a\x00b\r\nContent-Length: 2\r\n\r\n{}", 400),
    "CR in a value": (HEAD + b"x: a\rb\r\nContent-Length: 2\r\n\r\n{}", 400),
    "control character in a name": (HEAD + b"x\x01: b\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a field without a colon": (HEAD + b"nonsense\r\nContent-Length: 2\r\n\r\n{}", 400),
    "an empty name": (HEAD + b": b\r\nContent-Length: 2\r\n\r\n{}", 400),
    "unknown transfer coding": (HEAD + b"Transfer-Encoding: cow\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 501),
    "chunked, then something else": (
        HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "something else, then chunked": (
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        501,
    ),
    "HTTP/1.0 in chunks": (
        HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "HTTP/1.0 in chunks, kept alive": (
        HEAD.replace(b"1.1", b"1.0")
        + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "HTTP/1.0 in unknown codings": (
        HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: cow\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "HTTP/1.0 with two hosts": (
        request(fields=(*ATTRIBUTES, (b"Host", b"b"))).replace(b"HTTP/1.1", b"HTTP/1.0"),
        400,
    ),
    "a long host": (request(host=b"a" * 256), 400),
    "a host with user information": (request(host=b"u@a"), 400),
    "a host with a path": (request(host=b"a/b"), 400),
    "a host with two ports": (request(host=b"a:1:2"), 400),
    "a host with a port that is none": (request(host=b"a:http"), 400),
    "a host with a port over 16 bits": (request(host=b"a:65536"), 400),
    "a host with an open bracket": (request(host=b"[::1"), 400),
    "a host with a bad address": (request(host=b"[::g]"), 400),
    "a host outside ASCII": (request(host=b"caf\xc3\xa9"), 400),
    "chunked twice in a field": (
        HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "chunked in two fields": (
        HEAD
        + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "a tab hides chunked": (
        HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "bare LF everywhere": (GOOD.replace(b"\r\n", b"\n"), 400),
    "bare LF in one line": (GOOD.replace(b"Host: localhost\r\n", b"Host: localhost\n"), 400),
    "bare LF at the end of the head": (GOOD.replace(b"\r\n\r\n", b"\r\n\n"), 400),
    "folded field": (HEAD + b"x: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", 400),
    "folded first field": (
        b"POST /shop/orders HTTP/1.1\r\n x: a\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
        400,
    ),
    "no host": (request(host=None), 400),
    "two hosts": (request(fields=(*ATTRIBUTES, (b"Host", b"b"))), 400),
    "an empty host": (request(host=b""), 400),
    "a list of hosts": (request(host=b"a, b"), 400),
    "no fields at all": (b"POST /shop/orders HTTP/1.1\r\n\r\n", 400),
    "chunk size with a sign": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "chunk size with 0x": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", 400),
    "chunk size with a space": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "no chunk size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n", 400),
    "chunk size over 32 bits": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "chunk longer than its size": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "chunk ends in LF": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n", 400),
    "chunk size ends in LF": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n", 400),
    "endless chunk extension": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * 100_000,
        400,
    ),
    "endless trailers": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 20_000,
        431,
    ),
    "another expectation": (HEAD + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", 417),
    "HTTP/2.0 in the request line": (GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
    "HTTP/0.9 in the request line": (GOOD.replace(b"HTTP/1.1", b"HTTP/0.9"), 505),
    "HTTP/1.2": (GOOD.replace(b"HTTP/1.1", b"HTTP/1.2"), 400),
    "no version": (GOOD.replace(b" HTTP/1.1", b""), 505),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a TLS client hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "an unknown method": (GOOD.replace(b"POST", b"BREW"), 501),
    "a lower case method": (GOOD.replace(b"POST", b"post"), 400),
    "a long header": (request(fields=(*ATTRIBUTES, (b"x", b"y" * 70_000))), 431),
    "a long header that never ends": (HEAD + b"x: " + b"y" * 200_000, 431),
    "20,000 headers": (request(fields=(*ATTRIBUTES, *((b"x", b"y"),) * 20_000)), 431),
    "129 small headers": (request(fields=((b"x", b"y"),) * 129), 431),
    "a long target": (request(target=b"/" + b"a" * 9_000), 414),
    "a long target that never ends": (b"POST /" + b"a" * 100_000, 414),
}


def status(answer: bytes) -> int:
    """The status code of an answer."""
    return int(answer[9:12])


def fields(answer: bytes) -> dict[str, str]:
    """Its header fields."""
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


def problem(answer: bytes) -> dict[str, object]:
    """Its body, which must be a problem document with the same status."""
    assert "application/problem+json" == fields(answer)["content-type"]
    body = answer.partition(b"\r\n\r\n")[2]
    assert body.endswith(b"}\n")
    document: dict[str, object] = json.loads(body)
    assert status(answer) == document["status"]
    assert {"type", "title", "detail"} <= document.keys()
    return document


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_http_is_refused_and_the_connection_closed(name: str) -> None:
    """The response is sent at once with the reason, and the bytes that follow on the connection are
    not read as a request.
    """
    raw, expected = MALFORMED[name]
    async with ingress_harness() as running:
        answer = await talk(running.ingress.port, raw + GOOD, answers=2)
        assert expected == status(answer)
        assert "close" == fields(answer)["connection"]
        problem(answer)
        assert [[]] == running.log.topics[TOPIC]


TOLERATED = {
    "an empty line before the request": b"\r\n" + GOOD,
    "fields without a space after the colon": GOOD.replace(b": ", b":"),
    "space around values": GOOD.replace(b"\r\nce-id: 7\r\n", b"\r\nce-id: \t 7 \t\r\n"),
    "chunk extensions": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\nx: y\r\n\r\n",
    "an absolute target": request(target=b"http://ingress.example/shop/orders"),
    "a query": request(target=b"/shop/orders?x=y"),
    "a slash at the end": request(target=b"/shop/orders/"),
    "needless percent-encoding": request(target=b"/sh%6fp/orders"),
    "128 headers": request(fields=(*ATTRIBUTES, *((b"x", b"y"),) * 122)),
    "HTTP/1.0": GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("name", TOLERATED)
async def test_unusual_valid_http_is_accepted(name: str) -> None:
    """Unusual but correct requests are events like any other."""
    async with ingress_harness() as running:
        answer = await talk(running.ingress.port, TOLERATED[name])
        assert 202 == status(answer)
        [[record]] = running.log.topics[TOPIC]
        assert b"{}" == record.value


BATCH = ((b"Content-Type", b"application/cloudevents-batch+json"),)
REFUSED: dict[str, tuple[bytes, int, dict[str, object]]] = {
    "no attributes": (request(fields=()), 400, {"attribute": "specversion"}),
    "no id": (request(fields=(*ATTRIBUTES[:1], *ATTRIBUTES[2:])), 400, {"attribute": "id"}),
    "unknown specversion": (
        GOOD.replace(b"ce-specversion: 1.0", b"ce-specversion: 1.1"),
        400,
        {"attribute": "specversion"},
    ),
    "bad percent-encoding": (GOOD.replace(b"ce-id: 7", b"ce-id: %C0%A0"), 400, {"attribute": "id"}),
    "raw 0xFF in a value": (GOOD.replace(b"ce-id: 7", b"ce-id: \xff"), 400, {"attribute": "id"}),
    "an attribute twice": (request(fields=(*ATTRIBUTES, ATTRIBUTES[1])), 400, {"attribute": "id"}),
    "gzip": (request(fields=(*ATTRIBUTES, (b"Content-Encoding", b"gzip"))), 415, {}),
    "not JSON": (
        request(b"{", fields=((b"Content-Type", b"application/cloudevents+json"),)),
        400,
        {},
    ),
    "a bad event in a batch": (
        request(b'[{"specversion":"1.0","id":"1","source":"/","type":"t"},{}]', fields=BATCH),
        400,
        {"index": 1},
    ),
    "GET": (request(b"", method=b"GET"), 405, {}),
    "PUT": (request(method=b"PUT"), 405, {}),
    "DELETE": (request(b"", method=b"DELETE"), 405, {}),
    "the root": (request(target=b"/"), 404, {}),
    "one segment": (request(target=b"/shop"), 404, {}),
    "an unknown broker": (request(target=b"/shop/returns"), 404, {}),
    "an encoded slash": (request(target=b"/shop%2Forders"), 404, {}),
    "dots that walk": (request(target=b"/shop/x/%2e%2e/orders"), 404, {}),
    "NUL in the path": (request(target=b"/shop/orders%00"), 404, {}),
    "another case": (request(target=b"/Shop/orders"), 404, {}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request_gets_the_reason_and_the_connection_stays_open(name: str) -> None:
    """The problem document names the attribute and the index; the next request on the same
    connection is accepted.
    """
    raw, expected, members = REFUSED[name]
    async with ingress_harness() as running:
        answer = await talk(running.ingress.port, raw, GOOD, answers=2)
        first, second = split(answer)
        assert expected == status(first)
        document = problem(first)
        assert members == {key: document[key] for key in members}
        assert 202 == status(second)
        if expected == 405:
            assert "POST, OPTIONS" == fields(first)["allow"]


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"POST"])
@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close, x", False),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
    ],
)
async def test_a_connection_closes_when_its_client_asks(
    method: bytes, version: bytes, connection: bytes | None, kept: bool
) -> None:
    """After the answer, with or without a body in the request (RFC 9112, 9.3, 9.6)."""
    lines = b"" if connection is None else b"Connection: " + connection + b"\r\n"
    raw = method + b" /shop/orders HTTP/" + version + b"\r\nHost: localhost\r\n" + lines + b"\r\n"
    async with ingress_harness() as running:
        answers = await talk(running.ingress.port, raw, GOOD, answers=2)
        assert (2 if kept else 1) == answers.count(b"HTTP/1.1 ")
        assert (
            None if kept and version == b"1.1" else "keep-alive" if kept else "close"
        ) == fields(answers).get("connection")


def split(answers: bytes) -> Sequence[bytes]:
    """Two responses on one connection."""
    second = answers.index(b"HTTP/1.1 ", 9)
    return answers[:second], answers[second:]


@pytest.mark.clause("D3")
async def test_options_invites_web_hooks() -> None:
    """OPTIONS returns the allowed methods and permission to send (CloudEvents Web Hooks)."""
    async with ingress_harness() as running:
        answer = await talk(running.ingress.port, request(b"", method=b"OPTIONS"))
        assert 200 == status(answer)
        found = fields(answer)
        assert ("POST, OPTIONS", "*", "*") == (
            found["allow"],
            found["webhook-allowed-origin"],
            found["webhook-allowed-rate"],
        )


async def test_an_event_too_large_is_refused_before_it_is_sent() -> None:
    """413 names the limit of this address, and with `Expect: 100-continue` the body is not sent."""
    async with ingress_harness() as running:
        running.add("small", event_bytes_max=1000)
        announced = request(
            b"x" * 1001, target=b"/shop/small", fields=(*ATTRIBUTES, (b"Expect", b"100-continue"))
        )
        answer = await talk(running.ingress.port, GOOD, announced[:-1001], answers=2)
        _, second = split(answer)
        assert 413 == status(second)
        assert 1000 == problem(second)["limit"]
        fits_without_headers = request(b"x" * 990, target=b"/shop/small")
        assert 413 == status(await talk(running.ingress.port, fits_without_headers))


@pytest.mark.clause("D5", "E1")
async def test_the_202_is_sent_when_the_log_has_stored_the_event() -> None:
    """A client is not answered while its event is being produced."""
    async with ingress_harness() as running:
        running.log.hold()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ingress.port)
        writer.write(GOOD)
        await wait_until_async(lambda: running.log.waiting == 1, what="the event is on its way")
        running.log.release()
        assert b"HTTP/1.1 202 " == (await asyncio.wait_for(reader.readexactly(13), 5))
        assert 1 == len(running.log.topics[TOPIC][0])
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("gone", [LogUnavailable("no broker answers"), None])
async def test_an_unavailable_log_is_a_503_with_retry_after(
    gone: LogUnavailable | None,
) -> None:
    """An unavailable log and a missing topic both mean: retry later."""
    async with ingress_harness(retry_after_seconds=3) as running:
        if gone is None:
            running.log.delete(TOPIC)
        running.log.fail(gone)
        answer = await talk(running.ingress.port, GOOD)
        assert 503 == status(answer)
        assert "3" == fields(answer)["retry-after"]
        problem(answer)


async def test_a_slow_head_and_a_slow_body_are_closed_over_a_socket() -> None:
    """An incomplete request does not hold a connection: 408 at the deadline, through the server's
    own sweep.
    """
    async with ingress_harness(head_seconds=0.3, body_seconds=0.3) as running:
        for part in (GOOD[:50], GOOD[:-1]):
            assert 408 == status(await talk(running.ingress.port, part))
