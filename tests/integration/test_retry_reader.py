"""The retry and dead letter topics of the subscriptions of a channel, read by one consumer in each
process, on a real Kafka.
"""

import asyncio
import threading
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from confluent_kafka import Producer

from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.channel_reader.channel_readers import ChannelReaders
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.group_offsets.group_offsets import (
    CommitOutcome,
    CommitResult,
    GroupOffsets,
)
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain import filters
from headrace.domain.feed import AlarmKind, FeedBounds, FeedConfig, InitialOffset
from headrace.domain.reader_group import assigned_with, reader_group
from headrace.domain.record import Partition
from tests.contract.feeds import RecordingListener
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka

CHANNEL_PARTITIONS = 4


class Process:
    """A process with readers of its own."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._shared = SharedConsumerResources.create(options, topic_ids_seconds=0.2)
        self._readers = ChannelReaders(self._shared)
        self._feeds: list[SubscriptionFeed] = []

    def open(
        self,
        topic: str,
        listener: RecordingListener,
        *,
        channel: str | None = None,
        records_max: int = 1000,
        group: str | None = None,
    ) -> SubscriptionFeed:
        """Start the feed of a topic, which is assigned with the channel if that is given."""
        config = FeedConfig(
            group=group or f"group of {topic}",
            topics=(topic,),
            bounds=FeedBounds(records_max=records_max),
            initial_offset=InitialOffset.EARLIEST,
            filter=filters.compile(()) if channel is None else None,
            assigned_with=channel,
        )
        defaults = ConsumerConfig(options=self._options, group="", topics=())
        feed = self._readers.open(config, defaults, None, listener.alarms.append)
        listener.feed = feed
        self._feeds.append(feed)
        feed.start(listener)
        return feed

    async def close(self) -> None:
        """End as in a crash."""
        self._shared.close()
        for feed in self._feeds:
            feed.abandon()
        ended = [await asyncio.to_thread(feed.join, 10.0) for feed in self._feeds]
        await self._readers.close()
        assert all(ended)


class Installation:
    """A channel, its subscriptions' topics, and processes."""

    def __init__(self, kafka: KafkaUnderTest) -> None:
        self.kafka = kafka
        self.options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
        self.channel = kafka.create_topic("channel", partitions=CHANNEL_PARTITIONS)
        self._producer = Producer(self.options.client(linger_ms=1))
        self._processes: list[Process] = []

    def process(self) -> Process:
        """Start a process."""
        started = Process(self.options)
        self._processes.append(started)
        return started

    def topic(self, assigned: int | None = None) -> str:
        """Create the topic of a subscription, one that is assigned with this partition of the
        channel.
        """
        while True:
            name = f"retry-{uuid.uuid4().hex[:12]}"
            if assigned in (None, assigned_with(name, 0, CHANNEL_PARTITIONS)):
                return self.kafka.create_topic(name=name, partitions=1)

    async def append(self, topic: str, count: int) -> None:
        """Append this many records."""
        for _ in range(count):
            self._producer.produce(topic, b"v", partition=0)
        assert await asyncio.to_thread(self._producer.flush, 10) == 0

    async def close(self) -> None:
        """End all processes."""
        for each in self._processes:
            await each.close()


@pytest.fixture
async def installation(kafka: KafkaUnderTest) -> AsyncIterator[Installation]:
    made = Installation(kafka)
    try:
        yield made
    finally:
        await made.close()


async def test_many_topics_have_one_consumer(installation: Installation) -> None:
    """And one feed that takes nothing holds up no other."""
    process = installation.process()
    topics = [installation.topic() for _ in range(20)]
    hanging = RecordingListener()
    listeners = [hanging, *(RecordingListener(finish=True) for _ in topics[1:])]
    for topic, listener in zip(topics, listeners, strict=True):
        process.open(topic, listener, channel=installation.channel, records_max=16)
        await installation.append(topic, 100)
    for listener in listeners[1:]:
        await listener.has(100)
        assert listener.offsets() == list(range(100))
    threads = {
        each.name for each in threading.enumerate() if each.name.endswith(installation.channel)
    }
    assert threads == {
        f"feed {reader_group(installation.channel)}",
        f"retries of {installation.channel}",
    }
    assert not [each for each in threading.enumerate() if "group of" in each.name]
    assert len(hanging.records) == 16
    for done in range(0, 96, 8):
        await hanging.has(min(done + 16, 100))
        hanging.finish(hanging.records[done : done + 8])
    await hanging.has(100)
    assert hanging.offsets() == list(range(100))
    assert all(listener.alarms == [] for listener in listeners)


