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
from headrace_dispatcher.counts import Counts
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.parking import Parking
from headrace_dispatcher.rules import Rules
from headrace_dispatcher.suspects import Suspects, parked_place

log = structlog.get_logger(__name__)

PROBE_SECONDS = 30.0


class DeadLetterSink:
    """Sends the deliveries of the dead letter lane of one subscription."""

    def __init__(
        self,
        *,
        rules: Rules,
        parking: Parking,
        counts: Counts,
        clock: Clock,
        jitter: Callable[[], float],
        suspects: Suspects | None = None,
    ) -> None:
        self.rules = rules
        self.rejected = 0
        """Letters that the sink rejected for good, since this was made."""
        self._parking = parking
        self._counts = counts
        self._clock = clock
        self._jitter = jitter
        self._suspects = suspects or Suspects()
        self._logged: tuple[str, int] | None = None
        """Sink and status of the rejection that was logged last."""

    def prepare(self, delivery: Delivery) -> float:
        """Dead letters are due at once; their attempts are counted anew by every process."""
        return 0.0

    def send(self, delivery: Delivery) -> None:
        """Start one attempt at the sink."""
        rules = self.rules
        delivery.step(AttemptEvent.SEND)
        sink = rules.subscription.dead_letter_sink
        if rules.sink_target is None or sink is None:  # the sink was removed: keep the letter
            delivery.lane.answered(delivery)
            self._hold(delivery, PROBE_SECONDS)
            return
        delivery.attempts += 1
        record = delivery.record
        self._suspects.mark(delivery.lane.number, *parked_place(record))
        try:
            headers, body = rules.letter(record)
        finally:
            self._suspects.clear()
        delivery.request = rules.sink_target.post(
            headers,
            body,
            timeout_seconds=rules.subscription.delivery.timeout_seconds,
            answered=partial(self._answered, delivery, sink.url),
        )

    def _answered(self, delivery: Delivery, url: str, outcome: Outcome) -> None:
        delivery.lane.answered(delivery)
        if outcome.status is not None and 200 <= outcome.status < 300:
            failpoint(Failpoint.IN_DEAD_LETTER_SINK)
            self._counts.sink_stored.value += 1
            delivery.step(AttemptEvent.DELIVERED)
            delivery.lane.finish(delivery)
            return
        self._counts.sink_failed.value += 1
        # An address that our own policy forbids says nothing about the letter: it waits until the
        # policy or the sink is changed.
        if outcome.status is not None and classify(outcome) is Verdict.REJECTED:
            self._reject(delivery, url, outcome, outcome.status)
            return
        policy = self.rules.subscription.delivery
        decision = decide(policy, delivery.attempts, outcome, self._clock.now(), self._jitter())
        self._hold(
            delivery, decision.wait_seconds if isinstance(decision, Retry) else PROBE_SECONDS
        )

    def _reject(self, delivery: Delivery, url: str, outcome: Outcome, status: int) -> None:
        self.rejected += 1
        self._counts.sink_rejected.value += 1
        if self._logged != (url, status):
            self._logged = (url, status)
            subscription = self.rules.subscription
            log.warning(
                "dead_letter_rejected",
                namespace=subscription.namespace,
                name=subscription.name,
                sink=url.partition("?")[0],
                status=status,
                next_step="they are not posted again; headrace dead-letters shows them",
            )
        self._parking.reject(delivery, outcome, url)

    def _hold(self, delivery: Delivery, seconds: float) -> None:
        delivery.step(AttemptEvent.HOLD)
        delivery.lane.wait(delivery, seconds)
