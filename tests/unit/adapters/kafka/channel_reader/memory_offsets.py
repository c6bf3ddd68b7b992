"""Offsets of groups in memory, with refusals that a test sets, and a reader that uses them."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from headrace.adapters.kafka.channel_reader.channel_reader import ChannelReader
from headrace.adapters.kafka.channel_reader.record_guard import NoGuard
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.revocation import RevocationRequest
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.consumer.topic_ids import _Topic
from headrace.adapters.kafka.group_offsets.connection import BrokerConnections
from headrace.adapters.kafka.group_offsets.group_offsets import (
    CommitOutcome,
    CommitResult,
    GroupOffsets,
)
from headrace.adapters.kafka.group_offsets.topic_offsets import TopicOffsets
from headrace.adapters.kafka.group_offsets.topic_requests import LOG_END, Place
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain import filters
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import FeedBounds, FeedConfig, InitialOffset
from headrace.domain.record import Partition, StoredRecord
from tests.contract.feeds import RecordingListener
from tests.support.event_builders import record_headers

OPTIONS = KafkaOptions(bootstrap_servers="127.0.0.1:1")
CHANNEL = "channel"


class MemoryOffsets(GroupOffsets):
    """Offsets in memory."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, Partition], int] = {}
        self.failing: dict[str, HeadraceError] = {}
        """Why groups cannot be read."""
        self.results: dict[str, CommitResult] = {}
        """Answers to commits, which are not stored then."""
        self.unanswered = asyncio.Event()
        """Reads of failing groups fail when it is set."""
        self.unanswered.set()
        self.answering = asyncio.Event()
        """Commits are answered when it is set."""
        self.answering.set()
        self.asked: list[str] = []
        """Groups whose offsets were read."""
        self.committing = 0
        """Commits that wait for an answer."""

    async def read_each(
        self,
        groups: Mapping[str, Collection[Partition]],
        timeout_seconds: float,
        on_read: Callable[[str, Mapping[Partition, Position]], None],
    ) -> Mapping[str, HeadraceError]:
        """As in the parent class."""
        self.asked += groups
        await asyncio.sleep(0)
        failed = {}
        for group, partitions in groups.items():
            if group in self.failing:
                failed[group] = self.failing[group]
            else:
                on_read(
                    group,
                    {
                        each: Position(each, self.stored[group, each], "")
                        for each in partitions
                        if (group, each) in self.stored
                    },
                )
        if failed:
            await self.unanswered.wait()
        return failed

    async def commit(
        self,
        group: str,
        positions: Sequence[Position],
        timeout_seconds: float,
        still_valid: Callable[[], bool] = lambda: True,
    ) -> CommitResult:
        """As in the parent class."""
        self.committing += 1
        await self.answering.wait()
        self.committing -= 1
        if not still_valid():
            return CommitResult(CommitOutcome.WITHDRAWN)
        if group in self.results:
            return self.results[group]
        for each in positions:
            self.stored[group, each.partition] = each.offset
        return CommitResult(CommitOutcome.STORED)


def set_topic_id(shared: SharedConsumerResources, topic_id: str, topic: str = CHANNEL) -> None:
    """The broker has answered that a topic has this id."""
    shared.topic_ids._known[topic] = _Topic(topic_id, 2)


class MemoryTopicOffsets(TopicOffsets):
    """Logs that are as long as needed, unless a test says where they end."""

    def __init__(self) -> None:
        super().__init__(BrokerConnections(OPTIONS), OPTIONS.bootstrap_servers)
        self.ends: dict[Partition, int] = {}
        self.firsts: dict[Partition, int] = {}
        self.unanswered: set[Partition] = set()
        """Partitions whose leader does not answer."""
        self.asked: list[Place] = []
        """What was asked for."""

    async def read_at(
        self, partitions: Collection[Partition], at: Place, until: float
    ) -> Mapping[Partition, int]:
        """As in the parent class."""
        self.asked.append(at)
        await asyncio.sleep(0)
        found = {each: self.firsts.get(each, 0) for each in partitions}
        if at == LOG_END:
            found = {each: self.ends.get(each, 2**62) for each in partitions}
        return {each: offset for each, offset in found.items() if each not in self.unanswered}


