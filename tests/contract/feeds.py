"""A log and its groups as the feed contract needs them: the same operations in memory, on a real
Kafka, and on NATS JetStream.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.adapters.kafka.channel_reader.channel_readers import ChannelReaders
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.positions import metadata_of
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.consumer.topic_ids import split_topic_id
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.nats.admin import JetStreamTopicAdmin
from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.feed import JetStreamFeed
from headrace.adapters.nats.feeds import JetStreamFeeds
from headrace.adapters.nats.groups import Buckets
from headrace.adapters.nats.log import JetStreamLog
from headrace.domain import filters
from headrace.domain.feed import FeedAlarm, FeedBounds, FeedConfig, InitialOffset, OutOfRange
from headrace.domain.filters import Filter
from headrace.domain.offsets import OffsetTracker
from headrace.domain.ports import Feed
from headrace.domain.record import Partition, Record, StoredRecord
from headrace.resources.control_ports import TopicSpec
from tests.support.kafka import KafkaUnderTest
from tests.support.nats_server import NatsServer, new_topic
from tests.support.wait_until import wait_until, wait_until_async


class RecordingListener:
    """A listener that records what it receives; the test decides what to report."""

    def __init__(self, *, finish: bool = False, give_back: bool = True) -> None:
        self.feed: Feed | None = None
        self.records: list[StoredRecord] = []
        self.revoked: list[Partition] = []
        self.lost: list[Partition] = []
        self.unconfirmed_calls: list[bool] = []
        self.returns: list[Callable[[], None]] = []
        self.alarms: list[FeedAlarm] = []
        self.number_of: Callable[[StoredRecord], int] = lambda record: record.partition
        """Which of the harness's partitions a record is in."""
        self._finish = finish
        self._give_back = give_back

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        self.records += records
        if self._finish:
            self.finish(records)

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        self.revoked += partitions
        if self._give_back:
            drained()
        else:
            self.returns.append(drained)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.lost += partitions

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        self.unconfirmed_calls.append(unconfirmed)

    def finish(self, records: Sequence[StoredRecord]) -> None:
        """Report these as done."""
        assert self.feed is not None
        for record in list(records):
            self.feed.done(record)

    def offsets(self, partition: int = 0) -> list[int]:
        """Offsets received of one partition."""
        return [record.offset for record in self.records if self.number_of(record) == partition]

    async def has(self, count: int, seconds: float = 15.0) -> None:
        """Wait until this many records have been received."""
        await wait_until_async(
            lambda: len(self.records) >= count, seconds, f"{count} records, not {len(self.records)}"
        )


class Stoppable(Feed, Protocol):
    """A feed that can also crash."""

    def abandon(self) -> None: ...


class FeedHarness(Protocol):
    """A topic and a group, and the feeds of one test."""

    topic: str
    moving: int
    """How many partitions a hand-over moves."""
    is_standby: bool
    """Whether a second member has no partition while the first one runs."""
    keeps_notes: bool

    def partition(self, number: int) -> Partition: ...

    async def append(self, count: int, *, partition: int = 0) -> None: ...

    async def committed(self) -> Mapping[int, tuple[int, str]]: ...

    async def done_offsets(self, count: int) -> list[int]:
        """Offsets of the first records of partition 0 that a new member would not receive. Ends the
        feeds.
        """
        ...

    async def hand_over(self, first: "Stoppable", listener: RecordingListener) -> "Stoppable":
        """Move partitions from `first` to a new member; returns when `first` was notified."""
        ...

    def feed(
        self,
        listener: RecordingListener,
        *,
        bounds: FeedBounds | None = None,
        drain_seconds: float = 5.0,
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
    ) -> Stoppable: ...

    def forget(self) -> None:
        """Continue as a group that has committed nothing."""
        ...

    async def recreate(self) -> None:
        """Delete the topic and create it again, empty."""
        ...

    async def close(self) -> None: ...


