"""The consumer of a channel reader: a feed that begins where the subscriptions do, not where its
own group does.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError, Future
from typing import Protocol

from confluent_kafka import Consumer

from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, ConsumerFailed
from headrace.adapters.kafka.consumer.commands import ConsumerCommands
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.partition_state import PartitionState
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.revocation import RevocationRequest
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.consumer.start_positions import PositionResolver, StartPositions
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.record import Partition, StoredRecord

_CHECK_SECONDS = 0.2
_MORE_SECONDS = 10.0
"""Longer than the requests that determine positions take at most."""


class StartPositionsSource(Protocol):
    """Knows where a reader begins."""

    async def start_positions(
        self, partitions: Sequence[Partition], partition_count: int
    ) -> Sequence[Position]:
        """Return where to begin in newly assigned partitions. Raises `HeadraceError`."""
        ...

    def on_assigned(self, starts: Sequence[Position]) -> None:
        """The reader begins at these positions."""
        ...

    def on_all_lost(self) -> None:
        """Nothing is assigned now. The subscriptions may have begun in partitions that were not
        reported with `on_assigned`, because the assignment has failed.
        """
        ...

    def on_end(self, number: int, offset: int) -> None:
        """The end of a partition was reached: every record below `offset` is read."""
        ...

    def on_drain_overdue(self, partitions: Collection[Partition]) -> None:
        """The drain deadline of a revocation has passed."""
        ...

    def on_log_replaced(self, partition: Partition) -> None:
        """The log is another one than before. The partition is reported as lost after this, and
        with `on_restarted` if it stays with this process.
        """
        ...

    def on_restarted(self, partition: Partition, offset: int) -> None:
        """The log that has replaced another one is read from `offset` on."""
        ...

    def on_expired(self, partition: Partition, offset: int) -> None:
        """The log no longer has the records before `offset`."""
        ...


class ReaderConsumer(KafkaFeed):
    """The feed of a reader."""

    def __init__(
        self,
        config: ConsumerConfig,
        shared: SharedConsumerResources,
        alarm: Callable[[FeedAlarm], None],
        *,
        reader: StartPositionsSource,
    ) -> None:
        super().__init__(config, shared, alarm)
        self._reader = reader

    def position_resolver(self) -> PositionResolver:
        """As `Assignment.position_resolver`."""
        return _SubscriptionPositions(self.config, self.channel, self._reader)

    def on_batch(
        self, records: Sequence[StoredRecord], ends: Sequence[tuple[Partition, int]]
    ) -> None:
        """As `Assignment.on_batch`. The reader is notified of the ends, and reports with `finish`
        what it has read: which records are done is up to the subscriptions.
        """
        self.flow.batch_received()
        topic, number, state = self.config.topics[0], -1, None
        fresh: list[StoredRecord] = []
        for record in records:
            if record.partition != number:
                number = record.partition
                state = self._states.get((topic, number))
            if state is None:
                self.flow.release(1, record.size)
            elif state.paused or state.buffered:
                state.buffered.append(record)
            else:
                fresh.append(record)
        if fresh:
            self._listener.on_records(fresh)
        for partition, offset in ends:
            ended = self._states.get(partition)
            if ended is not None:
                ended.high_watermark = max(ended.high_watermark, offset)
                if ended.buffered:
                    ended.reach(offset)
                else:
                    self._reader.on_end(partition.partition, offset)

    def _deliver_buffered(self, state: PartitionState) -> None:
        if state.paused or self._states.get(state.partition) is not state or not state.buffered:
            return
        records, end = state.take_buffered()
        self._listener.on_records(records)
        if end:
            self._reader.on_end(state.partition.partition, end)

    def finish(self, records: Sequence[StoredRecord]) -> None:
        """The reader has read these, which are in order."""
        self.flow.release(len(records), sum(record.size for record in records))
        topic = self.config.topics[0]
        for number, offset in {record.partition: record.offset for record in records}.items():
            state = self._states.get((topic, number))
            if state is not None:
                state.reach(offset + 1)
                self._mark_changed(state)

    def seek(self, position: Position) -> None:
        """Continue at a later offset of a partition. Records below it may still arrive."""
        self.channel.seek(position)

    def begin_again(self, partition: Partition) -> None:
        """Begin at the oldest record of a log that is another one than before. What arrives until
        then is dropped.
        """
        state = self._states.get(partition)
        if state is not None:
            self._discard(state)
            # Otherwise it would begin once more when the id of the new topic is known.
            self.shared.topic_ids.forget_id(partition.topic)
            self.recreated_partitions.append(partition)

    def on_partitions_assigned(self, starts: Sequence[Position]) -> None:
        """As `Assignment.on_partitions_assigned`."""
        super().on_partitions_assigned(starts)
        self._reader.on_assigned(starts)

    def on_partitions_lost(self, partitions: Collection[Partition] | None) -> None:
        """As `Assignment.on_partitions_lost`."""
        super().on_partitions_lost(partitions)
        if partitions is None:
            self._reader.on_all_lost()

    def on_drain_timeout(self, request: RevocationRequest) -> None:
        """As `Assignment.on_drain_timeout`; the reader completes the request."""
        if request.is_open:
            self._reader.on_drain_overdue(request.partitions)

    def _discard(self, state: PartitionState) -> None:
        self._reader.on_log_replaced(state.partition)
        super()._discard(state)

    def on_topic_recreated(
        self, partition: Partition, offset: int | None, *, high_watermark: int
    ) -> None:
        """As `Assignment.on_topic_recreated`."""
        super().on_topic_recreated(partition, offset, high_watermark=high_watermark)
        if offset is not None:
            self._reader.on_restarted(partition, offset)

    def on_offset_reset(
        self, partition: Partition, offset: int, *, sought: int | None, high_watermark: int
    ) -> None:
        """As `Assignment.on_offset_reset`."""
        state = self._states.get(partition)
        super().on_offset_reset(partition, offset, sought=sought, high_watermark=high_watermark)
        if state is not None and self._states.get(partition) is state:
            self._reader.on_expired(partition, offset)
        elif state is not None:
            self._reader.on_restarted(partition, offset)

    def topic_id(self, number: int) -> str:
        """The id of the topic in which this partition is read; empty if it is not known yet."""
        state = self._states.get((self.config.topics[0], number))
        return state.topic_id if state is not None else ""

    def high_watermark(self, number: int) -> int:
        """The end of this partition, as last reported."""
        state = self._states.get((self.config.topics[0], number))
        return state.high_watermark if state is not None else 0


class _SubscriptionPositions(PositionResolver):
    """Begins where the subscriptions are. Used in the consumer's thread."""

    moves_positions = True

    def __init__(
        self,
        config: ConsumerConfig,
        channel: ConsumerCommands,
        reader: StartPositionsSource,
    ) -> None:
        super().__init__(policy=config.out_of_range, initial_offset=config.initial_offset)
        (self._topic,) = config.topics
        self._channel = channel
        self._reader = reader
        self._tasks: set[asyncio.Task[None]] = set()

    def resolve(
        self, consumer: Consumer, partitions: Sequence[Partition], timeout_seconds: float
    ) -> StartPositions:
        """As `PositionResolver.resolve`. Raises `ConsumerFailed` if the offsets of the
        subscriptions are not known in time.
        """
        described = consumer.list_topics(self._topic, timeout=timeout_seconds).topics[self._topic]
        answer: Future[Sequence[Position]] = Future()
        # After what was reported before: partitions may have been lost a moment ago.
        self._channel.call_on_loop(self._ask, partitions, len(described.partitions), answer)
        try:
            positions = self._wait_for(answer, timeout_seconds + _MORE_SECONDS)
        except (HeadraceError, TimeoutError, CancelledError) as error:
            detail = f"offsets of the subscriptions: {str(error) or 'no answer in time'}"
            alarm = ConsumerAlarm(AlarmKind.UNAVAILABLE, detail, fatal=True)
            raise ConsumerFailed(alarm) from error
        for position in positions:
            self.read_from(consumer, position.partition, position.offset)
        # The client may still report that the group of the reader has committed nothing.
        begin = {position.partition: position.offset for position in positions}
        return StartPositions(list(positions), begin, [])

    def _wait_for(self, answer: "Future[Sequence[Position]]", seconds: float) -> Sequence[Position]:
        """Wait for the loop. Raises TimeoutError, at once if the feed was abandoned: the loop does
        not answer then.
        """
        until = time.monotonic() + seconds
        while True:
            try:
                return answer.result(_CHECK_SECONDS)
            except TimeoutError:
                if self._channel.abandoned or time.monotonic() >= until:
                    raise

    def _ask(
        self, partitions: Sequence[Partition], count: int, answer: "Future[Sequence[Position]]"
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(partitions, count, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, partitions: Sequence[Partition], count: int, answer: "Future[Sequence[Position]]"
    ) -> None:
        try:
            answer.set_result(await self._reader.start_positions(partitions, count))
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except Exception as error:  # The thread raises it.
            answer.set_exception(error)
