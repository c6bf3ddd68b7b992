"""The Kafka feed in cases that need a real Kafka: membership, added partitions, transaction
markers, deleted records.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from headrace.adapters.kafka.consumer import poll_loop, rebalance_listener
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.domain.feed import AlarmKind, FeedBounds, InitialOffset, OutOfRange
from headrace.domain.record import Partition
from headrace.runtime.failpoints import Failpoint
from tests.contract.feeds import (
    ChannelReaderHarness,
    KafkaFeedHarness,
    RecordingListener,
    RetryReaderHarness,
)
from tests.contract.test_feed import committed_is
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka
BOTH = pytest.mark.parametrize("protocol", list(GroupProtocol))


@pytest.fixture
async def harness(kafka: KafkaUnderTest) -> AsyncIterator[KafkaFeedHarness]:
    """One partition, classic protocol."""
    made = KafkaFeedHarness(kafka, GroupProtocol.CLASSIC, 1)
    yield made
    await made.close()


@pytest.fixture
async def shared(kafka: KafkaUnderTest, protocol: GroupProtocol) -> AsyncIterator[KafkaFeedHarness]:
    """Four partitions, the test's protocol."""
    made = KafkaFeedHarness(kafka, protocol, 4)
    yield made
    await made.close()


async def administer(
    harness: KafkaFeedHarness, ask: Callable[[AdminClient], Mapping[Any, "Future[Any]"]]
) -> list[Any]:
    """Query the cluster and return the answers."""

    def asked() -> list[Any]:
        admin = AdminClient({"bootstrap.servers": harness.options.bootstrap_servers})
        return [answer.result(10) for answer in ask(admin).values()]

    return await asyncio.to_thread(asked)


async def members(harness: KafkaFeedHarness) -> int:
    """Return the current number of members of the group."""
    described = await administer(
        harness, lambda admin: admin.describe_consumer_groups([harness.group])
    )
    return len(described[0].members)


@BOTH
async def test_two_members_share_and_one_takes_over(shared: KafkaFeedHarness) -> None:
    """Two members have two partitions each; when one leaves the other has all four."""
    first, second = RecordingListener(finish=True), RecordingListener(finish=True)
    staying = shared.feed(first)
    await wait_until_async(lambda: len(staying.lag()) == 4, 20, "all partitions")
    leaving = shared.feed(second)
    await wait_until_async(
        lambda: len(staying.lag()) == len(leaving.lag()) == 2, 30, "two partitions each"
    )
    await leaving.stop()
    await wait_until_async(lambda: len(staying.lag()) == 4, 20, "all partitions again")
    assert second.lost == first.lost == []


@BOTH
async def test_a_pause_ends_with_the_ownership_of_its_partition(shared: KafkaFeedHarness) -> None:
    """The client keeps a pause across assignments: a partition that was revoked and assigned again
    would stay paused forever.
    """
    first, second = RecordingListener(finish=True), RecordingListener(finish=True)
    staying = shared.feed(first)
    await wait_until_async(lambda: len(staying.lag()) == 4, 20, "all partitions")
    for partition in list(staying.lag()):
        staying.pause(partition)
    leaving = shared.feed(second)
    await wait_until_async(
        lambda: len(staying.lag()) == len(leaving.lag()) == 2, 30, "two partitions each"
    )
    gone = {partition.partition for partition in leaving.lag()}
    await leaving.stop()
    await wait_until_async(lambda: len(staying.lag()) == 4, 20, "all partitions again")
    for number in gone:
        await shared.append(2, partition=number)
    await wait_until_async(
        lambda: all(len(first.offsets(number)) == 2 for number in gone),
        15,
        "the reassigned partition is read",
    )


