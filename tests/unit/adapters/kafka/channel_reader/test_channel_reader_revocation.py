"""What a reader and its feeds do while partitions are given back, without a Kafka. The test acts as
the next owner of the partitions.
"""

import asyncio
from collections.abc import Callable, Collection

import pytest

from headrace.adapters.kafka.channel_reader import channel_reader, subscription_feed
from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.record import Partition
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.memory_offsets import (
    CHANNEL,
    MemoryOffsets,
    OpenedReader,
)

P0, P1 = Partition(CHANNEL, 0), Partition(CHANNEL, 1)


@pytest.fixture
async def offsets() -> MemoryOffsets:
    """Two groups have committed the offset 7 in both partitions."""
    made = MemoryOffsets()
    made.stored = {(group, each): 7 for group in ("first", "late") for each in (P0, P1)}
    return made


async def test_a_feed_does_not_begin_in_what_is_given_back(
    shared: SharedConsumerResources, offsets: MemoryOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would commit there again after ten minutes at the latest, behind the next owner."""
    monkeypatch.setattr(subscription_feed, "COMMIT_AGAIN_SECONDS", 0.0)
    reader = OpenedReader(shared, offsets)
    reader.open_feed("first", RecordingListener())
    await reader.assign(0, 1)
    late = reader.open_feed("late", RecordingListener())
    await asyncio.sleep(0)  # Its offsets are about to be read.
    request = reader.revoke(0)
    await wait_until_async(lambda: not request.is_open, what="the partition is given back")
    await wait_until_async(lambda: late.partitions, what="the feed begins")
    assert [1] == list(late.partitions)
    offsets.stored |= {("late", P0): 100, ("late", P1): 0}
    reader.commit_soon(late)
    await wait_until_async(lambda: 7 == offsets.stored["late", P1], what="a commit")
    assert 100 == offsets.stored["late", P0]


async def test_a_topic_that_is_created_again_begins_at_the_next_owner(
    shared: SharedConsumerResources, offsets: MemoryOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noticed while the partition is drained. This process would commit that it begins at its
    oldest record, behind the next owner.
    """
    ids = {CHANNEL: "old"}
    monkeypatch.setattr(shared.topic_ids, "known", ids.__getitem__)
    monkeypatch.setattr(channel_reader, "_LAZY_SECONDS", 1e6)
    reader = OpenedReader(shared, offsets)
    listener = RecordingListener(give_back=False)
    feed = reader.open_feed("first", listener)
    await reader.assign(0, 1)
    request = reader.revoke(0)
    await wait_until_async(lambda: listener.returns, what="a request to give back")
    ids[CHANNEL] = "new"
    reader._commit_skipped()
    listener.returns[0]()
    await wait_until_async(lambda: not request.is_open, what="the partition is given back")
    assert [1] == list(feed.partitions)
    assert P0 not in [each.partition for each in listener.alarms]
    assert 7 == offsets.stored["first", P0]


@pytest.fixture
def long_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each drain takes long at once, and the test reads for the feeds that are behind."""
    monkeypatch.setattr(channel_reader, "LONG_DRAIN_SECONDS", 0.0)
    monkeypatch.setattr(AssignedConsumer, "read", lambda *_: 1)
    monkeypatch.setattr(AssignedConsumer, "stop_reading", lambda *_: None)


@pytest.mark.usefixtures("long_drains")
async def test_the_reader_continues_after_a_long_drain_where_the_feeds_are(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """Each event is handed out once, and to a feed that has begun meanwhile too."""
    offsets.stored |= {("new", P1): 8}
    reader = OpenedReader(shared, offsets)
    hanging, other, new = (RecordingListener(give_back=each) for each in (False, True, True))
    reader.open_feed("first", hanging)
    reader.open_feed("late", other)
    await reader.assign(0, 1)
    reader.read(1, [7])
    request = reader.revoke(0)
    await wait_until_async(lambda: 1 in reader._catch_up._turns, what="both are read for")
    reader._catch_up.on_records(P1, 1, reader.records(1, [8, 9]), 10)
    feed = reader.open_feed("new", new)
    await wait_until_async(lambda: feed.partitions, what="a feed begins")
    assert 8 == reader.position(1)
    hanging.returns[0]()
    await wait_until_async(lambda: not request.is_open, what="the partition is given back")
    await wait_until_async(lambda: 10 == reader.position(1), what="the reader is where they are")
    reader.read(1, [8, 9, 10])
    assert [[7, 8, 9, 10]] * 2 == [each.offsets(1) for each in (hanging, other)]
    await wait_until_async(lambda: 1 in reader._catch_up._turns, what="the new one is read for")
    reader._catch_up.on_records(P1, 1, reader.records(1, [8, 9, 10]), None)
    reader.read(1, [11])
    assert [8, 9, 10, 11] == new.offsets(1)


@pytest.mark.usefixtures("long_drains")
async def test_partitions_that_are_lost_during_a_long_drain_begin_again(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """Where their groups are then."""
    reader, listener = OpenedReader(shared, offsets), RecordingListener(give_back=False)
    reader.open_feed("first", listener)
    await reader.assign(0, 1)
    reader.revoke(0)
    await wait_until_async(lambda: 1 in reader._catch_up._turns, what="it is read for")
    reader._catch_up.on_records(P1, 1, reader.records(1, [7]), None)
    reader.replace_consumer()
    assert [P0, P1] == sorted(listener.lost)
    await wait_until_async(lambda: not reader._drains, what="the drain is over")
    await reader.assign(1)
    reader.read(1, [7, 8])
    assert [7, 7, 8] == listener.offsets(1)


class FailingListener(RecordingListener):
    """A listener with an error in its code."""

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        raise RuntimeError("revoked")

    def on_lost(self, partitions: Collection[Partition]) -> None:
        raise RuntimeError("lost")


async def test_a_listener_that_fails_keeps_no_loss_from_other_feeds(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """They would continue to commit for the partitions of another process."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(str(context["exception"]))
    )
    reader, listener = OpenedReader(shared, offsets), RecordingListener()
    feeds = [reader.open_feed("first", FailingListener()), reader.open_feed("late", listener)]
    await reader.assign(0, 1)
    request = reader.revoke(0)
    await wait_until_async(lambda: listener.revoked == [P0], what="a request to give back")
    reader.on_drain_overdue([P0])
    await wait_until_async(lambda: not request.is_open, what="the partition is given back")
    reader.replace_consumer()
    assert [[], []] == [list(each.partitions) for each in feeds]
    assert ["revoked", "lost", "lost"] == failures
    assert [P1] == listener.lost
