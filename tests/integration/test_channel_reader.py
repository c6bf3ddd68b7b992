"""One reader of a channel topic for several subscriptions, on a real Kafka: what each of them gets,
and what it does not do to the others.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from headrace.adapters.kafka.channel_reader import assigned_consumer, catch_up, held_records
from headrace.adapters.kafka.channel_reader.channel_readers import ChannelReaders
from headrace.adapters.kafka.channel_reader.record_guard import NoGuard
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.consumer.topic_ids import TopicIds
from headrace.adapters.kafka.group_offsets.group_offsets import CommitResult
from headrace.adapters.kafka.messages import to_record
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain import filters
from headrace.domain.feed import AlarmKind, FeedBounds, FeedConfig
from headrace.domain.reader_group import reader_group
from headrace.domain.record import Partition, StoredRecord
from tests.contract.feeds import RecordingListener
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka

PARTITIONS = 2
RECORDS_AHEAD_MAX = 512
"""Records that a consumer for feeds that are behind has read and may read again: what it holds at
once, for each partition.
"""


class CountingGuard(NoGuard):
    """Counts the records that a reader examines."""

    def __init__(self) -> None:
        self.examined = 0

    def mark(self, partition: int, offset: int) -> None:
        self.examined += 1


class ReaderProcess:
    """A topic, and a process that reads it for subscriptions."""

    def __init__(
        self, kafka: KafkaUnderTest, reading: KafkaOptions | None = None, *, topic: str = ""
    ) -> None:
        """`reading` are the options of the process. It reads a new topic, or this one."""
        self.topic = topic or kafka.create_topic("channel", partitions=PARTITIONS)
        self.options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
        self.reading = reading or self.options
        self.shared = SharedConsumerResources.create(self.reading, topic_ids_seconds=0.2)
        self.guard = CountingGuard()
        self.readers = ChannelReaders(self.shared, lambda _: self.guard)
        self.drain_seconds = 5.0
        self._producer = Producer(self.options.client(linger_ms=1))
        self._feeds: list[SubscriptionFeed] = []

    async def append(self, types: Sequence[str], *, partition: int = 0) -> None:
        """Append an event of each of these types."""
        for number, name in enumerate(types):
            headers: list[tuple[str, str | bytes | None]] = [
                ("ce_specversion", b"1.0"),
                ("ce_id", b"%d" % number),
                ("ce_source", b"/test"),
                ("ce_type", name.encode()),
            ]
            self._producer.produce(self.topic, b"v", partition=partition, headers=headers)
        assert await asyncio.to_thread(self._producer.flush, 10) == 0

    async def group(self, **offsets: int) -> str:
        """A group that begins at the oldest records, or in `p<number>` at this offset."""
        group = f"group-{uuid.uuid4().hex[:12]}"
        starts = [
            TopicPartition(self.topic, number, offsets.get(f"p{number}", 0))
            for number in range(PARTITIONS)
        ]
        await asyncio.to_thread(self.commit, group, starts)
        return group

    def commit(self, group: str, starts: list[TopicPartition]) -> None:
        """Commit for a group without members."""
        consumer = Consumer(self.options.client(group_id=group, enable_auto_commit=False))
        consumer.commit(offsets=starts, asynchronous=False)
        consumer.close()

    async def committed(self, group: str) -> Mapping[int, int]:
        """What a group has committed."""

        def read() -> dict[int, int]:
            consumer = Consumer(self.options.client(group_id=group, enable_auto_commit=False))
            found = consumer.committed(
                [TopicPartition(self.topic, number) for number in range(PARTITIONS)], timeout=5
            )
            consumer.close()
            return {each.partition: each.offset for each in found}

        return await asyncio.to_thread(read)

    async def has_committed(self, group: str, expected: Mapping[int, int]) -> None:
        """Wait until a group has committed this."""
        until = time.monotonic() + 10
        while (found := await self.committed(group)) != expected and time.monotonic() < until:
            await asyncio.sleep(0.05)
        assert found == expected

    def open(
        self,
        group: str,
        listener: RecordingListener,
        entries: Sequence[Mapping[str, Any]] = (),
        *,
        records_max: int = 1000,
    ) -> SubscriptionFeed:
        """Start a feed with these filters."""
        feed = self.readers.open(
            FeedConfig(
                group=group,
                topics=(self.topic,),
                bounds=FeedBounds(records_max=records_max),
                filter=filters.compile(entries),
            ),
            ConsumerConfig(
                options=self.reading, group="", topics=(), drain_seconds=self.drain_seconds
            ),
            None,
            listener.alarms.append,
        )
        listener.feed = feed
        self._feeds.append(feed)
        feed.start(listener)
        return feed

    def start_member(self, group: str) -> tuple[KafkaFeed, RecordingListener]:
        """Start a member of a subscription's group: what a process of the version before has."""
        listener = RecordingListener(finish=True)
        config = ConsumerConfig(options=self.options, group=group, topics=(self.topic,))
        member = KafkaFeed(config, self.shared, listener.alarms.append)
        listener.feed = member
        member.start(listener)
        return member, listener

    async def close(self) -> None:
        self.shared.close()
        for feed in self._feeds:
            feed.abandon()
        ended = [await asyncio.to_thread(feed.join, 10.0) for feed in self._feeds]
        await self.readers.close()
        assert all(ended)


