"""The course of a dead letter to its sink: the last stop before a person, so it is never given up.

A sink is a subscriber of the dead letter topic. It gets the attempts of the policy, then one every 30 s for as long as it takes; the letter
stays in the topic and its offset advances only on 2xx.
"""

from collections.abc import Callable
from functools import partial

from headrace.codec import http
from headrace.domain.attempt import Step
from headrace.domain.delivery import Outcome, Retry, decide
from headrace.domain.ports import Clock
from headrace.runtime.crashpoints import CrashPoint, reach
from headrace_dispatcher.counts import Counts
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.rules import Rules
from headrace_dispatcher.suspects import Suspects, parked_place

PROBE_SECONDS = 30.0


class DeadLetterSink:
    """Sends the deliveries of the dead letter lane of one subscription."""

    def __init__(
        self, *, rules: Rules, counts: Counts, clock: Clock, jitter: Callable[[], float], suspects: Suspects | None = None
    ) -> None:
        self.rules = rules
        self._counts = counts
        self._clock = clock
        self._jitter = jitter
        self._suspects = suspects or Suspects()

    def prepare(self, delivery: Delivery) -> float:
        """Dead letters are due at once; their attempts are counted anew by every process."""
        return 0.0

    def send(self, delivery: Delivery) -> None:
        """Start one attempt at the sink."""
        rules = self.rules
        delivery.step(Step.SEND)
        if rules.sink_target is None:  # the sink was removed: keep the letter
            delivery.lane.answered(delivery)
            self._hold(delivery, PROBE_SECONDS)
            return
        delivery.attempts += 1
        record = delivery.record
        self._suspects.mark(delivery.lane.number, *parked_place(record))
        try:
            lines = http.write_binary(record.headers)
        finally:
            self._suspects.clear()
        delivery.request = rules.sink_target.post(
            rules.to_others + lines,
            record.value or b"",
            timeout_seconds=rules.subscription.delivery.timeout_seconds,
            answered=partial(self._answered, delivery),
        )

    def _answered(self, delivery: Delivery, outcome: Outcome) -> None:
        delivery.lane.answered(delivery)
        if outcome.status is not None and 200 <= outcome.status < 300:
            reach(CrashPoint.IN_DEAD_LETTER_SINK)
            self._counts.sink_stored.value += 1
            delivery.step(Step.DELIVERED)
            delivery.lane.finish(delivery)
            return
        self._counts.sink_failed.value += 1
        policy = self.rules.subscription.delivery
        decision = decide(policy, delivery.attempts, outcome, self._clock.now(), self._jitter())
        self._hold(delivery, decision.wait_seconds if isinstance(decision, Retry) else PROBE_SECONDS)

    def _hold(self, delivery: Delivery, seconds: float) -> None:
        delivery.step(Step.HOLD)
        delivery.lane.wait(delivery, seconds)
