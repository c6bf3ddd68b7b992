"""The event loop's side of a feed; the test acts as the consumer's thread."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.commands import Command
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.revocation import RevocationRequest
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.consumer.topic_ids import TopicIds
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.ports import FeedListener
from headrace.domain.record import Partition, StoredRecord
from tests.support.wait_until import wait_until_async

OPTIONS = KafkaOptions(bootstrap_servers="127.0.0.1:1")
PARTITION = Partition("topic", 0)


@dataclass
class SlowListener:
    """A listener that gives nothing back until its partitions are lost, as a lane does."""

    records: list[StoredRecord] = field(default_factory=list)
    drained: Callable[[], None] | None = None
    unconfirmed_calls: list[bool] = field(default_factory=list)

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        self.records += records

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        self.drained = drained

    def on_lost(self, partitions: Collection[Partition]) -> None:
        if self.drained is not None:
            self.drained()

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        self.unconfirmed_calls.append(unconfirmed)


def record(offset: int) -> StoredRecord:
    return StoredRecord("topic", 0, offset, 0, None, b"", (), None, 10)


class KnownTopicIds(TopicIds):
    """Topic ids that the test sets."""

    def __init__(self, ids: dict[str, str]) -> None:
        super().__init__(OPTIONS)
        self.ids = ids

    def known(self, topic: str) -> str:
        return self.ids.get(topic, "")

    def forget_id(self, topic: str) -> None:
        self.ids.pop(topic, None)


def new_assignment(
    listener: FeedListener, alarms: list[FeedAlarm], ids: dict[str, str] | None = None
) -> Assignment:
    """An assignment without partitions and without a thread."""
    shared = replace(
        SharedConsumerResources.create(OPTIONS), topic_ids=KnownTopicIds({} if ids is None else ids)
    )
    config = ConsumerConfig(options=OPTIONS, group="group", topics=("topic",))
    assignment = Assignment(config, shared, alarms.append)
    assignment.attach(listener)
    return assignment


def with_partition(listener: FeedListener, alarms: list[FeedAlarm]) -> Assignment:
    """An assignment of one partition, from its beginning."""
    assignment = new_assignment(listener, alarms)
    assignment.on_partitions_assigned([Position(PARTITION, 0, "")])
    return assignment


def commits(assignment: Assignment) -> list[Sequence[Position]]:
    """What the consumer's thread is asked to commit."""
    return [
        positions for command, positions in assignment.channel.commands if command is Command.COMMIT
    ]


async def test_unconfirmed_membership_is_verified_by_a_repeated_commit() -> None:
    """Also when nothing has changed, and again after a refusal, until an answer proves it."""
    listener, alarms = SlowListener(), list[FeedAlarm]()
    assignment = with_partition(listener, alarms)
    assignment.verify_membership()
    await wait_until_async(lambda: len(commits(assignment)) == 1, 5, "a commit")
    assignment.on_commit_answered(None)
    await wait_until_async(lambda: len(commits(assignment)) == 2, 5, "the second commit")
    assert [True] == listener.unconfirmed_calls
    assignment.on_commit_answered((), member=True)
    assert [True, False] == listener.unconfirmed_calls
    assert [(PARTITION, 0)] * 2 == [
        (position.partition, position.offset) for (position,) in commits(assignment)
    ]
    assert [AlarmKind.UNCONFIRMED] == [alarm.kind for alarm in alarms]
    assignment.close()


async def test_unconfirmed_membership_ends_with_the_partitions() -> None:
    """Lost partitions need no confirmation, and later assignments start confirmed."""
    listener = SlowListener()
    assignment = with_partition(listener, [])
    assignment.verify_membership()
    assignment.on_partitions_lost(None)
    assert [True, False] == listener.unconfirmed_calls
    assignment.verify_membership()
    assert [True, False] == listener.unconfirmed_calls
    assignment.close()


