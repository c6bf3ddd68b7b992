"""The scheduling of a subscription's records: which of those handed out by a feed may start now.

`Unordered` starts as many records as allowed, in the order in which they arrived. `Ordered` runs at
most one record of each key at a time, in partition order, and no key waits for another. Neither
holds more than the feed hands out, so the feed's limits apply to both. Records are identified by
object identity: after a partition was revoked and assigned again, an old and a new copy of the same
record may exist.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.domain.record import Partition, StoredRecord

LANE_RECORDS_MAX = 256
"""Records waiting for one key before its partition should be paused."""


@dataclass(frozen=True, slots=True)
class WithdrawnRecords:
    """The records of withdrawn partitions: those in `waiting` are dropped, those in `at_work` stay
    until `finished` is called for them.
    """

    waiting: Sequence[StoredRecord]
    at_work: Sequence[StoredRecord]


@dataclass(frozen=True, slots=True)
class Pressure:
    """A partition that should be paused (`full`) or resumed."""

    partition: Partition
    full: bool


class Lanes(Protocol):
    """The scheduling of one subscription. Methods that return records return those that may start
    now, in that order.
    """

    pressure: list[Pressure]
    """Changes since the owner last cleared this list. Check it after `offer`, `finished` and
    `withdraw`.
    """

    def offer(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """Add records, in partition order."""
        ...

    def finished(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """Note that `record` is no longer at work, regardless of its result. Unknown or repeated
        records are ignored.
        """
        ...

    def hold(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """Put `record` aside until another attempt. It keeps its place in its lane, but no longer
        counts as at work.
        """
        ...

    def release(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """Allow `record`, which was put aside, to start again when a slot is free."""
        ...

    def resize(self, concurrency_max: int) -> Sequence[StoredRecord]:
        """Limit the records at work to `concurrency_max` from now on; 0 starts no more."""
        ...

    def withdraw(self, partitions: Collection[Partition]) -> WithdrawnRecords:
        """Drop the waiting records of these partitions."""
        ...

    @property
    def at_work(self) -> int:
        """The number of records that are started and neither finished nor put aside."""
        ...

    @property
    def waiting(self) -> int:
        """The number of records that are held and not at work, including those put aside."""
        ...


class _WorkSlots:
    """The records at work, those ready for a free slot, and those put aside until another
    attempt.
    """

    __slots__ = ("at_work", "concurrency_max", "ready", "resting")

    def __init__(self, concurrency_max: int) -> None:
        self.concurrency_max = _checked(concurrency_max)
        self.ready: deque[StoredRecord] = deque()
        self.at_work: dict[int, StoredRecord] = {}
        self.resting: dict[int, StoredRecord] = {}

    def start(self) -> Sequence[StoredRecord]:
        ready, at_work = self.ready, self.at_work
        started: list[StoredRecord] = []
        while ready and len(at_work) < self.concurrency_max:
            record = ready.popleft()
            at_work[id(record)] = record
            started.append(record)
        return started

    def hold(self, record: StoredRecord) -> Sequence[StoredRecord]:
        if self.at_work.pop(id(record), None) is None:
            return ()
        self.resting[id(record)] = record
        return self.start()

    def release(self, record: StoredRecord) -> Sequence[StoredRecord]:
        if self.resting.pop(id(record), None) is None:
            return ()
        self.ready.appendleft(record)
        return self.start()

    def resize(self, concurrency_max: int) -> Sequence[StoredRecord]:
        self.concurrency_max = _checked(concurrency_max)
        return self.start()

    def drop(self, record: StoredRecord) -> bool:
        """Remove `record`; return False if it was neither at work nor put aside."""
        return (
            self.at_work.pop(id(record), None) is not None
            or self.resting.pop(id(record), None) is not None
        )

    def withdraw(self, partitions: Collection[Partition]) -> list[StoredRecord]:
        """Remove and return the records of these partitions that are ready or put aside."""
        gone = [
            record for record in (*self.ready, *self.resting.values()) if _of(record, partitions)
        ]
        self.ready = deque(record for record in self.ready if not _of(record, partitions))
        for record in gone:
            self.resting.pop(id(record), None)
        return gone

    def working_on(self, partitions: Collection[Partition]) -> list[StoredRecord]:
        return [record for record in self.at_work.values() if _of(record, partitions)]


class Unordered:
    """Lanes in which any record may overtake any other. Implements `Lanes`."""

    __slots__ = ("_slots", "pressure")

    def __init__(self, concurrency_max: int) -> None:
        self.pressure: list[Pressure] = []
        self._slots = _WorkSlots(concurrency_max)

    @property
    def at_work(self) -> int:
        """As `Lanes.at_work`."""
        return len(self._slots.at_work)

    @property
    def waiting(self) -> int:
        """As `Lanes.waiting`."""
        return len(self._slots.ready) + len(self._slots.resting)

    def offer(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """As `Lanes.offer`."""
        slots = self._slots
        if not slots.ready and len(slots.at_work) + len(records) <= slots.concurrency_max:
            for record in records:
                slots.at_work[id(record)] = record
            return records
        slots.ready.extend(records)
        return slots.start()

    def finished(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """As `Lanes.finished`."""
        slots = self._slots
        return slots.start() if slots.drop(record) and slots.ready else ()

    def hold(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """As `Lanes.hold`."""
        return self._slots.hold(record)

    def release(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """As `Lanes.release`; the record goes before those that never started."""
        return self._slots.release(record)

    def resize(self, concurrency_max: int) -> Sequence[StoredRecord]:
        """As `Lanes.resize`."""
        return self._slots.resize(concurrency_max)

    def withdraw(self, partitions: Collection[Partition]) -> WithdrawnRecords:
        """As `Lanes.withdraw`."""
        return WithdrawnRecords(
            self._slots.withdraw(partitions), self._slots.working_on(partitions)
        )


class _KeyLanes:
    """The lanes of one partition, by key. A lane exists while a record of its key is ready, at work
    or put aside.
    """

    __slots__ = ("crowded", "followers", "partition")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.followers: dict[bytes | None, deque[StoredRecord] | None] = {}
        self.crowded: set[bytes | None] = set()


class Ordered:
    """Runs one record of a key at a time, in partition order. Records without a key share one lane
    in each partition. Implements `Lanes`.

    Lanes take turns: after a record is finished, the next one of its key goes to the end of the
    queue, so a key with many records does not starve the others.
    """

    __slots__ = ("_held", "_lane_records_max", "_partitions", "_slots", "pressure")

    def __init__(self, concurrency_max: int, *, lane_records_max: int = LANE_RECORDS_MAX) -> None:
        self.pressure: list[Pressure] = []
        self._slots = _WorkSlots(concurrency_max)
        self._lane_records_max = lane_records_max
        self._partitions: dict[tuple[str, int], _KeyLanes] = {}
        self._held = 0

    @property
    def at_work(self) -> int:
        """As `Lanes.at_work`."""
        return len(self._slots.at_work)

    @property
    def waiting(self) -> int:
        """As `Lanes.waiting`."""
        return self._held - len(self._slots.at_work)

    def offer(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """As `Lanes.offer`."""
        self._held += len(records)
        for record in records:
            place = (record.topic, record.partition)
            lanes = self._partitions.get(place)
            if lanes is None:
                lanes = self._partitions[place] = _KeyLanes(Partition(*place))
            followers, key = lanes.followers, record.key
            if key not in followers:
                followers[key] = None
                self._slots.ready.append(record)
                continue
            lane = followers[key]
            if lane is None:
                lane = followers[key] = deque()
            lane.append(record)
            if len(lane) >= self._lane_records_max and key not in lanes.crowded:
                self._mark_full(lanes, key)
        return self._slots.start()

    def finished(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """As `Lanes.finished`."""
        slots = self._slots
        if not slots.drop(record):
            return ()
        self._held -= 1
        lanes = self._partitions[record.topic, record.partition]
        key = record.key
        lane = lanes.followers[key]
        if lane:
            slots.ready.append(lane.popleft())
            if lanes.crowded and key in lanes.crowded and len(lane) * 2 <= self._lane_records_max:
                self._mark_drained(lanes, key)
        else:
            del lanes.followers[key]
            if not lanes.followers:
                del self._partitions[record.topic, record.partition]
        return slots.start() if slots.ready else ()

    def hold(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """As `Lanes.hold`; the following records of its key wait too."""
        return self._slots.hold(record)

    def release(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """As `Lanes.release`; the record goes before those that never started."""
        return self._slots.release(record)

    def resize(self, concurrency_max: int) -> Sequence[StoredRecord]:
        """As `Lanes.resize`."""
        return self._slots.resize(concurrency_max)

    def withdraw(self, partitions: Collection[Partition]) -> WithdrawnRecords:
        """As `Lanes.withdraw`. A lane with a record at work starts no other record until that one
        is finished, even if its partition is assigned again.
        """
        waiting: list[StoredRecord] = []
        for head in self._slots.withdraw(partitions):
            waiting += (
                head,
                *(self._partitions[head.topic, head.partition].followers.pop(head.key) or ()),
            )
        for partition in partitions:
            lanes = self._partitions.get(partition)
            if lanes is not None:
                waiting += self._empty(lanes)
        self._held -= len(waiting)
        return WithdrawnRecords(waiting, self._slots.working_on(partitions))

    def _empty(self, lanes: _KeyLanes) -> list[StoredRecord]:
        """Drop the records that wait behind records at work."""
        dropped = [record for lane in lanes.followers.values() for record in lane or ()]
        lanes.followers = dict.fromkeys(lanes.followers)
        if lanes.crowded:
            lanes.crowded.clear()
            self.pressure.append(Pressure(lanes.partition, full=False))
        if not lanes.followers:
            del self._partitions[lanes.partition]
        return dropped

    def _mark_full(self, lanes: _KeyLanes, key: bytes | None) -> None:
        if not lanes.crowded:
            self.pressure.append(Pressure(lanes.partition, full=True))
        lanes.crowded.add(key)

    def _mark_drained(self, lanes: _KeyLanes, key: bytes | None) -> None:
        lanes.crowded.discard(key)
        if not lanes.crowded:
            self.pressure.append(Pressure(lanes.partition, full=False))


def _checked(concurrency_max: int) -> int:
    if concurrency_max < 0:
        raise ValueError(
            f"a subscription works on 0 or more records at once, not {concurrency_max}"
        )
    return concurrency_max


def _of(record: StoredRecord, partitions: Collection[Partition]) -> bool:
    return (record.topic, record.partition) in partitions
