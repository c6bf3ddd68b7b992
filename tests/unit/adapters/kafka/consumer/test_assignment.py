"""What a feed holds on the loop, with the consumer's thread played by the test."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from headrace.adapters.kafka.consumer.assignment import Assignment, RevocationRequest
from headrace.adapters.kafka.consumer.commits import CommitBudget, Position
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds
from headrace.domain.record import Partition, StoredRecord
from tests.support.wait_until import wait_until_async

PARTITION = Partition("topic", 0)


@dataclass
class Thread:
    """Remembers what it is asked for."""

    commits: list[Sequence[Position]] = field(default_factory=list)

    def commit(self, positions: Sequence[Position]) -> None:
        self.commits.append(positions)

    def pause(self, partition: Partition) -> None: ...

    def resume(self, partition: Partition) -> None: ...


@dataclass
class Lingering:
    """A listener that gives nothing back until it has to, and then says so as a lane does."""

    records: list[StoredRecord] = field(default_factory=list)
    returned: Callable[[], None] | None = None
    unconfirmed_calls: list[bool] = field(default_factory=list)

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        self.records += records

    def on_revoked(self, partitions: Collection[Partition], returned: Callable[[], None]) -> None:
        self.returned = returned

    def on_lost(self, partitions: Collection[Partition]) -> None:
        if self.returned is not None:
            self.returned()

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        self.unconfirmed_calls.append(unconfirmed)


def record(offset: int) -> StoredRecord:
    return StoredRecord("topic", 0, offset, 0, None, b"", (), None, 10)


def holding(
    listener: Lingering, thread: Thread, alarms: list[FeedAlarm], flow: FlowControl | None = None
) -> Assignment:
    """An assignment of one partition, from its beginning."""
    flow = flow or FlowControl(FeedBounds())
    assignment = Assignment(
        group="group",
        listener=listener,
        flow=flow,
        budget=CommitBudget(),
        commands=thread,
        alarm=alarms.append,
    )
    assignment.on_partitions_assigned([Position(PARTITION, 0, "")])
    return assignment


async def test_an_unconfirmed_membership_is_verified_by_repeating_the_commit() -> None:
    """Also when there is nothing new, and again after a refusal, until it is answered as a
    member's.
    """
    listener, thread, alarms = Lingering(), Thread(), list[FeedAlarm]()
    assignment = holding(listener, thread, alarms)
    assignment.verify_membership()
    await wait_until_async(lambda: len(thread.commits) == 1, 5, "the question")
    assignment.on_commit_answered(None)
    await wait_until_async(lambda: len(thread.commits) == 2, 5, "the question again")
    assert [True] == listener.unconfirmed_calls
    assignment.on_commit_answered((), member=True)
    assert [True, False] == listener.unconfirmed_calls
    assert [(PARTITION, 0)] * 2 == [
        (position.partition, position.offset) for (position,) in thread.commits
    ]
    assert [AlarmKind.UNCONFIRMED] == [alarm.kind for alarm in alarms]
    assignment.close()


async def test_membership_is_confirmed_when_no_partition_is_left() -> None:
    """Partitions that are lost are lost; what is assigned later is certain."""
    listener, thread = Lingering(), Thread()
    assignment = holding(listener, thread, [])
    assignment.verify_membership()
    assignment.on_partitions_lost(None)
    assert [True, False] == listener.unconfirmed_calls
    assignment.verify_membership()
    assert [True, False] == listener.unconfirmed_calls
    assignment.close()


async def test_what_is_done_is_committed_when_the_drain_took_too_long() -> None:
    """One slow record of three is given up; the two that are done are not delivered again."""
    flow, listener, alarms = FlowControl(FeedBounds()), Lingering(), list[FeedAlarm]()
    assignment = holding(listener, Thread(), alarms, flow)
    flow.add_batch(3, 30, largest=10)
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
    assert 0 == flow.records
    assignment.close()
    await asyncio.sleep(0)