@pytest.fixture
async def process(kafka: KafkaUnderTest) -> AsyncIterator[ReaderProcess]:
    made = ReaderProcess(kafka)
    try:
        yield made
    finally:
        await made.close()


def exact(name: str) -> list[dict[str, dict[str, str]]]:
    """A filter for one type."""
    return [{"exact": {"type": name}}]


async def finish_as_they_come(listener: RecordingListener, count: int) -> None:
    """Finish this many records, of which the feed holds a few at a time."""
    done = 0
    while done < count:
        await listener.has(min(done + 8, count))
        fresh = listener.records[done:]
        done += len(fresh)
        listener.finish(fresh)


async def finish_together(listeners: Sequence[RecordingListener], count: int) -> None:
    """As `finish_as_they_come`, for several: the same records of each at the same time."""
    done = 0
    while done < count:
        for listener in listeners:
            await listener.has(min(done + 8, count))
        common = min(len(listener.records) for listener in listeners)
        for listener in listeners:
            listener.finish(listener.records[done:common])
        done = common


async def test_each_feed_gets_what_its_filter_lets_pass(process: ReaderProcess) -> None:
    """The others are counted, and both groups commit to the end of the topic."""
    groups = [await process.group(), await process.group(), await process.group()]
    listeners = [RecordingListener(finish=True) for _ in groups]
    wanted: list[list[dict[str, dict[str, str]]]] = [exact("a"), exact("b"), []]
    feeds = [
        process.open(group, listener, entries)
        for group, listener, entries in zip(groups, listeners, wanted, strict=True)
    ]
    await process.append(["a", "b", "c"] * 20, partition=0)
    await process.append(["a", "b", "c"] * 20, partition=1)
    await listeners[2].has(120)
    assert [listener.offsets(0) for listener in listeners] == [
        list(range(0, 60, 3)),
        list(range(1, 60, 3)),
        list(range(60)),
    ]
    assert [record.attributes for record in listeners[0].records[:1]] == [
        {"specversion": "1.0", "id": "0", "source": "/test", "type": "a"}
    ]
    for group in groups:
        await process.has_committed(group, {0: 60, 1: 60})
    for feed in feeds:
        feed.lag()
    assert [feed.skipped for feed in feeds] == [80, 80, 0]


async def test_a_full_feed_holds_up_no_other(process: ReaderProcess) -> None:
    """It gets what it has missed when it has room again: everything, once, in order."""
    slow, fast = RecordingListener(), RecordingListener(finish=True)
    process.open(await process.group(), slow, records_max=16)
    process.open(await process.group(), fast)
    await process.append(["a"] * 500)
    await fast.has(500)
    assert len(slow.records) == 16
    await finish_as_they_come(slow, 500)
    assert slow.offsets() == list(range(500))
    assert fast.offsets() == list(range(500))
    await process.append(["a"] * 10)
    await slow.has(510)
    assert slow.offsets() == list(range(510))


async def test_a_full_feed_that_is_alone_is_not_read_for_twice(process: ReaderProcess) -> None:
    """The reader waits for it."""
    listener = RecordingListener()
    feed = process.open(await process.group(), listener, records_max=16)
    await process.append(["a"] * 300)
    await finish_as_they_come(listener, 300)
    assert listener.offsets() == list(range(300))
    assert feed.lag()[Partition(process.topic, 0)].records == 0


