"""The thread of a feed. Only this thread uses the consumer, and it does nothing else.

A call on a consumer waits for the call that is running (Python client since 2.16), so a second
thread that commits or pauses would be blocked for the duration of a poll. Therefore one thread owns
the consumer: it polls for short times, executes commands in between, serves rebalances, and hands
records to the loop in batches. When the loop has no capacity, the thread waits a moment before it
reads the next batch. If that takes longer, the thread pauses the consumer (which discards what was
prefetched) and continues to poll it, because rebalances must be served.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, failure_alarm
from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.poll_loop import PollLoop
from headrace.domain.backoff import Backoff
from headrace.domain.feed import AlarmKind

_BACKOFF: Final = Backoff((0.2, 0.5, 1.0, 2.0, 5.0, 10.0))
_FENCED_BACKOFF_SECONDS = 15.0
_HEALTHY_SECONDS = 60.0


class ConsumerThread(threading.Thread):
    """Runs one consumer after another, all of the same group and topics.

    The thread reports events to `assignment` and its own end to `ended`, on the loop of the
    assignment.
    """

    def __init__(
        self,
        assignment: Assignment,
        settings: Callable[[], dict[str, object]],
        ended: Callable[[], None],
    ) -> None:
        """`settings` returns those of the next consumer. It is called in the thread."""
        super().__init__(name=f"feed {assignment.config.group}", daemon=True)
        self._assignment = assignment
        self._channel = assignment.channel
        self._settings = settings
        self._ended = ended

    def run(self) -> None:
        """Run until the channel requests a stop. A consumer that fails is replaced after a
        backoff, and one with outdated credentials immediately.
        """
        failures = 0
        while not self._channel.stopping:
            opened_at = time.monotonic()
            alarm = self._run_consumer()
            if alarm is None:
                continue
            failures = 1 if time.monotonic() - opened_at > _HEALTHY_SECONDS else failures + 1
            wait = _BACKOFF.seconds(failures)
            if alarm.kind is AlarmKind.FENCED:
                wait = max(wait, _FENCED_BACKOFF_SECONDS)
            self._channel.call_on_loop(
                self._assignment.raise_alarm,
                alarm.kind,
                f"{alarm.detail}; a new consumer is created in {wait:g} s",
            )
            self._sleep(wait)
        self._channel.call_on_loop(self._ended)

    def _run_consumer(self) -> ConsumerAlarm | None:
        """Run one consumer until the end of the feed or of its credentials (None), or until it
        fails.
        """
        self._channel.clear()
        config = self._assignment.config
        # Before the settings are read: those that are renewed meanwhile are newer.
        age = config.options.credentials.age(f"{config.group} {' '.join(config.topics)}")
        try:
            PollLoop(self._assignment, self._settings()).run(age)
        except Exception as error:  # An internal error must not end deliveries silently.
            return failure_alarm(error, self.name)
        return None

    def _sleep(self, seconds: float) -> None:
        wake, until = self._assignment.flow.wake, time.monotonic() + seconds
        while not self._channel.stopping and (left := until - time.monotonic()) > 0:
            wake.clear()
            wake.wait(left)
