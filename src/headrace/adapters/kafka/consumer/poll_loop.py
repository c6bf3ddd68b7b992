"""Runs one consumer from its join to its close: polls and commands, all in the thread of its feed.

The client calls back inside `poll`, `consume` and `close`: `RebalanceListener` handles rebalances.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, ConsumerFailed, consumer_alarm
from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.commands import Command
from headrace.adapters.kafka.consumer.consumer_health import ConsumerHealth
from headrace.adapters.kafka.consumer.positions import Position, to_client
from headrace.adapters.kafka.consumer.rebalance_listener import RebalanceListener
from headrace.adapters.kafka.credentials import ClientAge
from headrace.adapters.kafka.errors import (
    is_instance_fenced,
    is_offset_out_of_range,
    is_partition_end,
    proves_membership,
)
from headrace.adapters.kafka.messages import to_record
from headrace.adapters.kafka.options import client_logger
from headrace.domain.feed import AlarmKind, InitialOffset
from headrace.domain.record import Partition, StoredRecord
from headrace.runtime.failpoints import Failpoint, failpoint

_BUSY_POLL_SECONDS = 0.05
_IDLE_POLL_SECONDS = 0.19
"""Below 0.2 s the client waits without waking up; above, it wakes up every 0.2 s anyway."""
_WAIT_BEFORE_PAUSE_SECONDS = 1.0
_REPORT_SECONDS = 1.0
_PAUSED_REPORT_SECONDS = 5.0
_REQUEST_SECONDS = 5.0
_REJOIN_TOPIC_CHARACTERS_MAX = 240
_RENEWAL_DRAIN_SECONDS = 40.0
"""More than a request to a subscriber takes by default."""

logger = structlog.get_logger(__name__)


class PollLoop:
    """Polls one consumer, which is created here and closed by `run`."""

    def __init__(self, assignment: Assignment, settings: dict[str, object]) -> None:
        config, shared = assignment.config, assignment.shared
        self._assignment = assignment
        self._config = config
        self._channel = assignment.channel
        self._call_on_loop = assignment.channel.call_on_loop
        self._flow = assignment.flow
        self._topics = list(config.topics)
        self._resolver = assignment.position_resolver()
        self._rejoin_due = config.rejoins
        self._rejoin_topic: str | None = None
        self._handlers: dict[Command, Callable[[Any], None]] = {
            Command.COMMIT: self._commit,
            Command.PAUSE: self._pause,
            Command.RESUME: self._resume,
            Command.SEEK: self._seek,
            Command.TAKE_OVER: self._channel.reported.subtract,
        }
        self._pending: list[Message] = []
        self._unanswered: Sequence[Position] = ()
        """What was committed last, until that is answered."""
        self._repeated = 0
        """How many answers are to be ignored, because a later commit was sent."""
        self._rebalance = RebalanceListener(assignment, self._drop, self._run_commits)
        self._without_offset: dict[Partition, int] = {}
        """Where reading begins in partitions of which the client may still report that no offset is
        committed: nothing of them was read so far.
        """
        self._paused: set[Partition] = set()
        self._throttled = False
        self._starved_since: float | None = None
        self._fatal: ConsumerAlarm | None = None
        self._next_report_at = 0.0
        self._next_paused_report_at = 0.0
        self._health = ConsumerHealth(config, shared.topic_ids)
        calls = {"error_cb": self._on_error, "on_commit": self._on_commit}
        self._consumer = Consumer({**settings, **calls}, logger=client_logger)

    def run(self, age: ClientAge) -> None:
        """Run until the channel requests a stop, or the credentials of this consumer are outdated,
        whose `age` this is. Raises `ConsumerFailed` or KafkaException when this consumer cannot be
        used any longer.
        """
        try:
            self._rebalance.subscribe(self._consumer, self._topics)
            while not self._channel.stopping and not age.due:
                self._poll_once()
            if not self._channel.stopping:
                self._finish_in_flight()
            if not self._channel.abandoned:
                self._shutdown()
        finally:
            self._rebalance.closing = True
            # Before the consumer leaves its group, which then gives the partitions to others. And
            # the answer to a commit must not be waited for.
            self._channel.report_lost(self._assignment.on_partitions_lost, None)
            self._health.close_client(self._consumer.close)

    def _rejoin(self) -> None:
        """Make the group rebalance once more.

        A static member that crashed while it gave partitions back gets its old assignment without a
        rebalance. The second rebalance of the cooperative protocol then never happens, and those
        partitions would have no owner until a member joins or leaves. Brokers start a rebalance for
        a known member only when its subscription changes, so it subscribes to one more topic, which
        does not exist. When all partitions have an owner, nothing moves and no member stops
        reading.
        """
        self._rejoin_due = False
        self._rejoin_topic = self._topics[0][:_REJOIN_TOPIC_CHARACTERS_MAX] + ".rejoin"
        self._rebalance.subscribe(self._consumer, [*self._topics, self._rejoin_topic])

    def _run_commands(self) -> None:
        while self._channel.commands:
            name, argument = self._channel.commands.popleft()
            self._handlers[name](argument)

    def _poll_once(self) -> None:
        self._run_commands()
        if self._fatal is not None:
            raise ConsumerFailed(self._fatal)
        self._health.check_when_due(self._consumer)
        if time.monotonic() >= self._next_report_at:
            self._report_high_watermarks()
        room = self._flow.free_records()
        if self._throttled:
            if self._flow.is_half_empty():
                self._end_throttle()
        elif room == 0:
            self._wait_for_capacity()
            return
        self._starved_since = None
        message = self._consumer.poll(
            _BUSY_POLL_SECONDS if self._flow.records or self._throttled else _IDLE_POLL_SECONDS
        )
        if message is not None:
            self._health.received |= message.error() is None
            # A revocation may be served inside `consume`; it removes its messages from `_pending`.
            self._pending.append(message)
            if room > 1:
                more = self._consumer.consume(room - 1, 0)
                self._pending.extend(more)
        if self._rebalance.newly_assigned:
            self._initialise_assigned()
        if self._rebalance.has_joined and self._rejoin_due:
            self._rejoin()
        if self._pending:
            self._deliver()

    def _wait_for_capacity(self) -> None:
        now = time.monotonic()
        if self._starved_since is None:
            self._starved_since = now
        left = self._starved_since + _WAIT_BEFORE_PAUSE_SECONDS - now
        if left > 0.0:
            # Commands also end this wait. A hundred full feeds that check every 50 ms would use a
            # tenth of a core.
            self._flow.wait_for_capacity(left)
            return
        self._throttled = True
        self._consumer.pause(_topic_partitions(self._rebalance.owned - self._paused))

    def _end_throttle(self) -> None:
        self._throttled = False
        self._consumer.resume(_topic_partitions(self._rebalance.owned - self._paused))

    def _deliver(self) -> None:
        messages, self._pending = self._pending, []
        records: list[StoredRecord] = []
        ends: list[tuple[Partition, int]] = []
        for message in messages:
            error = message.error()
            if error is None:
                record = to_record(message)
                records.append(record)
                if self._without_offset:
                    self._without_offset.pop(Partition(record.topic, record.partition), None)
            elif is_partition_end(error):
                partition = Partition(message.topic() or "", message.partition() or 0)
                self._without_offset.pop(partition, None)
                ends.append((partition, message.offset() or 0))
            else:
                # First what was read before it: after it, the log may be another one, in which the
                # same offsets are other records.
                self._hand_over(records, ends)
                records, ends = [], []
                self._on_message_error(message, error)
        self._hand_over(records, ends)

    def _hand_over(
        self, records: Sequence[StoredRecord], ends: Sequence[tuple[Partition, int]]
    ) -> None:
        if records:
            failpoint(Failpoint.AFTER_POLL)
        if records or ends:
            sizes = [record.size for record in records]
            self._flow.add_batch(len(records), sum(sizes), largest=max(sizes, default=0))
            self._call_on_loop(self._assignment.on_batch, records, ends)

    def _on_message_error(self, message: Message, error: KafkaError) -> None:
        topic, number = message.topic(), message.partition()
        partition = (
            Partition(topic, number) if topic and number is not None and number >= 0 else None
        )
        if topic is not None and topic == self._rejoin_topic:
            return
        if not is_offset_out_of_range(error) or partition is None:
            self._report_error(error, partition)
        elif partition in self._rebalance.owned:
            offset = message.offset()
            # The client names none if it has found out that the log was truncated.
            self._reset_position(partition, offset if offset is not None and offset >= 0 else None)

    def _reset_position(self, partition: Partition, sought: int | None) -> None:
        """Set a new position for a partition that the client has stopped reading, because there is
        no committed offset or the log does not have it: `sought`, if that is known.
        """
        begin = self._without_offset.pop(partition, None)
        if begin is not None:
            self._resolver.read_from(self._consumer, partition, begin)
        elif (moved := self._resolver.reset(self._consumer, partition)) is not None:
            offset, high_watermark = moved
            self._call_on_loop(
                lambda: self._assignment.on_offset_reset(
                    partition, offset, sought=sought, high_watermark=high_watermark
                )
            )
        else:
            detail = (
                "the next offset is not in the log; the partition is not read until an offset is"
                " committed"
            )
            self._call_on_loop(self._assignment.raise_alarm, AlarmKind.EXPIRED, detail, partition)
            return
        if self._throttled or partition in self._paused:
            self._consumer.pause(_topic_partitions([partition]))

    def _on_error(self, error: KafkaError) -> None:
        self._report_error(error, None)

    def _report_error(self, error: KafkaError, partition: Partition | None) -> None:
        self._config.options.measurements.count_error("consumer", error.name())
        alarm = consumer_alarm(error)
        if alarm.fatal:
            self._fatal = alarm
        elif not self._rebalance.closing:
            self._call_on_loop(self._assignment.raise_alarm, alarm.kind, alarm.detail, partition)

    def _report_high_watermarks(self) -> None:
        """Report the ends of the logs, once a second. Paused partitions are not fetched, so the
        broker is queried for them every 5 s.
        """
        now = time.monotonic()
        self._next_report_at = now + _REPORT_SECONDS
        high_watermarks = [
            (partition, high_watermark)
            for partition in self._rebalance.owned
            if (high_watermark := self._resolver.cached_high_watermark(self._consumer, partition))
            is not None
        ]
        paused = self._rebalance.owned if self._throttled else self._rebalance.owned & self._paused
        if paused and now >= self._next_paused_report_at:
            self._next_paused_report_at = now + _PAUSED_REPORT_SECONDS
            high_watermarks += [
                (partition, high_watermark)
                for partition in paused
                if (
                    high_watermark := self._resolver.query_high_watermark(self._consumer, partition)
                )
                is not None
            ]
        if high_watermarks:
            self._call_on_loop(self._assignment.on_high_watermarks, high_watermarks)
        while self._assignment.recreated_partitions:
            self._restart_recreated(self._assignment.recreated_partitions.popleft())

    def _restart_recreated(self, partition: Partition) -> None:
        """Restart a partition whose topic was deleted and created again. The client only knows
        names and would continue at the old offset.
        """
        if partition not in self._rebalance.owned:
            return
        self._without_offset.pop(partition, None)  # It was a position in the log before.
        moved = self._resolver.reset(self._consumer, partition)
        offset, high_watermark = moved or (None, 0)
        self._call_on_loop(
            lambda: self._assignment.on_topic_recreated(
                partition, offset, high_watermark=high_watermark
            )
        )
        if moved is None or self._throttled or partition in self._paused:
            self._consumer.pause(_topic_partitions([partition]))

    # Commands.

    def _commit(self, positions: Sequence[Position]) -> None:
        owned = self._current(positions)
        try:
            if owned:
                self._consumer.commit(offsets=to_client(owned), asynchronous=True)
                self._health.commit_sent()
                # The loop does not wait for that answer any longer. It may still come, and would
                # confirm a membership of half a minute ago.
                self._repeated += bool(self._unanswered)
                self._unanswered = owned
                return
        except KafkaException as error:
            logger.info("commit_not_sent", group=self._config.group, error=error.args[0].name())
        self._call_on_loop(self._assignment.on_commit_answered, None)

    def _run_commits(self) -> None:
        """Execute the commits among the commands, and wait for the answers. For a callback of the
        client, which calls no other callbacks meanwhile: a commit whose answer has not been
        reported before it is repeated.
        """
        asked = bool(self._unanswered)
        self._repeated += asked
        positions, self._unanswered = self._current(self._unanswered), ()
        others = []
        while self._channel.commands:
            command, argument = self._channel.commands.popleft()
            if command is Command.COMMIT:
                asked, positions = True, self._current(argument)
            elif command is Command.TAKE_OVER:
                self._channel.reported.subtract(argument)
            else:
                others.append((command, argument))
        self._channel.commands.extendleft(reversed(others))
        if not positions:
            if asked:
                self._call_on_loop(self._assignment.on_commit_answered, None)
            return
        try:
            answers = self._consumer.commit(offsets=to_client(positions), asynchronous=False)
        except KafkaException as refused:
            self._commit_answered(refused.args[0], ())
        else:
            self._commit_answered(None, answers or ())

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """Handle the answer to an asynchronous commit."""
        if self._repeated:
            self._repeated -= 1
            self._health.commit_answered()
        else:
            self._unanswered = ()
            self._commit_answered(error, partitions)

    def _commit_answered(
        self, error: KafkaError | None, partitions: Sequence[TopicPartition]
    ) -> None:
        """Handle the answer to a commit.

        A refusal (STALE_MEMBER_EPOCH, REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, no coordinator)
        does not remove partitions: only a revocation or a loss does. The next commit repeats the
        refused one. Some refusals are only sent to members.
        """
        self._health.commit_answered()
        if error is not None and is_instance_fenced(error):
            self._fatal = consumer_alarm(error)
        refused = (
            None
            if error is not None
            else {
                Partition(each.topic, each.partition)
                for each in partitions
                if each.error is not None
            }
        )
        if not refused and error is None:
            failpoint(Failpoint.AFTER_COMMIT)
        member = error is None or proves_membership(error)
        self._call_on_loop(lambda: self._assignment.on_commit_answered(refused, member=member))

    def _current(self, positions: Sequence[Position]) -> Sequence[Position]:
        """Those of partitions of the assignment that this consumer has now."""
        return [each for each in positions if self._is_current(each.partition)]

    def _is_current(self, partition: Partition) -> bool:
        """Whether a command is about the assignment that this consumer has now."""
        return partition in self._rebalance.owned and self._channel.reported[partition] <= 0

    def _pause(self, partition: Partition) -> None:
        if self._is_current(partition):
            self._paused.add(partition)
            self._consumer.pause(_topic_partitions([partition]))

    def _resume(self, partition: Partition) -> None:
        if partition in self._paused:
            self._paused.discard(partition)
            if not self._throttled:
                self._consumer.resume(_topic_partitions([partition]))

    def _seek(self, position: Position) -> None:
        partition = position.partition
        if self._is_current(partition):
            self._drop_pending([partition])
            if partition in self._without_offset:
                self._without_offset[partition] = position.offset
            self._resolver.read_from(self._consumer, partition, position.offset)
            if self._throttled or partition in self._paused:
                self._consumer.pause(_topic_partitions([partition]))

    # Rebalances.

    def _initialise_assigned(self) -> None:
        """Report to the loop where the newly assigned partitions begin, before any of their
        records.
        """
        assigned = self._rebalance.take_newly_assigned()
        # Explicit in both cases: the client keeps a pause across assignments, so a partition that
        # is assigned again might not be read.
        (self._consumer.pause if self._throttled else self._consumer.resume)(
            _topic_partitions(assigned)
        )
        starts = self._resolver.resolve(self._consumer, assigned, _REQUEST_SECONDS)
        for partition in assigned:
            if partition in self._assignment.recreated_partitions:
                # It was to begin again in an assignment before, and has begun again now.
                self._assignment.recreated_partitions.remove(partition)
                self._call_on_loop(self._assignment.on_recreated_and_assigned, partition)
        if self._resolver.moves_positions:
            # What was read before is from another position: handed out first, it would make all
            # records below it count as read.
            self._drop_pending(assigned)
        self._without_offset.update(starts.without_offset)
        self._channel.reported.update(each.partition for each in starts.positions)
        self._call_on_loop(self._assignment.on_partitions_assigned, starts.positions)
        if starts.without_offset and self._config.initial_offset is InitialOffset.LATEST:
            # A member that dies before its first commit must not skip what came meanwhile.
            self._call_on_loop(self._assignment.commit_starts, list(starts.without_offset))
        for missing in starts.missing:
            self._call_on_loop(
                self._assignment.raise_alarm,
                AlarmKind.OFFSET_MISSING,
                missing.detail,
                missing.partition,
            )

    def _drop(self, partitions: Collection[Partition]) -> None:
        """Drop what is held for partitions that this consumer no longer owns."""
        self._paused.difference_update(partitions)
        for partition in partitions:
            self._without_offset.pop(partition, None)
        self._drop_pending(partitions)

    def _drop_pending(self, partitions: Collection[Partition]) -> None:
        # In place: a revocation may be served while the list is extended.
        self._pending[:] = [
            each for each in self._pending if (each.topic(), each.partition()) not in partitions
        ]

    def _finish_in_flight(self) -> None:
        """Finish what is in flight, because this consumer is replaced: no event is delivered twice
        for that. Commits and rebalances are served meanwhile, and nothing more is read.
        """
        logger.debug("consumer_renewed", group=self._config.group, topics=self._topics)
        if not self._rebalance.owned:
            return
        self._consumer.pause(_topic_partitions(self._rebalance.owned))
        request = self._rebalance.begin_release()
        until = time.monotonic() + _RENEWAL_DRAIN_SECONDS
        while request.is_open and not self._channel.stopping and time.monotonic() < until:
            self._run_commands()
            self._consumer.poll(_BUSY_POLL_SECONDS)

    def _shutdown(self) -> None:
        """Give all partitions back. A static member stays in the group unless it has to leave.

        Closing never removes a static member from its group (KIP-345); unsubscribing does.
        """
        self._rebalance.release_all(self._consumer)
        if self._channel.leave_group and self._config.instance is not None:
            self._consumer.unsubscribe()
            until = time.monotonic() + 1.0
            while self._rebalance.owned and time.monotonic() < until:
                self._consumer.poll(0.05)
            self._consumer.poll(0.1)


def _topic_partitions(partitions: Collection[Partition]) -> list[TopicPartition]:
    return [TopicPartition(each.topic, each.partition) for each in partitions]
