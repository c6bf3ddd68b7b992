"""The lanes of a subscription, by example."""

import pytest

from headrace.domain.lanes import Lanes, Ordered, Pressure, Unordered
from headrace.domain.record import Partition, StoredRecord


def record(offset: int, key: bytes | None = None, partition: int = 0) -> StoredRecord:
    return StoredRecord("t", partition, offset, 0, key, b"", ())


def offsets(records: object) -> list[int]:
    return [each.offset for each in records]  # type: ignore[attr-defined]


def test_unordered_starts_as_many_as_allowed() -> None:
    """The other records wait in the order in which they arrived, and start as others are
    finished.
    """
    lanes = Unordered(2)
    first, second, third, fourth = records = [record(offset) for offset in range(4)]
    assert offsets(lanes.offer(records)) == [0, 1]
    assert offsets(lanes.finished(second)) == [2]
    assert offsets(lanes.finished(first)) == [3]
    assert not lanes.finished(third)
    assert not lanes.finished(fourth)
    assert (lanes.at_work, lanes.waiting) == (0, 0)


def test_ordered_has_one_of_a_key_at_work() -> None:
    """Records of the same key wait, other keys do not."""
    lanes = Ordered(10)
    a0, b1, a2, a3 = records = [record(0, b"a"), record(1, b"b"), record(2, b"a"), record(3, b"a")]
    assert offsets(lanes.offer(records)) == [0, 1]
    assert offsets(lanes.finished(b1)) == []
    assert offsets(lanes.finished(a0)) == [2]
    assert offsets(lanes.finished(a2)) == [3]
    assert offsets(lanes.finished(a3)) == []


def test_ordered_without_key_goes_by_partition() -> None:
    """Records without a key share one lane in each partition."""
    lanes = Ordered(10)
    assert offsets(
        lanes.offer([record(0), record(1), record(5, partition=1), record(2, b"k")])
    ) == [0, 5, 2]


def test_a_key_with_many_records_does_not_starve_another() -> None:
    """With one slot, lanes take turns."""
    lanes = Ordered(1)
    records = [*(record(offset, b"hot") for offset in range(5)), record(5, b"cold")]
    started = list(lanes.offer(records))
    order = []
    while started:
        order.append(started[0].offset)
        started = list(lanes.finished(started[0]))
    assert order == [0, 5, 1, 2, 3, 4]


def test_a_resting_record_frees_its_place_and_holds_its_lane() -> None:
    """Keys in backoff do not delay other keys, and their following records wait."""
    lanes = Ordered(1)
    a0, a1, b2 = records = [record(0, b"a"), record(1, b"a"), record(2, b"b")]
    assert offsets(lanes.offer(records)) == [0]
    assert offsets(lanes.hold(a0)) == [2]
    assert offsets(lanes.finished(b2)) == []
    assert lanes.waiting == 2
    assert offsets(lanes.release(a0)) == [0]
    assert offsets(lanes.finished(a0)) == [1]
    assert offsets(lanes.finished(a1)) == []


@pytest.mark.parametrize("lanes", [Ordered(1), Unordered(1)])
def test_a_resting_record_may_be_finished(lanes: Lanes) -> None:
    """A record that is finished while it rests lets the next record of its key start."""
    first, second = record(0, b"a"), record(1, b"a")
    lanes.offer([first])
    assert not lanes.hold(first)
    lanes.finished(first)
    assert offsets(lanes.offer([second])) == [1]


@pytest.mark.parametrize("lanes", [Ordered(5), Unordered(5)])
def test_strangers_are_ignored(lanes: Lanes) -> None:
    """Records that never started or are already finished have no effect."""
    mine = record(0, b"a")
    lanes.offer([mine])
    assert not lanes.finished(record(0, b"a"))
    assert not lanes.hold(record(7))
    assert not lanes.release(mine)
    assert not lanes.finished(mine)
    assert not lanes.finished(mine)
    assert (lanes.at_work, lanes.waiting) == (0, 0)


@pytest.mark.parametrize("lanes", [Ordered(4), Unordered(4)])
def test_resize_holds_and_releases(lanes: Lanes) -> None:
    """Nothing starts at 0, one probe at 1, all at 4."""
    lanes.resize(0)
    assert not lanes.offer([record(offset, b"%d" % offset) for offset in range(4)])
    assert offsets(lanes.resize(1)) == [0]
    assert offsets(lanes.resize(4)) == [1, 2, 3]
    with pytest.raises(ValueError, match="0 or more"):
        lanes.resize(-1)


def test_a_crowded_lane_asks_for_a_pause_and_says_when_it_is_over() -> None:
    """The partition is reported full at the limit, and open again at half of it."""
    lanes = Ordered(1, lane_records_max=4)
    records = [record(offset, b"a") for offset in range(5)]
    lanes.offer(records)
    assert lanes.pressure == [Pressure(Partition("t", 0), full=True)]
    lanes.pressure.clear()
    lanes.finished(records[0])
    assert lanes.pressure == []
    lanes.finished(records[1])
    assert lanes.pressure == [Pressure(Partition("t", 0), full=False)]


def test_a_partition_is_open_when_its_last_crowded_lane_is() -> None:
    """Two full keys cause one pause and one resume."""
    lanes = Ordered(2, lane_records_max=2)
    a = [record(offset, b"a") for offset in range(3)]
    b = [record(offset, b"b") for offset in range(3, 6)]
    lanes.offer([*a, *b])
    lanes.finished(a[0])
    assert lanes.pressure == [Pressure(Partition("t", 0), full=True)]
    lanes.finished(b[0])
    assert lanes.pressure[1:] == [Pressure(Partition("t", 0), full=False)]


def test_withdrawing_forgets_what_waits_and_names_what_is_at_work() -> None:
    """Only the named partitions are affected, and a pause requested for them ends."""
    lanes = Ordered(2, lane_records_max=1)
    mine = [record(0, b"a"), record(1, b"a"), record(2, b"b"), record(3, b"b")]
    other = record(0, b"a", partition=1)
    lanes.offer([*mine[:3], other, mine[3]])
    withdrawn = lanes.withdraw([Partition("t", 0)])
    assert sorted(offsets(withdrawn.waiting)) == [1, 3]
    assert offsets(withdrawn.at_work) == [0, 2]
    assert [each.full for each in lanes.pressure] == [True, False]
    assert lanes.finished(mine[0])[0] is other
    assert lanes.waiting == 0


def test_a_lane_stays_closed_while_an_old_record_is_at_work() -> None:
    """A partition that is revoked and assigned again does not cause a second request for a key
    whose first one is still in flight.
    """
    lanes = Ordered(5)
    old = record(0, b"a")
    lanes.offer([old])
    lanes.withdraw([Partition("t", 0)])
    again = record(0, b"a")
    assert not lanes.offer([again])
    assert lanes.finished(old)[0] is again


def test_unordered_withdraws_too() -> None:
    """Records that wait or rest are dropped; records at work are returned."""
    lanes = Unordered(2)
    a, b, c = records = [record(0), record(1), record(2)]
    lanes.offer(records)
    lanes.hold(a)
    withdrawn = lanes.withdraw([Partition("t", 0)])
    assert offsets(withdrawn.waiting) == [0]
    assert offsets(withdrawn.at_work) == [1, 2]
    assert not lanes.release(a)
    assert not lanes.finished(b)
    assert not lanes.finished(c)
