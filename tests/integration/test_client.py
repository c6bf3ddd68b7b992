"""The HTTP sender with a scripted subscriber: what it writes, what it reads, and that no response
can break it.
"""

import asyncio
import random
import tracemalloc
from collections import Counter

import pytest

from headrace.adapters.http.client_connection import ClientConnection
from headrace.adapters.http.client_options import ClientOptions
from headrace.domain.delivery import Failure, Outcome
from tests.support.sender_harness import HEADERS, PostingHarness, posting_harness
from tests.support.subscriber import (
    Answer,
    after,
    close,
    drip,
    drip_head,
    endless,
    gzip_bomb,
    hang,
    huge_header,
    interim_first,
    large_body,
    many_headers,
    ok,
    raw,
    reply,
    reset,
    respond,
    serving,
    status,
)
from tests.support.wait_until import wait_until_async


async def test_a_request_is_written_as_http_1_1() -> None:
    """It contains the request line, Host, no compression, Content-Length, the caller's lines and
    the body, each once.
    """
    async with posting_harness(path="a/b?c=d") as harness:
        await harness.post(b"12345", headers=b"ce-id: 7\r\nContent-Type: text/plain\r\n")
        (request,) = harness.subscriber.requests
        assert ("POST", "/a/b?c=d", b"12345") == (request.method, request.path, request.body)
        expected = {
            "host": f"127.0.0.1:{harness.subscriber.port}",
            "user-agent": "headrace",
            "accept-encoding": "identity",
            "content-length": "5",
            "ce-id": "7",
            "content-type": "text/plain",
        }
        assert expected == request.headers
        assert len(expected) == len(request.header_lines)


async def test_a_reply_arrives_whole() -> None:
    """The outcome has the status, the header fields in lower case and in order, and the bytes of
    the body.
    """
    async with posting_harness(reply({"id": "1", "type": "t"}, b"\x00\xff")) as harness:
        outcome = await harness.post()
        assert (200, b"\x00\xff", False, None) == (
            outcome.status,
            outcome.body,
            outcome.truncated,
            outcome.failure,
        )
        assert [(b"ce-id", b"1"), (b"ce-type", b"t")] == list(outcome.headers[:2])


async def test_a_large_event_is_sent_whole() -> None:
    """The event has a megabyte, more than any socket buffer."""
    async with posting_harness() as harness:
        body = bytes(range(256)) * 4_096
        await harness.post(body)
        assert body == harness.subscriber.requests[0].body


@pytest.mark.parametrize("at", range(1, 75))
async def test_a_response_may_be_cut_anywhere(at: int) -> None:
    """The result does not depend on how the response is split."""
    response = (
        b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding:"
        b" chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    async with posting_harness(raw(response[:at], response[at:])) as harness:
        outcome = await harness.post()
        assert (200, b"abcde") == (outcome.status, outcome.body)
        assert 200 == (await harness.post()).status
        assert 1 == harness.subscriber.connections


async def test_trailers_are_dropped() -> None:
    """Fields after a chunked body are not reported as header fields."""
    response = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nkne-late: 1\r\n\r\n"
    )
    async with posting_harness(raw(response)) as harness:
        assert [(b"transfer-encoding", b"chunked")] == list((await harness.post()).headers)


async def test_a_body_without_length_ends_with_the_connection() -> None:
    """As in HTTP/1.0, the body is complete when the peer closes the connection."""
    async with posting_harness(raw(b"HTTP/1.0 200 OK\r\n\r\nabc", b"def", close=True)) as harness:
        outcome = await harness.post()
        assert (200, b"abcdef") == (outcome.status, outcome.body)


@pytest.mark.parametrize("count", [1, 3])
async def test_interim_responses_are_skipped(count: int) -> None:
    """103 and 100 are not the final response."""
    async with posting_harness(interim_first(103, count=count, then=status(204))) as harness:
        assert [204, 204] == [(await harness.post()).status, (await harness.post()).status]


