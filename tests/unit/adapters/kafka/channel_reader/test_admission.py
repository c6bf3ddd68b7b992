"""Feeds that begin, and groups that do not let them, without a Kafka."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from headrace.adapters.kafka.channel_reader import admission
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, CommitResult
from headrace.adapters.kafka.group_offsets.topic_requests import FIRST, LOG_END, Place
from headrace.domain.errors import HeadraceError, LogUnavailable, NotFound, WriteRefused
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

P0, P1 = Partition(CHANNEL, 0), Partition(CHANNEL, 1)
DENIED = WriteRefused("committed offsets of group bad: GROUP_AUTHORIZATION_FAILED")
UNANSWERED = LogUnavailable("committed offsets of group bad: no answer within 4 s")


@pytest.fixture
def offsets(monkeypatch: pytest.MonkeyPatch) -> MemoryOffsets:
    """Three groups, which are asked again soon."""
    monkeypatch.setattr(admission, "_RETRY_SECONDS", 0.01)
    made = MemoryOffsets()
    made.stored = {(group, each): 7 for group in ("first", "good", "bad") for each in (P0, P1)}
    return made


@pytest.mark.parametrize(
    ("error", "kind", "step"),
    [
        (DENIED, AlarmKind.REFUSED, "headrace acls"),
        (UNANSWERED, AlarmKind.UNAVAILABLE, "__consumer_offsets"),
    ],
)
async def test_a_group_that_cannot_be_read_delays_no_other_at_an_assignment(
    shared: SharedConsumerResources,
    offsets: MemoryOffsets,
    error: HeadraceError,
    kind: AlarmKind,
    step: str,
) -> None:
    """It is an alarm of its own feed, which begins when the group can be read."""
    offsets.failing = {"bad": error}
    reader = OpenedReader(shared, offsets)
    good, bad = RecordingListener(), RecordingListener()
    serving, waiting = reader.open_feed("good", good), reader.open_feed("bad", bad)
    (start,) = await reader.assign(0)
    assert (7, [0], []) == (start.offset, list(serving.partitions), list(waiting.partitions))
    assert serving.follows(0)
    (alarm,) = bad.alarms
    assert (kind, "bad") == (alarm.kind, alarm.group)
    assert str(error) in alarm.detail
    assert step in alarm.detail
    offsets.failing.clear()
    await wait_until_async(lambda: waiting.follows(0), what="the group is read again")
    assert good.alarms == []


async def test_a_group_that_cannot_be_read_delays_no_other_that_joins(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """Those that are read are served while that one has no answer."""
    offsets.failing = {"bad": UNANSWERED}
    offsets.unanswered.clear()
    reader = OpenedReader(shared, offsets)
    reader.open_feed("first", RecordingListener())
    await reader.assign(0)
    good, bad = RecordingListener(), RecordingListener()
    waiting, serving = reader.open_feed("bad", bad), reader.open_feed("good", good)
    await wait_until_async(lambda: serving.follows(0), what="the other group is served")
    assert bad.alarms == []
    offsets.unanswered.set()
    await wait_until_async(lambda: bad.alarms, what="an alarm")
    offsets.failing.clear()
    await wait_until_async(lambda: waiting.follows(0), what="the group is read again")
    assert good.alarms == []


async def test_an_assignment_fails_if_no_group_can_be_read(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """It is not known where anything begins."""
    offsets.failing = {"bad": UNANSWERED}
    reader = OpenedReader(shared, offsets)
    reader.open_feed("bad", RecordingListener())
    with pytest.raises(LogUnavailable, match="group bad"):
        await reader.assign(0)


@pytest.mark.parametrize(
    ("result", "kind", "alarm_after"),
    [
        (CommitResult(CommitOutcome.REFUSED, "", {P0: DENIED}), AlarmKind.REFUSED, 1e6),
        (
            CommitResult(CommitOutcome.REFUSED, "", {P0: NotFound("t")}),
            AlarmKind.TOPIC_MISSING,
            1e6,
        ),
        (CommitResult(CommitOutcome.UNKNOWN, "late"), AlarmKind.UNAVAILABLE, 0.05),
        (CommitResult(CommitOutcome.WITHDRAWN, "withdrawn"), AlarmKind.UNCONFIRMED, 0.05),
    ],
)
async def test_a_commit_that_is_not_stored_when_a_feed_begins_is_an_alarm(
    shared: SharedConsumerResources,
    offsets: MemoryOffsets,
    monkeypatch: pytest.MonkeyPatch,
    result: CommitResult,
    kind: AlarmKind,
    alarm_after: float,
) -> None:
    """At once, or when it lasts if it may pass by itself. The feed begins when it is stored."""
    monkeypatch.setattr(admission, "_UNANSWERED_ALARM_SECONDS", alarm_after)
    offsets.results = {"bad": result}
    reader = OpenedReader(shared, offsets)
    listener = RecordingListener()
    feed = reader.open_feed("bad", listener)
    await reader.assign(0)
    assert not feed.partitions
    assert bool(listener.alarms) == (result.outcome is CommitOutcome.REFUSED)
    await wait_until_async(lambda: listener.alarms, what="an alarm")
    assert listener.alarms[0].kind == kind
    offsets.results.clear()
    await wait_until_async(lambda: feed.follows(0), what="the feed begins")
    assert feed.refused_since is None


async def test_nothing_of_an_assignment_that_has_failed_is_committed(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """The feeds have begun, but the reader has not. Another process owns the partition then."""
    reader = OpenedReader(shared, offsets)
    feed = reader.open_feed("good", RecordingListener())
    await reader.start_positions([P0, P1], 2)
    assert [0, 1] == list(feed.partitions)
    reader.replace_consumer()
    assert [] == list(feed.partitions)
    await reader.assign(1)
    assert [1] == list(feed.partitions)


async def test_a_feed_does_not_begin_after_its_assignment_has_failed(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """The answer of its group comes too late."""
    reader = OpenedReader(shared, offsets)
    feed = reader.open_feed("good", RecordingListener())
    offsets.answering.clear()
    starting = asyncio.ensure_future(reader.start_positions([P0], 2))
    await asyncio.sleep(0)
    reader.replace_consumer()
    offsets.answering.set()
    await starting
    assert [] == list(feed.partitions)


async def test_a_feed_that_has_ended_commits_nothing_for_its_group(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """Its group is served by another feed meanwhile, or by another process."""
    reader = OpenedReader(shared, offsets)
    reader.open_feed("first", RecordingListener())
    await reader.assign(0)
    offsets.answering.clear()
    feed = reader.open_feed("good", RecordingListener())
    await wait_until_async(lambda: offsets.committing, what="the commit of the feed")
    await feed.stop()
    offsets.stored["good", P0] = 100
    offsets.answering.set()
    await wait_until_async(lambda: not offsets.committing, what="the end of the commit")
    assert 100 == offsets.stored["good", P0]
    assert feed.refused_since is None


async def test_a_group_without_offsets_is_not_served_while_it_has_members(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """A dispatcher of the version before has begun a moment ago. The group is served when it has
    left.
    """
    offsets.results = {"none": CommitResult(CommitOutcome.MEMBERS)}
    reader = OpenedReader(shared, offsets)
    reader.open_feed("first", RecordingListener())
    listener = RecordingListener()
    feed = reader.open_feed("none", listener)
    await reader.assign(0, 1)
    assert ([], []) == (list(feed.partitions), listener.alarms)
    reader.read(0, range(10))
    assert [] == listener.records
    offsets.results.clear()
    await wait_until_async(lambda: feed.partitions, what="the feed begins")
    assert [AlarmKind.OFFSET_MISSING] * 2 == [each.kind for each in listener.alarms]
    assert {0} == {offsets.stored["none", each] for each in (P0, P1)}


@pytest.mark.parametrize("readable", [False, True])
async def test_a_group_that_does_not_let_a_feed_begin_is_asked_at_intervals(
    shared: SharedConsumerResources,
    offsets: MemoryOffsets,
    monkeypatch: pytest.MonkeyPatch,
    readable: bool,
) -> None:
    """However often the feed is verified, and partitions are assigned."""
    monkeypatch.setattr(admission, "_RETRY_SECONDS", 1e6)
    if readable:
        offsets.results = {"bad": CommitResult(CommitOutcome.REFUSED, "", {P0: DENIED, P1: DENIED})}
    else:
        offsets.failing = {"bad": DENIED}
    reader = OpenedReader(shared, offsets)
    reader.open_feed("good", RecordingListener())
    feed = reader.open_feed("bad", RecordingListener())
    await reader.assign(0, 1)
    begins = reader._admission

    async def asked(times: int) -> None:
        for _ in range(10):
            begins.verify(feed)
            begins.join_where_missing()
            await wait_until_async(lambda: begins._task is None, what="the end of what was begun")
        assert times == offsets.asked.count("bad")
        assert [feed] == list(begins._waiting)

    await asked(1)
    begins._waiting[feed].cancel()
    begins._rejoin(feed)  # The time is over.
    await asked(2)
    await feed.stop()
    assert not begins._waiting


async def test_a_feed_whose_log_has_become_shorter_begins_at_its_oldest_record(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """At once, and it moves no other feed. The first offsets of the other logs are not read."""
    offsets.stored["bad", P0] = 700
    set_topic_id(shared, "perhaps of the topic before")
    reader = OpenedReader(shared, offsets)
    reader.logs.ends, reader.logs.firsts = {P0: 500}, {P0: 3}
    good, bad = RecordingListener(), RecordingListener()
    staying, moved = reader.open_feed("good", good), reader.open_feed("bad", bad)
    starts = await reader.assign(0, 1)
    assert [3, 7] == [each.offset for each in starts]
    assert (7, 3) == (staying.next_offset(0), moved.next_offset(0))
    assert (7, 3) == (offsets.stored["good", P0], offsets.stored["bad", P0])
    assert [7, 7] == [each.next_offset(1) for each in (staying, moved)]
    assert [] == good.alarms
    assert [(AlarmKind.TOPIC_RECREATED, P0)] == [(each.kind, each.partition) for each in bad.alarms]
    assert "offset 700 is committed in channel/0, whose log ends at 500" in bad.alarms[0].detail
    assert [LOG_END, LOG_END, FIRST] == reader.logs.asked
    assert "" == shared.topic_ids.known(CHANNEL)


async def test_a_feed_that_joins_a_log_that_has_become_shorter_moves_no_other(
    shared: SharedConsumerResources, offsets: MemoryOffsets
) -> None:
    """Nor the reader, which would go to the offset that the log does not have."""
    offsets.stored["bad", P0] = 70_000
    reader = OpenedReader(shared, offsets)
    reader.logs.ends = {P0: 500}
    good, bad = RecordingListener(), RecordingListener()
    staying = reader.open_feed("good", good)
    await reader.assign(0)
    assert [LOG_END] == reader.logs.asked
    moved = reader.open_feed("bad", bad)
    await wait_until_async(lambda: moved.partitions, what="it begins")
    assert (0, 7) == (moved.next_offset(0), reader.position(0))
    assert staying.follows(0)
    assert [] == good.alarms


async def test_an_end_that_is_older_than_the_offset_moves_nothing(
    shared: SharedConsumerResources, offsets: MemoryOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has read and committed between the two requests."""
    reader = OpenedReader(shared, offsets)
    logs = reader.logs
    logs.ends = {P0: 6}
    read = logs.read_at

    async def grown(
        partitions: Collection[Partition], at: Place, until: float
    ) -> Mapping[Partition, int]:
        found = await read(partitions, at, until)
        logs.ends = {P0: 7}
        return found

    monkeypatch.setattr(logs, "read_at", grown)
    listener = RecordingListener()
    feed = reader.open_feed("good", listener)
    await reader.assign(0)
    assert (7, []) == (feed.next_offset(0), listener.alarms)


async def test_a_feed_begins_in_a_log_when_its_end_is_known(
    shared: SharedConsumerResources, offsets: MemoryOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leader does not answer: nothing could be read there. The others do not wait for it."""
    monkeypatch.setattr(admission, "_UNANSWERED_ALARM_SECONDS", 0.05)
    reader = OpenedReader(shared, offsets)
    reader.logs.unanswered = {P1}
    listener = RecordingListener()
    feed = reader.open_feed("good", listener)
    await reader.assign(0, 1)
    assert feed.follows(0)
    assert 1 not in feed.partitions
    await wait_until_async(lambda: listener.alarms, what="an alarm")
    assert AlarmKind.UNAVAILABLE is listener.alarms[0].kind
    assert "the end of channel/1 is not known" in listener.alarms[0].detail
    reader.logs.unanswered.clear()
    await wait_until_async(lambda: 1 in feed.partitions, what="it begins")
    assert 7 == feed.next_offset(1)
