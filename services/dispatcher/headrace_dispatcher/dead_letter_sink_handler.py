"""The course of a dead letter to its sink.

A sink is a subscriber of the dead letter topic. What it does not take now (no answer, 5xx, 429 and
the like) gets the attempts of the policy, then one every 30 s for as long as it takes. What it
rejects for good (any status that is never retried) is stored in the topic once more with the answer
and not posted again: it would take the room of letters that the sink takes. A letter never leaves
the topic.
"""

from collections.abc import Callable
from functools import partial

import structlog

from headrace.domain.attempt import AttemptEvent
from headrace.domain.delivery import Outcome, Retry, Verdict, classify, decide
from headrace.domain.ports import Clock
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.failure_handler import FailureHandler
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.poison_tracker import PoisonTracker, poison_key

log = structlog.get_logger(__name__)

PROBE_SECONDS = 30.0


class DeadLetterSinkHandler:
    """Sends the deliveries of the dead letter lane of one subscription."""

    def __init__(
        self,
        *,
        compiled: CompiledSubscription,
        failures: FailureHandler,
        metrics: SubscriptionMetrics,
        clock: Clock,
        jitter: Callable[[], float],
        poison_tracker: PoisonTracker | None = None,
    ) -> None:
        self.compiled = compiled
        self.rejected = 0
        """Letters that the sink rejected for good, since this was made."""
        self._failures = failures
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._poison_tracker = poison_tracker or PoisonTracker()
        self._logged: tuple[str, int] | None = None
        """Sink and status of the rejection that was logged last."""

    def prepare(self, delivery: Delivery) -> float:
        """Dead letters are due at once; their attempts are counted anew by every process."""
        return 0.0

    def send(self, delivery: Delivery) -> None:
        """Start one attempt at the sink."""
        compiled = self.compiled
        delivery.step(AttemptEvent.SEND)
        sink = compiled.subscription.dead_letter_sink
        if compiled.sink_target is None or sink is None:  # the sink was removed: keep the letter
            delivery.lane.answered(delivery)
            self._wait_for_sink(delivery, PROBE_SECONDS)
            return
        delivery.attempts += 1
        record = delivery.record
        self._poison_tracker.mark(delivery.lane.number, *poison_key(record))
        try:
            headers, body = compiled.dead_letter_request(record)
        finally:
            self._poison_tracker.clear()
        delivery.request = compiled.sink_target.post(
            headers,
            body,
            timeout_seconds=compiled.subscription.delivery.timeout_seconds,
            answered=partial(self._answered, delivery, sink.url),
        )

    def _answered(self, delivery: Delivery, url: str, outcome: Outcome) -> None:
        delivery.lane.answered(delivery)
        if outcome.status is not None and 200 <= outcome.status < 300:
            failpoint(Failpoint.IN_DEAD_LETTER_SINK)
            self._metrics.sink_stored.value += 1
            delivery.step(AttemptEvent.DELIVERED)
            delivery.lane.finish(delivery)
            return
        self._metrics.sink_failed.value += 1
        # An address that our own policy forbids says nothing about the letter: it waits until the
        # policy or the sink is changed.
        if outcome.status is not None and classify(outcome) is Verdict.REJECTED:
            self._reject(delivery, url, outcome, outcome.status)
            return
        policy = self.compiled.subscription.delivery
        decision = decide(policy, delivery.attempts, outcome, self._clock.now(), self._jitter())
        self._wait_for_sink(
            delivery, decision.wait_seconds if isinstance(decision, Retry) else PROBE_SECONDS
        )

    def _reject(self, delivery: Delivery, url: str, outcome: Outcome, status: int) -> None:
        self.rejected += 1
        self._metrics.sink_rejected.value += 1
        if self._logged != (url, status):
            self._logged = (url, status)
            subscription = self.compiled.subscription
            log.warning(
                "dead_letter_rejected",
                namespace=subscription.namespace,
                name=subscription.name,
                sink=url.partition("?")[0],
                status=status,
                next_step="they are not posted again; headrace dead-letters shows them",
            )
        self._failures.store_rejection(delivery, outcome, url)

    def _wait_for_sink(self, delivery: Delivery, seconds: float) -> None:
        delivery.step(AttemptEvent.HOLD)
        delivery.lane.wait(delivery, seconds)