async def test_an_upgrade_nobody_asked_for_is_the_answer() -> None:
    """After 101 the connection no longer uses HTTP: the status is reported, and the connection is
    not used again.
    """
    async with posting_harness(
        raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nx"), ok()
    ) as harness:
        assert 101 == (await harness.post()).status
        assert 202 == (await harness.post()).status
        assert 2 == harness.subscriber.connections


async def test_a_long_body_is_cut_and_its_status_kept() -> None:
    """64 KiB are read; the connection is not used again."""
    async with posting_harness(large_body(1_048_576), ok()) as harness:
        outcome = await harness.post()
        assert (200, 65_536, True) == (outcome.status, len(outcome.body), outcome.truncated)
        await harness.post()
        assert 2 == harness.subscriber.connections


async def test_a_body_of_exactly_the_bound_is_whole() -> None:
    """The bound itself is an allowed size."""
    async with posting_harness(large_body(65_536)) as harness:
        outcome = await harness.post()
        assert (65_536, False) == (len(outcome.body), outcome.truncated)


EVENT = [("ce-id", "1"), ("ce-specversion", "1.0"), ("ce-source", "/s"), ("ce-type", "t")]
STRUCTURED = [("Content-Type", "Application/CloudEvents+json; charset=utf-8")]


def chunked(headers: list[tuple[str, str]], size: int) -> Answer:
    """A response without a Content-Length."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
    return raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (head, size, b"x" * size)
    )


@pytest.mark.parametrize("size", [65_537, 300_000, 1_000_000])
@pytest.mark.parametrize("answer", ["binary", "structured", "chunked"])
async def test_a_large_reply_event_is_read_whole(size: int, answer: str) -> None:
    """It is read up to the limit of its destination, and its connection is used again."""
    answers = {
        "binary": status(200, headers=EVENT, body=b"x" * size),
        "structured": status(201, headers=STRUCTURED, body=b"x" * size),
        "chunked": chunked(EVENT, size),
    }
    async with posting_harness(answers[answer]) as harness:
        harness.target = harness.sender.target(
            harness.subscriber.url, connections_max=1, reply_bytes_max=lambda: 1_000_000
        )
        for _ in range(2):
            outcome = await harness.post()
            assert (size, False, None) == (len(outcome.body), outcome.truncated, outcome.failure)
        assert 1 == harness.subscriber.connections


@pytest.mark.parametrize(
    ("answer", "limit"),
    [
        (status(200, headers=EVENT, body=b"x" * 1_000_001), 1_000_000),
        (chunked(EVENT, 1_000_001), 1_000_000),
        (status(200, headers=EVENT, body=b"x" * 65_537), 0),
        (status(200, headers=[("Content-Type", "text/plain")], body=b"x" * 100_000), 1_000_000),
        (status(202, headers=EVENT, body=b"x" * 100_000), 1_000_000),
        (status(500, headers=EVENT, body=b"x" * 100_000), 1_000_000),
    ],
    ids=["too large", "too large, chunked", "no reply wanted", "no event", "202", "500"],
)
async def test_other_large_bodies_are_cut(answer: Answer, limit: int) -> None:
    """Only their status is used."""
    async with posting_harness(answer, ok()) as harness:
        harness.target = harness.sender.target(
            harness.subscriber.url, connections_max=1, reply_bytes_max=lambda: limit
        )
        outcome = await harness.post()
        assert (True, None) == (outcome.truncated, outcome.failure)
        assert outcome.status is not None
        assert len(outcome.body) <= 1_000_000
        assert 202 == (await harness.post()).status


async def test_large_replies_are_read_one_after_the_other_when_there_is_no_room() -> None:
    """Each reply keeps its space until it is released. Small replies and other responses do not
    wait.
    """
    size, options = 900_000, ClientOptions(bodies_bytes_max=1_000_000)
    async with (
        posting_harness(status(200, headers=EVENT, body=b"x" * size), options=options) as harness,
        serving(ok()) as good,
    ):
        other = PostingHarness(
            harness.sender, good, harness.sender.target(good.url, connections_max=1)
        )
        target = harness.sender.target(
            harness.subscriber.url, connections_max=8, reply_bytes_max=lambda: size
        )
        outcomes: list[Outcome] = []
        for _ in range(6):
            target.post(HEADERS, b"", timeout_seconds=20.0, answered=outcomes.append)
        for count in range(1, 7):
            await wait_until_async(
                lambda count=count: len(outcomes) == count,  # type: ignore[misc]
                what="one more reply is read",
            )
            assert 202 == (await other.post()).status
            assert count == len(outcomes)
            assert size == len(outcomes[-1].body)
            outcomes[-1] = Outcome(status=200, body=outcomes[-1].body)  # releases the space
        assert 6 == len(outcomes)


async def test_a_deadline_ends_the_wait_for_room() -> None:
    """Its place in the queue goes to the next one."""
    size, options = 900_000, ClientOptions(bodies_bytes_max=1_000_000)
    async with posting_harness(
        status(200, headers=EVENT, body=b"x" * size), options=options
    ) as harness:
        harness.target = harness.sender.target(
            harness.subscriber.url, connections_max=8, reply_bytes_max=lambda: size
        )
        first = await harness.post()
        second = await harness.post(timeout_seconds=0.2)
        assert Failure.TIMEOUT is second.failure
        assert "bytes of the response body came" in second.detail
        del first
        assert size == len((await harness.post()).body)


async def test_replies_that_wait_for_room_are_bounded() -> None:
    """One more reply fails and will be delivered again; no memory is used for it."""
    size, options = 900_000, ClientOptions(bodies_bytes_max=1_000_000)
    async with posting_harness(
        status(200, headers=EVENT, body=b"x" * size), options=options
    ) as harness:
        harness.target = harness.sender.target(
            harness.subscriber.url, connections_max=100, reply_bytes_max=lambda: size
        )
        first = await harness.post()
        outcomes = await harness.post_all([b""] * 70, timeout_seconds=3.0)
        assert {Failure.PROTOCOL: 6, Failure.TIMEOUT: 64} == Counter(
            outcome.failure for outcome in outcomes
        )
        assert "too many large replies" in outcomes[0].detail
        del first


SIZE = 900_000
LARGE_REPLY = status(200, headers=EVENT, body=b"x" * SIZE)
UNFINISHED = b"HTTP/1.1 200 OK\r\nce-id: 1\r\n"
UNFINISHED_LENGTH = UNFINISHED + b"content-length: %d\r\n\r\n" % SIZE
UNFINISHED_CHUNKS = UNFINISHED + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % SIZE


@pytest.mark.parametrize("head", [UNFINISHED_LENGTH, UNFINISHED_CHUNKS], ids=["length", "chunked"])
async def test_large_replies_that_never_end_do_not_keep_the_room_from_others(head: bytes) -> None:
    """A reply that holds space and does not arrive is abandoned when others wait, long before its
    deadline. The others are read.
    """
    options = ClientOptions(bodies_bytes_max=2_000_000)
    async with (
        posting_harness(
            raw(head + b"x" * 70_000, b"", interval_seconds=100.0), options=options
        ) as harness,
        serving(LARGE_REPLY) as good,
    ):
        target = harness.sender.target(
            harness.subscriber.url, connections_max=32, reply_bytes_max=lambda: SIZE
        )
        held: list[Outcome] = []
        for _ in range(8):
            target.post(HEADERS, b"", timeout_seconds=60.0, answered=held.append)
        await wait_until_async(lambda: len(harness.subscriber.requests) == 8, what="all were sent")
        other = PostingHarness(
            harness.sender,
            good,
            harness.sender.target(good.url, connections_max=1, reply_bytes_max=lambda: SIZE),
        )
        assert SIZE == len((await other.post(timeout_seconds=20.0)).body)
        assert held
        assert {Failure.TIMEOUT} == {each.failure for each in held}
        assert "while other large replies waited for memory" in held[0].detail


async def test_a_large_reply_may_be_slow_while_nobody_waits_for_its_room() -> None:
    """Only its own deadline applies."""
    pieces = [b"x" * 200_000] * 4
    head = UNFINISHED + b"content-length: 800000\r\n\r\n"
    async with posting_harness(raw(head, *pieces, interval_seconds=1.0)) as harness:
        harness.target = harness.sender.target(
            harness.subscriber.url, connections_max=1, reply_bytes_max=lambda: SIZE
        )
        assert 800_000 == len((await harness.post(timeout_seconds=30.0)).body)


async def test_one_subscriber_does_not_take_all_places_of_those_that_wait_for_room() -> None:
    """When too many replies wait, the newest one of the target with the most waiting replies fails,
    to admit one of another target.
    """
    options = ClientOptions(bodies_bytes_max=1_000_000)
    async with (
        posting_harness(LARGE_REPLY, options=options) as harness,
        serving(LARGE_REPLY) as good,
    ):
        harness.target = harness.sender.target(
            harness.subscriber.url, connections_max=100, reply_bytes_max=lambda: SIZE
        )
        first = await harness.post()
        reported: list[str] = []  # no outcomes, which would keep their space
        for _ in range(70):
            harness.target.post(
                HEADERS,
                b"",
                timeout_seconds=30.0,
                answered=lambda outcome: reported.append(outcome.detail),
            )
        await wait_until_async(
            lambda: len(reported) == 6, what="those that have no place are refused"
        )
        other = PostingHarness(
            harness.sender,
            good,
            harness.sender.target(good.url, connections_max=1, reply_bytes_max=lambda: SIZE),
        )
        waiting = asyncio.ensure_future(other.post(timeout_seconds=30.0))
        await wait_until_async(lambda: len(reported) == 7, what="one of them gives way")
        assert "too many large replies" in reported[6]
        del first
        assert SIZE == len((await waiting).body)
        assert len(reported) <= 9, (
            "its turn comes after one of the target that waits longer, not after all of them"
        )


async def test_a_gzip_bomb_stays_packed() -> None:
    """Nothing that the subscriber sends is decompressed."""
    async with posting_harness(gzip_bomb()) as harness:
        outcome = await harness.post()
        assert b"\x1f\x8b" == outcome.body[:2]
        assert len(outcome.body) <= 65_536


@pytest.mark.parametrize(
    "answer",
    [huge_header(70_000), many_headers(129), interim_first(103, count=3_000)],
    ids=["huge", "many", "interim"],
)
async def test_a_head_beyond_the_bounds_is_no_response(answer: Answer) -> None:
    """The bounds are 64 KiB and 128 fields, including interim responses."""
    async with posting_harness(answer) as harness:
        outcome = await harness.post()
        assert (Failure.PROTOCOL, None) == (outcome.failure, outcome.status)
        assert "more than" in outcome.detail or "longer than" in outcome.detail


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "chunk extension": (CHUNKED + b"1;x=", b"x" * 65_536),
    "chunk extensions": (CHUNKED, (b"1;" + b"x" * 1_000 + b"\r\na\r\n") * 64),
    "small chunks": (CHUNKED, b"1\r\na\r\n" * 10_000),
    "trailer": (CHUNKED + b"0\r\nx: ", b"x" * 65_536),
    "trailers": (CHUNKED + b"0\r\n", b"x: y\r\n" * 10_000),
    "trailers of an event": (
        CHUNKED.replace(b"OK\r\n", b"OK\r\nce-id: 1\r\n") + b"1\r\na\r\n0\r\n",
        b"x: y\r\n" * 10_000,
    ),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000),
    "interim": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 3_000),
    "reason phrase": (b"HTTP/1.1 200 ", b"x" * 65_536),
    "header": (b"HTTP/1.1 200 OK\r\nx: ", b"x" * 65_536),
    "header name": (b"HTTP/1.1 200 OK\r\n", b"x" * 65_536),
}


@pytest.mark.parametrize("name", list(ENDLESS))
async def test_a_response_without_an_end_is_ended_by_its_bytes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of all parts of a response count; another target is served meanwhile."""
    read: list[int] = []
    data_received = ClientConnection.data_received

    def counting(self: ClientConnection, data: bytes) -> None:
        read.append(len(data))
        data_received(self, data)

    monkeypatch.setattr(ClientConnection, "data_received", counting)
    async with posting_harness(endless(*ENDLESS[name])) as harness, serving(ok()) as good:
        other = PostingHarness(
            harness.sender, good, harness.sender.target(good.url, connections_max=1)
        )
        hostile = asyncio.ensure_future(harness.post_all([b""] * 8, timeout_seconds=30.0))
        answered = [await other.post() for _ in range(20)]
        outcomes = await hostile
        assert {202} == {outcome.status for outcome in answered}
        assert {(Failure.PROTOCOL, None)} == {
            (outcome.failure, outcome.status) for outcome in outcomes
        }
        assert all("longer than 65536 bytes" in outcome.detail for outcome in outcomes), outcomes[
            0
        ].detail
        # At most the bound, and what arrived with the read that exceeded it.
        assert sum(read) < 8 * (3 * 65_536 + 262_144) + 20 * 200
        await harness.subscriber.wait_until_open(0)