async def test_a_feed_that_joins_a_full_one_is_not_held_up(process: ReaderProcess) -> None:
    """What was held for the only feed continues, and that one catches up later."""
    full, joining = RecordingListener(), RecordingListener(finish=True)
    process.open(await process.group(), full, records_max=16)
    await process.append(["a"] * 300)
    await full.has(16)
    process.open(await process.group(p0=200), joining)
    await joining.has(100)
    assert joining.offsets() == list(range(200, 300))
    await finish_as_they_come(full, 300)
    assert full.offsets() == list(range(300))


@pytest.mark.parametrize("returns", [True, False], ids=["it ends", "it is given up"])
async def test_a_request_that_hangs_while_partitions_are_given_back_holds_up_no_other_feed(
    process: ReaderProcess, kafka: KafkaUnderTest, returns: bool
) -> None:
    """In the partitions that stay. The drain waits for it, and the reader for the drain."""
    hanging, prompt = RecordingListener(give_back=False), RecordingListener(finish=True)
    process.drain_seconds = 8.0
    group = await process.group()
    process.open(await process.group(), hanging, records_max=20)
    process.open(group, prompt)
    await process.append(["a"], partition=0)
    await process.append(["a"], partition=1)
    await hanging.has(2)
    await prompt.has(2)
    other, received = ReaderProcess(kafka, topic=process.topic), RecordingListener(finish=True)
    try:
        other.open(group, received)
        await wait_until_async(lambda: hanging.returns, 20, "a partition is to be given back")
        stays = 1 - hanging.revoked[0].partition
        await process.append(["b"] * 200, partition=stays)
        await wait_until_async(lambda: len(prompt.offsets(stays)) == 201, 7, "its events arrive")
        assert not hanging.lost, "the drain has ended"
        if returns:
            hanging.returns[0]()
        await process.append(["b"] * 200, partition=1 - stays)
        await wait_until_async(lambda: len(received.records) == 200, 20, "the partition is passed")
        await process.append(["c"] * 200, partition=stays)
        await wait_until_async(lambda: len(prompt.offsets(stays)) == 401, 10, "more events arrive")
        assert prompt.offsets(stays) == list(range(401)), "each arrives once"
        assert received.offsets(1 - stays) == list(range(1, 201))
        await process.has_committed(group, {stays: 401, 1 - stays: 201})
        await finish_as_they_come(hanging, 402)
        assert hanging.offsets(stays) == list(range(401))
    finally:
        await other.close()


async def test_a_paused_partition_holds_up_no_other_feed(process: ReaderProcess) -> None:
    """It continues where it was paused."""
    ordered, other = RecordingListener(finish=True), RecordingListener(finish=True)
    feed = process.open(await process.group(), ordered)
    process.open(await process.group(), other)
    await process.append(["a"] * 10)
    await ordered.has(10)
    feed.pause(Partition(process.topic, 0))
    await process.append(["a"] * 50, partition=0)
    await process.append(["a"] * 50, partition=1)
    await other.has(110)
    await ordered.has(60)
    assert ordered.offsets(0) == list(range(10))
    assert ordered.offsets(1) == list(range(50))
    feed.resume(Partition(process.topic, 0))
    await ordered.has(110)
    assert ordered.offsets(0) == list(range(60))


async def test_a_feed_that_begins_far_back_catches_up(process: ReaderProcess) -> None:
    """One at the head gets its events meanwhile; both end at the same position."""
    await process.append(["a"] * 15_000)
    head, behind = RecordingListener(finish=True), RecordingListener(finish=True)
    process.open(await process.group(p0=15_000), head)
    await process.append(["a"] * 5)
    await head.has(5)
    old = await process.group()
    process.open(old, behind)
    await process.append(["a"] * 5)
    await head.has(10)
    await behind.has(15_010, 60)
    assert behind.offsets() == list(range(15_010))
    assert head.offsets() == list(range(15_000, 15_010))
    await process.append(["a"] * 5)
    await behind.has(15_015)
    await process.has_committed(old, {0: 15_015, 1: 0})


