"""The limits of the in-memory log."""

import asyncio
from collections import Counter

import pytest

from headrace.adapters.memory.feed import MemoryGroups
from headrace.adapters.memory.log import RECORD_OVERHEAD_BYTES, BacklogFull, MemoryLog
from headrace.domain.errors import HeadraceError
from headrace.domain.record import Partition, Record

SIZE = 1_000
RECORD = Record(None, b"v" * (SIZE - RECORD_OVERHEAD_BYTES))
TOPIC_RECORDS = 10
"""How many of these records fit into one topic."""


class Bounded:
    """A log that keeps ten records of a topic, and forty of all."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self.log = MemoryLog(stored_bytes_max=4 * TOPIC_RECORDS * SIZE, lost=self._lost)
        self.groups = MemoryGroups(self.log)
        self.log.create("orders")

    def _lost(self, topic: str, count: int) -> None:
        self.lost[topic] += count

    async def append(self, count: int, topic: str = "orders") -> list[HeadraceError | None]:
        """Append records; the outcomes."""
        outcomes: list[HeadraceError | None] = []
        for _ in range(count):
            self.log.append(topic, RECORD, outcomes.append)
            await asyncio.sleep(0)
        return outcomes


@pytest.fixture
async def bounded() -> Bounded:
    return Bounded()


async def test_a_topic_takes_no_more_than_its_share(bounded: Bounded) -> None:
    assert [None] * TOPIC_RECORDS == await bounded.append(TOPIC_RECORDS)

    with pytest.raises(BacklogFull, match=r"topic orders has 10000 bytes .* not delivered yet"):
        bounded.log.append("orders", RECORD, lambda _: None)

    bounded.log.create("invoices")
    assert [None] == await bounded.append(1, "invoices")


async def test_records_that_are_not_stored_yet_count(bounded: Bounded) -> None:
    for _ in range(TOPIC_RECORDS):
        bounded.log.append("orders", RECORD, lambda _: None)

    with pytest.raises(BacklogFull):
        bounded.log.append("orders", RECORD, lambda _: None)


async def test_what_every_group_has_committed_is_removed(bounded: Bounded) -> None:
    partition = Partition("orders", 0)
    await bounded.append(TOPIC_RECORDS)
    bounded.groups.commit("a", partition, offset=0)
    bounded.groups.commit("b", partition, offset=0)

    bounded.groups.commit("a", partition, offset=8)
    assert TOPIC_RECORDS == len(bounded.log.topics["orders"][0])
    bounded.groups.commit("b", partition, offset=3)

    records = bounded.log.topics["orders"][0]
    assert (3, 7, 10) == (records.start, len(records), records.end)
    assert 3 == records.at(3).offset
    with pytest.raises(IndexError):
        records.at(2)
    assert 7 * SIZE == bounded.log.stored_bytes == records.stored_bytes

    bounded.groups.delete("b")  # The slowest group is gone.
    assert 8 == bounded.log.topics["orders"][0].start
    assert [None] * 8 == await bounded.append(8)
    assert not bounded.lost


async def test_all_topics_together_have_a_limit(bounded: Bounded) -> None:
    for number in range(4):
        bounded.log.create(f"t{number}")
        await bounded.append(TOPIC_RECORDS, f"t{number}")

    with pytest.raises(BacklogFull, match="all topics together have 40000 bytes"):
        bounded.log.append("orders", RECORD, lambda _: None)

    bounded.log.delete("t0")
    assert [None] == await bounded.append(1)
    assert 31 * SIZE == bounded.log.stored_bytes


async def test_a_topic_that_drops_its_oldest_records_counts_them(bounded: Bounded) -> None:
    bounded.log.create("dead")
    bounded.log.drops_oldest.add("dead")

    assert [None] * 100 == await bounded.append(100, "dead")

    records = bounded.log.topics["dead"][0]
    assert len(records) <= TOPIC_RECORDS
    assert 99 == records[-1].offset
    assert {"dead": 100 - len(records)} == bounded.lost


async def test_a_log_without_a_limit_keeps_everything() -> None:
    log = MemoryLog()
    groups = MemoryGroups(log)
    log.create("orders")
    log.append("orders", RECORD, lambda _: None)
    assert await log.flush(5) == 0

    groups.commit("a", Partition("orders", 0), offset=1)

    assert 1 == len(log.topics["orders"][0])
