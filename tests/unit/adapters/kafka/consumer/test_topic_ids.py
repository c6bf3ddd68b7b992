"""Commits say in which topic they were made: a topic deleted and made again has the old name and
other records.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.commits import CommitBudget, Position
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.topic_ids import add_topic_id, split_topic_id
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds
from headrace.domain.offsets import OffsetTracker
from headrace.domain.record import Partition, StoredRecord
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.consumer.test_assignment import Lingering, Thread

PARTITION = Partition("topic", 0)


def beyond() -> str:
    """What is committed with offset 5 when 6 is done and 5 is not."""
    tracker = OffsetTracker(5)
    for offset in (5, 6):
        assert tracker.take(offset)
    tracker.finish(6)
    return tracker.metadata()


BEYOND = beyond()


@pytest.mark.parametrize("metadata", ["", "1|5|2.3|", "1|5||0,3,a@b", "somebody else's"])
def test_what_was_marked_is_found_again(metadata: str) -> None:
    """With the id of the topic, or as it was when that is not known."""
    assert ("T6RezkKWQ+SJh/qeI2LA", metadata) == split_topic_id(
        add_topic_id("T6RezkKWQ+SJh/qeI2LA", metadata)
    )
    assert ("", metadata) == split_topic_id(add_topic_id("", metadata))


@given(st.text(max_size=5000))
def test_no_metadata_makes_it_raise(metadata: str) -> None:
    """Other tools commit too."""
    topic_id, rest = split_topic_id(metadata)
    assert metadata == add_topic_id(topic_id, rest) or not topic_id


@dataclass
class Forgetful(Lingering):
    """A listener that remembers what it lost."""

    lost: list[Partition] = field(default_factory=list)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.lost += partitions


@dataclass
class Held:
    """What a feed holds of a topic whose id the test decides."""

    ids: dict[str, str] = field(default_factory=dict)
    thread: Thread = field(default_factory=Thread)
    listener: Forgetful = field(default_factory=Forgetful)
    alarms: list[FeedAlarm] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flow = FlowControl(FeedBounds())
        self.assignment = Assignment(
            group="group",
            listener=self.listener,
            flow=self.flow,
            budget=CommitBudget(),
            commands=self.thread,
            alarm=self.alarms.append,
            topic_id=lambda topic: self.ids.get(topic, ""),
        )

    def receive(self, *offsets: int) -> Sequence[StoredRecord]:
        """Records that were read."""
        records = [
            StoredRecord("topic", 0, offset, 0, None, b"", (), None, 10) for offset in offsets
        ]
        self.flow.add_batch(len(records), 10 * len(records), largest=10)
        self.assignment.on_batch(records, [])
        return records

    async def committed(self, offset: int) -> Position:
        """The newest commit asked for, when it is of this offset."""
        await wait_until_async(
            lambda: self.thread.commits and self.thread.commits[-1][0].offset == offset,
            what="a commit",
        )
        return self.thread.commits[-1][0]


async def test_the_first_id_seen_goes_into_the_commit() -> None:
    """Also where nothing is read: the next owner has to know."""
    held = Held()
    held.assignment.on_partitions_assigned([Position(PARTITION, 5, BEYOND)])
    held.ids["topic"] = "A"
    held.assignment.on_high_watermarks([(PARTITION, 9)])
    assert "A@" + BEYOND == (await held.committed(5)).metadata
    assert ([], []) == (held.alarms, held.listener.lost)
    held.assignment.close()


@pytest.mark.parametrize("late", [False, True])
async def test_a_topic_that_is_another_one_is_begun_anew(late: bool) -> None:
    """Whether that is known when the partition comes or later: what is in hand is dropped, and what
    was read before counts for nothing.
    """
    held = Held(ids={} if late else {"topic": "B"})
    held.assignment.on_partitions_assigned([Position(PARTITION, 5, "A@" + BEYOND)])
    records = held.receive(5, 7)
    held.ids["topic"] = "B"
    held.assignment.on_high_watermarks([(PARTITION, 9)])
    assert ([PARTITION], [PARTITION]) == (
        held.listener.lost,
        list(held.assignment.recreated_partitions),
    )
    assert 0 == held.flow.records
    held.assignment.done(records[0])
    held.receive(8)
    held.assignment.on_topic_recreated(PARTITION, 0, high_watermark=9)
    for record in held.receive(0, 1):
        held.assignment.done(record)
    assert "B@" == (await held.committed(2)).metadata
    assert [AlarmKind.TOPIC_RECREATED] == [each.kind for each in held.alarms]
    assert all(position.offset < 5 for commit in held.thread.commits for position in commit)
    held.assignment.close()


async def test_a_policy_that_stops_leaves_the_partition_alone() -> None:
    """Nothing is handed out or committed, and the alarm says so."""
    held = Held(ids={"topic": "B"})
    held.assignment.on_partitions_assigned([Position(PARTITION, 5, "A@")])
    held.assignment.on_topic_recreated(PARTITION, None, high_watermark=0)
    held.receive(5)
    assert ([], []) == (held.listener.records, held.thread.commits)
    assert "stands still" in held.alarms[0].detail
    held.assignment.close()