async def test_the_lag_of_a_full_feed_includes_what_is_not_read(
    installation: Installation,
) -> None:
    process = installation.process()
    topic = installation.topic()
    hanging = RecordingListener()
    feed = process.open(topic, hanging, channel=installation.channel, records_max=16)
    await installation.append(topic, 16)
    await hanging.has(16)
    await installation.append(topic, 84)
    await wait_until_async(
        lambda: feed.lag()[Partition(topic, 0)].records == 100, 20, "a lag of 100 records"
    )


async def test_two_topics_of_one_group_continue_where_they_were(
    installation: Installation,
) -> None:
    """The retries and the dead letters of a subscription, whose offsets are read together."""
    topics = [installation.topic(0), installation.topic(0)]
    group = f"retries-{uuid.uuid4().hex[:12]}"
    first = installation.process()
    before = [RecordingListener(finish=True) for _ in topics]
    feeds = [
        first.open(topic, listener, channel=installation.channel, group=group)
        for topic, listener in zip(topics, before, strict=True)
    ]
    for topic, listener in zip(topics, before, strict=True):
        await installation.append(topic, 5)
        await listener.has(5)
    await asyncio.gather(*(feed.stop() for feed in feeds))
    second = installation.process()
    after = [RecordingListener(finish=True) for _ in topics]
    for topic, listener in zip(topics, after, strict=True):
        second.open(topic, listener, channel=installation.channel, group=group)
    for topic, listener in zip(topics, after, strict=True):
        await installation.append(topic, 5)
        await listener.has(5)
        assert listener.offsets() == list(range(5, 10))


async def test_processes_share_the_topics(installation: Installation) -> None:
    """Each topic is read by one of them: the one that owns its partition of the channel. Nothing
    comes twice, and a process that ends is replaced.
    """
    first, second = installation.process(), installation.process()
    topics = [installation.topic(owner) for owner in range(CHANNEL_PARTITIONS)]
    at_first = [RecordingListener(finish=True) for _ in topics]
    at_second = [RecordingListener(finish=True) for _ in topics]
    feeds = [
        first.open(topic, listener, channel=installation.channel)
        for topic, listener in zip(topics, at_first, strict=True)
    ]
    for topic, listener in zip(topics, at_first, strict=True):
        await installation.append(topic, 5)
        await listener.has(5)
    for topic, listener in zip(topics, at_second, strict=True):
        second.open(topic, listener, channel=installation.channel)
    await wait_until_async(
        lambda: sum(bool(each.revoked) for each in at_first) == 2, 20, "two topics given back"
    )
    moved = [bool(each.revoked) for each in at_first]
    for topic in topics:
        await installation.append(topic, 5)
    for one, other, has_moved in zip(at_first, at_second, moved, strict=True):
        await (other.has(5) if has_moved else one.has(10))
        assert len(one.records) + len(other.records) == 10
    await asyncio.gather(*(feed.stop() for feed in feeds))
    for topic in topics:
        await installation.append(topic, 5)
    for one, other, has_moved in zip(at_first, at_second, moved, strict=True):
        await other.has(10 if has_moved else 5, 30)
        assert [*one.offsets(), *other.offsets()] == list(range(15))