@pytest.fixture
def caught_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of records that were read for feeds that are behind."""
    read = 0

    def counted(message: Message) -> StoredRecord:
        nonlocal read
        read += 1
        return to_record(message)

    monkeypatch.setattr(assigned_consumer, "to_record", counted)
    return lambda: read


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with other work, feeds that are equally fast take longer to have room."""
    for module in (held_records, catch_up):
        monkeypatch.setattr(module, "WAIT_SECONDS_MAX", 15.0)


@pytest.mark.usefixtures("patient")
async def test_feeds_that_are_equally_fast_are_read_for_once(
    process: ReaderProcess, caught_up: Callable[[], int]
) -> None:
    """The reader waits until they have room again, which they get at about the same time."""
    listeners = [RecordingListener() for _ in range(3)]
    for listener in listeners:
        process.open(await process.group(), listener, records_max=64)
    # All have begun then, and are at the end of the log.
    await process.append(["a"])
    for listener in listeners:
        await listener.has(1)
    await process.append(["a"] * 1_499, partition=0)
    await process.append(["a"] * 1_500, partition=1)
    await finish_together(listeners, 3_000)
    for listener in listeners:
        assert listener.offsets(0) == listener.offsets(1) == list(range(1_500))
    assert caught_up() <= PARTITIONS * RECORDS_AHEAD_MAX


@pytest.mark.usefixtures("patient")
async def test_feeds_that_are_behind_and_equally_fast_are_read_for_once(
    process: ReaderProcess, caught_up: Callable[[], int]
) -> None:
    """A feed that is at the head gets other events at once meanwhile."""
    head, *behind = RecordingListener(finish=True), *(RecordingListener() for _ in range(3))
    process.open(await process.group(), head, exact("b"))
    for listener in behind:
        process.open(await process.group(), listener, exact("a"), records_max=64)
    await process.append(["a"])
    for listener in behind:
        await listener.has(1)
    await process.append(["a"] * 2_999)
    await process.append(["b"] * 10, partition=1)
    await head.has(10)
    await finish_together(behind, 3_000)
    assert [listener.offsets(0) for listener in behind] == [list(range(3_000))] * 3
    assert caught_up() <= 3_000 + PARTITIONS * RECORDS_AHEAD_MAX


@pytest.mark.parametrize("at_head", [True, False], ids=["at the head", "behind"])
async def test_a_feed_with_room_does_not_wait_for_one_that_hangs(
    process: ReaderProcess, *, at_head: bool
) -> None:
    """It has enough to do, so the reader waits for the other, but not for long: what it has may
    be events whose key is blocked.
    """
    hanging, blocked, other = (RecordingListener(finish=each) for each in (False, False, True))
    if not at_head:
        process.open(await process.group(), other, exact("b"))
    process.open(await process.group(), hanging, exact("a"), records_max=16)
    process.open(await process.group(), blocked, exact("a"), records_max=64)
    await process.append(["a"] * 40)
    await blocked.has(40)
    await process.append(["a"] * 24)
    await blocked.has(64)
    assert blocked.offsets() == list(range(64))
    assert hanging.offsets() == list(range(16))
    await finish_as_they_come(hanging, 64)
    assert hanging.offsets() == list(range(64))


async def test_the_only_feed_that_is_behind_is_not_read_for_twice(
    process: ReaderProcess, caught_up: Callable[[], int]
) -> None:
    """What was read and found no room waits for it. The reader continues for the other."""
    slow, other = RecordingListener(), RecordingListener(finish=True)
    process.open(await process.group(), slow, exact("a"), records_max=16)
    process.open(await process.group(), other, exact("b"))
    await process.append(["a"] * 2_000)
    await process.append(["a"] * 1_000, partition=1)
    await process.append(["b"] * 10)
    await other.has(10)
    await finish_as_they_come(slow, 3_000)
    assert slow.offsets(0) == list(range(2_000))
    assert slow.offsets(1) == list(range(1_000))
    assert caught_up() <= 3_010 + PARTITIONS * RECORDS_AHEAD_MAX


