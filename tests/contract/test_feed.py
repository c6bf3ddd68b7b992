"""The contract of every feed: in memory, on the embedded Kafka, on a real one with both group
protocols, and on NATS JetStream, where members share a topic or one of them owns it.

What differs on JetStream is a property of its harness: members that join take no partition from
those that run, so that a hand-over begins with a stop (`hand_over`, `moving`, `is_standby`), and
where members share a topic notes do not outlive the process (`keeps_notes`): only ordered
delivery, which has one owner, uses them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from headrace.adapters.kafka.consumer.membership_monitor import UNCONFIRMED_SECONDS
from headrace.adapters.kafka.options import GroupProtocol
from headrace.domain.feed import AlarmKind, FeedBounds, InitialOffset
from headrace.domain.record import Partition, StoredRecord
from headrace_cli.embedded_kafka import FETCH_WAIT_MS, SESSION_TIMEOUT_MS
from tests.contract.feeds import (
    ChannelReaderHarness,
    FeedHarness,
    JetStreamFeedHarness,
    KafkaFeedHarness,
    MemoryFeedHarness,
    RecordingListener,
    RetryReaderHarness,
)
from tests.support.embedded_limits import skip_what_the_embedded_kafka_cannot
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

PARTITIONS = 2


@pytest.fixture(
    params=[
        "memory",
        "jetstream-shared",
        "jetstream-exclusive",
        "embedded",
        pytest.param("classic", marks=pytest.mark.kafka),
        pytest.param("consumer", marks=pytest.mark.kafka),
        pytest.param("reader-classic", marks=pytest.mark.kafka),
        pytest.param("reader-consumer", marks=pytest.mark.kafka),
        pytest.param("retries-classic", marks=pytest.mark.kafka),
        pytest.param("retries-consumer", marks=pytest.mark.kafka),
    ],
)
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[FeedHarness]:
    """A topic with two partitions, a group with start offsets committed, and the feeds that the
    test creates.
    """
    made: FeedHarness
    if request.param == "memory":
        made = MemoryFeedHarness(PARTITIONS)
    elif request.param.startswith("jetstream"):
        made = on_jetstream = JetStreamFeedHarness(
            request.getfixturevalue("nats_server"),
            PARTITIONS,
            exclusive=request.param == "jetstream-exclusive",
        )
        await on_jetstream.start()
    elif request.param == "embedded":
        skip_what_the_embedded_kafka_cannot(request)
        embedded: KafkaUnderTest = request.getfixturevalue("embedded_kafka")
        made = KafkaFeedHarness(
            embedded,
            GroupProtocol.CLASSIC,
            PARTITIONS,
            session_ms=SESSION_TIMEOUT_MS,
            fetch_wait_ms=FETCH_WAIT_MS,
        )
    elif request.param.startswith("reader"):
        protocol = GroupProtocol(request.param.removeprefix("reader-"))
        made = ChannelReaderHarness(request.getfixturevalue("kafka"), protocol, PARTITIONS)
    elif request.param.startswith("retries"):
        protocol = GroupProtocol(request.param.removeprefix("retries-"))
        made = RetryReaderHarness(request.getfixturevalue("kafka"), protocol, PARTITIONS)
    else:
        made = KafkaFeedHarness(
            request.getfixturevalue("kafka"), GroupProtocol(request.param), PARTITIONS
        )
    try:
        yield made
    finally:
        await made.close()


async def committed_is(harness: FeedHarness, expected: dict[int, int]) -> None:
    """Wait until these offsets are committed."""
    deadline = time.monotonic() + 10
    while True:
        found = {number: offset for number, (offset, _) in (await harness.committed()).items()}
        if found == expected or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    assert found == expected


async def test_returns_everything_in_partition_order(harness: FeedHarness) -> None:
    """Every record comes once, in order within its partition, and the commit reaches the end."""
    listener = RecordingListener(finish=True)
    await harness.append(300, partition=0)
    feed = harness.feed(listener)
    await harness.append(200, partition=1)
    await listener.has(500)
    assert listener.offsets(0) == list(range(300))
    assert listener.offsets(1) == list(range(200))
    await committed_is(harness, {0: 300, 1: 200})
    assert all(lag.records == 0 and lag.progress_seconds == 0.0 for lag in feed.lag().values())


async def test_record_is_whole(harness: FeedHarness) -> None:
    """A record has its position, its bytes, a time, and a size to account for."""
    listener = RecordingListener()
    await harness.append(1)
    harness.feed(listener)
    await listener.has(1)
    record = listener.records[0]
    assert (record.topic, record.partition, record.offset, record.value) == (
        harness.topic,
        0,
        0,
        b"v" * 100,
    )
    assert abs(record.timestamp_ms / 1000 - time.time()) < 60
    assert record.size >= 100
    assert record.note is None


async def test_crash_repeats_what_was_not_done(harness: FeedHarness) -> None:
    """After a crash the next member gets what was not done, and not what was done and committed."""
    await harness.append(10)
    first = RecordingListener()
    crashing = harness.feed(first)
    await first.has(10)
    first.finish(first.records[:4])
    await committed_is(harness, {0: 4, 1: 0})
    crashing.abandon()
    second = RecordingListener(finish=True)
    harness.feed(second)
    await second.has(6, 30)
    assert second.offsets() == [4, 5, 6, 7, 8, 9]


async def test_prefix_waits_for_the_oldest(harness: FeedHarness) -> None:
    """The committed offset never passes a record that is not done; records done beyond it are in
    the metadata.
    """
    await harness.append(5)
    listener = RecordingListener()
    harness.feed(listener)
    await listener.has(5)
    listener.finish([listener.records[3], listener.records[0], listener.records[2]])
    await committed_is(harness, {0: 1, 1: 0})

    assert await harness.done_offsets(5) == [0, 2, 3]


async def test_done_beyond_the_prefix_is_not_repeated(harness: FeedHarness) -> None:
    """With one slow record at a stop, only that record is repeated."""
    await harness.append(50)
    first = RecordingListener()
    feed = harness.feed(first)
    await first.has(50)
    first.finish([record for record in first.records if record.offset != 7])
    await feed.stop()
    second = RecordingListener(finish=True)
    harness.feed(second)
    await second.has(1, 30)
    await harness.append(1)
    await second.has(2)
    assert second.offsets() == [7, 50]


async def test_done_twice_or_for_another_record_is_ignored(harness: FeedHarness) -> None:
    """Only the first `done` of a record in flight counts."""
    await harness.append(2)
    listener = RecordingListener()
    feed = harness.feed(listener)
    await listener.has(2)
    listener.finish([listener.records[0], listener.records[0]])
    feed.done(type(listener.records[1])("elsewhere", 3, 1, 0, None, None, ()))
    await committed_is(harness, {0: 1, 1: 0})


async def test_records_bound_holds(harness: FeedHarness) -> None:
    """At most `records_max` are in flight; each one done makes room."""
    await harness.append(40)
    listener = RecordingListener()
    feed = harness.feed(listener, bounds=FeedBounds(records_max=8))
    await listener.has(8)
    await wait_until_async(
        lambda: feed.lag()[harness.partition(0)].records == 40,
        what="the lag to count what was not read",
    )
    done = 0
    while done < 40:
        assert len(listener.records) - done <= 8
        batch = listener.records[done:]
        listener.finish(batch)
        done += len(batch)
        if done < 40:
            await listener.has(done + 1)
    assert listener.offsets() == list(range(40))


async def test_bytes_bound_holds(harness: FeedHarness) -> None:
    """At most `bytes_max`, and one record that exceeds it, are in flight."""
    await harness.append(60)
    listener = RecordingListener()
    harness.feed(listener, bounds=FeedBounds(bytes_max=3000))
    await listener.has(1)
    done = 0
    while done < 60:
        batch = listener.records[done:]
        assert sum(record.size for record in batch) <= 3000 + batch[0].size
        listener.finish(batch)
        done += len(batch)
        if done < 60:
            await listener.has(done + 1)
    assert listener.offsets() == list(range(60))


async def test_paused_partition_waits(harness: FeedHarness) -> None:
    """A paused partition returns no more records, the other one continues, and all stay in order
    afterwards.
    """
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener)
    await harness.append(1, partition=0)
    await harness.append(1, partition=1)
    await listener.has(2)
    feed.pause(harness.partition(0))
    await harness.append(20, partition=0)
    await harness.append(20, partition=1)
    await wait_until_async(
        lambda: len(listener.offsets(1)) == 21, 15, "the other partition to continue"
    )
    assert listener.offsets(0) == [0]
    feed.resume(harness.partition(0))
    await listener.has(42)
    assert listener.offsets(0) == list(range(21))


async def test_an_unconfirmed_membership_is_confirmed_by_the_group(harness: FeedHarness) -> None:
    """While a feed's membership is unconfirmed its listener starts nothing until the group has
    answered; also without anything to commit.
    """
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener)
    await harness.append(2)
    await listener.has(2)
    await committed_is(harness, {0: 2, 1: 0})
    feed.verify_membership()
    assert listener.unconfirmed_calls == [True]
    await wait_until_async(lambda: len(listener.unconfirmed_calls) == 2, 15, "the answer")
    assert listener.unconfirmed_calls == [True, False]
    await committed_is(harness, {0: 2, 1: 0})


async def test_notes_survive(harness: FeedHarness) -> None:
    """A note on an unfinished record is returned with it after a restart."""
    await harness.append(3)
    first = RecordingListener()
    feed = harness.feed(first)
    await first.has(3)
    feed.annotate(first.records[1], "attempt=2 due=17")
    feed.annotate(first.records[2], "gone")
    feed.annotate(first.records[2], None)
    first.finish(first.records[:1])
    await feed.stop()
    second = RecordingListener(finish=True)
    harness.feed(second)
    await second.has(2, 30)
    assert [(record.offset, record.note) for record in second.records] == [
        (1, "attempt=2 due=17" if harness.keeps_notes else None),
        (2, None),
    ]


@pytest.mark.parametrize("seconds", [0.0, UNCONFIRMED_SECONDS + 0.5])
async def test_revocation_drains_and_commits_first(harness: FeedHarness, seconds: float) -> None:
    """A partition is assigned to a new member only after the old one has revoked it, and then
    nothing is repeated or skipped, also if that took longer than a member of a group is trusted
    without an answer.
    """
    await harness.append(10, partition=0)
    await harness.append(10, partition=1)
    first, second = RecordingListener(give_back=False), RecordingListener(finish=True)
    feed = harness.feed(first)
    await first.has(20)
    await harness.hand_over(feed, second)
    moving = set(first.revoked)
    assert len(moving) == harness.moving
    since = time.monotonic()
    await wait_until_async(lambda: time.monotonic() - since >= seconds, 10, "a long request")
    assert not second.records
    first.finish(
        [record for record in first.records if Partition(record.topic, record.partition) in moving]
    )
    first.returns[0]()
    number = next(number for number in range(PARTITIONS) if harness.partition(number) in moving)
    await harness.append(1, partition=number)
    await second.has(1, 20)
    assert second.offsets(number) == [10]
    assert first.lost == []
    assert first.alarms == []


async def test_drain_deadline_ends_the_wait(harness: FeedHarness) -> None:
    """A listener that does not release its partitions loses them at the deadline; what it reports
    afterwards is ignored.
    """
    first, second = await _exceed_the_drain_deadline(harness)
    assert [alarm.kind for alarm in first.alarms].count(AlarmKind.DRAIN_OVERDUE) == 1
    number = second.number_of(second.records[0])
    assert harness.partition(number) in first.lost
    first.finish([record for record in first.records if first.number_of(record) == number])
    first.returns[0]()
    second.finish(second.records[:1])
    await committed_is(harness, {number: 1, 1 - number: 0})


async def test_drain_deadline_raises_one_alarm(harness: FeedHarness) -> None:
    """No other alarm than that of the deadline: the commit at its end is accepted."""
    first, _ = await _exceed_the_drain_deadline(harness)
    assert [alarm.kind for alarm in first.alarms] == [AlarmKind.DRAIN_OVERDUE]


async def _exceed_the_drain_deadline(
    harness: FeedHarness,
) -> tuple[RecordingListener, RecordingListener]:
    """A listener that has lost a partition at the drain deadline, and the one that has received the
    records of that partition.
    """
    await harness.append(5, partition=0)
    await harness.append(5, partition=1)
    first, second = RecordingListener(give_back=False), RecordingListener()
    feed = harness.feed(first, drain_seconds=0.2)
    await first.has(10)
    await harness.hand_over(feed, second)
    await wait_until_async(lambda: first.lost, 20, "a loss")
    await second.has(5, 20)
    return first, second


async def test_stop_drains_and_commits(harness: FeedHarness) -> None:
    """A stop waits for what is in flight, commits what is done, and may be repeated."""
    await harness.append(6)
    listener = RecordingListener(give_back=False)
    feed = harness.feed(listener)
    await listener.has(6)
    stopping = asyncio.ensure_future(feed.stop())
    await wait_until_async(lambda: listener.returns, 10, "a revocation")
    assert not stopping.done()
    listener.finish(listener.records)
    listener.returns[0]()
    await asyncio.wait_for(stopping, 15)
    await feed.stop()
    assert {number: offset for number, (offset, _) in (await harness.committed()).items()} == {
        0: 6,
        1: 0,
    }


async def test_members_that_join_and_leave_lose_nothing(harness: FeedHarness) -> None:
    """With members that join and leave every record is returned."""
    counted = await _records_of_members_that_join_and_leave(harness)
    assert counted.keys() == _every_record().keys()


async def test_members_that_join_and_leave_repeat_nothing(harness: FeedHarness) -> None:
    """No record is returned twice, because each revocation drains and commits first."""
    assert await _records_of_members_that_join_and_leave(harness) == _every_record()


def _every_record() -> Counter[tuple[int, int]]:
    """Each partition and offset of `_records_of_members_that_join_and_leave`, once."""
    return Counter((number, offset) for number in range(PARTITIONS) for offset in range(150))


async def _records_of_members_that_join_and_leave(
    harness: FeedHarness,
) -> Counter[tuple[int, int]]:
    """How often three members received each partition and offset: the second joins the first, the
    first leaves, the third joins the second.
    """
    listeners = [RecordingListener(finish=True) for _ in range(3)]

    def received() -> int:
        return len({_place(each, record) for each in listeners for record in each.records})

    async def append_and_wait(total: int) -> None:
        for partition in range(PARTITIONS):
            await harness.append(50, partition=partition)
        await wait_until_async(lambda: received() >= total, 20, f"{total} records")

    first = harness.feed(listeners[0])
    await append_and_wait(100)
    second = harness.feed(listeners[1])
    if not harness.is_standby:
        await wait_until_async(second.lag, 20, "partitions of the second")
    await append_and_wait(200)
    await first.stop()
    third = harness.feed(listeners[2])
    if not harness.is_standby:
        await wait_until_async(lambda: third.lag() and second.lag(), 20, "partitions of both")
    await append_and_wait(300)
    return Counter(_place(each, record) for each in listeners for record in each.records)


def _place(listener: RecordingListener, record: StoredRecord) -> tuple[int, int]:
    return listener.number_of(record), record.offset


async def test_lag_shows_records_age_and_progress(harness: FeedHarness) -> None:
    """Lag counts what is not done, the oldest record's time, and the time without progress."""
    await harness.append(5)
    listener = RecordingListener()
    feed = harness.feed(listener)
    await listener.has(5)
    partition = harness.partition(0)
    lag = feed.lag()[partition]
    assert (lag.records, lag.oldest_ms) == (5, listener.records[0].timestamp_ms)
    await wait_until_async(
        lambda: feed.lag()[partition].progress_seconds > 0.05, 5, "time without progress"
    )
    began = time.monotonic()
    listener.finish(listener.records[:2])
    lag = feed.lag()[partition]
    assert (lag.records, lag.oldest_ms) == (3, listener.records[2].timestamp_ms)
    assert lag.progress_seconds <= time.monotonic() - began