async def test_framing_of_ordinary_size_is_read() -> None:
    """The lines of the response are sent one by one, each in a separate chunk."""
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(line), line)
        for line in [b"line %d\n" % number for number in range(5_000)]
    )
    async with posting_harness(raw(CHUNKED + chunks + b"0\r\nx-checksum: 1\r\n\r\n")) as harness:
        outcome = await harness.post()
        assert (200, 48_890) == (outcome.status, len(outcome.body))
        assert 200 == (await harness.post()).status
        assert 1 == harness.subscriber.connections


async def test_a_head_within_the_bounds_is_read() -> None:
    """128 fields are allowed, including Content-Length."""
    async with posting_harness(many_headers(127)) as harness:
        assert 202 == (await harness.post()).status


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"\x00" * 100,
    ],
)
async def test_what_is_not_http_is_no_response(response: bytes) -> None:
    """Garbage and ambiguous framing end the attempt immediately, as a temporary failure."""
    async with posting_harness(raw(response), ok()) as harness:
        assert Failure.PROTOCOL is (await harness.post()).failure
        assert 202 == (await harness.post()).status


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nX",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    ],
    ids=["none", "line", "head", "body"],
)
async def test_a_connection_lost_half_way_is_a_reset(first: bytes) -> None:
    """An incomplete response does not count as a response."""
    async with posting_harness(reset(first=first)) as harness:
        outcome = await harness.post()
        assert (Failure.RESET, None) == (outcome.failure, outcome.status)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (hang(), "no response"),
        (drip(), "bytes of the response body"),
        (drip_head(), "part of the response head"),
    ],
    ids=["hang", "drip", "head"],
)
async def test_one_deadline_covers_everything(answer: Answer, said: str) -> None:
    """A subscriber that keeps sending gets no more time than one that sends nothing. The message
    says how much arrived.
    """
    async with posting_harness(answer) as harness:
        started = asyncio.get_running_loop().time()
        outcome = await harness.post(timeout_seconds=0.2)
        took = asyncio.get_running_loop().time() - started
        assert Failure.TIMEOUT is outcome.failure
        assert said in outcome.detail
        assert 0.19 <= took < 3.0
        await harness.subscriber.wait_until_open(0)


