"""Laws of the lanes: one event of a key at a time, order within a key, nothing lost, and nothing
waits while there is capacity.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headrace.domain.lanes import Lanes, Ordered, Unordered
from headrace.domain.record import Partition, StoredRecord

KEYS = st.sampled_from([None, b"a", b"b", b"c"])


class LanesAgainstTheirLaws(RuleBasedStateMachine):
    """Records arrive, are processed, are delayed, and leave with their partitions; some arrive
    again as new copies.
    """

    ordered = True

    @initialize(concurrency_max=st.integers(1, 4))
    def begin(self, concurrency_max: int) -> None:
        self.concurrency_max = concurrency_max
        self.lanes: Lanes = (
            Ordered(concurrency_max, lane_records_max=3)
            if self.ordered
            else Unordered(concurrency_max)
        )
        self.offset = [0, 0, 0]
        self.waiting: list[StoredRecord] = []
        self.at_work: list[StoredRecord] = []
        self.delayed: list[StoredRecord] = []
        self.paused: set[Partition] = set()
        self.turns = 0

    def started(self, records: object) -> None:
        for record in list(records):  # type: ignore[call-overload]
            assert not any(record is each for each in self.at_work)
            assert any(record is each for each in self.waiting)
            if self.ordered:
                mine = [
                    each
                    for each in (*self.at_work, *self.delayed)
                    if self.lane(each) == self.lane(record)
                ]
                assert not mine
                first = next(each for each in self.waiting if self.lane(each) == self.lane(record))
                assert record is first
            self.waiting = [each for each in self.waiting if each is not record]
            self.at_work.append(record)
        for pressure in self.lanes.pressure:
            assert pressure.full == (pressure.partition not in self.paused)
            (self.paused.add if pressure.full else self.paused.discard)(pressure.partition)
        self.lanes.pressure.clear()

    @staticmethod
    def lane(record: StoredRecord) -> tuple[int, bytes | None]:
        return record.partition, record.key

    @rule(partition=st.integers(0, 2), keys=st.lists(KEYS, min_size=1, max_size=6))
    def offer(self, partition: int, keys: list[bytes | None]) -> None:
        records = []
        for key in keys:
            records.append(StoredRecord("t", partition, self.offset[partition], 0, key, b"", ()))
            self.offset[partition] += 1
        self.waiting += records
        self.started(self.lanes.offer(records))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if held := self.at_work + self.delayed:
            record = held[data.draw(st.integers(0, len(held) - 1))]
            self.at_work = [each for each in self.at_work if each is not record]
            self.delayed = [each for each in self.delayed if each is not record]
            self.started(self.lanes.finished(record))
            assert not self.lanes.finished(record)

    @rule(data=st.data())
    def delay(self, data: st.DataObject) -> None:
        if self.at_work:
            record = self.at_work.pop(data.draw(st.integers(0, len(self.at_work) - 1)))
            self.delayed.append(record)
            self.started(self.lanes.hold(record))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.delayed:
            record = self.delayed.pop(data.draw(st.integers(0, len(self.delayed) - 1)))
            self.waiting.insert(0, record)
            self.started(self.lanes.release(record))

    @rule(concurrency_max=st.integers(0, 5))
    def resize(self, concurrency_max: int) -> None:
        self.concurrency_max = concurrency_max
        self.started(self.lanes.resize(concurrency_max))

    @rule(numbers=st.sets(st.integers(0, 2)), back=st.integers(0, 3))
    def withdraw(self, numbers: set[int], back: int) -> None:
        withdrawn = self.lanes.withdraw([Partition("t", number) for number in numbers])
        gone = [each for each in (*self.waiting, *self.delayed) if each.partition in numbers]
        assert sorted(map(id, gone)) == sorted(map(id, withdrawn.waiting))
        assert sorted(map(id, withdrawn.at_work)) == sorted(
            id(each) for each in self.at_work if each.partition in numbers
        )
        self.waiting = [each for each in self.waiting if each.partition not in numbers]
        self.delayed = [each for each in self.delayed if each.partition not in numbers]
        for number in numbers:
            self.offset[number] = max(self.offset[number] - back, 0)
        self.started(())
        assert not self.paused & {Partition("t", number) for number in numbers}

    @invariant()
    def counts_are_right(self) -> None:
        assert self.lanes.at_work == len(self.at_work)
        assert self.lanes.waiting == len(self.waiting) + len(self.delayed)

    @invariant()
    def no_place_is_idle_while_a_record_could_start(self) -> None:
        if len(self.at_work) >= self.concurrency_max:
            return
        if not self.ordered:
            assert not self.waiting
            return
        closed = {self.lane(each) for each in (*self.at_work, *self.delayed)}
        assert all(self.lane(each) in closed for each in self.waiting)

    def teardown(self) -> None:
        """After any sequence, processing the rest finishes everything."""
        self.started(self.lanes.resize(1))
        for record in list(self.delayed):
            self.release_all(record)
        while self.at_work:
            record = self.at_work.pop()
            self.started(self.lanes.finished(record))
        assert not self.waiting
        assert (self.lanes.at_work, self.lanes.waiting) == (0, 0)
        assert not self.paused

    def release_all(self, record: StoredRecord) -> None:
        self.delayed = [each for each in self.delayed if each is not record]
        self.waiting.insert(0, record)
        self.started(self.lanes.release(record))


class UnorderedAgainstItsLaws(LanesAgainstTheirLaws):
    """The same without order."""

    ordered = False


TestOrdered = LanesAgainstTheirLaws.TestCase
TestUnordered = UnorderedAgainstItsLaws.TestCase
TestOrdered.settings = TestUnordered.settings = settings(max_examples=100, stateful_step_count=40)