@BOTH
@pytest.mark.parametrize("kind", [KafkaFeedHarness, ChannelReaderHarness, RetryReaderHarness])
async def test_the_group_answers_during_a_revocation(
    kafka: KafkaUnderTest, protocol: GroupProtocol, kind: type[KafkaFeedHarness]
) -> None:
    """One request that hangs does not end the deliveries of the partitions that stay."""
    harness = kind(kafka, protocol, 2)
    first, second = RecordingListener(give_back=False), RecordingListener()
    try:
        feed = harness.feed(first, drain_seconds=60.0)
        for number in (0, 1):
            await harness.append(1, partition=number)
        await first.has(2)
        await harness.hand_over(feed, second)
        feed.verify_membership()
        await wait_until_async(lambda: len(first.unconfirmed_calls) == 2, 10, "the answer")
        assert first.unconfirmed_calls == [True, False]
        assert not second.records
    finally:
        await harness.close()


async def test_static_member_is_back_at_once(harness: KafkaFeedHarness) -> None:
    """A static member that crashed gets its partitions again well before its session would have
    expired.
    """
    first, second = RecordingListener(), RecordingListener(finish=True)
    crashing = harness.feed(first, instance="stays")
    await harness.append(3)
    await first.has(3)
    crashing.abandon()
    assert await asyncio.to_thread(crashing.join, 5.0)
    again = harness.feed(second, instance="stays")
    await second.has(3, 3.0)
    await again.stop()
    assert await members(harness) == 1


@pytest.mark.parametrize("protocol", [GroupProtocol.CLASSIC])
async def test_a_static_member_that_crashes_during_a_revocation_leaves_no_partition_unassigned(
    shared: KafkaFeedHarness,
) -> None:
    """It rejoins with its old assignment without a rebalance; the partition that it was to revoke
    must still get an owner.
    """
    first, second, again = (
        RecordingListener(finish=True, give_back=False),
        RecordingListener(finish=True),
        RecordingListener(finish=True),
    )
    dying = shared.feed(first, instance="first")
    await wait_until_async(lambda: len(dying.lag()) == 4, 20, "the first has all partitions")
    other = shared.feed(second, instance="second")
    await wait_until_async(lambda: first.revoked, 20, "the first is asked to give some back")
    dying.abandon()
    restarted = shared.feed(again, instance="first")
    await wait_until_async(
        lambda: len(restarted.lag()) + len(other.lag()) == 4,
        20,
        "every partition has an owner again",
    )
    for number in range(4):
        await shared.append(3, partition=number)
    await wait_until_async(
        lambda: len(second.records) + len(again.records) == 12, 20, "all of them are read"
    )


async def test_static_member_leaves_on_request(harness: KafkaFeedHarness) -> None:
    """`leave` removes a static member from its group, so that the group can be deleted
    immediately.
    """
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener, instance="goes")
    await harness.append(1)
    await listener.has(1)
    await feed.stop(leave=True)
    assert await members(harness) == 0
    assert await harness.committed() == {0: (1, "")}


async def test_dynamic_member_leaves_at_stop(harness: KafkaFeedHarness) -> None:
    """A stopped dynamic member leaves its group immediately."""
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener)
    await harness.append(1)
    await listener.has(1)
    await feed.stop()
    assert await members(harness) == 0


async def test_a_fenced_static_member_raises_an_alarm(harness: KafkaFeedHarness) -> None:
    """A member whose instance id is taken by another one raises an alarm and returns no more
    records.
    """
    first, second = RecordingListener(finish=True), RecordingListener(finish=True)
    harness.feed(first, instance="twice")
    await harness.append(1)
    await first.has(1)
    harness.feed(second, instance="twice")
    await wait_until_async(
        lambda: AlarmKind.FENCED in {alarm.kind for alarm in first.alarms}, 15, "an alarm"
    )
    assert first.lost
    await harness.append(1)
    await second.has(1)
    assert len(first.records) == 1


