"""Which process reads the topics of subscriptions while the channel gets partitions, without a
Kafka.
"""

import asyncio

import pytest

from headrace.adapters.kafka.channel_reader import retry_reader
from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.consumer.topic_ids import TopicIds
from headrace.domain.reader_group import assigned_with
from headrace.domain.record import Partition, StoredRecord
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.memory_offsets import (
    CHANNEL,
    MemoryOffsets,
    OpenedReader,
    set_topic_id,
)

TOPIC = "retries"
PARTITIONS = range(4)
OWN = [each for each in PARTITIONS if assigned_with(TOPIC, each, 2) == 0]
MOVED = [each for each in PARTITIONS if each not in OWN]


@pytest.fixture
def counts(shared: SharedConsumerResources, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The numbers of partitions, by topic. Nothing is read."""
    known = {CHANNEL: 1, TOPIC: len(PARTITIONS)}
    monkeypatch.setattr(shared.topic_ids, "partitions", known.__getitem__)
    monkeypatch.setattr(AssignedConsumer, "read", lambda *_: 1)
    monkeypatch.setattr(AssignedConsumer, "stop_reading", lambda *_: None)
    return known


async def test_a_feed_that_begins_while_topics_move_begins_in_its_own_only(
    shared: SharedConsumerResources, counts: dict[str, int]
) -> None:
    offsets = MemoryOffsets()
    reader = OpenedReader(shared, offsets)
    await reader.assign(0)
    offsets.answering.clear()
    feed = reader.open_feed("g", RecordingListener(), TOPIC)
    await asyncio.sleep(0.01)
    counts[CHANNEL] = 2
    reader._retries._update_channel_partitions()
    offsets.stored = {("g", Partition(TOPIC, each)): 50 for each in MOVED}
    offsets.answering.set()
    await wait_until_async(lambda: feed.partitions, what="the feed begins")
    assert OWN == list(feed.partitions)
    assert {50} == {offsets.stored["g", Partition(TOPIC, each)] for each in MOVED}
    feed.abandon()


async def test_the_last_commit_of_a_topic_that_has_moved_sets_no_offset_back(
    shared: SharedConsumerResources, counts: dict[str, int]
) -> None:
    """The owner of today has begun before this process has noticed."""
    offsets = MemoryOffsets()
    reader = OpenedReader(shared, offsets)
    await reader.assign(0)
    listener = RecordingListener(give_back=False)
    feed = reader.open_feed("g", listener, TOPIC)
    await wait_until_async(lambda: feed.partitions, what="the feed begins")
    ahead, behind = (Partition(TOPIC, each) for each in MOVED)
    for each in (ahead, behind):
        record = StoredRecord(TOPIC, each.partition, 0, 0, None, b"v", (), None, 10)
        reader._retries.on_records(each, 1, [record], None)
    counts[CHANNEL] = 2
    reader._retries._update_channel_partitions()
    await wait_until_async(lambda: listener.returns, what="a request to give back")
    offsets.stored["g", ahead] = 50
    listener.finish(listener.records)
    listener.returns[0]()
    await wait_until_async(lambda: list(feed.partitions) == OWN, what="they are given back")
    assert (50, 1) == (offsets.stored["g", ahead], offsets.stored["g", behind])
    feed.abandon()


async def test_a_topic_that_moves_here_begins_when_others_have_given_it_back(
    shared: SharedConsumerResources, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They notice the partitions that were added within the interval of the queries."""
    counts[CHANNEL] = 2
    offsets = MemoryOffsets()
    reader = OpenedReader(shared, offsets)
    await reader.assign(0)
    feed = reader.open_feed("g", RecordingListener(), TOPIC)
    await wait_until_async(lambda: feed.partitions, what="the feed begins")
    retries = reader._retries
    monkeypatch.setattr(TopicIds, "noticed_seconds", 0.05)
    monkeypatch.setattr(retry_reader, "FINAL_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(retries, "_drain_seconds", 0.0)
    counts[CHANNEL] = 3
    retries._update_channel_partitions()
    added = [each for each in MOVED if assigned_with(TOPIC, each, 3) == 0]
    assert added
    assert [] == retries.missing(feed)
    await wait_until_async(lambda: added[0] in feed.partitions, what="it begins")
    feed.abandon()


async def test_a_topic_that_is_created_again_begins_once(
    shared: SharedConsumerResources, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is found shorter than before. Its id is known later."""
    monkeypatch.setattr(retry_reader, "_VISIT_SECONDS", 1e6)
    offsets, listener = MemoryOffsets(), RecordingListener()
    offsets.stored = {("g", Partition(TOPIC, each)): 50 for each in PARTITIONS}
    set_topic_id(shared, "old", TOPIC)
    reader = OpenedReader(shared, offsets)
    await reader.assign(0)
    feed = reader.open_feed("g", listener, TOPIC)
    await wait_until_async(lambda: feed.partitions, what="the feed begins")
    partition = Partition(TOPIC, 0)
    reader._retries.on_reset(partition, 1, 0)
    record = StoredRecord(TOPIC, 0, 0, 0, None, b"v", (), None, 10)
    reader._retries.on_records(partition, 1, [record], None)
    set_topic_id(shared, "new", TOPIC)
    reader._admission.verify(feed)
    reader._retries._admission.verify(feed)
    assert 1 == listener.lost.count(partition)
    assert [0] == listener.offsets()
    feed.abandon()


async def test_a_reset_of_a_position_before_ends_no_reading(
    shared: SharedConsumerResources, counts: dict[str, int]
) -> None:
    """It was reported for what was read until a moment ago."""
    offsets, listener = MemoryOffsets(), RecordingListener()
    reader = OpenedReader(shared, offsets)
    await reader.assign(0)
    feed = reader.open_feed("g", listener, TOPIC)
    await wait_until_async(lambda: feed.partitions, what="the feed begins")
    partition = Partition(TOPIC, 0)
    reader._retries.on_reset(partition, 0, 50)
    record = StoredRecord(TOPIC, 0, 0, 0, None, b"v", (), None, 10)
    reader._retries.on_records(partition, 1, [record], None)
    assert [0] == listener.offsets()
    feed.abandon()
