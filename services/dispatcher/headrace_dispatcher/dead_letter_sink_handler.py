"""Delivers dead letters to the dead letter sink.

A sink is a subscriber of the dead letter topic. What it does not accept now (no answer, 5xx, 429
and similar) is tried again by the policy, then every 30 s without end. What it rejects permanently
(any status that is never retried) is stored in the topic once more with the answer and not posted
again: it would take the place of dead letters that the sink accepts. A dead letter never leaves the
topic.
"""

from collections.abc import Callable

import structlog

from headrace.domain.delivery import Outcome, Retry, Verdict, classify, decide
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_dispatcher.attempt_result import COMPLETED, AttemptResult, WaitInPlace
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.poison_tracker import poison_key
from headrace_dispatcher.retry_or_dead_letter import RetryOrDeadLetter

logger = structlog.get_logger(__name__)

PROBE_SECONDS = 30.0


class DeadLetterSinkHandler:
    """Sends the deliveries of the dead letter lane of one subscription."""

    def __init__(
        self,
        *,
        compiled: CompiledSubscription,
        failures: RetryOrDeadLetter,
        metrics: SubscriptionMetrics,
        context: DispatcherContext,
    ) -> None:
        self.compiled = compiled
        self.rejected = 0
        """Dead letters that the sink rejected permanently, since the process started."""
        self._failures = failures
        self._metrics = metrics
        self._clock = context.clock
        self._jitter = context.jitter
        self._poison_tracker = context.poison_tracker
        self._logged: tuple[str, int] | None = None
        """Sink and status of the rejection logged last."""

    def prepare(self, delivery: Delivery) -> float:
        """Dead letters are due at once; every process counts their attempts from zero."""
        return 0.0

    def send(self, delivery: Delivery, answered: Callable[[Outcome], None]) -> AttemptResult | None:
        """As `DeliveryHandler.send`."""
        compiled = self.compiled
        sink = compiled.subscription.dead_letter_sink
        if compiled.sink_target is None or sink is None:
            # The sink was removed: keep the dead letter.
            return WaitInPlace(PROBE_SECONDS)
        delivery.attempts += 1
        record = delivery.record
        self._poison_tracker.mark(delivery.lane_number, *poison_key(record))
        try:
            headers, body = compiled.dead_letter_request(record)
        finally:
            self._poison_tracker.clear()
        delivery.url = sink.url
        delivery.request = compiled.sink_target.post(
            headers,
            body,
            timeout_seconds=compiled.subscription.delivery.timeout_seconds,
            answered=answered,
        )
        return None

    def conclude(self, delivery: Delivery, outcome: Outcome) -> AttemptResult:
        """As `DeliveryHandler.conclude`."""
        if outcome.status is not None and 200 <= outcome.status < 300:
            failpoint(Failpoint.IN_DEAD_LETTER_SINK)
            self._metrics.sink_stored.value += 1
            return COMPLETED
        self._metrics.sink_failed.value += 1
        # An address denied by the egress policy says nothing about the dead letter: it waits until
        # the policy or the sink is changed.
        if outcome.status is not None and classify(outcome) is Verdict.REJECTED:
            self._count_rejection(delivery.url, outcome.status)
            return self._failures.store_rejection(delivery, outcome, delivery.url)
        policy = self.compiled.subscription.delivery
        decision = decide(policy, delivery.attempts, outcome, self._clock.now(), self._jitter())
        return WaitInPlace(decision.wait_seconds if isinstance(decision, Retry) else PROBE_SECONDS)

    def _count_rejection(self, url: str, status: int) -> None:
        self.rejected += 1
        self._metrics.sink_rejected.value += 1
        if self._logged != (url, status):
            self._logged = (url, status)
            subscription = self.compiled.subscription
            logger.warning(
                "dead_letter_rejected",
                kind=subscription.kind,
                namespace=subscription.namespace,
                name=subscription.name,
                sink=url.partition("?")[0],
                status=status,
                next_step="they are not posted again; headrace dead-letters shows them",
            )