async def test_added_partitions_of_the_channel_move_topics(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is read once, by the process that is the owner now, and no offset goes back."""
    commit, stored = GroupOffsets.commit, defaultdict[Partition, list[int]](list)

    async def recorded(
        offsets: GroupOffsets, group: str, positions: Sequence[Position], *rest: Any, **named: Any
    ) -> CommitResult:
        result = await commit(offsets, group, positions, *rest, **named)
        if result.outcome is CommitOutcome.STORED:
            for each in positions:
                stored[each.partition].append(each.offset)
        return result

    monkeypatch.setattr(GroupOffsets, "commit", recorded)
    first, second = installation.process(), installation.process()
    topics = [installation.topic() for _ in range(12)]
    listeners = {topic: [RecordingListener(finish=True) for _ in range(2)] for topic in topics}
    for number, process in enumerate((first, second)):
        for topic in topics:
            process.open(topic, listeners[topic][number], channel=installation.channel)

    def offsets(topic: str) -> list[int]:
        return sorted(offset for listener in listeners[topic] for offset in listener.offsets())

    async def all_are_read(count: int) -> None:
        for topic in topics:
            await installation.append(topic, 10)
        await wait_until_async(
            lambda: all(set(range(count)) <= set(offsets(topic)) for topic in topics),
            30,
            "all records",
        )

    await all_are_read(10)
    admin = KafkaTopicAdmin(installation.options)
    await admin.add_partitions(installation.channel, CHANNEL_PARTITIONS + 3)
    await admin.close()
    await all_are_read(20)
    moved = [
        topic
        for topic in topics
        if assigned_with(topic, 0, CHANNEL_PARTITIONS) != assigned_with(topic, 0, 7)
    ]
    assert moved
    await wait_until_async(
        lambda: any(listener.revoked for topic in moved for listener in listeners[topic]),
        30,
        "a topic given back",
    )
    await all_are_read(30)
    assert [list(range(30))] * len(topics) == [offsets(topic) for topic in topics]
    assert all(each == sorted(each) for each in stored.values())


async def test_a_topic_that_is_created_later_is_read_then(installation: Installation) -> None:
    """Until then it is an alarm, and other topics are read."""
    process = installation.process()
    missing, other = RecordingListener(finish=True), RecordingListener(finish=True)
    name = f"retry-{uuid.uuid4().hex[:12]}"
    process.open(name, missing, channel=installation.channel)
    there = installation.topic()
    process.open(there, other, channel=installation.channel)
    await installation.append(there, 3)
    await other.has(3)
    await wait_until_async(lambda: missing.alarms, 10, "an alarm")
    assert {each.kind for each in missing.alarms} == {AlarmKind.TOPIC_MISSING}
    installation.kafka.create_topic(name=name, partitions=1)
    await installation.append(name, 3)
    await missing.has(3)


async def test_a_group_that_has_members_is_served_when_they_have_left(
    installation: Installation,
) -> None:
    """As during an upgrade: the member is a process of the version before."""
    topic = installation.topic()
    before = RecordingListener(finish=True)
    shared = SharedConsumerResources.create(installation.options, topic_ids_seconds=0.2)
    member = KafkaFeed(
        ConsumerConfig(
            options=installation.options,
            group=f"group of {topic}",
            topics=(topic,),
            initial_offset=InitialOffset.EARLIEST,
        ),
        shared,
        before.alarms.append,
    )
    before.feed = member
    member.start(before)
    await installation.append(topic, 5)
    await before.has(5)
    after = RecordingListener(finish=True)
    feed = installation.process().open(topic, after, channel=installation.channel)
    await wait_until_async(lambda: feed.refused_since is not None, 20, "a refused commit")
    await installation.append(topic, 5)
    await before.has(10)
    await member.stop()
    shared.close()
    await installation.append(topic, 5)
    await after.has(5, 30)
    assert before.offsets() == list(range(10))
    assert after.offsets() == list(range(10, 15))


async def test_a_second_feed_of_a_topic_waits_for_the_first(installation: Installation) -> None:
    """As when a subscription is opened again while its last requests end."""
    process = installation.process()
    topic = installation.topic()
    first, second = RecordingListener(give_back=False), RecordingListener(finish=True)
    feed = process.open(topic, first, channel=installation.channel)
    await installation.append(topic, 3)
    await first.has(3)
    stopping = asyncio.create_task(feed.stop())
    await wait_until_async(lambda: first.returns, 10, "a request to give back")
    process.open(topic, second, channel=installation.channel)
    first.finish(first.records[:2])
    assert second.records == []
    first.returns[0]()
    await stopping
    await second.has(1)
    assert second.offsets() == [2]


async def test_retries_are_read_while_the_channel_is_opened_again(
    installation: Installation,
) -> None:
    """As when the order of deliveries changes: the only feed of the channel is replaced."""
    process = installation.process()
    topic = installation.topic()
    live, retries = RecordingListener(finish=True), RecordingListener(finish=True)
    channel = process.open(installation.channel, live)
    process.open(topic, retries, channel=installation.channel)
    await installation.append(topic, 3)
    await retries.has(3)
    await channel.stop(leave=True)
    await installation.append(topic, 3)
    await retries.has(6)
    again = RecordingListener(finish=True)
    process.open(installation.channel, again)
    await installation.append(installation.channel, 1)
    await again.has(1)
    await installation.append(topic, 3)
    await retries.has(9)
    assert retries.offsets() == list(range(9))
    assert retries.lost == []


def _numbers(topics: Sequence[str], partitions: int) -> set[int]:
    return {assigned_with(topic, 0, partitions) for topic in topics}


def test_topics_are_spread_over_the_partitions() -> None:
    """And the partitions of one topic are read by different owners."""
    names = [f"knative-trigger-default-{number}.retry" for number in range(200)]
    assert _numbers(names, 10) == set(range(10))
    assert {assigned_with(names[0], number, 10) for number in range(10)} == set(range(10))
