"""The records of one topic that a feed has received and that are not done, and the budget that all
topics of the feed share.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from headrace.domain.feed import FeedBounds
from headrace.domain.record import StoredRecord

BATCH_RECORDS_MAX: Final = 128


class FeedBudget:
    """What a feed has handed out, within its bounds."""

    __slots__ = ("bounds", "bytes", "records")

    def __init__(self, bounds: FeedBounds) -> None:
        self.bounds = bounds
        self.records = 0
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether one more record may be handed out."""
        return self.records < self.bounds.records_max and self.bytes < self.bounds.bytes_max

    def add(self, record: StoredRecord) -> None:
        """Count a record that is handed out."""
        self.records += 1
        self.bytes += record.size

    def remove(self, record: StoredRecord) -> None:
        """Count a record that is done or dropped."""
        self.records -= 1
        self.bytes -= record.size


class HeldRecord:
    """A record and the subject on which it is acknowledged (empty if it is not)."""

    __slots__ = ("handed_out", "record", "reply", "touched_at")

    def __init__(self, record: StoredRecord, reply: str, touched_at: float) -> None:
        self.record = record
        self.reply = reply
        self.touched_at = touched_at
        """When the server last heard of it, on the clock of the event loop."""
        self.handed_out = False


class HeldRecords:
    """In the order in which they were received: those that wait, and those handed out."""

    def __init__(self, budget: FeedBudget) -> None:
        self._budget = budget
        self._records: dict[int, HeldRecord] = {}
        self._waiting: deque[HeldRecord] = deque()
        self._waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[HeldRecord]:
        return iter(self._records.values())

    def get(self, offset: int) -> HeldRecord | None:
        """Return what is held at an offset."""
        return self._records.get(offset)

    @property
    def waiting(self) -> int:
        """Records that are not handed out yet."""
        return len(self._waiting)

    @property
    def oldest(self) -> StoredRecord | None:
        """The record that was received first."""
        return next((held.record for held in self._records.values()), None)

    def add(self, held: HeldRecord) -> None:
        """Keep a record until it is handed out and done."""
        self._records[held.record.offset] = held
        self._waiting.append(held)
        self._waiting_bytes += held.record.size

    def take_batch(self) -> list[StoredRecord]:
        """Return the next records that the budget allows, now handed out."""
        batch: list[StoredRecord] = []
        budget = self._budget
        while self._waiting and budget.has_room and len(batch) < BATCH_RECORDS_MAX:
            held = self._waiting.popleft()
            self._waiting_bytes -= held.record.size
            held.handed_out = True
            budget.add(held.record)
            batch.append(held.record)
        return batch

    def finish(self, record: StoredRecord) -> HeldRecord | None:
        """Remove a record that is done; None if it was not handed out or is done already."""
        held = self._records.get(record.offset)
        if held is None or held.record is not record or not held.handed_out:
            return None
        del self._records[record.offset]
        self._budget.remove(record)
        return held

    def clear(self) -> list[HeldRecord]:
        """Drop everything and return it."""
        dropped = list(self._records.values())
        for held in dropped:
            if held.handed_out:
                self._budget.remove(held.record)
        self._records.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        return dropped

    def room(self) -> tuple[int, int]:
        """Return how many records and bytes may be asked for."""
        bounds = self._budget.bounds
        return (
            bounds.records_max - self._budget.records - len(self._waiting),
            bounds.bytes_max - self._budget.bytes - self._waiting_bytes,
        )