async def test_a_short_deadline_is_not_held_up_by_a_long_one() -> None:
    """Each timeout has its own queue."""
    async with posting_harness(hang()) as harness:
        long_one = harness.target.post(
            HEADERS, b"", timeout_seconds=60, answered=harness.outcomes.append
        )
        assert Failure.TIMEOUT is (await harness.post(timeout_seconds=0.05)).failure
        assert [] == harness.outcomes
        long_one.cancel()


async def test_two_responses_for_one_request_end_the_connection() -> None:
    """The second would be read as the answer to the next event."""
    async with posting_harness(raw(respond(500) + respond(202)), ok()) as harness:
        assert 500 == (await harness.post()).status
        assert 202 == (await harness.post()).status
        assert (2, 1) == (harness.subscriber.connections, harness.sender.counts.surplus)


async def test_bytes_on_an_idle_connection_end_it() -> None:
    """There was no request for these bytes, so later responses on this connection cannot be
    trusted.
    """
    async with posting_harness(
        raw(respond(202), respond(202), interval_seconds=0.02), ok()
    ) as harness:
        await harness.post()
        await harness.subscriber.wait_until_open(0)
        assert 202 == (await harness.post()).status
        assert 1 == harness.sender.counts.surplus


async def test_a_response_that_overtakes_its_request_ends_the_connection() -> None:
    """The rest of the request would be read as the next one."""
    async with posting_harness(connections_max=1) as harness:
        harness.subscriber.early = respond(413)
        assert 413 == (await harness.post(bytes(16 * 1_048_576))).status
        assert "0 busy, 0 idle" in repr(harness.target)


