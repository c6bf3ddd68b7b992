"""The reader of a channel, without a Kafka: what it does with records, ends and expired offsets."""

import asyncio

import pytest

from headrace.adapters.kafka.channel_reader.event_matcher import EventMatcher
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition, StoredRecord
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.memory_offsets import (
    CHANNEL,
    MemoryOffsets,
    OpenedReader,
)

FIRST = Partition(CHANNEL, 0)
ONLY_B = [{"exact": {"type": "b"}}]


@pytest.fixture
async def reader(shared: SharedConsumerResources) -> OpenedReader:
    """Two groups have committed the offset 0 in the first partition."""
    offsets = MemoryOffsets()
    offsets.stored |= {("one", FIRST): 0, ("two", FIRST): 0}
    return OpenedReader(shared, offsets)


async def test_an_event_that_cannot_be_examined_is_missed_by_no_feed(
    reader: OpenedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets it, and examines it itself; the records beside it are not affected."""
    examine = EventMatcher._read

    def failing(matcher: EventMatcher, record: StoredRecord) -> object:
        if record.offset == 3:
            raise RuntimeError("an error in the code that reads events")
        return examine(matcher, record)

    monkeypatch.setattr(EventMatcher, "_read", failing)
    every, others = RecordingListener(), RecordingListener()
    reader.open_feed("one", every)
    reader.open_feed("two", others, entries=ONLY_B)
    await reader.assign(0)
    reader.read(0, range(5))
    reader.read(0, range(5, 8))
    await every.has(8)
    assert every.offsets() == list(range(8))
    assert others.offsets() == [3]
    assert not others.records[0].examined


async def test_only_what_was_not_read_is_reported_as_expired(reader: OpenedReader) -> None:
    """Fifty records were read and not wanted, the next ten have expired."""
    listener = RecordingListener()
    feed = reader.open_feed("one", listener, entries=ONLY_B)
    await reader.assign(0)
    reader.read(0, range(50))
    reader.expire(0, 60)
    assert [(each.kind, each.count) for each in listener.alarms] == [(AlarmKind.EXPIRED, 10)]
    assert feed.skipped == 50


async def test_an_end_that_was_reached_after_held_records_counts(
    reader: OpenedReader,
) -> None:
    """The last record of a transaction is a marker, which is not handed out: there is no lag
    behind it.
    """
    listener = RecordingListener()
    feed = reader.open_feed("one", listener, records_max=16)
    await reader.assign(0)
    reader.read(0, range(20), end=21)
    await listener.has(16)

    def all_done() -> bool:
        listener.finish([each for each in listener.records if each.offset not in finished])
        finished.update(listener.offsets())
        return len(finished) == 20

    finished: set[int] = set()
    await wait_until_async(all_done, 5, "all records are handed out")
    await wait_until_async(lambda: feed.lag()[FIRST].records == 0, 5, "no lag is left")


async def test_a_feed_begins_when_another_one_of_its_group_has_ended(
    reader: OpenedReader,
) -> None:
    """A Trigger is created again while it drains: what is in flight is delivered once."""
    first, second = RecordingListener(give_back=False), RecordingListener()
    ending = reader.open_feed("one", first)
    await reader.assign(0)
    reader.read(0, range(3))
    stopping = asyncio.ensure_future(ending.stop())
    await wait_until_async(lambda: first.returns, what="a request to give back")
    beginning = reader.open_feed("one", second)
    reader._commit_skipped()
    await wait_until_async(lambda: reader._admission._task is None, what="what was begun has ended")
    assert not beginning.partitions
    first.finish(first.records)
    first.returns[0]()
    await stopping
    await wait_until_async(lambda: beginning.follows(0), what="the second feed begins")
    reader.read(0, range(3, 5))
    assert ([0, 1, 2], [3, 4]) == (first.offsets(), second.offsets())