@pytest.mark.parametrize(
    ("initial_offset", "kinds"),
    [(InitialOffset.COMMITTED, {AlarmKind.OFFSET_MISSING}), (InitialOffset.EARLIEST, set())],
)
async def test_a_group_that_has_committed_nothing_starts_at_the_oldest_record(
    harness: FeedHarness, initial_offset: InitialOffset, kinds: set[AlarmKind]
) -> None:
    """An alarm if a start offset should have been committed, and normal if none is expected."""
    await harness.append(3, partition=0)
    await harness.append(3, partition=1)
    harness.forget()
    listener = RecordingListener(finish=True)
    harness.feed(listener, initial_offset=initial_offset)
    await listener.has(6)
    assert (listener.offsets(0), listener.offsets(1)) == ([0, 1, 2], [0, 1, 2])
    assert {alarm.kind for alarm in listener.alarms} == kinds
    await committed_is(harness, {0: 3, 1: 3})


async def test_a_recreated_topic_is_read_from_its_start(
    harness: FeedHarness,
) -> None:
    """Even if it is already longer than the old one was read: an alarm is raised, and none of its
    records is skipped.
    """
    await harness.append(5)
    listener = RecordingListener(finish=True)
    harness.feed(listener)
    await listener.has(5)
    await committed_is(harness, {0: 5, 1: 0})
    await harness.recreate()
    await harness.append(12)
    await wait_until_async(
        lambda: set(range(12)) <= set(listener.offsets()[5:]), 30, "all of the new topic"
    )
    partition = harness.partition(0)
    # The offsets of the group are gone with the topic. That is what a feed reports to which the new
    # one is assigned before it knows its id.
    assert {AlarmKind.TOPIC_RECREATED, AlarmKind.OFFSET_MISSING} & {
        alarm.kind for alarm in listener.alarms if alarm.partition == partition
    }
    assert partition in listener.lost
    deadline = time.monotonic() + 10
    while (await harness.committed()).get(0, (0, ""))[0] != 12 and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert 12 == (await harness.committed())[0][0]
