"""An HTTP sender with a scripted subscriber, for tests that await outcomes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headrace.adapters.http.client import HttpSender
from headrace.adapters.http.client_options import ClientOptions
from headrace.adapters.http.client_target import HttpTarget
from headrace.domain.delivery import Outcome
from tests.support.subscriber import Answer, Subscriber, serving

HEADERS = b"ce-specversion: 1.0\r\nce-id: 1\r\n"


@dataclass
class PostingHarness:
    """A sender with one target at a subscriber."""

    sender: HttpSender
    subscriber: Subscriber
    target: HttpTarget
    outcomes: list[Outcome] = field(default_factory=list)

    async def post(
        self, body: bytes = b"{}", *, headers: bytes = HEADERS, timeout_seconds: float = 5.0
    ) -> Outcome:
        """Post and wait for the outcome."""
        (outcome,) = await self.post_all([body], headers=headers, timeout_seconds=timeout_seconds)
        return outcome

    async def post_all(
        self, bodies: Sequence[bytes], *, headers: bytes = HEADERS, timeout_seconds: float = 5.0
    ) -> list[Outcome]:
        """Post all concurrently and wait for all outcomes, in the order of their calls."""
        outcomes: list[Outcome] = []
        done = asyncio.Event()

        def answered(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == len(bodies):
                done.set()

        for body in bodies:
            self.target.post(headers, body, timeout_seconds=timeout_seconds, answered=answered)
        async with asyncio.timeout(timeout_seconds + 5):
            await done.wait()
        return outcomes


@asynccontextmanager
async def posting_harness(
    *script: Answer, options: ClientOptions | None = None, connections_max: int = 4, path: str = ""
) -> AsyncIterator[PostingHarness]:
    """A subscriber with this script and a sender that posts to it."""
    async with serving(*script) as subscriber:
        sender = HttpSender(options)
        yield PostingHarness(
            sender,
            subscriber,
            sender.target(subscriber.url + path, connections_max=connections_max),
        )
        await sender.stop()