@BOTH
async def test_added_partitions_start_at_their_beginning(shared: KafkaFeedHarness) -> None:
    """Records written to a new partition before it was discovered are returned, without
    an alarm.
    """
    listener = RecordingListener(finish=True)
    feed = shared.feed(listener)
    await wait_until_async(lambda: len(feed.lag()) == 4, 20, "all partitions")
    await administer(
        shared, lambda admin: admin.create_partitions([NewPartitions(shared.topic, 5)])
    )
    producer = Producer(shared.options.client(topic_metadata_refresh_interval_ms=200))
    await wait_until_async(
        lambda: 4 in producer.list_topics(shared.topic, timeout=5).topics[shared.topic].partitions,
        10,
    )
    for _ in range(3):
        producer.produce(shared.topic, b"new", partition=4)
    assert await asyncio.to_thread(producer.flush, 10) == 0
    await listener.has(3, 30)
    assert listener.offsets(4) == [0, 1, 2]
    assert listener.alarms == []
    await committed_is(shared, {0: 0, 1: 0, 2: 0, 3: 0, 4: 3})


async def test_transaction_markers_do_not_hold_the_prefix(harness: KafkaFeedHarness) -> None:
    """Markers and aborted records between and after the records of transactions are skipped: the
    committed offset is the end, and the lag is 0.
    """
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener)
    producer = Producer(harness.options.client(transactional_id=f"writer-{harness.group}"))
    await asyncio.to_thread(producer.init_transactions, 15)
    for round_number in range(3):
        producer.begin_transaction()
        for _ in range(2):
            producer.produce(harness.topic, b"x", partition=0)
        await asyncio.to_thread(producer.flush, 10)
        end = producer.abort_transaction if round_number == 1 else producer.commit_transaction
        await asyncio.to_thread(end, 15)
    await listener.has(4)
    assert listener.offsets() == [0, 1, 6, 7]
    await committed_is(harness, {0: 9})
    await wait_until_async(
        lambda: feed.lag()[Partition(harness.topic, 0)].records == 0, 5, "no lag"
    )


async def delete_below(harness: KafkaFeedHarness, offset: int) -> None:
    """Remove records as retention does."""
    await administer(
        harness, lambda admin: admin.delete_records([TopicPartition(harness.topic, 0, offset)])
    )


@pytest.mark.parametrize(
    ("policy", "expected"), [(OutOfRange.EARLIEST, [6, 7, 8, 9, 10]), (OutOfRange.LATEST, [10])]
)
async def test_expired_records_are_counted(
    harness: KafkaFeedHarness, policy: OutOfRange, expected: list[int]
) -> None:
    """If the committed offset is no longer in the log, reading continues by the policy, and an
    alarm counts the lost records.
    """
    await harness.append(10)
    await delete_below(harness, 6)
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener, out_of_range=policy)
    await wait_until_async(lambda: listener.alarms, 15, "an alarm")
    await harness.append(1)
    await listener.has(len(expected))
    assert listener.offsets() == expected
    assert [(alarm.kind, alarm.partition, alarm.count) for alarm in listener.alarms] == [
        (AlarmKind.EXPIRED, Partition(harness.topic, 0), expected[0])
    ]
    assert feed.expired == expected[0]
    await feed.stop()
    await committed_is(harness, {0: 11})


async def test_expired_records_may_stop_a_partition(harness: KafkaFeedHarness) -> None:
    """With the policy `stop` no record is returned and nothing is committed, and an alarm is
    raised.
    """
    await harness.append(10)
    await delete_below(harness, 6)
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener, out_of_range=OutOfRange.STOP)
    await wait_until_async(lambda: listener.alarms, 15, "an alarm")
    await feed.stop()
    assert listener.records == []
    assert [alarm.kind for alarm in listener.alarms] == [AlarmKind.EXPIRED]
    await committed_is(harness, {0: 0})


async def test_group_that_begins_at_the_end_commits_it(harness: KafkaFeedHarness) -> None:
    """Without an alarm, and before it has read anything."""
    await harness.append(3)
    harness.group += "-new"
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener, initial_offset=InitialOffset.LATEST)
    await committed_is(harness, {0: 3})
    await harness.append(1)
    await wait_until_async(lambda: listener.records, 15, "a record")
    await feed.stop()
    assert [record.offset for record in listener.records] == [3]
    assert listener.alarms == []