class MemoryFeedHarness:
    """The in-memory feed."""

    moving = 1
    is_standby = False
    keeps_notes = True

    def partition(self, number: int) -> Partition:
        return Partition(self.topic, number)

    async def done_offsets(self, count: int) -> list[int]:
        tracker = OffsetTracker(*(await self.committed())[0])
        return [offset for offset in range(count) if tracker.is_done(offset)]

    async def hand_over(self, first: Stoppable, listener: RecordingListener) -> Stoppable:
        """A second member joins, and gets half of the partitions."""
        revoked = self._listeners[id(first)].revoked
        second = self.feed(listener)
        await wait_until_async(lambda: revoked, 20, "a revocation")
        return second

    def __init__(self, partitions: int) -> None:
        self.topic = "topic"
        self._log = MemoryLog()
        self._log.create(self.topic, partitions)
        self._groups = MemoryGroups(self._log)
        self._group = "group"
        self._feeds: list[MemoryFeed] = []
        self._listeners: dict[int, RecordingListener] = {}
        self._partitions = partitions
        for number in range(partitions):
            self._groups.commit(self._group, Partition(self.topic, number), offset=0)

    async def append(self, count: int, *, partition: int = 0) -> None:
        keys = (
            key
            for number in range(10_000)
            if self._log._partition(key := b"%d" % number, len(self._log.topics[self.topic]))
            == partition
        )
        key = next(keys)
        for _ in range(count):
            self._log.append(self.topic, Record(key, b"v" * 100), lambda _: None)
        assert await self._log.flush(5) == 0

    async def committed(self) -> Mapping[int, tuple[int, str]]:
        return {
            partition.partition: position
            for partition, position in self._groups.committed.get(self._group, {}).items()
        }

    def forget(self) -> None:
        self._group = "forgotten"

    async def recreate(self) -> None:
        self._log.delete(self.topic)
        self._log.create(self.topic, self._partitions)

    def feed(
        self,
        listener: RecordingListener,
        *,
        bounds: FeedBounds | None = None,
        drain_seconds: float = 5.0,
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
    ) -> MemoryFeed:
        feed = MemoryFeed(
            self._groups,
            group=self._group,
            topics=[self.topic],
            bounds=bounds,
            drain_seconds=drain_seconds,
            alarm=listener.alarms.append,
            initial_offset=initial_offset,
        )
        listener.feed = feed
        self._feeds.append(feed)
        self._listeners[id(feed)] = listener
        feed.start(listener)
        return feed

    async def close(self) -> None:
        for feed in self._feeds:
            feed.abandon()


