"""Which records of a subscription may be worked on now: pure scheduling, between what a feed hands
out and the attempts made.

`Unordered` starts as many as allowed, in the order they came. `Ordered` has at most one record of a
key at work, in partition order, and lets no key wait for another. Both hold no more than the feed
hands out, so the feed's bounds are theirs. Records are identified by object identity: after a
partition was revoked and assigned again, an old and a new copy of one record may both exist.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.domain.record import Partition, StoredRecord

LANE_RECORDS_MAX = 256
"""Records waiting behind one key before its partition should be paused."""


@dataclass(frozen=True, slots=True)
class WithdrawnRecords:
    """What a withdrawal found of its partitions: `waiting` is forgotten, `at_work` stays until
    `finished` is called for it.
    """

    waiting: Sequence[StoredRecord]
    at_work: Sequence[StoredRecord]


@dataclass(frozen=True, slots=True)
class Pressure:
    """A partition that should be paused (`full`) or resumed."""

    partition: Partition
    full: bool


class Lanes(Protocol):
    """The scheduling of one subscription. Every method returns the records that may start now, in
    this order.
    """

    pressure: list[Pressure]
    """What changed since the owner last emptied this list; look at it after `offer`, `finished` and
    `withdraw`.
    """

    def offer(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """Take records, in partition order."""
        ...

    def finished(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """`record` is no longer at work, whatever its result. Unknown or repeated ones are
        ignored.
        """
        ...

    def hold(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """`record` waits for another attempt: it keeps its place in its lane, but not in the count
        of those at work.
        """
        ...

    def release(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """`record` has waited long enough and may be started again, when its turn comes."""
        ...

    def resize(self, concurrency_max: int) -> Sequence[StoredRecord]:
        """Allow this many at work from now on; 0 starts nothing more."""
        ...

    def withdraw(self, partitions: Collection[Partition]) -> WithdrawnRecords:
        """Forget what waits of these partitions."""
        ...

    @property
    def at_work(self) -> int:
        """How many records are started and not finished or resting."""
        ...

    @property
    def waiting(self) -> int:
        """How many records are held and not at work, resting ones included."""
        ...


class _WorkSlots:
    """Places for records at work, those in line for one, and those that rest."""

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
        """Free its place; False when it had none."""
        return (
            self.at_work.pop(id(record), None) is not None
            or self.resting.pop(id(record), None) is not None
        )

    def withdraw(self, partitions: Collection[Partition]) -> list[StoredRecord]:
        """Take out those in line and those that rest."""
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
    """Any record may overtake any other; implements `Lanes`."""

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
        """As `Lanes.release`; it is put before those that never started."""
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
    """The lanes of one partition, by key; a lane exists while a record of its key is in line, at
    work or resting.
    """

    __slots__ = ("crowded", "followers", "partition")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.followers: dict[bytes | None, deque[StoredRecord] | None] = {}
        self.crowded: set[bytes | None] = set()


class Ordered:
    """One record of a key at a time, in partition order; records without key share one lane for
    each partition. Implements `Lanes`.

    Lanes take turns: after a record is finished its followers go to the end of the line, so a key
    with many records does not starve the others.
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
        """As `Lanes.hold`; its followers wait with it."""
        return self._slots.hold(record)

    def release(self, record: StoredRecord) -> Sequence[StoredRecord]:
        """As `Lanes.release`; it is put before those that never started."""
        return self._slots.release(record)

    def resize(self, concurrency_max: int) -> Sequence[StoredRecord]:
        """As `Lanes.resize`."""
        return self._slots.resize(concurrency_max)

    def withdraw(self, partitions: Collection[Partition]) -> WithdrawnRecords:
        """As `Lanes.withdraw`. A lane with a record at work stays closed until that is finished,
        even if its partition comes back.
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
        """Drop what waits behind records at work."""
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
