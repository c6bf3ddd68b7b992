"""The gate of one subscription: its breaker, shared by the lanes that send to the same
subscriber.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from headrace.domain.breaker import Breaker, BreakerState
from headrace.domain.delivery import Outcome
from headrace.domain.ports import Clock
from headrace_dispatcher.delivery import Delivery

_CLOSED: Final = BreakerState.CLOSED
"""An alias: reading a member through its enum class takes ten times as long, and this one is read
several times per event.
"""


class BreakerGate:
    """Allows attempts as the breaker does and wakes the lanes when it allows more."""

    def __init__(self, *, breaker: Breaker, clock: Clock, pump: Callable[[], None]) -> None:
        self.breaker = breaker
        self.enabled = True
        """False where the subscription has no breaker; outcomes are recorded all the same."""
        self._clock = clock
        self._pump = pump
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, delivery: Delivery) -> bool:
        """Take a place for an attempt of this delivery, if there is one now.

        What does not go to the subscriber passes: its end is never recorded, so it must not be the
        breaker's probe.
        """
        if delivery.reply is not None or delivery.undeliverable:
            return True
        breaker = self.breaker
        if breaker.state is not _CLOSED and self.enabled:
            if breaker.allows(self._in_flight, self._clock.monotonic()) < 1:
                self._arm()
                return False
            breaker.started(delivery.identity)
        self._in_flight += 1
        return True

    def answered(self, delivery: Delivery, outcome: Outcome) -> None:
        """Give the place back and record how the attempt ended; a reply's end says nothing about
        the subscriber.
        """
        if delivery.reply is not None:
            return
        self._in_flight -= 1
        breaker, before, status = self.breaker, self.breaker.state, outcome.status
        if breaker.undisturbed and status is not None and status < 400:
            return
        breaker.record(
            delivery.identity if status is None or status >= 400 else None,
            outcome,
            self._clock.monotonic(),
        )
        if before is not _CLOSED or breaker.state is not before:
            self._pump()

    def withdraw(self, delivery: Delivery) -> None:
        """Give the place of an attempt without an outcome back. Another lane may wait for it, so
        all are woken.
        """
        if delivery.reply is not None or delivery.undeliverable:
            return
        self._in_flight -= 1
        self.breaker.withdraw(delivery.identity, self._clock.monotonic())
        if self.breaker.state is not _CLOSED:
            self._wake(0.0)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due = self.breaker.next_probe_at
        if due is not None and self._timer is None:
            self._wake(max(0.0, due - self._clock.monotonic()) + 0.001)

    def _wake(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self._pump()


class OpenGate:
    """A gate that is never closed, for dead letter sinks: their lane sets its own pace."""

    def enter(self, delivery: Delivery) -> bool:
        """Always True."""
        return True

    def answered(self, delivery: Delivery, outcome: Outcome) -> None:
        """Nothing to record."""

    def withdraw(self, delivery: Delivery) -> None:
        """Nothing to give back."""