@pytest.mark.parametrize("headers", [b"x: y\r\n\r\nGET / HTTP/1.1\r\n", b"x: y", b"\r\n\r\n"])
async def test_header_lines_cannot_end_the_request(headers: bytes) -> None:
    """The sender checks the lines last and sends nothing."""
    async with posting_harness() as harness:
        assert Failure.PROTOCOL is (await harness.post(headers=headers)).failure
        assert [] == harness.subscriber.requests


async def test_a_callback_that_fails_hurts_nobody_else() -> None:
    """Its error is passed to the exception handler of the loop, and the connection continues."""
    async with posting_harness() as harness:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: errors.append(context["exception"])
        )
        failed = asyncio.Event()

        def fail(outcome: Outcome) -> None:
            failed.set()
            raise LookupError("not mine")

        harness.target.post(HEADERS, b"", timeout_seconds=5, answered=fail)
        await failed.wait()
        assert 202 == (await harness.post()).status
        assert (["not mine"], 1) == (
            [str(error) for error in errors],
            harness.subscriber.connections,
        )


async def test_a_hanging_subscriber_does_not_fill_memory() -> None:
    """Posts that have ended use no memory, even while one with the same deadline is still
    waiting.
    """
    async with posting_harness(hang(), ok(), options=ClientOptions(waiting_max=10)) as harness:
        hanging = harness.target.post(
            HEADERS, b"", timeout_seconds=5.0, answered=harness.outcomes.append
        )
        await harness.subscriber.wait_for_requests(1)
        for _ in range(20):
            await harness.post(bytes(10_000))
        harness.subscriber.requests.clear()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(500):
            await harness.post(bytes(10_000))
            harness.subscriber.requests.clear()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 200_000
        hanging.cancel()


