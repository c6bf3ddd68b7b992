"""What a feed holds on the loop, with the consumer's thread played by the test."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from headrace.adapters.kafka.assignment import Assignment, Ticket
from headrace.adapters.kafka.commits import CommitBudget, Position
from headrace.adapters.kafka.window import Window
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds
from headrace.domain.record import Partition, StoredRecord

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

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        self.records += records

    def on_revoked(self, partitions: Collection[Partition], returned: Callable[[], None]) -> None:
        self.returned = returned

    def on_lost(self, partitions: Collection[Partition]) -> None:
        if self.returned is not None:
            self.returned()


def record(offset: int) -> StoredRecord:
    return StoredRecord("topic", 0, offset, 0, None, b"", (), None, 10)


async def test_what_is_done_is_committed_when_the_drain_took_too_long() -> None:
    """One slow record of three is given up; the two that are done are not delivered again."""
    window, listener, alarms = Window(FeedBounds()), Lingering(), list[FeedAlarm]()
    assignment = Assignment(group="group", listener=listener, window=window, budget=CommitBudget(), commander=Thread(), alarm=alarms.append)
    assignment.assigned([Position(PARTITION, 0, "")])
    window.hand(3, 30, largest=10)
    assignment.received([record(0), record(1), record(2)], [])
    assignment.done(listener.records[0])
    assignment.done(listener.records[2])
    ticket = Ticket([PARTITION])
    assignment.revoking(ticket)
    assert ticket.open
    assignment.overdue(ticket)
    (position,) = ticket.positions
    assert (PARTITION, 1) == (position.partition, position.offset)
    assert position.metadata
    assert [(AlarmKind.DRAIN_OVERDUE, 1)] == [(alarm.kind, alarm.count) for alarm in alarms]
    assert 0 == window.records
    assignment.close()
    await asyncio.sleep(0)