class KafkaFeedHarness:
    """A real Kafka, with one of the group protocols."""

    moving = 1
    is_standby = False
    keeps_notes = True

    def partition(self, number: int) -> Partition:
        return Partition(self.topic, number)

    async def done_offsets(self, count: int) -> list[int]:
        tracker = OffsetTracker(*(await self.committed())[0])
        return [offset for offset in range(count) if tracker.is_done(offset)]

    async def hand_over(self, first: Stoppable, listener: RecordingListener) -> Stoppable:
        """A second member joins, and gets half of the partitions."""
        revoked = self._listeners[id(first)].revoked
        second = self.feed(listener)
        await wait_until_async(lambda: revoked, 20, "a revocation")
        return second

    def __init__(
        self,
        kafka: KafkaUnderTest,
        protocol: GroupProtocol,
        partitions: int,
        *,
        session_ms: int = 6_000,
        fetch_wait_ms: int = 500,
    ) -> None:
        self._fetch_wait_ms = fetch_wait_ms
        self._kafka, self._partitions = kafka, partitions
        self.topic = kafka.create_topic("feed", partitions=partitions)
        self.group = f"group-{uuid.uuid4().hex[:12]}"
        self.options = KafkaOptions(
            bootstrap_servers=kafka.bootstrap_servers,
            group_protocol=protocol,
            session_timeout_ms=session_ms,
        )
        self._shared = SharedConsumerResources.create(self.options, topic_ids_seconds=0.2)
        self._producer = Producer(self.options.client(linger_ms=1))
        self._feeds: list[KafkaFeed] = []
        self._listeners: dict[int, RecordingListener] = {}
        self.commit(dict.fromkeys(range(partitions), 0))

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets as the controller does, before the group has members."""
        with _outsider(self) as outsider:
            outsider.commit(
                offsets=[
                    TopicPartition(self.topic, number, offset) for number, offset in offsets.items()
                ],
                asynchronous=False,
            )

    async def append(self, count: int, *, partition: int = 0) -> None:
        for _ in range(count):
            self._producer.produce(self.topic, b"v" * 100, key=b"k", partition=partition)
        assert await asyncio.to_thread(self._producer.flush, 10) == 0

    async def committed(self) -> Mapping[int, tuple[int, str]]:
        return await asyncio.to_thread(self._committed)

    def _committed(self) -> Mapping[int, tuple[int, str]]:
        return {
            number: (offset, split_topic_id(metadata)[1])
            for number, (offset, metadata) in self._positions().items()
        }

    def _positions(self) -> Mapping[int, tuple[int, str]]:
        with _outsider(self) as outsider:
            numbers = outsider.list_topics(self.topic, timeout=5).topics[self.topic].partitions
            answers = outsider.committed(
                [TopicPartition(self.topic, number) for number in numbers], timeout=5
            )
        return {
            each.partition: (each.offset, metadata_of(each)) for each in answers if each.offset >= 0
        }

    def forget(self) -> None:
        self.group += "-forgotten"

    async def recreate(self) -> None:
        await asyncio.to_thread(
            wait_until,
            lambda: all(split_topic_id(each)[0] for _, each in self._positions().values()),
            15.0,
            "the topic is known",
        )
        self._kafka.delete_topics([self.topic])
        self._kafka.create_topic(name=self.topic, partitions=self._partitions)

    def feed(
        self,
        listener: RecordingListener,
        *,
        bounds: FeedBounds | None = None,
        drain_seconds: float = 5.0,
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
        instance: str | None = None,
        out_of_range: OutOfRange = OutOfRange.EARLIEST,
    ) -> KafkaFeed:
        config = ConsumerConfig(
            options=self.options,
            group=self.group,
            topics=(self.topic,),
            bounds=bounds or FeedBounds(),
            instance=instance,
            drain_seconds=drain_seconds,
            out_of_range=out_of_range,
            initial_offset=initial_offset,
            fetch_wait_ms=self._fetch_wait_ms,
        )
        feed = KafkaFeed(config, self._shared, listener.alarms.append)
        listener.feed = feed
        self._feeds.append(feed)
        self._listeners[id(feed)] = listener
        feed.start(listener)
        return feed

    async def close(self) -> None:
        self._shared.close()
        for feed in self._feeds:
            feed.abandon()
        for feed in self._feeds:
            await asyncio.to_thread(feed.join, 10.0)


class ChannelReaderHarness(KafkaFeedHarness):
    """A real Kafka, with a reader that several feeds share. Each feed has a process of its own
    here: a reader and connections.
    """

    filter: Filter | None = filters.compile(())
    assigned_with: str | None = None

    def __init__(self, kafka: KafkaUnderTest, protocol: GroupProtocol, partitions: int) -> None:
        super().__init__(kafka, protocol, partitions)
        self._processes: list[ChannelReaders] = []
        self._subscriptions: list[SubscriptionFeed] = []
        self._resources: list[SharedConsumerResources] = []

    def feed(  # type: ignore[override] # another kind of feed
        self,
        listener: RecordingListener,
        *,
        bounds: FeedBounds | None = None,
        drain_seconds: float = 5.0,
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
    ) -> SubscriptionFeed:
        shared = SharedConsumerResources.create(self.options, topic_ids_seconds=0.2)
        self._resources.append(shared)
        readers = ChannelReaders(shared)
        self._processes.append(readers)
        feed = readers.open(
            FeedConfig(
                group=self.group,
                topics=(self.topic,),
                bounds=bounds or FeedBounds(),
                initial_offset=initial_offset,
                filter=self.filter,
                assigned_with=self.assigned_with,
            ),
            ConsumerConfig(options=self.options, group="", topics=(), drain_seconds=drain_seconds),
            None,
            listener.alarms.append,
        )
        listener.feed = feed
        self._subscriptions.append(feed)
        self._listeners[id(feed)] = listener
        feed.start(listener)
        return feed

    async def close(self) -> None:
        for shared in self._resources:
            shared.close()
        for feed in self._subscriptions:
            feed.abandon()
        ended = [await asyncio.to_thread(feed.join, 10.0) for feed in self._subscriptions]
        for readers in self._processes:
            await readers.close()
        assert all(ended)


class RetryReaderHarness(ChannelReaderHarness):
    """As `ChannelReaderHarness`, with a topic that is assigned with that of a channel."""

    filter = None

    def __init__(self, kafka: KafkaUnderTest, protocol: GroupProtocol, partitions: int) -> None:
        super().__init__(kafka, protocol, partitions)
        self.assigned_with = kafka.create_topic("channel", partitions=partitions)


class JetStreamFeedHarness:
    """A real NATS server. A topic in JetStream has one partition: each partition of the contract is
    a topic of its own, and the feed reads all of them. Each feed has a connection of its own, as in
    a process of its own.
    """

    def __init__(self, server: NatsServer, partitions: int, *, exclusive: bool) -> None:
        self.topics = [new_topic("feed") for _ in range(partitions)]
        self.topic = self.topics[0]
        self.group = new_topic("group")
        self.moving = partitions
        self.is_standby = self.keeps_notes = exclusive
        self._exclusive = exclusive
        self._server = server
        self._log = JetStreamLog(server.options)
        self._admin = JetStreamTopicAdmin(server.options)
        self._connection = NatsConnection(server.options)
        self._feeds: list[tuple[JetStreamFeed, JetStreamFeeds]] = []
        self._stops: list[asyncio.Future[None]] = []
        self._listeners: dict[int, RecordingListener] = {}

    async def start(self) -> None:
        """Create the topics and the group, which has committed offset 0."""
        await self._log.start()
        await self._create()
        for topic in self.topics:
            await self._admin.commit(self.group, topic, {0: 0})

    async def _create(self) -> None:
        specs = [TopicSpec(name=topic, partitions=1, replication=1) for topic in self.topics]
        assert {} == await self._admin.create(specs)

    def partition(self, number: int) -> Partition:
        return Partition(self.topics[number], 0)

    async def append(self, count: int, *, partition: int = 0) -> None:
        for _ in range(count):
            self._log.append(self.topics[partition], Record(b"k", b"v" * 100), lambda _: None)
        assert await self._log.flush(10) == 0

    async def committed(self) -> Mapping[int, tuple[int, str]]:
        found: dict[int, tuple[int, str]] = {}
        buckets = Buckets(self._connection)
        for number, topic in enumerate(self.topics):
            offsets = (await self._admin.committed({self.group: topic}))[self.group]
            position = await buckets.position(self.group, topic)
            if offsets:
                found[number] = (offsets[0], position.metadata if position is not None else "")
        return found

    async def done_offsets(self, count: int) -> list[int]:
        """What a new member does not receive: the server does not report what is acknowledged
        beyond the floor.
        """
        for feed, _ in self._feeds:
            feed.abandon()
        listener = RecordingListener()
        last = count
        await self.append(1)
        self.feed(listener)
        committed = (await self.committed())[0][0]
        await wait_until_async(
            lambda: {committed, last} <= set(listener.offsets()), 30, "the records not done"
        )
        await wait_until_async(lambda: len(listener.records) >= 1, 5)
        return [offset for offset in range(count) if offset not in listener.offsets()]

    async def hand_over(self, first: Stoppable, listener: RecordingListener) -> Stoppable:
        """The first member stops: members that join take nothing from those that run."""
        revoked = self._listeners[id(first)].revoked
        self._stops.append(asyncio.ensure_future(first.stop()))
        second = self.feed(listener)
        await wait_until_async(lambda: revoked, 20, "a revocation")
        return second

    def forget(self) -> None:
        self.group += "-forgotten"

    async def recreate(self) -> None:
        assert {} == await self._admin.delete(self.topics)
        await self._create()

    def feed(
        self,
        listener: RecordingListener,
        *,
        bounds: FeedBounds | None = None,
        drain_seconds: float = 5.0,
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
    ) -> JetStreamFeed:
        feeds = JetStreamFeeds(self._server.options, drain_seconds=drain_seconds)
        config = FeedConfig(
            group=self.group,
            topics=tuple(self.topics),
            bounds=bounds or FeedBounds(),
            initial_offset=initial_offset,
            exclusive=self._exclusive,
        )
        feed = feeds.open(config, listener.alarms.append)
        listener.feed = feed
        listener.number_of = lambda record: self.topics.index(record.topic)
        self._feeds.append((feed, feeds))
        self._listeners[id(feed)] = listener
        feed.start(listener)
        return feed

    async def close(self) -> None:
        for feed, _ in self._feeds:
            feed.abandon()
        if self._stops:
            await asyncio.wait(self._stops)
        for _, feeds in self._feeds:
            await feeds.close()
        await self._admin.delete(self.topics)
        await self._admin.close()
        await self._connection.close()
        await self._log.stop(0.1)


class _outsider:
    """A consumer that is not a member of the group, to read and write its offsets."""

    def __init__(self, harness: KafkaFeedHarness) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": harness.options.bootstrap_servers, "group.id": harness.group}
        )

    def __enter__(self) -> Consumer:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
