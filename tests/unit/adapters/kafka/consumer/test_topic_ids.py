"""Commits say in which topic they were made: a topic that is deleted and created again has the
old name and other records.
"""

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Event
from typing import NamedTuple, cast

import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.topic_ids import TopicIds, add_topic_id, split_topic_id
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.offsets import OffsetTracker
from headrace.domain.record import Partition, StoredRecord
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.consumer.test_assignment import (
    OPTIONS,
    SlowListener,
    commits,
    new_assignment,
)

PARTITION = Partition("topic", 0)


def beyond() -> str:
    """What is committed with offset 5 when 6 is done and 5 is not."""
    tracker = OffsetTracker(5)
    for offset in (5, 6):
        assert tracker.take(offset)
    tracker.finish(6)
    return tracker.metadata()


BEYOND = beyond()


@pytest.mark.parametrize("metadata", ["", "1|5|2.3|", "1|5||0,3,a@b", "another tool's"])
def test_a_topic_id_survives_a_round_trip(metadata: str) -> None:
    """With the id of the topic, or unchanged when the id is not known."""
    assert ("T6RezkKWQ+SJh/qeI2LA", metadata) == split_topic_id(
        add_topic_id("T6RezkKWQ+SJh/qeI2LA", metadata)
    )
    assert ("", metadata) == split_topic_id(add_topic_id("", metadata))


@given(st.text(max_size=5000))
def test_any_metadata_can_be_split(metadata: str) -> None:
    """Other tools commit too."""
    topic_id, rest = split_topic_id(metadata)
    assert metadata == add_topic_id(topic_id, rest) or not topic_id


@dataclass
class LossRecorder(SlowListener):
    """A listener that remembers what it lost."""

    lost: list[Partition] = field(default_factory=list)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.lost += partitions


@dataclass
class TopicHarness:
    """An assignment of a topic whose id the test sets."""

    ids: dict[str, str] = field(default_factory=dict)
    listener: LossRecorder = field(default_factory=LossRecorder)
    alarms: list[FeedAlarm] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.assignment = new_assignment(self.listener, self.alarms, self.ids)

    def receive(self, *offsets: int) -> Sequence[StoredRecord]:
        """Records that were read."""
        records = [
            StoredRecord("topic", 0, offset, 0, None, b"", (), None, 10) for offset in offsets
        ]
        self.assignment.flow.add_batch(len(records), 10 * len(records), largest=10)
        self.assignment.on_batch(records, [])
        return records

    async def committed(self, offset: int) -> Position:
        """The newest commit asked for, when it is of this offset."""
        await wait_until_async(
            lambda: self.commits and self.commits[-1][0].offset == offset, what="a commit"
        )
        return self.commits[-1][0]

    @property
    def commits(self) -> Sequence[Sequence[Position]]:
        """All commits asked for."""
        return commits(self.assignment)


async def test_the_first_id_seen_goes_into_the_commit() -> None:
    """Also where nothing is read: the next owner needs it."""
    harness = TopicHarness()
    harness.assignment.on_partitions_assigned([Position(PARTITION, 5, BEYOND)])
    harness.ids["topic"] = "A"
    harness.assignment.on_high_watermarks([(PARTITION, 9)])
    assert "A@" + BEYOND == (await harness.committed(5)).metadata
    assert ([], []) == (harness.alarms, harness.listener.lost)
    harness.assignment.close()


@pytest.mark.parametrize("late", [False, True])
async def test_a_recreated_topic_is_read_from_its_start(late: bool) -> None:
    """Whether that is known at the assignment or later: records in flight are dropped, and records
    read before are not committed.
    """
    harness = TopicHarness(ids={} if late else {"topic": "B"})
    harness.assignment.on_partitions_assigned([Position(PARTITION, 5, "A@" + BEYOND)])
    records = harness.receive(5, 7)
    harness.ids["topic"] = "B"
    harness.assignment.on_high_watermarks([(PARTITION, 9)])
    assert ([PARTITION], [PARTITION]) == (
        harness.listener.lost,
        list(harness.assignment.recreated_partitions),
    )
    assert 0 == harness.assignment.flow.records
    harness.assignment.done(records[0])
    harness.receive(8)
    harness.assignment.on_topic_recreated(PARTITION, 0, high_watermark=9)
    for record in harness.receive(0, 1):
        harness.assignment.done(record)
    assert "B@" == (await harness.committed(2)).metadata
    assert [AlarmKind.TOPIC_RECREATED] == [each.kind for each in harness.alarms]
    assert all(position.offset < 5 for commit in harness.commits for position in commit)
    harness.assignment.close()


async def test_the_stop_policy_reads_nothing() -> None:
    """Nothing is handed out or committed, and an alarm says so."""
    harness = TopicHarness(ids={"topic": "B"})
    harness.assignment.on_partitions_assigned([Position(PARTITION, 5, "A@")])
    harness.assignment.on_topic_recreated(PARTITION, None, high_watermark=0)
    harness.receive(5)
    assert ([], []) == (harness.listener.records, harness.commits)
    assert "is not read until" in harness.alarms[0].detail
    harness.assignment.close()


async def test_a_log_that_is_found_shorter_begins_once() -> None:
    """That the topic is another one is known later. By then it has been read from its start."""
    harness = TopicHarness(ids={"topic": "A"})
    harness.assignment.on_partitions_assigned([Position(PARTITION, 5, "A@")])
    harness.assignment.on_offset_reset(PARTITION, 0, sought=9, high_watermark=2)
    for record in harness.receive(0, 1):
        harness.assignment.done(record)
    harness.ids["topic"] = "B"
    harness.assignment.on_high_watermarks([(PARTITION, 2)])
    assert [PARTITION] == harness.listener.lost
    assert not harness.assignment.recreated_partitions
    assert "B@" == (await harness.committed(2)).metadata
    harness.assignment.close()


class TopicDescription(NamedTuple):
    """What a broker says of a topic."""

    topic_id: str
    partitions: Sequence[int]


class DescribingClient:
    """A client whose broker describes topics when the test lets it."""

    def __init__(self) -> None:
        self.answer: Future[TopicDescription] = Future()
        self.asked = Event()

    def describe_topics(self, *_: object, **__: object) -> dict[str, Future[TopicDescription]]:
        self.asked.set()
        return {"topic": self.answer}


async def test_an_id_that_was_asked_for_before_is_not_known() -> None:
    """It may be that of the topic before, which is forgotten meanwhile. The number of partitions
    stays known.
    """
    ids, client = TopicIds(OPTIONS), DescribingClient()
    ids._readers = {"topic": 1}

    def known() -> tuple[str, int]:
        return ids.known("topic"), ids.partitions("topic")

    def query() -> asyncio.Future[bool]:
        return asyncio.ensure_future(asyncio.to_thread(ids._query, cast(AdminClient, client)))

    client.answer.set_result(TopicDescription("A", [0, 1]))
    await query()
    assert ("A", 2) == known()
    client.answer, client.asked = Future(), Event()
    querying = query()
    await asyncio.to_thread(client.asked.wait)
    ids.forget_id("topic")
    assert ("", 2) == known()
    client.answer.set_result(TopicDescription("A", [0, 1]))
    await querying
    assert ("", 2) == known()
    await query()
    assert ("A", 2) == known()
