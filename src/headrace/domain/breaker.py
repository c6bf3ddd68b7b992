"""The circuit breaker of one subscription: while its subscriber is unavailable, events do not use
up their attempts.

It opens after a streak of at least `attempts_min` failed attempts, of at least `events_min`
different events, over at least `span_seconds`. Only connection failures, timeouts and the statuses
429, 502, 503 and 504 count, because only these indicate that the subscriber as a whole is
unavailable. Any other answer, including status 500, concerns one event and follows the delivery
policy. While open, the breaker allows one probe at a time, with increasing pauses. After the first
answered probe, it raises the number of permitted attempts gradually, because a subscriber that has
just recovered is easily overloaded.

The counts are those of an unbroken streak and not of a window of fixed length: at a thousand
failures a second, the last 50 never span 5 s.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headrace.domain.delivery import Failure, Outcome


class BreakerState(StrEnum):
    """How much a subscription may send."""

    CLOSED = "closed"
    """All it wants."""
    OPEN = "open"
    """Nothing, until the next probe is due."""
    PROBING = "probing"
    """Nothing, while one probe is out."""
    REOPENING = "reopening"
    """A growing number at a time."""


class BreakerEvent(StrEnum):
    """What changes the state of a breaker."""

    TRIP = "trip"
    """The streak of failures is long enough."""
    PROBE = "probe"
    """The probe is sent."""
    PROBE_FAILED = "probe failed"
    PROBE_WITHDRAWN = "probe withdrawn"
    """The outcome of the probe will never be known, for example because its partition was
    revoked.
    """
    ANSWERED = "answered"
    """The probe, or an attempt from before the breaker opened, was answered."""
    RESTORED = "restored"
    """The permitted number has reached the maximum again."""


_TRANSITIONS: Mapping[tuple[BreakerState, BreakerEvent], BreakerState] = {
    (BreakerState.CLOSED, BreakerEvent.TRIP): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.PROBE): BreakerState.PROBING,
    (BreakerState.OPEN, BreakerEvent.ANSWERED): BreakerState.REOPENING,
    (BreakerState.PROBING, BreakerEvent.PROBE_FAILED): BreakerState.OPEN,
    (BreakerState.PROBING, BreakerEvent.PROBE_WITHDRAWN): BreakerState.OPEN,
    (BreakerState.PROBING, BreakerEvent.ANSWERED): BreakerState.REOPENING,
    (BreakerState.REOPENING, BreakerEvent.TRIP): BreakerState.OPEN,
    (BreakerState.REOPENING, BreakerEvent.RESTORED): BreakerState.CLOSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens, and how it recovers; durations in seconds."""

    attempts_min: int = 50
    events_min: int = 10
    span_seconds: float = 5.0
    probe_delay_seconds: float = 1.0
    """Pause before the first probe. It doubles with every failed probe."""
    probe_delay_max_seconds: float = 30.0
    reopening_min: int = 2
    """Concurrent attempts permitted after the first answered probe."""


_CLOSED: Final = BreakerState.CLOSED
"""An alias, because reading a member through its enum class takes ten times as long, and this one
is read for each answer.
"""
_TRIPPING_STATUSES = frozenset((429, 502, 503, 504))
_TRIPPING_FAILURES = frozenset((Failure.CONNECT, Failure.TIMEOUT, Failure.RESET))


def trips(outcome: Outcome) -> bool:
    """Whether an outcome indicates that the subscriber as a whole is unavailable."""
    if outcome.status is not None:
        return outcome.status in _TRIPPING_STATUSES
    return outcome.failure in _TRIPPING_FAILURES


