"""What follows from a failed delivery: a retry record, a dead letter, or another attempt in place.

The decision is `headrace.domain.delivery.decide`; this module builds the record that it asks for.
The lane stores the record and only then ends the delivery. A crash between the two repeats work and
loses none.
"""

import math
from collections.abc import Callable
from functools import partial

from headrace.codec import delivery_state, http
from headrace.codec.delivery_state import DeliveryState
from headrace.domain.backend_name import backend_of
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
from headrace.domain.record import Record
from headrace.domain.routing import DelayTier, DeliveryOrder, Subscription
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_dispatcher.attempt_result import COMPLETED, AttemptResult, Store, WaitInPlace
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.failed_delivery_log import FailedDeliveryLog
from headrace_dispatcher.failing_attempts import FailingAttempts
from headrace_dispatcher.metrics import SubscriptionMetrics


class RetryOrDeadLetter:
    """Applies the delivery policy of one subscription to its failed attempts."""

    def __init__(
        self,
        *,
        subscription: Subscription,
        metrics: SubscriptionMetrics,
        context: DispatcherContext,
        failing: FailingAttempts,
        on_retry_stored: Callable[[], None],
        on_dead_letter_stored: Callable[[], None],
    ) -> None:
        """`on_retry_stored` is called when a record was stored in the retry topic or a delay topic,
        `on_dead_letter_stored` when one was stored in the dead letter topic.
        """
        self.subscription = subscription
        self._metrics = metrics
        self._clock = context.clock
        self._jitter = context.jitter
        self._delays = context.delays
        self._failing = failing
        self._on_retry_stored = on_retry_stored
        self._on_dead_letter_stored = on_dead_letter_stored
        self._log = FailedDeliveryLog(context.clock)

    def handle(
        self,
        delivery: Delivery,
        outcome: Outcome,
        url: str,
        map_reason: Callable[[DeadLetterReason], DeadLetterReason] = lambda reason: reason,
    ) -> AttemptResult:
        """An attempt at `url` failed: apply the policy. `map_reason` changes the reason of the dead
        letter when something other than the event failed.
        """
        now = self._clock.now()
        if not delivery.first_failure_ms:
            delivery.first_failure_ms = int(now * 1000)
        match decide(self.subscription.delivery, delivery.attempts, outcome, now, self._jitter()):
            case Retry(at=at, wait_seconds=wait_seconds):
                error = describe(outcome)
                self._failing.note(
                    f"{url.partition('?')[0]}: {error}",
                    self._metrics.successes,
                    self._clock.monotonic(),
                )
                self._log.retry(
                    self.subscription,
                    delivery.record,
                    attempt=delivery.attempts,
                    url=url,
                    error=error,
                    seconds=wait_seconds,
                )
                return self._retry(delivery, at, wait_seconds)
            case DeadLetter(reason=reason, detail=detail):
                return self.dead_letter(delivery, outcome, map_reason(reason), url, detail)
            case Done():
                raise AssertionError("a delivered event is not handled here")

    def _retry(self, delivery: Delivery, at: float, wait_seconds: float) -> AttemptResult:
        self._metrics.retried.value += 1
        if delivery.lease is not None and self._waits_in_place(delivery):
            # A large reply is not kept in memory while it waits: it would take the memory reserved
            # for the large replies of all subscriptions.
            delivery.reply_attempts, delivery.attempts = delivery.attempts, 0
            delivery.reply = delivery.lease = None
        return self._wait(delivery, at, wait_seconds)

    def defer(self, delivery: Delivery, wait_seconds: float) -> AttemptResult:
        """Let a delivery wait, with its reply, although nothing has failed."""
        return self._wait(delivery, self._clock.now() + wait_seconds, wait_seconds)

    def _wait(self, delivery: Delivery, at: float, wait_seconds: float) -> AttemptResult:
        due_ms = math.ceil(at * 1000)
        delivery.compiled = None
        if self._waits_in_place(delivery):
            # A reply does not fit into a note. After a restart the event is sent to the subscriber
            # again, and the reply's attempts are not attempts of the event.
            attempts = 0 if delivery.reply is not None else delivery.attempts
            return WaitInPlace(wait_seconds, f"{attempts}:{delivery.first_failure_ms}:{due_ms}")
        delays = self._delays(backend_of(self.subscription.topic))
        tier = delays.tier_for(wait_seconds) if delays else None
        return self._store_retry(delivery, tier, due_ms, delivery.reply)

    def _waits_in_place(self, delivery: Delivery) -> bool:
        return (
            self.subscription.order is DeliveryOrder.ORDERED
            and delivery.record.topic == self.subscription.topic
        )

    def _store_retry(
        self, delivery: Delivery, tier: DelayTier | None, due_ms: int, reply: Record | None
    ) -> Store:
        record = delivery.record
        state = self._state(
            delivery,
            due_ms=due_ms,
            reply=http.write_structured(reply.headers, reply.value)[1] if reply else None,
        )

        def on_refused(error: HeadraceError) -> AttemptResult | None:
            if reply is None or not isinstance(error, RecordTooLarge):
                return None
            # Event and reply do not fit into one record: repeat the whole delivery instead (control
            # plane E10).
            delivery.reply_attempts = delivery.attempts
            return self._store_retry(delivery, tier, due_ms, None)

        failpoint(Failpoint.BEFORE_RETRY_RECORD)
        return Store(
            tier.topic if tier else self.subscription.retry_topic,
            Record(record.key, record.value, delivery_state.write(record.headers, state)),
            partial(self._retry_stored, tier),
            on_refused,
        )

    def _retry_stored(self, tier: DelayTier | None) -> None:
        self._metrics.retry_scheduled(tier)
        failpoint(Failpoint.AFTER_RETRY_RECORD)
        self._on_retry_stored()

    def dead_letter(
        self, delivery: Delivery, outcome: Outcome, reason: DeadLetterReason, url: str, detail: str
    ) -> Store:
        """Store the event as a dead letter with this reason; `url` is what failed, `detail` one
        sentence for operators.
        """
        record = delivery.record
        self._log.dead_letter(
            self.subscription,
            record,
            attempt=delivery.attempts,
            url=url,
            reason=reason,
            error=detail,
        )
        state = self._state(delivery, due_ms=0, reason=f"{reason.value}: {detail}")
        headers = delivery_state.write_dead_letter(
            record.headers, state, error_extensions(url, outcome)
        )
        failpoint(Failpoint.BEFORE_DEAD_LETTER)
        return Store(
            self.subscription.dead_topic,
            Record(record.key, record.value, headers),
            partial(self._dead_letter_stored, reason),
            _stop_lane,
        )

    def _dead_letter_stored(self, reason: DeadLetterReason) -> None:
        self._metrics.dead_letter(reason)
        failpoint(Failpoint.AFTER_DEAD_LETTER)
        self._on_dead_letter_stored()

    def store_rejection(self, delivery: Delivery, outcome: Outcome, url: str) -> Store:
        """Store a dead letter that its sink rejected once more, with the sink's answer; its own
        record is done then.

        A dead letter that has no room for the answer is done without a copy: its record stays where
        it is, and the metric has counted it.
        """
        record = delivery.record
        headers = delivery_state.write_rejected(
            record.headers, record.origin, f"{describe(outcome)} from {url}"
        )
        return Store(
            self.subscription.dead_topic,
            Record(record.key, record.value, headers),
            _nothing,
            lambda error: COMPLETED if isinstance(error, RecordTooLarge) else None,
        )

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


def _stop_lane(error: HeadraceError) -> None:
    """No other record can replace a dead letter."""


def _nothing() -> None:
    pass