async def test_waiting_requests_are_bounded() -> None:
    """A request above the bound is refused, with the reason."""
    async with posting_harness(
        hang(), options=ClientOptions(waiting_max=3), connections_max=1
    ) as harness:
        outcomes = await harness.post_all([b""] * 5, timeout_seconds=0.2)
        refused = [outcome for outcome in outcomes if outcome.failure is Failure.CONNECT]
        assert (5, 2) == (len(outcomes), len(refused))
        assert "3 requests wait" in refused[0].detail


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_post_is_reported_exactly_once_whatever_happens(seed: int) -> None:
    """A seeded random sequence of answers, broken connections, hangs and cancellations: each post
    has one outcome, a cancelled one has none, and no state is left.
    """
    chance = random.Random(seed)
    answers = [
        ok(),
        status(500),
        reset(),
        close(),
        hang(),
        large_body(100_000),
        raw(respond(200) * 2),
        after(0.01, reset()),
        interim_first(),
    ]
    async with posting_harness(
        *(chance.choice(answers) for _ in range(400)), ok(), connections_max=8
    ) as harness:
        reported: dict[int, list[Outcome]] = {number: [] for number in range(600)}
        attempts = [
            harness.target.post(
                HEADERS,
                bytes(chance.choice((0, 100_000))),
                timeout_seconds=chance.choice((0.1, 0.2)),
                answered=reported[number].append,
            )
            for number in range(600)
        ]
        cancelled = set(chance.sample(range(600), 60))
        for number in cancelled:
            attempts[number].cancel()
        async with asyncio.timeout(20):
            while sum(map(len, reported.values())) < 540 or not repr(harness.target).endswith(
                "0 opening, 0 waiting>"
            ):
                await asyncio.sleep(0.005)
        assert {number: 0 if number in cancelled else 1 for number in reported} == {
            number: len(outcomes) for number, outcomes in reported.items()
        }
        assert ": 0 busy" in repr(harness.target)
