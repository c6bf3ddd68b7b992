"""The contract of every `Sender`: the HTTP one with a real subscriber, and the in-memory one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import pytest

from headrace.adapters.http.client import HttpSender
from headrace.adapters.memory.sender import MemorySender
from headrace.domain.delivery import Failure, Outcome
from headrace.domain.ports import Sender, Target
from tests.support.subscriber import Answer, Subscriber, after, hang, reset, serving, status

HEADERS = b"ce-id: 1\r\nce-type: t\r\n"


class SenderHarness(Protocol):
    """A sender and the other end of its posts."""

    @property
    def sender(self) -> Sender: ...

    @property
    def url(self) -> str: ...

    def script(self, *steps: int | Failure | None) -> None:
        """Answer with these statuses, close the connection (RESET), or never answer (None); the
        last repeats. Answers take a few milliseconds.
        """
        ...

    def received(self) -> list[tuple[bytes, bytes]]:
        """Header lines and body of what arrived."""
        ...


@dataclass
class HttpSenderHarness:
    """A real subscriber on loopback."""

    sender: HttpSender
    subscriber: Subscriber

    @property
    def url(self) -> str:
        return self.subscriber.url

    def script(self, *steps: int | Failure | None) -> None:
        self.subscriber.answer_with(*map(self._answer, steps))

    def _answer(self, step: int | Failure | None) -> Answer:
        if isinstance(step, Failure):
            return reset()
        return hang() if step is None else after(0.002, status(step))

    def received(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"\r\n".join((*request.header_lines, b"")), request.body)
            for request in self.subscriber.requests
        ]


@dataclass
class MemorySenderHarness:
    """The in-memory sender, scripted."""

    sender: MemorySender
    url: str = "http://subscriber.example/"

    def script(self, *steps: int | Failure | None) -> None:
        self.sender.script(self.url, *map(self._ending, steps), delay_seconds=0.002)

    def _ending(self, step: int | Failure | None) -> Outcome | None:
        if isinstance(step, Failure):
            return Outcome(failure=step)
        return None if step is None else Outcome(status=step)

    def received(self) -> list[tuple[bytes, bytes]]:
        return [(request.headers, request.body) for request in self.sender.sent]


@pytest.fixture(params=["http", "memory"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[SenderHarness]:
    """One setup per kind of sender."""
    async with AsyncExitStack() as stack:
        made: HttpSenderHarness | MemorySenderHarness
        if request.param == "http":
            made = HttpSenderHarness(HttpSender(), await stack.enter_async_context(serving()))
        else:
            made = MemorySenderHarness(MemorySender())
        stack.push_async_callback(made.sender.stop)
        yield made


class Answers:
    """Collects outcomes in the order they are reported."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._changed = asyncio.Event()

    def __call__(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._changed.set()

    async def wait_for(self, count: int) -> list[Outcome]:
        async with asyncio.timeout(10):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.outcomes


async def settled(target: Target) -> None:
    """Post once more and wait for it: earlier results are reported by then."""
    answers = Answers()
    target.post(b"", b"", timeout_seconds=5, answered=answers)
    await answers.wait_for(1)


async def test_a_post_ends_with_the_status_of_its_response(harness: SenderHarness) -> None:
    """The outcome is the response's status, and no failure."""
    harness.script(503)
    answers = Answers()
    harness.sender.target(harness.url, connections_max=1).post(
        HEADERS, b"{}", timeout_seconds=5, answered=answers
    )
    outcome = (await answers.wait_for(1))[0]
    assert (503, None) == (outcome.status, outcome.failure)


async def test_headers_and_body_arrive_untouched(harness: SenderHarness) -> None:
    """Header lines and body are sent byte for byte."""
    answers = Answers()
    body = bytes(range(256))
    harness.sender.target(harness.url, connections_max=1).post(
        HEADERS, body, timeout_seconds=5, answered=answers
    )
    await answers.wait_for(1)
    ((lines, received),) = harness.received()
    assert body == received
    assert HEADERS in lines


async def test_an_outcome_is_never_reported_inside_post(harness: SenderHarness) -> None:
    """`post` returns first, even when the target is closed."""
    target = harness.sender.target(harness.url, connections_max=1)
    target.close()
    answers = Answers()
    target.post(HEADERS, b"", timeout_seconds=5, answered=answers)
    assert [] == answers.outcomes
    assert Failure.CONNECT is (await answers.wait_for(1))[0].failure


async def test_a_subscriber_that_never_answers_is_a_timeout(harness: SenderHarness) -> None:
    """The deadline ends the attempt once, with the failure `timeout`."""
    harness.script(None)
    answers = Answers()
    harness.sender.target(harness.url, connections_max=1).post(
        HEADERS, b"", timeout_seconds=0.05, answered=answers
    )
    outcome = (await answers.wait_for(1))[0]
    assert (Failure.TIMEOUT, None) == (outcome.failure, outcome.status)
    assert "0.05 s" in outcome.detail


async def test_a_connection_that_breaks_is_a_reset(harness: SenderHarness) -> None:
    """A connection lost before a response is the failure `reset`."""
    harness.script(Failure.RESET)
    answers = Answers()
    harness.sender.target(harness.url, connections_max=1).post(
        HEADERS, b"", timeout_seconds=5, answered=answers
    )
    assert Failure.RESET is (await answers.wait_for(1))[0].failure


async def test_a_cancelled_post_is_never_reported(harness: SenderHarness) -> None:
    """After `cancel` the callback is not called, and the connection's place is free again."""
    harness.script(None, 202)
    target = harness.sender.target(harness.url, connections_max=1)
    cancelled = Answers()
    attempt = target.post(HEADERS, b"", timeout_seconds=0.5, answered=cancelled)
    async with asyncio.timeout(5):
        while not harness.received():
            await asyncio.sleep(0)
    attempt.cancel()
    attempt.cancel()
    await settled(target)
    assert [] == cancelled.outcomes


async def test_cancelling_an_answered_post_does_nothing(harness: SenderHarness) -> None:
    """`cancel` after the end is harmless."""
    answers = Answers()
    target = harness.sender.target(harness.url, connections_max=1)
    attempt = target.post(HEADERS, b"", timeout_seconds=5, answered=answers)
    await answers.wait_for(1)
    attempt.cancel()
    await settled(target)
    assert 1 == len(answers.outcomes)


async def test_posts_beyond_the_connections_wait_in_a_queue(harness: SenderHarness) -> None:
    """With two connections and a subscriber that hangs, a third post is not sent."""
    harness.script(None)
    target = harness.sender.target(harness.url, connections_max=2)
    answers = Answers()
    for number, seconds in enumerate((0.3, 0.3, 0.05)):
        target.post(HEADERS, b"%d" % number, timeout_seconds=seconds, answered=answers)
    await answers.wait_for(3)
    assert {Failure.TIMEOUT} == {outcome.failure for outcome in answers.outcomes}
    assert [b"0", b"1"] == sorted(body for _, body in harness.received())


async def test_waiting_posts_are_sent_in_order(harness: SenderHarness) -> None:
    """One connection sends posts in the order of the calls."""
    target = harness.sender.target(harness.url, connections_max=1)
    answers = Answers()
    for number in range(20):
        target.post(HEADERS, b"%02d" % number, timeout_seconds=5, answered=answers)
    await answers.wait_for(20)
    assert [b"%02d" % number for number in range(20)] == [body for _, body in harness.received()]


async def test_a_cancelled_waiting_post_is_not_sent(harness: SenderHarness) -> None:
    """A post cancelled before it is sent never reaches the subscriber."""
    target = harness.sender.target(harness.url, connections_max=1)
    answers = Answers()
    target.post(HEADERS, b"first", timeout_seconds=5, answered=answers)
    target.post(HEADERS, b"second", timeout_seconds=5, answered=answers).cancel()
    await answers.wait_for(1)
    await settled(target)
    assert b"second" not in [body for _, body in harness.received()]


async def test_a_closed_target_still_completes_posts_in_flight(harness: SenderHarness) -> None:
    """Posts before `close` get their answer."""
    target = harness.sender.target(harness.url, connections_max=1)
    answers = Answers()
    target.post(HEADERS, b"busy", timeout_seconds=5, answered=answers)
    target.post(HEADERS, b"waiting", timeout_seconds=5, answered=answers)
    target.close()
    assert [202, 202] == [outcome.status for outcome in await answers.wait_for(2)]


async def test_a_post_made_in_a_callback_is_sent(harness: SenderHarness) -> None:
    """The callback of one post may start the next one."""
    target = harness.sender.target(harness.url, connections_max=1)
    answers = Answers()

    def again(outcome: Outcome) -> None:
        target.post(HEADERS, b"second", timeout_seconds=5, answered=answers)

    target.post(HEADERS, b"first", timeout_seconds=5, answered=again)
    await answers.wait_for(1)
    assert [b"first", b"second"] == [body for _, body in harness.received()]


@pytest.mark.parametrize("code", [301, 307, 308])
async def test_redirects_are_not_followed(harness: SenderHarness, code: int) -> None:
    """A redirect is an outcome like any other."""
    harness.script(code)
    answers = Answers()
    harness.sender.target(harness.url, connections_max=1).post(
        HEADERS, b"", timeout_seconds=5, answered=answers
    )
    assert [code] == [outcome.status for outcome in await answers.wait_for(1)]
    assert 1 == len(harness.received())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/",
        "http://",
        "/relative",
        "http://user@host/",
        "http://host/#top",
        "http://ho st/",
    ],
)
async def test_a_url_that_cannot_be_posted_to_is_rejected_at_once(
    harness: SenderHarness, url: str
) -> None:
    """`target` raises ValueError with the reason."""
    with pytest.raises(ValueError, match="URL"):
        harness.sender.target(url, connections_max=1)


async def test_a_target_needs_a_connection(harness: SenderHarness) -> None:
    """Zero connections would hold every post without end."""
    with pytest.raises(ValueError, match="at least 1"):
        harness.sender.target(harness.url, connections_max=0)