async def test_the_only_feed_that_is_behind_holds_up_none_that_joins(
    process: ReaderProcess,
) -> None:
    """It has no room and gets none; one that begins far back gets everything, also in a partition
    of which nothing has found room. When there is room, the first continues.
    """
    full, head, joining = (RecordingListener(finish=each) for each in (False, True, True))
    process.open(await process.group(), full, exact("a"), records_max=16)
    process.open(await process.group(), head, exact("b"))
    await process.append(["a"] * 500)
    await process.append(["a"] * 500, partition=1)
    await process.append(["b"] * 10)
    await head.has(10)
    await full.has(16)
    process.open(await process.group(), joining, exact("a"))
    await joining.has(1_000)
    assert joining.offsets(0) == joining.offsets(1) == list(range(500))
    assert len(full.records) == 16
    await finish_as_they_come(full, 1_000)
    assert full.offsets(0) == full.offsets(1) == list(range(500))


async def test_the_only_feed_that_is_behind_is_stopped(process: ReaderProcess) -> None:
    """What waited for it does not hold up the next one."""
    full, head, later = (RecordingListener(finish=each) for each in (False, True, True))
    stopped = process.open(await process.group(), full, exact("a"), records_max=16)
    process.open(await process.group(), head, exact("b"))
    await process.append(["a"] * 500)
    await process.append(["b"] * 10)
    await head.has(10)
    await full.has(16)
    full.finish(list(full.records))
    await stopped.stop()
    process.open(await process.group(), later, exact("a"))
    await later.has(500)
    assert later.offsets() == list(range(500))


async def test_a_feed_that_begins_far_ahead_does_not_wait(process: ReaderProcess) -> None:
    """The reader continues where that feed begins. The one that has filled up catches up."""
    await process.append(["a"] * 30_000)
    behind, head = RecordingListener(), RecordingListener(finish=True)
    first = process.open(await process.group(), behind, records_max=16)
    await behind.has(16)
    process.open(await process.group(p0=30_000), head)
    await process.append(["a"] * 5)
    await head.has(5)
    assert head.offsets() == list(range(30_000, 30_005))
    assert first.skipped == 0
    assert process.guard.examined < 15_000
    behind.finish(list(behind.records))
    await finish_as_they_come(behind, 500)
    assert behind.offsets()[:500] == list(range(500))