@pytest.mark.parametrize(
    ("policy", "expected"), [(OutOfRange.EARLIEST, [0, 1, 2, 3]), (OutOfRange.LATEST, [3])]
)
async def test_group_without_offsets_is_an_alarm(
    harness: KafkaFeedHarness, policy: OutOfRange, expected: list[int]
) -> None:
    """A group with no committed offset in any partition of its topic starts by the policy, and an
    alarm is raised.
    """
    await harness.append(3)
    harness.group += "-forgotten"
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener, out_of_range=policy)
    await wait_until_async(lambda: listener.alarms, 15, "an alarm")
    await harness.append(1)
    await listener.has(len(expected))
    assert listener.offsets() == expected
    assert [alarm.kind for alarm in listener.alarms] == [AlarmKind.OFFSET_MISSING]
    await feed.stop()


async def test_missing_topic_is_an_alarm_until_it_exists(kafka: KafkaUnderTest) -> None:
    """A feed of a missing topic raises an alarm, returns no records, and can be stopped."""
    listener = RecordingListener()
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    config = ConsumerConfig(options=options, group="no-group", topics=("no-such-topic",))
    shared = SharedConsumerResources.create(options)
    feed = KafkaFeed(config, shared, listener.alarms.append)
    feed.start(listener)
    await wait_until_async(
        lambda: AlarmKind.TOPIC_MISSING in {alarm.kind for alarm in listener.alarms}, 15, "an alarm"
    )
    await asyncio.wait_for(feed.stop(), 10)
    await asyncio.to_thread(shared.close)


async def test_long_stall_pauses_and_resumes(harness: KafkaFeedHarness) -> None:
    """Bounds that stay reached pause the consumer; the lag is still reported; when there is
    capacity again, it resumes in order.
    """
    listener = RecordingListener()
    feed = harness.feed(listener, bounds=FeedBounds(records_max=4))
    await harness.append(10)
    await listener.has(4)
    partition = Partition(harness.topic, 0)
    await wait_until_async(lambda: feed.lag()[partition].progress_seconds > 1.3, 5, "a long stall")
    await harness.append(10)
    await wait_until_async(lambda: feed.lag()[partition].records == 20, 10, "the lag while paused")
    done = 0
    while done < 20:
        await listener.has(done + 1)
        batch = listener.records[done:]
        assert len(batch) <= 4
        listener.finish(batch)
        done += len(batch)
    assert listener.offsets() == list(range(20))


async def test_hostile_headers_are_accepted(harness: KafkaFeedHarness) -> None:
    """Null header values become empty ones, and the records after them are not delayed."""
    listener = RecordingListener(finish=True)
    harness.feed(listener)
    producer = Producer(harness.options.client())
    producer.produce(
        harness.topic, b"x", headers=[("ce_id", None), ("ce_id", b"\xff\x00")], partition=0
    )
    producer.produce(harness.topic, None, partition=0)
    assert await asyncio.to_thread(producer.flush, 10) == 0
    await listener.has(2)
    assert [list(record.headers) for record in listener.records] == [
        [("ce_id", b""), ("ce_id", b"\xff\x00")],
        [],
    ]
    assert listener.records[1].value is None


async def test_crash_points_are_passed(
    harness: KafkaFeedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failpoint is reached, in the order of the work."""
    passed: list[Failpoint] = []
    for module in (poll_loop, rebalance_listener):
        monkeypatch.setattr(module, "failpoint", passed.append)
    listener = RecordingListener(finish=True)
    feed = harness.feed(listener)
    await harness.append(1)
    await listener.has(1)
    await committed_is(harness, {0: 1})
    await feed.stop()
    assert list(dict.fromkeys(passed)) == [
        Failpoint.AFTER_POLL,
        Failpoint.AFTER_COMMIT,
        Failpoint.IN_REVOKE,
    ]
