"""The lag of groups that no consumer of this process reads. It is queried partition by partition,
so that a partition without an answer does not hide the others.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.domain.feed import Backlog
from headrace.domain.record import Partition

QUERY_SECONDS_MAX = 3.0
"""The time limit of one query about a partition or a group. A broker that does not answer within
this time is not queried again in the same run.
"""


class GroupLagQueries(Protocol):
    """The queries needed. All raise KafkaException when there is no answer within `seconds`."""

    def leaders(self, seconds: float) -> Mapping[Partition, int]:
        """Return the broker that leads each partition of each topic; negative while none does."""
        ...

    def watermarks(self, partition: Partition, seconds: float) -> tuple[int, int]:
        """Return the first offset and the end."""
        ...

    def committed(
        self, group: str, partitions: Collection[Partition], seconds: float
    ) -> Mapping[Partition, int]:
        """Return what the group has committed, negative for nothing. Refused partitions are
        absent.
        """
        ...


def read_group_lag(
    queries: GroupLagQueries, groups: Mapping[str, Sequence[str]], *, seconds: float
) -> Backlog:
    """Return for each group the number of records in its topics that it has not committed. Topics
    that do not exist have none.

    Groups whose topics are empty are not queried. Raises KafkaException when the topics cannot be
    listed.
    """
    until = time.monotonic() + seconds
    topics = {topic for each in groups.values() for topic in each}
    leaders = {
        each: leader for each, leader in queries.leaders(seconds).items() if each.topic in topics
    }
    spans = _watermarks(queries, leaders, until)
    waiting: dict[str, dict[Partition, int]] = {}
    unknown: dict[str, int] = {}
    for group, names in groups.items():
        own = [each for each in leaders if each.topic in names]
        known = {each: spans[each] for each in own if each in spans}
        filled = {
            each: watermarks for each, watermarks in known.items() if watermarks[1] > watermarks[0]
        }
        committed = _committed(queries, group, filled, until) if filled else {}
        waiting[group] = {
            each: max(0, end - max(committed[each], first)) if each in filled else 0
            for each, (first, end) in known.items()
            if each not in filled or each in committed
        }
        if missing := len(own) - len(waiting[group]):
            unknown[group] = missing
    return Backlog(waiting=waiting, unknown=unknown)


def _watermarks(
    queries: GroupLagQueries, leaders: Mapping[Partition, int], until: float
) -> dict[Partition, tuple[int, int]]:
    """Return the watermarks of the partitions that answer."""
    spans: dict[Partition, tuple[int, int]] = {}
    silent: set[int] = set()
    for partition, leader in leaders.items():
        if leader >= 0 and leader not in silent and (left := _remaining(until)) > 0:
            try:
                spans[partition] = queries.watermarks(partition, left)
            except KafkaException:
                silent.add(leader)
    return spans


def _committed(
    queries: GroupLagQueries, group: str, partitions: Collection[Partition], until: float
) -> Mapping[Partition, int]:
    left = _remaining(until)
    try:
        return queries.committed(group, partitions, left) if left > 0 else {}
    except KafkaException:
        return {}


def _remaining(until: float) -> float:
    return min(QUERY_SECONDS_MAX, until - time.monotonic())


class GroupLagReader:
    """Queries brokers with consumers that join no group; implements `GroupLagQueries`.

    The admin client is not used: its requests about groups have aborted the process when a broker
    stopped meanwhile, and the mock cluster of the client library answers none of them.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._consumer = self._open("headrace-backlog")

    def _open(self, group: str) -> Consumer:
        return Consumer(
            self._options.client(group_id=group, enable_auto_commit=False), logger=client_logger
        )

    def leaders(self, seconds: float) -> Mapping[Partition, int]:
        """As `GroupLagQueries.leaders`."""
        topics = self._consumer.list_topics(timeout=seconds).topics
        return {
            Partition(name, number): part.leader
            for name, topic in topics.items()
            for number, part in topic.partitions.items()
        }

    def watermarks(self, partition: Partition, seconds: float) -> tuple[int, int]:
        """As `GroupLagQueries.watermarks`."""
        return self._consumer.get_watermark_offsets(
            TopicPartition(partition.topic, partition.partition), seconds
        )

    def committed(
        self, group: str, partitions: Collection[Partition], seconds: float
    ) -> Mapping[Partition, int]:
        """As `GroupLagQueries.committed`."""
        consumer = self._open(group)
        try:
            answers = consumer.committed(
                [TopicPartition(each.topic, each.partition) for each in partitions], timeout=seconds
            )
        finally:
            consumer.close()
        return {
            Partition(each.topic, each.partition): each.offset
            for each in answers
            if each.error is None
        }

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
