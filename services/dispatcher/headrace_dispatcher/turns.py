"""Whose turn it is to send: between the lanes of all subscriptions and the event loop that they
share.

A round of the loop has room for a few requests. Lanes with something ready get a few of them each,
one after the other, and a lane that has nothing on its way yet goes first. So a subscription that
drains a backlog keeps the loop busy for a round of known length at a time, and a fresh event of any
other one is sent with the next round at the latest, not when the backlog has been seen to.

It is also the one place through which every new request goes, and so the place to notice that the
process itself was stopped: one that is continued after its session was given up would send what it
holds, and another process has had that for seconds.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

log = structlog.stdlib.get_logger("headrace_dispatcher.turns")

ROUND_REQUESTS = 32
"""Requests written between two looks at the sockets: with their answers, about 2 ms."""
TURN_REQUESTS = 8
"""Of these, for one lane at a time."""
TICK_SECONDS = 0.5
FROZEN_SECONDS = 3.0
"""A loop that has not ticked for so long was stopped, or starved: half of the shortest session."""


def _nothing() -> None:
    return None


class Sending(Protocol):
    """A lane, as far as its turn is concerned."""

    queued: bool
    """Whether it waits for its turn; kept by `Turns`."""

    @property
    def idle(self) -> bool:
        """Whether nothing of it is on its way."""
        ...

    def send(self, requests_max: int) -> int:
        """Send what is ready, up to so many; return how many. Fewer mean that it will ask again
        when it can send more.
        """
        ...


class Turns:
    """Shares the rounds of one loop among lanes. Each is queued once at most."""

    __slots__ = (
        "_fresh",
        "_left",
        "_others",
        "_round_requests",
        "_scheduled",
        "_stood_still",
        "_ticked",
        "_ticker",
        "_turn_requests",
    )

    def __init__(
        self, *, round_requests: int = ROUND_REQUESTS, turn_requests: int = TURN_REQUESTS
    ) -> None:
        self._round_requests = round_requests
        self._turn_requests = turn_requests
        self._fresh: deque[Sending] = deque()
        self._others: deque[Sending] = deque()
        self._left = round_requests
        self._scheduled = False
        self._stood_still: Callable[[], None] = _nothing
        self._ticked = math.inf
        self._ticker: asyncio.TimerHandle | None = None

    def watch(self, stood_still: Callable[[], None]) -> None:
        """Begin to notice when the process was stopped and continued; `stood_still` is called
        before the next request is sent.
        """
        self._stood_still = stood_still
        self._ticked = asyncio.get_running_loop().time()
        self._tick()

    def close(self) -> None:
        """End `watch`. Idempotent."""
        self._ticked = math.inf
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def ask(self, lane: Sending) -> None:
        """Let this lane send: at once while the round has room and nobody waits, else in
        its turn.
        """
        if lane.queued:
            return
        self._look()
        if self._left and not self._fresh and not self._others:
            self._serve(lane)
        else:
            lane.queued = True
            (self._fresh if lane.idle else self._others).append(lane)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._round)

    def _serve(self, lane: Sending) -> None:
        requests = min(self._left, self._turn_requests)
        left, self._left = (
            self._left,
            0,
        )  # What asks meanwhile must wait: this lane, or one that it shares a gate with.
        sent = lane.send(requests)
        self._left = left - sent
        if sent == requests and not lane.queued:
            lane.queued = True
            self._others.append(lane)

    def _tick(self) -> None:
        self._look()
        loop = asyncio.get_running_loop()
        self._ticked = loop.time()
        self._ticker = loop.call_later(TICK_SECONDS, self._tick)

    def _look(self) -> None:
        """Notice when the loop has just come back after having stood still."""
        now = asyncio.get_running_loop().time()
        slept = now - self._ticked
        if slept >= FROZEN_SECONDS:
            self._ticked = now
            log.warning(
                "stood_still",
                seconds=round(slept, 1),
                next_step="nothing is sent until the groups confirm what is still ours",
            )
            self._stood_still()

    def _round(self) -> None:
        self._scheduled = False
        self._look()
        self._left = self._round_requests
        fresh, others = self._fresh, self._others
        for _ in range(
            self._round_requests
        ):  # A turn that sends nothing counts too: a round always ends.
            if not self._left or not (fresh or others):
                break
            lane = fresh.popleft() if fresh else others.popleft()
            lane.queued = False
            self._serve(lane)
        if (fresh or others or self._left < self._round_requests) and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._round)