class Breaker:
    """Records every attempt of one subscription and limits how many may start. Times are monotonic
    seconds.

    The caller asks `allows`, starts at most that many attempts, and calls `started` and later
    either `record` or `withdraw` for each.
    """

    __slots__ = (
        "_events",
        "_failed",
        "_failed_since",
        "_good",
        "_limit",
        "_probe",
        "_probe_delay",
        "_rules",
        "concurrency_max",
        "next_probe_at",
        "state",
    )

    def __init__(self, concurrency_max: int, rules: BreakerRules | None = None) -> None:
        self.concurrency_max = concurrency_max
        self.state = BreakerState.CLOSED
        self.next_probe_at: float | None = None
        """When the next probe is due; None unless the breaker is open."""
        self._rules = rules or BreakerRules()
        self._failed = 0
        self._failed_since = 0.0
        self._events: set[Hashable] = set()
        """Distinct events of the streak, at most `events_min` of them."""
        self._probe: Hashable = None
        self._probe_delay = self._rules.probe_delay_seconds
        self._limit = concurrency_max
        self._good = 0

    @property
    def undisturbed(self) -> bool:
        """Whether an answer without an error changes nothing: there was no failure since the last
        one.
        """
        return not self._failed and self.state is _CLOSED

    def allows(self, in_flight: int, now: float) -> int:
        """Return how many attempts may start now, while `in_flight` attempts are running."""
        if self.state is BreakerState.CLOSED:
            return max(0, self.concurrency_max - in_flight)
        if self.state is BreakerState.REOPENING:
            return max(0, min(self._limit, self.concurrency_max) - in_flight)
        return 1 if self.next_probe_at is not None and now >= self.next_probe_at else 0

    def started(self, event: Hashable) -> None:
        """Record that an attempt for `event` (its origin) is sent. While the breaker is open, this
        is the probe.
        """
        if self.state is BreakerState.OPEN:
            self._probe = event
            self.next_probe_at = None
            self._move(BreakerEvent.PROBE)

    def record(self, event: Hashable, outcome: Outcome, now: float) -> None:
        """Record the outcome of an attempt for `event`."""
        if trips(outcome):
            self._record_failed(event, now)
        else:
            self._record_answered()

    def withdraw(self, event: Hashable, now: float) -> None:
        """Record that an attempt for `event` was given up and its outcome will not be known. If it
        was the probe, the next one is due immediately.
        """
        if self.state is BreakerState.PROBING and event == self._probe:
            self._probe = None
            self.next_probe_at = now
            self._move(BreakerEvent.PROBE_WITHDRAWN)

    def _record_answered(self) -> None:
        if self._failed:
            self._failed = 0
            self._events.clear()
        if self.state is _CLOSED:
            return
        if self.state is BreakerState.REOPENING:
            self._widen()
            return
        self._probe = None
        self.next_probe_at = None
        self._probe_delay = self._rules.probe_delay_seconds
        self._limit, self._good = self._rules.reopening_min, 0
        self._move(BreakerEvent.ANSWERED)
        self._restore()

    def _widen(self) -> None:
        """Double the limit after as many consecutive answers as the limit permits concurrently."""
        self._good += 1
        if self._good >= self._limit:
            self._limit, self._good = self._limit * 2, 0
            self._restore()

    def _restore(self) -> None:
        if self._limit >= self.concurrency_max:
            self._move(BreakerEvent.RESTORED)

    def _record_failed(self, event: Hashable, now: float) -> None:
        if self.state is BreakerState.PROBING and event == self._probe:
            self._probe = None
            self._probe_delay = min(self._probe_delay * 2, self._rules.probe_delay_max_seconds)
            self.next_probe_at = now + self._probe_delay
            self._move(BreakerEvent.PROBE_FAILED)
        elif self.state is BreakerState.CLOSED or self.state is BreakerState.REOPENING:
            if self.state is BreakerState.REOPENING:
                self._limit, self._good = max(1, self._limit // 2), 0
            self._lengthen(event, now)

    def _lengthen(self, event: Hashable, now: float) -> None:
        rules = self._rules
        if not self._failed:
            self._failed_since = now
        self._failed += 1
        if len(self._events) < rules.events_min:
            self._events.add(event)
        if (
            self._failed < rules.attempts_min
            or len(self._events) < rules.events_min
            or now - self._failed_since < rules.span_seconds
        ):
            return
        self._failed = 0
        self._events.clear()
        self._probe_delay = rules.probe_delay_seconds
        self.next_probe_at = now + self._probe_delay
        self._move(BreakerEvent.TRIP)

    def _move(self, event: BreakerEvent) -> None:
        self.state = _TRANSITIONS[self.state, event]


def as_markdown() -> str:
    """Return the table of states as `docs/delivery.md` shows it."""
    rows = ["| state | event | next |", "|---|---|---|"]
    rows.extend(
        f"| {state} | {event} | {after} |" for (state, event), after in _TRANSITIONS.items()
    )
    return "\n".join(rows) + "\n"
