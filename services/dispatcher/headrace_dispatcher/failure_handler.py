"""What becomes of a delivery that failed: a retry record, a dead letter, or another try in place.

The decision is `headrace.domain.delivery.decide`; this module stores the record it asks for and
only then ends the delivery. A crash between the two repeats work and never loses any.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

from headrace.codec import delivery_state, http
from headrace.codec.delivery_state import DeliveryState
from headrace.domain.attempt import AttemptEvent, AttemptState
from headrace.domain.dead_letter import error_extensions
from headrace.domain.delivery import (
    DeadLetter,
    DeadLetterReason,
    Done,
    Outcome,
    Retry,
    decide,
    describe,
)
from headrace.domain.errors import HeadraceError, RecordTooLarge
from headrace.domain.ports import Clock
from headrace.domain.record import Record
from headrace.domain.routing import Delays, DeliveryOrder, Subscription
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.retrying_log import RetryingLog


class FailureObserver(Protocol):
    """Who wants to know of parked events."""

    def on_retry_stored(self) -> None:
        """A record now waits in the retry or dead letter topic."""
        ...

    def alarm(self, topic: str, error: HeadraceError | None) -> None:
        """A record cannot be stored and its lane stands still; None when it could after all, or
        went with its partition.
        """
        ...


class FailureHandler:
    """Parks the events of one subscription."""

    def __init__(
        self,
        *,
        subscription: Subscription,
        retrying_log: RetryingLog,
        metrics: SubscriptionMetrics,
        clock: Clock,
        jitter: Callable[[], float],
        delays: Callable[[], Delays | None],
        observer: FailureObserver,
    ) -> None:
        self.subscription = subscription
        self._log = retrying_log
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._delays = delays
        self._observer = observer

    def handle(
        self,
        delivery: Delivery,
        outcome: Outcome,
        url: str,
        map_reason: Callable[[DeadLetterReason], DeadLetterReason] = lambda reason: reason,
    ) -> None:
        """An attempt at `url` failed: do what the policy says. `map_reason` names what failed when
        it was not the event itself.
        """
        now = self._clock.now()
        if not delivery.first_failure_ms:
            delivery.first_failure_ms = int(now * 1000)
        match decide(self.subscription.delivery, delivery.attempts, outcome, now, self._jitter()):
            case Retry(at=at, wait_seconds=wait_seconds):
                self._retry(delivery, at, wait_seconds)
            case DeadLetter(reason=reason, detail=detail):
                self.dead_letter(delivery, outcome, map_reason(reason), url, detail)
            case Done():
                raise AssertionError("a delivered event does not come here")

    def _retry(self, delivery: Delivery, at: float, wait_seconds: float) -> None:
        self._metrics.retried.value += 1
        if delivery.lease is not None and self._waits_in_place(delivery):
            # A large reply is not kept in memory while it waits, where it would hold up the large
            # replies of everybody.
            delivery.reply_attempts, delivery.attempts = delivery.attempts, 0
            delivery.reply = delivery.lease = None
        self._wait(delivery, at, wait_seconds)

    def defer(self, delivery: Delivery, wait_seconds: float) -> None:
        """Let a delivery wait, with its reply, although nothing has failed."""
        self._wait(delivery, self._clock.now() + wait_seconds, wait_seconds)

    def _wait(self, delivery: Delivery, at: float, wait_seconds: float) -> None:
        subscription = self.subscription
        if self._waits_in_place(delivery):
            delivery.step(AttemptEvent.HOLD)
            # A reply does not fit into a note. After a restart the subscriber is asked again, and
            # the reply's attempts were not its own.
            attempts = 0 if delivery.reply is not None else delivery.attempts
            note = f"{attempts}:{delivery.first_failure_ms}:{math.ceil(at * 1000)}"
            delivery.lane.feed.annotate(delivery.record, note)
            delivery.lane.wait(delivery, wait_seconds)
            return
        delays = self._delays()
        tier = delays.tier_for(wait_seconds) if delays else None
        delivery.step(AttemptEvent.STORE)
        self._store_retry(
            delivery,
            tier.topic if tier else subscription.retry_topic,
            math.ceil(at * 1000),
            delivery.reply,
        )

    def _waits_in_place(self, delivery: Delivery) -> bool:
        return (
            self.subscription.order is DeliveryOrder.ORDERED
            and delivery.record.topic == self.subscription.topic
        )

    def _store_retry(
        self, delivery: Delivery, topic: str, due_ms: int, reply: Record | None
    ) -> None:
        record = delivery.record
        state = self._state(
            delivery,
            due_ms=due_ms,
            reply=http.write_structured(reply.headers, reply.value)[1] if reply else None,
        )

        def on_stored() -> None:
            failpoint(Failpoint.AFTER_RETRY_RECORD)
            self._stored(delivery)

        def on_permanent_error(topic: str, error: HeadraceError) -> bool:
            if reply is not None and isinstance(error, RecordTooLarge) and not delivery.abandoned:
                # Event and reply do not fit together: repeat the whole delivery instead (control
                # plane E10).
                delivery.reply_attempts = delivery.attempts
                self._store_retry(delivery, topic, due_ms, None)
                return False
            return self._on_permanent_error(delivery, topic, error)

        failpoint(Failpoint.BEFORE_RETRY_RECORD)
        self._log.store(
            topic,
            Record(record.key, record.value, delivery_state.write(record.headers, state)),
            on_stored,
            on_permanent_error,
            partial(self._still_needed, delivery),
        )

    def dead_letter(
        self, delivery: Delivery, outcome: Outcome, reason: DeadLetterReason, url: str, detail: str
    ) -> None:
        """Store the event as a dead letter of this reason; `url` is what failed, `detail` one
        sentence for people.
        """
        delivery.step(AttemptEvent.STORE)
        record = delivery.record
        state = self._state(delivery, due_ms=0, reason=f"{reason.value}: {detail}")
        headers = delivery_state.write_dead_letter(
            record.headers, state, error_extensions(url, outcome)
        )

        def on_stored() -> None:
            self._metrics.dead_letter(reason)
            failpoint(Failpoint.AFTER_DEAD_LETTER)
            self._stored(delivery)

        failpoint(Failpoint.BEFORE_DEAD_LETTER)
        self._log.store(
            self.subscription.dead_topic,
            Record(record.key, record.value, headers),
            on_stored,
            partial(self._on_permanent_error, delivery),
            partial(self._still_needed, delivery),
        )

    def store_rejection(self, delivery: Delivery, outcome: Outcome, url: str) -> None:
        """Store a dead letter that its sink rejected once more, with the sink's answer; its own
        record is done then.

        A letter that has no room for the answer is done without a copy: its record stays where it
        is, and the metric has counted it.
        """
        delivery.step(AttemptEvent.STORE)
        record = delivery.record
        headers = delivery_state.write_rejected(
            record.headers, record.origin, f"{describe(outcome)} from {url}"
        )

        def on_permanent_error(topic: str, error: HeadraceError) -> bool:
            if isinstance(error, RecordTooLarge) and not delivery.abandoned:
                self._finish(delivery)
                return False
            return self._on_permanent_error(delivery, topic, error)

        self._log.store(
            self.subscription.dead_topic,
            Record(record.key, record.value, headers),
            partial(self._finish, delivery),
            on_permanent_error,
            partial(self._still_needed, delivery),
        )

    def _stored(self, delivery: Delivery) -> None:
        self._finish(delivery)
        self._observer.on_retry_stored()

    def _finish(self, delivery: Delivery) -> None:
        delivery.lease = None
        if delivery.state is AttemptState.STUCK:
            delivery.step(AttemptEvent.RELEASE)
            delivery.lane.stuck.discard(delivery)
            self._observer.alarm("", None)
        delivery.step(AttemptEvent.STORED)
        delivery.lane.finish(delivery)

    def _still_needed(self, delivery: Delivery) -> bool:
        """Whether the event is still ours to park."""
        gone = delivery.lane.finish_if_abandoned(delivery)
        if gone:
            self._observer.alarm("", None)
        return not gone

    def _on_permanent_error(self, delivery: Delivery, topic: str, error: HeadraceError) -> bool:
        if not self._still_needed(delivery):
            return False
        if delivery.state is not AttemptState.STUCK:
            delivery.step(AttemptEvent.STORE_REFUSED)
        delivery.lane.stuck.add(delivery)
        self._metrics.parking_refused.value += 1
        self._observer.alarm(topic, error)
        return True

    def _state(
        self, delivery: Delivery, *, due_ms: int, reason: str = "", reply: bytes | None = None
    ) -> DeliveryState:
        return DeliveryState(
            subscription=self.subscription.uid,
            origin=delivery.identity,
            attempt=delivery.attempts,
            first_failure_ms=delivery.first_failure_ms,
            dead_topic=self.subscription.dead_topic,
            due_ms=due_ms,
            reason=reason,
            reply=reply,
            reply_attempts=delivery.reply_attempts if reply is None else 0,
        )