async def test_done_records_are_committed_at_the_drain_deadline() -> None:
    """One slow record of three is delivered again; the two that are done are not."""
    listener, alarms = SlowListener(), list[FeedAlarm]()
    assignment = with_partition(listener, alarms)
    assignment.flow.add_batch(3, 30, largest=10)
    assignment.on_batch([record(0), record(1), record(2)], [])
    assignment.done(listener.records[0])
    assignment.done(listener.records[2])
    request = RevocationRequest([PARTITION])
    assignment.on_partitions_revoked(request)
    assert request.is_open
    assignment.on_drain_timeout(request)
    (position,) = request.positions
    assert (PARTITION, 1) == (position.partition, position.offset)
    assert position.metadata
    assert [(AlarmKind.DRAIN_OVERDUE, 1)] == [(alarm.kind, alarm.count) for alarm in alarms]
    assert 0 == assignment.flow.records
    assignment.close()
    await asyncio.sleep(0)


async def test_a_late_end_of_a_revocation_leaves_the_next_assignment_alone() -> None:
    """The thread did not wait for it any longer, and the partition was assigned again: its records
    are handed out.
    """
    listener = SlowListener()
    assignment = with_partition(listener, [])
    assignment.on_partitions_revoked(RevocationRequest([PARTITION]))
    late, listener.drained = listener.drained, None
    assignment.channel.report_lost(assignment.on_partitions_lost, [PARTITION])
    assert assignment.has_lost_more
    await wait_until_async(lambda: not assignment.has_lost_more, 5, "the loss")
    assert not assignment.has_partitions
    assignment.on_partitions_assigned([Position(PARTITION, 5, "")])
    assert late is not None
    late()
    assignment.on_batch([record(5)], [])
    assert [each.offset for each in listener.records] == [5]
    assignment.close()


async def test_nothing_is_reported_at_a_drain_deadline_after_the_end() -> None:
    """The deadline of a feed that was abandoned while it gave a partition back."""
    listener, alarms = SlowListener(), list[FeedAlarm]()
    assignment = with_partition(listener, alarms)
    request = RevocationRequest([PARTITION])
    assignment.on_partitions_revoked(request)
    assignment.close()
    assignment.on_drain_timeout(request)
    assert (request.is_open, alarms) == (True, [])


async def test_a_revocation_commits_nothing_if_nothing_was_done() -> None:
    """The id of the topic alone is left to the next owner: a refusal of its commit would be
    reported as records that are delivered again.
    """
    listener = SlowListener()
    assignment = new_assignment(listener, [], {"topic": "id"})
    assignment.on_partitions_assigned([Position(PARTITION, 5, "")])
    request = RevocationRequest([PARTITION])
    assignment.on_partitions_revoked(request)
    assert listener.drained is not None
    listener.drained()
    assert not request.is_open
    assert [] == request.positions
    assignment.close()


async def test_a_revocation_commits_the_start_of_a_partition_without_offset() -> None:
    """Where reading began at the end of the log: the next owner must not begin at a later end."""
    listener = SlowListener()
    assignment = new_assignment(listener, [], {"topic": "id"})
    assignment.on_partitions_assigned([Position(PARTITION, 5, "")])
    assignment.commit_starts([PARTITION])
    request = RevocationRequest([PARTITION])
    assignment.on_partitions_revoked(request)
    assert listener.drained is not None
    listener.drained()
    assert [Position(PARTITION, 5, "id@")] == request.positions
    assignment.close()


async def test_an_end_that_was_reached_while_a_partition_was_paused_counts() -> None:
    """The last record of a transaction is a marker: there is no lag behind it."""
    listener = SlowListener()
    assignment = with_partition(listener, [])
    assignment.pause(PARTITION)
    assignment.flow.add_batch(2, 20, largest=10)
    assignment.on_batch([record(0), record(1)], [(PARTITION, 3)])
    assert assignment.lag()[PARTITION].records == 3
    assignment.resume(PARTITION)
    await wait_until_async(lambda: len(listener.records) == 2, 5, "the records")
    for each in listener.records:
        assignment.done(each)
    assert assignment.lag()[PARTITION].records == 0
    assignment.close()