async def test_a_log_that_is_shorter_than_the_position_is_read_from_its_start(
    process: ReaderProcess, kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an election of a replica that had not all records: only the offset shows it. The log
    has the offset at which the reader has begun, and this is the first error since: its group had
    committed offsets.
    """
    monkeypatch.setattr(TopicIds, "known", lambda *_: "")
    group = await process.group()
    before, listener = RecordingListener(finish=True), RecordingListener(finish=True)
    feed = process.open(group, before)
    await process.append(["a"] * 10)
    await before.has(10)
    await feed.stop()
    process.open(group, listener)
    await process.append(["a"] * 10)
    await listener.has(10)
    kafka.delete_topics([process.topic])
    kafka.create_topic(name=process.topic, partitions=PARTITIONS)
    await process.append(["a"] * 15)
    await listener.has(25, 30)
    assert listener.offsets() == [*range(10, 20), *range(15)]
    assert AlarmKind.TOPIC_RECREATED in {alarm.kind for alarm in listener.alarms}


async def test_an_offset_beyond_the_end_of_a_log_moves_no_other_feed(
    process: ReaderProcess,
) -> None:
    """The log has become shorter before the process has begun: that feed begins at the oldest
    record, whether it is the first of the process or joins others.
    """
    await process.append(["a"] * 15)
    first, other, later = (RecordingListener(finish=True) for _ in range(3))
    process.open(await process.group(p0=40), first)
    process.open(await process.group(p0=5), other)
    await first.has(15)
    await other.has(10)
    process.open(await process.group(p0=40_000), later)
    await later.has(15)
    await process.append(["a"])
    await first.has(16)
    await other.has(11)
    await later.has(16)
    assert [list(range(start, 16)) for start in (0, 5, 0)] == [
        each.offsets() for each in (first, other, later)
    ]
    assert [[AlarmKind.TOPIC_RECREATED], [], [AlarmKind.TOPIC_RECREATED]] == [
        [alarm.kind for alarm in each.alarms] for each in (first, other, later)
    ]


async def test_a_reader_without_a_feed_to_read_for_does_not_read_the_log(
    process: ReaderProcess,
) -> None:
    """As when a process starts during an upgrade: the groups of its feeds have members still."""
    await process.append(["a"] * 30_000)
    group = await process.group(p0=30_000)
    member, before = process.start_member(group)
    await process.append(["a"] * 5)
    await before.has(5)
    after = RecordingListener(finish=True)
    feed = process.open(group, after)
    await wait_until_async(lambda: feed.refused_since is not None, 20, "a refused commit")
    await member.stop()
    await process.append(["a"] * 5)
    await after.has(5, 30)
    assert after.offsets() == list(range(30_005, 30_010))
    assert process.guard.examined < 30_000


async def test_a_reader_begins_where_its_feeds_are(process: ReaderProcess) -> None:
    """Not where its own group has committed: what the client has read from there already is
    dropped.
    """
    await process.append(["a"] * 100)
    starts = [TopicPartition(process.topic, 0, 50), TopicPartition(process.topic, 1, 0)]
    await asyncio.to_thread(process.commit, reader_group(process.topic), starts)
    listener = RecordingListener(finish=True)
    process.open(await process.group(), listener)
    await listener.has(100)
    assert listener.offsets() == list(range(100))


async def test_a_feed_that_begins_commits_once(
    process: ReaderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id of the topic is committed with the first commit, which takes over the group: a
    thousand new subscriptions make a thousand commits, not two thousand.
    """
    await process.append(["a"] * 7, partition=1)
    process.open(await process.group(), RecordingListener())
    known = process.shared.topic_ids.known
    await wait_until_async(lambda: known(process.topic), what="the id of the topic")
    offsets = process.readers._offsets
    assert offsets is not None
    commit, committed = offsets.commit, dict[str, list[Sequence[Position]]]()

    async def record(
        group: str, positions: Sequence[Position], seconds: float, still_valid: Callable[[], bool]
    ) -> CommitResult:
        committed.setdefault(group, []).append(positions)
        return await commit(group, positions, seconds, still_valid)

    monkeypatch.setattr(offsets, "commit", record)
    feed = process.open(await process.group(p1=7), RecordingListener())
    await wait_until_async(lambda: len(feed.partitions) == PARTITIONS, what="the feed begins")
    assert not feed.has_skipped()
    metadata = f"{known(process.topic)}@"
    starts = {
        Position(Partition(process.topic, number), offset, metadata)
        for number, offset in enumerate((0, 7))
    }
    assert [starts] == [set(each) for each in committed[feed.group]]


async def test_a_changed_filter_applies_to_the_next_event(process: ReaderProcess) -> None:
    listener = RecordingListener(finish=True)
    feed = process.open(await process.group(), listener, exact("a"))
    await process.append(["a", "b"])
    await listener.has(1)
    feed.change_filter(filters.compile(exact("b")))
    await process.append(["a", "b"])
    await listener.has(2)
    assert listener.offsets() == [0, 3]


async def test_a_group_that_has_members_is_served_when_they_have_left(
    process: ReaderProcess,
) -> None:
    """As during an upgrade: the members are processes of the version before."""
    group = await process.group()
    member, before = process.start_member(group)
    await process.append(["a"] * 5)
    await before.has(5)
    after = RecordingListener(finish=True)
    feed = process.open(group, after)
    await wait_until_async(lambda: feed.refused_since is not None, 20, "a refused commit")
    await process.append(["a"] * 5)
    await before.has(10)
    await member.stop()
    await process.append(["a"] * 5)
    await after.has(5, 30)
    assert before.offsets() == list(range(10))
    assert after.offsets() == list(range(10, 15))
    assert after.alarms == []


async def test_a_feed_whose_group_gets_members_stops(process: ReaderProcess) -> None:
    """As when the version before is put back: its process gets everything from then on."""
    group = await process.group()
    after = RecordingListener(finish=True)
    process.open(group, after)
    await process.append(["a"] * 5)
    await after.has(5)
    await process.has_committed(group, {0: 5, 1: 0})
    member, before = process.start_member(group)
    await process.append(["a"] * 5)
    await before.has(5, 20)
    await wait_until_async(lambda: after.lost, 20, "a loss")
    await process.append(["a"] * 5)
    await before.has(10)
    assert before.offsets() == list(range(5, 15))
    assert max(after.offsets()) < 10
    await member.stop()
