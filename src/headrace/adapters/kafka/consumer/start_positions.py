"""Determines where reading of a partition begins, and where it continues when the log no longer has
that offset. Each deviation is reported.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace.adapters.kafka.consumer.positions import Position, metadata_of
from headrace.domain.feed import InitialOffset, OutOfRange
from headrace.domain.record import Partition

_QUERY_SECONDS = 5.0
_PAUSED_QUERY_SECONDS = 0.5


class MissingOffset(NamedTuple):
    """A partition of a topic in which the group should have committed offsets, but has none."""

    partition: Partition
    detail: str


class StartPositions(NamedTuple):
    """Where newly assigned partitions begin."""

    positions: list[Position]
    without_offset: dict[Partition, int]
    """Where reading begins in partitions without a committed offset."""
    missing: list[MissingOffset]


class PositionResolver:
    """Determines positions by the policy of one feed."""

    moves_positions = False
    """Whether `resolve` makes the consumer begin elsewhere than at what its group has committed."""

    def __init__(
        self, *, policy: OutOfRange, initial_offset: InitialOffset = InitialOffset.COMMITTED
    ) -> None:
        self._policy = policy
        self._initial_offset = initial_offset

    def resolve(
        self, consumer: Consumer, partitions: Sequence[Partition], timeout_seconds: float
    ) -> StartPositions:
        """Return the start positions of newly assigned partitions.

        The controller commits an offset for every partition before a subscription is live. A
        partition without one, in a topic where others have one, was therefore added later: it
        begins at 0. If no partition has one, the offsets of the group are lost, which is an alarm.
        Where no offsets are committed beforehand (`InitialOffset.EARLIEST`), reading begins at the
        oldest record; with `InitialOffset.LATEST` at the end, if no partition of the topic has one.
        Raises KafkaException when no coordinator answers in time, after retries.
        """
        found = _committed(consumer, partitions, timeout_seconds)
        starts = StartPositions(list(found.values()), {}, [])
        unknown = [each for each in partitions if each not in found]
        forgotten: set[str] = set()
        if self._initial_offset is not InitialOffset.EARLIEST:
            forgotten = {
                topic
                for topic in {each.topic for each in unknown}
                if not self._has_offsets(consumer, topic, found, timeout_seconds)
            }
        for partition in unknown:
            begin = 0
            if self._initial_offset is InitialOffset.EARLIEST:
                begin, _ = consumer.get_watermark_offsets(
                    _topic_partition(partition), timeout=_QUERY_SECONDS
                )
            elif partition.topic in forgotten and self._initial_offset is InitialOffset.LATEST:
                _, begin = consumer.get_watermark_offsets(
                    _topic_partition(partition), timeout=_QUERY_SECONDS
                )
            elif partition.topic in forgotten:
                low, high = consumer.get_watermark_offsets(
                    _topic_partition(partition), timeout=_QUERY_SECONDS
                )
                begin = high if self._policy is OutOfRange.LATEST else low
                detail = (
                    f"no offset is committed in {partition.topic}; reading begins at the"
                    f" {self._reset_target()}"
                )
                starts.missing.append(MissingOffset(partition, detail))
            starts.positions.append(Position(partition, begin, ""))
            starts.without_offset[partition] = begin
        return starts

    def _reset_target(self) -> str:
        return "end" if self._policy is OutOfRange.LATEST else "oldest record"

    def _has_offsets(
        self,
        consumer: Consumer,
        topic: str,
        found: dict[Partition, Position],
        timeout_seconds: float,
    ) -> bool:
        if any(partition.topic == topic for partition in found):
            return True
        described = consumer.list_topics(topic, timeout=timeout_seconds).topics.get(topic)
        numbers = described.partitions if described is not None else {}
        return bool(
            _committed(consumer, [Partition(topic, number) for number in numbers], timeout_seconds)
        )

    def reset(self, consumer: Consumer, partition: Partition) -> tuple[int, int] | None:
        """Continue reading where the policy says. Returns that offset and the end of the log, or
        None when the partition is not read.

        Raises KafkaException when the broker does not answer.
        """
        if self._policy is OutOfRange.STOP:
            return None
        low, high = consumer.get_watermark_offsets(
            _topic_partition(partition), timeout=_QUERY_SECONDS
        )
        offset = high if self._policy is OutOfRange.LATEST else low
        self.read_from(consumer, partition, offset)
        return offset, high

    def read_from(self, consumer: Consumer, partition: Partition, offset: int) -> None:
        """Continue at `offset`. The client has stopped reading the partition by then and ignores a
        seek; a new assignment works.
        """
        consumer.incremental_unassign([_topic_partition(partition)])
        consumer.incremental_assign([TopicPartition(partition.topic, partition.partition, offset)])

    def cached_high_watermark(self, consumer: Consumer, partition: Partition) -> int | None:
        """Return the end of the log from the last fetch, without a request; None before the first
        fetch.
        """
        return _high_watermark(
            consumer.get_watermark_offsets(_topic_partition(partition), cached=True)
        )

    def query_high_watermark(self, consumer: Consumer, partition: Partition) -> int | None:
        """Return the end of the log as the broker reports it now; None when it does not answer."""
        try:
            return _high_watermark(
                consumer.get_watermark_offsets(
                    _topic_partition(partition), timeout=_PAUSED_QUERY_SECONDS
                )
            )
        except KafkaException:
            return None


def _topic_partition(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def _high_watermark(offsets: tuple[int, int] | None) -> int | None:
    return offsets[1] if offsets is not None and offsets[1] >= 0 else None


def _committed(
    consumer: Consumer, partitions: Sequence[Partition], timeout_seconds: float
) -> dict[Partition, Position]:
    """Return what the group has committed, with metadata. Retried while the coordinator moves or
    loads.
    """
    until = time.monotonic() + 2 * timeout_seconds
    while True:
        try:
            answers = consumer.committed(
                [_topic_partition(each) for each in partitions], timeout=timeout_seconds
            )
            error = next((each.error for each in answers if each.error is not None), None)
            if error is None:
                break
            refused = KafkaException(error)
        except KafkaException as raised:
            refused = raised
        if time.monotonic() >= until:
            raise refused
        time.sleep(0.1)
    return {
        (partition := Partition(each.topic, each.partition)): Position(
            partition, each.offset, metadata_of(each)
        )
        for each in answers
        if each.offset >= 0
    }
