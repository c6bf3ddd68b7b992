"""The reader of a channel, without a Kafka: what it does with records, ends and expired offsets."""

import asyncio
from collections.abc import Callable

import pytest

from headrace.adapters.kafka.channel_reader import subscription_feed
from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.channel_reader.channel_reader import START_DISTANCE_MAX
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

FIRST, SECOND = Partition(CHANNEL, 0), Partition(CHANNEL, 1)
FAR = 2 * START_DISTANCE_MAX
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


@pytest.mark.parametrize("behind", [False, True], ids=["at the head", "behind"])
@pytest.mark.parametrize(("stored", "expired"), [(True, [60]), (False, [])])
async def test_a_group_without_an_offset_begins_where_the_log_begins(
    shared: SharedConsumerResources,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stored: bool,
    expired: list[int],
    behind: bool,
) -> None:
    """Nothing has expired for it. A group that had committed 0 has lost what was there."""
    monkeypatch.setattr(AssignedConsumer, "read", lambda *_: 1)
    monkeypatch.setattr(AssignedConsumer, "stop_reading", lambda *_: None)
    offsets = MemoryOffsets()
    offsets.stored |= {("one", FIRST if stored else SECOND): 0, ("ahead", FIRST): FAR}
    reader = OpenedReader(shared, offsets)
    listener = RecordingListener()
    feed = reader.open_feed("one", listener)
    if behind:
        reader.open_feed("ahead", RecordingListener())
    await reader.assign(0)
    if behind:
        await wait_until_async(lambda: reader._catch_up._turns, what="a turn")
        reader._catch_up.on_reset(FIRST, 1, 60)
    else:
        reader.expire(0, 60)
    assert (60, expired) == (feed.next_offset(0), [each.count for each in listener.alarms])


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


def finishing(listener: RecordingListener) -> Callable[[], int]:
    """Return what reports all records as done and returns how many have been handed out."""
    finished = list[int]()

    def finish() -> int:
        todo = [each for each in listener.records if id(each) not in finished]
        finished.extend(map(id, todo))
        listener.finish(todo)
        return len(listener.records)

    return finish


async def test_a_reader_that_has_moved_ahead_does_not_go_back(
    shared: SharedConsumerResources,
) -> None:
    """What arrives late from below, and is held with other records, is not where it continues: a
    feed that followed it there would miss everything up to the next record.
    """
    offsets = MemoryOffsets()
    offsets.stored |= {("one", each): 0 for each in (FIRST, SECOND)}
    offsets.stored |= {("two", FIRST): FAR, ("two", SECOND): 0}
    reader = OpenedReader(shared, offsets)
    one, two = RecordingListener(), RecordingListener()
    behind = reader.open_feed("one", one, records_max=4)
    await reader.assign(0, 1)
    ahead = reader.open_feed("two", two, records_max=4)
    await wait_until_async(lambda: ahead.follows(0), what="the reader moves ahead")
    assert not behind.follows(0)
    reader.read(1, range(8))  # Both are full.
    reader.read(0, range(5))
    one.finish(one.records)
    await wait_until_async(lambda: 8 == len(one.records), what="the rest is handed out")
    one.finish(one.records[4:])
    await wait_until_async(lambda: not behind.full, what="there is room")
    assert (False, 0, FAR) == (behind.follows(0), behind.next_offset(0), reader.position(0))
    finish = finishing(two)
    await wait_until_async(lambda: 8 == finish(), what="the other one reads on")
    reader.read(0, [FAR])
    assert (0, 0) == (behind.next_offset(0), behind.skipped)
    assert [FAR] == two.offsets(0)


async def test_held_records_are_handed_out_although_the_log_has_expired(
    reader: OpenedReader,
) -> None:
    """Only what was not read is lost, and what is read after that is in its turn."""
    listener = RecordingListener()
    reader.open_feed("one", listener, records_max=16)
    await reader.assign(0)
    reader.read(0, range(40))
    reader.expire(0, 60)
    reader.read(0, range(60, 70), end=71)
    finish = finishing(listener)
    await wait_until_async(lambda: 50 == finish(), what="all records are handed out")
    assert [*range(40), *range(60, 70)] == listener.offsets()
    assert [(AlarmKind.EXPIRED, 20)] == [(each.kind, each.count) for each in listener.alarms]
    await wait_until_async(lambda: 71 == reader.position(0), what="the end is noted")


async def test_nothing_of_a_log_applies_to_the_one_that_follows_it(reader: OpenedReader) -> None:
    """Its records are held; so are its end, and that a part of it has expired."""
    listener = RecordingListener()
    feed = reader.open_feed("one", listener, records_max=16)
    await reader.assign(0)
    reader.read(0, range(40), end=41)
    reader.expire(0, 60)
    reader.read(0, range(60, 70), end=71)
    reader.reset(0, 0, sought=71)
    assert (0, 0) == (feed.next_offset(0), reader.position(0))
    listener.records.clear()
    finish = finishing(listener)
    reader.read(0, range(30), end=31)
    await wait_until_async(lambda: 30 == finish(), what="all records are handed out")
    assert list(range(30)) == listener.offsets()
    assert [AlarmKind.TOPIC_RECREATED] == [each.kind for each in listener.alarms]
    await wait_until_async(lambda: 31 == reader.position(0), what="the end is noted")


async def test_a_log_without_what_the_consumer_has_sought_is_shorter(
    shared: SharedConsumerResources,
) -> None:
    """Not what was read last, if the reader has moved ahead since. An answer to what was sought
    before that is outdated.
    """
    offsets = MemoryOffsets()
    offsets.stored |= {("one", FIRST): 0, ("two", FIRST): FAR}
    reader = OpenedReader(shared, offsets)
    one, two = RecordingListener(), RecordingListener()
    reader.open_feed("one", one)
    await reader.assign(0)
    feed = reader.open_feed("two", two)
    await wait_until_async(lambda: feed.follows(0), what="the reader moves ahead")
    reader.reset(0, 50, sought=5)
    assert ([], FAR) == (two.alarms, reader.position(0))
    reader.reset(0, 50, sought=FAR)
    assert [AlarmKind.TOPIC_RECREATED] == [each.kind for each in two.alarms]
    assert (50, 50) == (feed.next_offset(0), reader.position(0))


async def test_a_feed_waits_for_room_in_the_process_not_for_its_own_request(
    reader: OpenedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have used the bytes of the process, and have finished. The only request of this feed
    hangs.
    """
    monkeypatch.setattr(subscription_feed, "BUDGET_SECONDS", 0.01)
    over = [True]
    hanging = RecordingListener()
    feed = reader.open_feed("one", hanging)
    feed.flow.over_process_budget = lambda: bool(over)
    await reader.assign(0)
    reader.read(0, range(5))
    assert (1, True) == (len(hanging.records), feed.full)
    over.clear()
    await hanging.has(5)
    assert list(range(5)) == hanging.offsets()


async def test_an_end_that_was_reached_while_no_feed_followed_counts(
    reader: OpenedReader,
) -> None:
    """It is behind records that the consumer keeps until a feed follows the reader again."""
    listener = RecordingListener()
    feed = reader.open_feed("one", listener)
    await reader.assign(0)
    feed.pause(FIRST)
    reader.read(0, range(5), end=6)
    assert (0, []) == (reader.position(0), listener.records)
    feed.resume(FIRST)
    await listener.has(5)
    listener.finish(listener.records)
    assert (6, 0) == (reader.position(0), feed.lag()[FIRST].records)
