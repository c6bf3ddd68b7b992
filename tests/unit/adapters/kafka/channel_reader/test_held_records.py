"""What is held is dispatched in its order, with what has happened in between."""

import asyncio
from collections.abc import Sequence
from functools import partial

from headrace.adapters.kafka.channel_reader.held_records import HeldRecords
from headrace.adapters.kafka.consumer.flow_control import BATCH_RECORDS_MAX
from headrace.domain.record import StoredRecord


class Dispatched:
    """Notes what was dispatched and applied, in order. `held` holds what it has no room for."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int] | str] = []
        self.room = 0
        self.held = HeldRecords(self._dispatch)

    def _dispatch(self, records: Sequence[StoredRecord]) -> None:
        taken, self.room = records[: self.room], max(self.room - len(records), 0)
        self.seen += [(each.partition, each.offset) for each in taken]
        if len(taken) < len(records):
            self.held.put_back(records[len(taken) :])
            self.held.backpressure.waiting = True

    def read(self, *records: tuple[int, int]) -> None:
        """The reader has read these, by partition and offset."""
        found = [
            StoredRecord("channel", number, offset, 0, None, b"", [], None, 1)
            for number, offset in records
        ]
        if not self.held.append(found):
            self._dispatch(found)

    def happens(self, number: int, what: str) -> None:
        """Something has happened in a partition."""
        self.held.in_turn(number, partial(self.seen.append, what))

    async def make_room(self, room: int = 1_000_000) -> None:
        """Dispatch again as much as there is room for."""
        self.room = room
        self.held.dispatch_if_waiting()
        while self.held._is_due:
            await asyncio.sleep(0)


async def test_what_happens_in_a_partition_comes_after_its_records() -> None:
    """And before those that are read after it."""
    dispatched = Dispatched()
    dispatched.read((0, 1), (1, 1))
    dispatched.happens(0, "end of 0")
    dispatched.read((0, 2))
    dispatched.happens(2, "end of 2")
    assert dispatched.seen == ["end of 2"], "nothing of that partition is held"
    await dispatched.make_room(1)
    assert dispatched.seen == ["end of 2", (0, 1)]
    await dispatched.make_room()
    assert dispatched.seen == ["end of 2", (0, 1), (1, 1), "end of 0", (0, 2)]
    dispatched.happens(0, "nothing is held")
    assert dispatched.seen[-1] == "nothing is held"


async def test_records_are_dispatched_in_parts() -> None:
    """Other tasks run in between."""
    dispatched = Dispatched()
    wanted = [(0, offset) for offset in range(BATCH_RECORDS_MAX * 2 + 1)]
    dispatched.read(*wanted)
    dispatched.room = len(wanted)
    dispatched.held.dispatch_if_waiting()
    await asyncio.sleep(0)
    assert dispatched.seen == wanted[:BATCH_RECORDS_MAX]
    await dispatched.make_room()
    assert dispatched.seen == wanted


async def test_what_is_of_a_lost_partition_is_dropped() -> None:
    """With what has happened in it; what follows of others stays."""
    dispatched = Dispatched()
    dispatched.read((0, 1), (1, 1))
    dispatched.happens(1, "end of 1")
    dispatched.read((1, 2), (0, 2))
    dropped = dispatched.held.drop_except({0})
    assert [(each.partition, each.offset) for each in dropped] == [(1, 1), (1, 2)]
    await dispatched.make_room()
    assert dispatched.seen == [(0, 1), (0, 2)]
