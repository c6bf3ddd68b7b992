"""A channel topic that is deleted and created again, without a Kafka: each feed begins once."""

import pytest

from headrace.adapters.kafka.channel_reader import admission, channel_reader
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, CommitResult
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.memory_offsets import (
    CHANNEL,
    MemoryOffsets,
    OpenedReader,
    set_topic_id,
)

FIRST = Partition(CHANNEL, 0)


@pytest.fixture
async def offsets(
    shared: SharedConsumerResources, monkeypatch: pytest.MonkeyPatch
) -> MemoryOffsets:
    """Two groups have committed the offset 7 in a topic that is created again later. The test says
    when feeds are verified.
    """
    monkeypatch.setattr(channel_reader, "_LAZY_SECONDS", 1e6)
    monkeypatch.setattr(admission, "_RETRY_SECONDS", 0.01)
    set_topic_id(shared, "old")
    made = MemoryOffsets()
    made.stored = {("one", FIRST): 7, ("two", FIRST): 7}
    return made


async def test_a_log_that_is_found_shorter_begins_once(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """The id of the new topic is known some seconds later. By then its records are delivered."""
    reader, listener = OpenedReader(shared, offsets), RecordingListener()
    feed = reader.open_feed("one", listener)
    await reader.assign(0)
    reader.begin_again(0)
    reader.read(0, range(3))
    reader._commit_skipped()
    assert not reader.check_topic(0)
    set_topic_id(shared, "new")
    reader._commit_skipped()
    assert not reader.check_topic(0)
    assert ([0, 1, 2], [FIRST]) == (listener.offsets(), listener.lost)
    assert "new" == feed.states([0])[0].topic_id
    assert [AlarmKind.TOPIC_RECREATED] == [each.kind for each in listener.alarms]


async def test_a_new_id_that_a_feed_finds_first_begins_once(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """Feeds and their reader do not look at the same moment."""
    reader, listener = OpenedReader(shared, offsets), RecordingListener()
    feed = reader.open_feed("one", listener)
    await reader.assign(0)
    set_topic_id(shared, "new")
    reader._commit_skipped()
    assert reader.check_topic(0)
    reader.begin_again(0, noticed=True)
    reader._commit_skipped()
    reader.read(0, range(3))
    assert ([0, 1, 2], [FIRST]) == (listener.offsets(), listener.lost)
    assert "new" == feed.states([0])[0].topic_id


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_feed_that_its_group_has_not_accepted_does_not_begin_with_the_others(
    shared: SharedConsumerResources, offsets: MemoryOffsets, by_id: bool
) -> None:
    """Its group has members, which deliver the same events."""
    offsets.results = {"two": CommitResult(CommitOutcome.MEMBERS)}
    reader = OpenedReader(shared, offsets)
    serving = reader.open_feed("one", RecordingListener())
    waiting = reader.open_feed("two", RecordingListener())
    await reader.assign(0)
    if by_id:
        set_topic_id(shared, "new")
        assert reader.check_topic(0)
    reader.begin_again(0, noticed=by_id)
    assert ([0], []) == (list(serving.partitions), list(waiting.partitions))
    offsets.results.clear()
    set_topic_id(shared, "new")
    await wait_until_async(lambda: waiting.partitions, what="the members have left")
