"""The offset tracker, by example."""

import pytest

from headrace.domain.offsets import METADATA_BYTES_MAX, OffsetTracker


def tracker_with(*offsets: int, start: int = 0) -> OffsetTracker:
    tracker = OffsetTracker(start)
    for offset in offsets:
        assert tracker.take(offset)
    return tracker


def test_prefix_waits_for_the_oldest() -> None:
    """Records finished out of order move the prefix only after all records before them are
    finished.
    """
    tracker = tracker_with(5, 6, 7, start=5)
    tracker.finish(7)
    tracker.finish(6)
    assert tracker.committable == 5
    tracker.finish(5)
    assert tracker.committable == 8


def test_a_gap_between_two_records_counts_as_done() -> None:
    """Offsets of transaction markers are never read. The prefix passes them as soon as a later
    record was taken.
    """
    tracker = tracker_with(0, 1, 4)
    tracker.finish(0)
    tracker.finish(1)
    assert tracker.committable == 4


def test_a_gap_at_the_end_is_passed_when_the_end_is_reached() -> None:
    """A transaction marker after the last record does not block the prefix."""
    tracker = tracker_with(0)
    tracker.finish(0)
    tracker.reach(2)
    assert tracker.committable == 2
    assert tracker.unfinished == 0


def test_reaching_the_end_waits_for_records_in_flight() -> None:
    """The end of the log does not make an unfinished record done."""
    tracker = tracker_with(0)
    tracker.reach(2)
    assert tracker.committable == 0
    tracker.finish(0)
    assert tracker.committable == 2


def test_records_below_the_start_are_done() -> None:
    """A record before the committed offset is never processed again."""
    tracker = OffsetTracker(10)
    assert not tracker.take(9)
    assert tracker.is_done(9)


def test_a_record_in_flight_is_not_taken_twice() -> None:
    """Reading a partition again from an earlier offset hands out no record that is in flight or
    done.
    """
    tracker = tracker_with(0, 1)
    tracker.finish(1)
    assert not tracker.take(0)
    assert not tracker.take(1)
    assert tracker.unfinished == 1


def test_finishing_twice_is_reported() -> None:
    """A second finish of a record returns False."""
    tracker = tracker_with(0)
    assert tracker.finish(0)
    assert not tracker.finish(0)
    assert not tracker.finish(3)


def test_metadata_is_empty_when_the_prefix_says_it_all() -> None:
    """Most commits have no text."""
    tracker = tracker_with(0, 1)
    tracker.finish(0)
    assert tracker.metadata() == ""


def test_metadata_carries_what_is_done_beyond_the_prefix() -> None:
    """After a restart only the records that were not done are taken."""
    tracker = tracker_with(*range(100, 110), start=100)
    for offset in (101, 102, 105):
        tracker.finish(offset)
    assert tracker.metadata() == "h1|64|1.2.2.1|"
    again = OffsetTracker(100, tracker.metadata())
    assert [offset for offset in range(100, 110) if again.take(offset)] == [
        100,
        103,
        104,
        106,
        107,
        108,
        109,
    ]


def test_metadata_survives_a_second_restart_before_the_map_is_read() -> None:
    """Runs from before the restart stay in the text until reading has passed them."""
    tracker = tracker_with(*range(20))
    for offset in (5, 6, 15):
        tracker.finish(offset)
    again = OffsetTracker(0, tracker.metadata())
    again.take(0)
    third = OffsetTracker(again.committable, again.metadata())
    assert {5, 6, 15} == {offset for offset in range(20) if third.is_done(offset)}


def test_prefix_passes_runs_from_before_the_restart() -> None:
    """The prefix passes known runs before the log has been read beyond them."""
    tracker = tracker_with(0, 1, 2)
    tracker.finish(1)
    tracker.finish(2)
    again = OffsetTracker(0, tracker.metadata())
    again.take(0)
    again.finish(0)
    assert again.committable == 3
    assert again.next == 3


def test_metadata_of_another_offset_is_ignored() -> None:
    """A tool that moves the group's offset but keeps the metadata must not cause records to be
    skipped.
    """
    tracker = tracker_with(0, 1)
    tracker.finish(1)
    assert not OffsetTracker(7, tracker.metadata()).is_done(8)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "x",
        "h1|0|",
        "h1|0|1.2.3|",
        "h1|0|0.1|",
        "h1|0|1.-2|",
        "h1|0|1_0.2|",
        "h1|zz|1.1|",
        "h2|0|1.1|",
        "h1|0|1.1|1,5,abc",
        "h1|0|ffffffffffffffff.1|",
        "é",
    ],
)
def test_damaged_metadata_counts_as_none(metadata: str) -> None:
    """Text in another format is ignored completely."""
    tracker = OffsetTracker(0, metadata)
    assert not any(tracker.is_done(offset) for offset in range(30))


def test_notes_survive_a_restart_until_the_record_is_done() -> None:
    """A note stays with its unfinished record, for any characters it contains."""
    tracker = tracker_with(0, 1)
    assert tracker.annotate(1, "attempt=3|due,at=17")
    assert tracker.annotate(0, "")
    again = OffsetTracker(0, tracker.metadata())
    assert again.note(1) == "attempt=3|due,at=17"
    assert again.note(0) == ""
    again.take(0)
    again.take(1)
    again.finish(1)
    assert again.note(1) is None


def test_only_records_in_flight_take_notes() -> None:
    """A note for a record that is done or unknown is ignored."""
    tracker = tracker_with(0)
    assert not tracker.annotate(1, "x")
    assert tracker.annotate(0, "x")
    assert tracker.annotate(0, None)
    assert tracker.metadata() == ""


@pytest.mark.parametrize("note", ["x" * 201, "é", "a\nb"])
def test_notes_are_short_printable_ascii(note: str) -> None:
    """A note that does not fit the metadata is refused when it is added."""
    with pytest.raises(ValueError, match="200 printable ASCII"):
        tracker_with(0).annotate(0, note)


def test_long_metadata_keeps_the_near_end() -> None:
    """Notes and runs that do not fit are cut, highest offsets first."""
    tracker = tracker_with(*range(4000))
    for offset in range(1, 4000, 2):
        tracker.finish(offset)
    for offset in range(0, 4000, 2):
        tracker.annotate(offset, "n" * 200)
    metadata = tracker.metadata()
    assert METADATA_BYTES_MAX - 300 < len(metadata) <= METADATA_BYTES_MAX
    again = OffsetTracker(0, metadata)
    assert again.is_done(1)
    assert again.note(0) == "n" * 200
    assert not again.is_done(3999)


def test_memory_does_not_grow_with_what_is_done_behind_a_slow_record() -> None:
    """One slow record and a hundred thousand done records after it are one run."""
    tracker = tracker_with(0)
    for offset in range(1, 100_000):
        tracker.take(offset)
        tracker.finish(offset)
    assert tracker.metadata() == "h1|0|1.1869f|"


@pytest.mark.parametrize("bytes_max", range(40))
def test_metadata_with_a_note_keeps_to_its_limit(bytes_max: int) -> None:
    """The limit includes the note and the text before it, for every limit."""
    tracker = tracker_with(4_096, start=4_096)
    assert tracker.annotate(4_096, "")
    assert len(tracker.metadata(bytes_max)) <= bytes_max
