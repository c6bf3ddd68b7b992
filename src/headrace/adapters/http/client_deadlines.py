"""Deadlines of all requests of a sender, tracked without a timer per request.

Requests with the same timeout expire in the order in which they were added. One queue per timeout
therefore needs no sorting, and a single timer that checks the head of each queue is enough. A
deadline is detected late by at most a tenth of its timeout or 50 ms, whichever is less.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

_SWEEP_MAX_SECONDS = 0.05
_SWEEP_MIN_SECONDS = 0.005
_SWEEP_SHARE = 0.1
_IDLE_CHECK_SECONDS = 1.0


class Expirable(Protocol):
    """An object with a deadline."""

    def expire(self) -> None:
        """Handle the passed deadline and leave the queue."""
        ...


class Deadlines:
    """Queues of deadlines, one per timeout. No timer runs while all queues are empty and `rest`
    returns False.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, rest: Callable[[float], bool]) -> None:
        """Create empty queues. `rest` is called about once a second with the event loop time and
        returns whether it must be called again.
        """
        self._loop = loop
        self._on_idle = rest
        self._idle_check_at = 0.0
        # A dict keeps insertion order and removes any entry immediately. A deque would hold every
        # finished request until the oldest one, which may hang, has ended.
        self._queues: dict[float, dict[Expirable, float]] = {}
        self._interval = _IDLE_CHECK_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    def add(self, timed: Expirable, timeout_seconds: float, now: float) -> dict[Expirable, float]:
        """Add an object to a queue and return the queue. The caller removes the object with `pop`
        when it ends before its deadline.
        """
        queue = self._queues.get(timeout_seconds)
        if queue is None:
            queue = self._queues[timeout_seconds] = {}
            self._shorten_interval(timeout_seconds)
        queue[timed] = now + timeout_seconds
        return queue

    def wake(self) -> None:
        """Ensure that `rest` is called within about a second."""
        if self._timer is None:
            self._schedule()

    def stop(self) -> None:
        """Cancel all deadlines."""
        self._queues.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _shorten_interval(self, timeout_seconds: float) -> None:
        interval = _interval(timeout_seconds)
        if self._timer is not None:
            if interval >= self._interval:
                return
            self._timer.cancel()
        self._interval = min(interval, self._interval)
        self._schedule()

    def _schedule(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for timed in self._due(now):
            timed.expire()
        resting = False
        if now >= self._idle_check_at or not any(self._queues.values()):
            self._idle_check_at = now + _IDLE_CHECK_SECONDS
            resting = self._on_idle(now)
        self._queues = {timeout: queue for timeout, queue in self._queues.items() if queue}
        self._interval = _interval(min(self._queues)) if self._queues else _IDLE_CHECK_SECONDS
        if self._queues or resting:
            self.wake()

    def _due(self, now: float) -> list[Expirable]:
        due: list[Expirable] = []
        for queue in self._queues.values():
            for timed, at in queue.items():
                if at > now:
                    break
                due.append(timed)
        return due


def _interval(timeout_seconds: float) -> float:
    return max(_SWEEP_MIN_SECONDS, min(_SWEEP_MAX_SECONDS, timeout_seconds * _SWEEP_SHARE))