class OpenedReader(ChannelReader):
    """The reader of a channel without a Kafka: the test reports what its consumer would."""

    def __init__(self, shared: SharedConsumerResources, offsets: GroupOffsets) -> None:
        config = ConsumerConfig(options=OPTIONS, group="readers", topics=(CHANNEL,))
        self.logs = MemoryTopicOffsets()
        super().__init__(config, shared, offsets, self.logs, guard=NoGuard())
        self._started = True
        self._consumer.attach(self)

    async def assign(self, *numbers: int, of: int = 2) -> Sequence[Position]:
        """Assign partitions of a topic that has so many; return where the reader begins."""
        starts = await self.start_positions([Partition(CHANNEL, each) for each in numbers], of)
        self._consumer.on_partitions_assigned(starts)
        return starts

    def revoke(self, *numbers: int) -> RevocationRequest:
        """The group takes partitions back. The request is completed when they are given back."""
        request = RevocationRequest([Partition(CHANNEL, each) for each in numbers])
        self._consumer.on_partitions_revoked(request)
        return request

    def read(self, number: int, offsets: Iterable[int], end: int | None = None) -> None:
        """The consumer has read these events, of the type `a`, and the end of the partition."""
        ends = [] if end is None else [(Partition(CHANNEL, number), end)]
        self._consumer.on_batch(self.records(number, offsets), ends)

    @staticmethod
    def records(number: int, offsets: Iterable[int]) -> list[StoredRecord]:
        """Events of the type `a`, as they are stored."""
        headers = record_headers(type=b"a")
        return [
            StoredRecord(CHANNEL, number, each, 0, None, b"v", headers, None, 10)
            for each in offsets
        ]

    def expire(self, number: int, low: int) -> None:
        """The log begins at `low`, behind what is read next."""
        self.reset(number, low, sought=low - 1)

    def reset(self, number: int, low: int, *, sought: int) -> None:
        """The log begins at `low`, and does not have the offset that the consumer has sought."""
        self._consumer.on_offset_reset(
            Partition(CHANNEL, number), low, sought=sought, high_watermark=low
        )

    def begin_again(self, number: int, *, noticed: bool = False) -> None:
        """The consumer reads a partition of a topic that was created again from its start, because
        its id has changed, or because the next offset is not in the log. The former may have been
        `noticed` before.
        """
        partition = Partition(CHANNEL, number)
        if noticed:
            self._consumer.recreated_partitions.remove(partition)
            self._consumer.on_topic_recreated(partition, 0, high_watermark=0)
        else:
            self.reset(number, 0, sought=self.position(number) + 1)

    def check_topic(self, number: int) -> bool:
        """The consumer compares the id of the topic. Return whether that is another one."""
        partition = Partition(CHANNEL, number)
        self._consumer.on_high_watermarks([(partition, 0)])
        return partition in self._consumer.recreated_partitions

    def replace_consumer(self) -> None:
        """The consumer has failed: nothing is assigned."""
        self._consumer.on_partitions_lost(None)

    def open_feed(
        self,
        group: str,
        listener: RecordingListener,
        topic: str = CHANNEL,
        *,
        entries: Sequence[Mapping[str, Any]] = (),
        records_max: int = 1000,
    ) -> SubscriptionFeed:
        """Start a feed of the channel with these filters, or of a topic of a subscription."""
        retries = topic != CHANNEL
        config = FeedConfig(
            group=group,
            topics=(topic,),
            bounds=FeedBounds(records_max=records_max),
            filter=None if retries else filters.compile(entries),
            initial_offset=InitialOffset.EARLIEST if retries else InitialOffset.COMMITTED,
            assigned_with=CHANNEL if retries else None,
        )
        feed = SubscriptionFeed(config, self.reader_of(topic), listener.alarms.append)
        listener.feed = feed
        feed.start(listener)
        return feed
