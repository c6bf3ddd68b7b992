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

logger = structlog.get_logger(__name__)

ROUND_REQUESTS = 32
"""Requests written between two looks at the sockets: with their answers, about 2 ms."""
TURN_REQUESTS = 8
"""Of these, for one lane at a time."""
TICK_SECONDS = 0.5
STALL_SECONDS = 3.0
"""A loop that has not ticked for so long was stopped, or starved: half of the shortest session."""


def _nothing() -> None:
    return None


class Schedulable(Protocol):
    """A lane, as far as its turn is concerned."""

    queued: bool
    """Whether it waits for its turn; kept by `FairScheduler`."""

    @property
    def idle(self) -> bool:
        """Whether nothing of it is on its way."""
        ...

    def send(self, requests_max: int) -> int:
        """Send what is ready, up to so many; return how many. Fewer mean that it will ask again
        when it can send more.
        """
        ...


class FairScheduler:
    """Shares the rounds of one loop among lanes. Each is queued once at most."""

    __slots__ = (
        "_busy_lanes",
        "_idle_lanes",
        "_on_stall",
        "_requests_left",
        "_round_requests",
        "_scheduled",
        "_tick_timer",
        "_ticked_at",
        "_turn_requests",
    )

    def __init__(
        self, *, round_requests: int = ROUND_REQUESTS, turn_requests: int = TURN_REQUESTS
    ) -> None:
        self._round_requests = round_requests
        self._turn_requests = turn_requests
        self._idle_lanes: deque[Schedulable] = deque()
        self._busy_lanes: deque[Schedulable] = deque()
        self._requests_left = round_requests
        self._scheduled = False
        self._on_stall: Callable[[], None] = _nothing
        self._ticked_at = math.inf
        self._tick_timer: asyncio.TimerHandle | None = None

    def watch_for_stalls(self, on_stall: Callable[[], None]) -> None:
        """Start to detect that the process was suspended and resumed; `on_stall` is called
        before the next request is sent.
        """
        self._on_stall = on_stall
        self._ticked_at = asyncio.get_running_loop().time()
        self._tick()

    def close(self) -> None:
        """End `watch_for_stalls`. Idempotent."""
        self._ticked_at = math.inf
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None

    def schedule(self, lane: Schedulable) -> None:
        """Let this lane send: at once if nothing of it is on its way, the round has room and no
        lane waits, else in its turn.

        A lane that is busy asks after each answer, so its turn is one call for several requests.
        """
        if lane.queued:
            return
        if not lane.idle:
            lane.queued = True
            self._busy_lanes.append(lane)
        elif self._requests_left and not self._idle_lanes and not self._busy_lanes:
            self._check_stall()
            self._send_from(lane)
        else:
            lane.queued = True
            self._idle_lanes.append(lane)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_round)

    def _send_from(self, lane: Schedulable) -> None:
        requests = min(self._requests_left, self._turn_requests)
        # A lane that asks meanwhile must wait: this one, or one that shares a gate with it.
        left, self._requests_left = self._requests_left, 0
        sent = lane.send(requests)
        self._requests_left = left - sent
        if sent == requests and not lane.queued:
            lane.queued = True
            self._busy_lanes.append(lane)

    def _tick(self) -> None:
        self._check_stall()
        loop = asyncio.get_running_loop()
        self._ticked_at = loop.time()
        self._tick_timer = loop.call_later(TICK_SECONDS, self._tick)

    def _check_stall(self) -> None:
        """Detect that the loop has been stalled."""
        now = asyncio.get_running_loop().time()
        stalled_seconds = now - self._ticked_at
        if stalled_seconds >= STALL_SECONDS:
            self._ticked_at = now
            logger.warning(
                "event_loop_stalled",
                seconds=round(stalled_seconds, 1),
                next_step="the process was suspended or out of CPU; deliveries pause until the"
                " broker confirms group membership",
            )
            self._on_stall()

    def _run_round(self) -> None:
        self._scheduled = False
        self._check_stall()
        self._requests_left = self._round_requests
        idle_lanes, busy_lanes = self._idle_lanes, self._busy_lanes
        # A turn that sends nothing counts too: a round always ends.
        for _ in range(self._round_requests):
            if not self._requests_left or not (idle_lanes or busy_lanes):
                break
            lane = idle_lanes.popleft() if idle_lanes else busy_lanes.popleft()
            lane.queued = False
            self._send_from(lane)
        if (
            idle_lanes or busy_lanes or self._requests_left < self._round_requests
        ) and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_round)
