"""The thread of a feed: it alone touches the consumer, and does nothing else.

A call on a consumer waits for the one that is running (librdkafka's Python client, since 2.16), so
a second thread that commits or pauses would stall as long as a poll lasts. Hence one owner: it
polls for short times, obeys orders in between, serves rebalances, and hands records to the loop in
batches. When the loop has no room it waits a moment with the batch not yet read; only when that
lasts is the consumer paused (which throws away what was prefetched) and polled on, because
rebalances must be served.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException

from headrace.adapters.kafka.client_health import ReferenceClient
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, consumer_alarm
from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.callback_queue import CallbackQueues
from headrace.adapters.kafka.consumer.commits import Position
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.poll_loop import (
    Command,
    CommandQueue,
    ConsumerFailed,
    PollLoop,
    client_log,
)
from headrace.adapters.kafka.consumer.start_positions import PositionResolver
from headrace.domain.feed import AlarmKind, InitialOffset, OutOfRange
from headrace.domain.record import Partition

_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_FENCED_BACKOFF_SECONDS = 15.0
_HEALTHY_SECONDS = 60.0


class ConsumerThread:
    """One consumer after another, all of the same group and topics, each driven by the same
    thread.
    """

    def __init__(
        self,
        *,
        settings: dict[str, object],
        topics: Sequence[str],
        flow: FlowControl,
        drain_seconds: float,
        out_of_range: OutOfRange,
        initial_offset: InitialOffset,
        callback_queues: CallbackQueues,
        health_check_seconds: float,
        reference: ReferenceClient | None,
    ) -> None:
        self._health_check_seconds = health_check_seconds
        self._reference = reference
        self._settings = settings
        self._topics = topics
        self._flow = flow
        self._drain_seconds = drain_seconds
        self._resolver = PositionResolver(policy=out_of_range, initial_offset=initial_offset)
        self._callback_queues = callback_queues
        self._commands = CommandQueue()

    # From the loop.

    def start(self, assignment: Assignment, ended: Callable[[], None]) -> None:
        """Begin; what happens is told to `assignment`, and the thread's end to `ended`, on the
        running loop.
        """
        self._assignment = assignment
        self._ended = ended
        self._callbacks = self._callback_queues.queue(asyncio.get_running_loop())
        self._thread = threading.Thread(
            target=self._run, name=f"feed {self._settings['group.id']}", daemon=True
        )
        self._thread.start()

    def commit(self, positions: Sequence[Position]) -> None:
        """Commit these, and tell `Assignment.on_commit_answered` how it went."""
        self._send(Command.COMMIT, positions)

    def pause(self, partition: Partition) -> None:
        """Read no more of this partition."""
        self._send(Command.PAUSE, partition)

    def resume(self, partition: Partition) -> None:
        """Read this partition again."""
        self._send(Command.RESUME, partition)

    def stop(self, *, leave: bool) -> None:
        """Drain, commit, close; `leave` takes a static member out of its group too."""
        self._commands.leave_group = leave
        self._commands.stopping = True
        self._flow.wake.set()

    def abandon(self) -> None:
        """Close without drain or commit."""
        self._commands.abandoned = True
        self._commands.stopping = True
        self._flow.wake.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the thread's end; not on the loop."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _send(self, command: Command, argument: object) -> None:
        self._commands.queue.append((command, argument))
        self._flow.wake.set()

    # The thread.

    def _run(self) -> None:
        failures = 0
        while not self._commands.stopping:
            opened_at = time.monotonic()
            alarm = self._run_consumer()
            if alarm is None:
                break
            failures = 0 if time.monotonic() - opened_at > _HEALTHY_SECONDS else failures + 1
            wait = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            if alarm.kind is AlarmKind.FENCED:
                wait = max(wait, _FENCED_BACKOFF_SECONDS)
            self._call_on_loop(self._assignment.on_partitions_lost, None)
            self._call_on_loop(
                self._assignment.raise_alarm,
                alarm.kind,
                f"{alarm.detail}; a new consumer is made in {wait:g} s",
            )
            self._sleep(wait)
        self._call_on_loop(self._ended)

    def _run_consumer(self) -> ConsumerAlarm | None:
        """Work with one consumer until the end of the feed (None), or until it breaks."""
        self._commands.queue.clear()
        try:
            poll_loop = PollLoop(
                settings=self._settings,
                topics=self._topics,
                flow=self._flow,
                resolver=self._resolver,
                drain_seconds=self._drain_seconds,
                assignment=self._assignment,
                commands=self._commands,
                call_on_loop=self._call_on_loop,
                health_check_seconds=self._health_check_seconds,
                reference=self._reference,
            )
            poll_loop.run()
        except ConsumerFailed as failed:
            return failed.alarm
        except KafkaException as error:
            return consumer_alarm(error.args[0])
        except Exception as error:  # A mistake of ours must not end deliveries in silence.
            client_log.exception("the feed of group %s failed", self._settings["group.id"])
            return ConsumerAlarm(
                AlarmKind.REBUILT,
                f"the consumer's thread failed with {type(error).__name__}",
                fatal=True,
            )
        return None

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._commands.stopping and (left := until - time.monotonic()) > 0:
            self._flow.wake.clear()
            self._flow.wake.wait(left)

    def _call_on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        if self._commands.abandoned:
            return
        try:
            self._callbacks.call_soon(callback, *arguments)
        except RuntimeError:  # The loop is closed: there is nobody left to work for.
            self._commands.stopping = self._commands.abandoned = True
