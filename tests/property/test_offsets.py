"""The offset tracker compared with a simple set model: any log with gaps, any order of completion,
restarts through the commit metadata.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.domain.offsets import METADATA_BYTES_MAX, OffsetTracker

NOTES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


class TrackerAgainstModel(RuleBasedStateMachine):
    """A log with gaps is read, processed in any order, and read again after restarts."""

    @initialize(start=st.integers(0, 2**40), holes=st.sets(st.integers(0, 120)))
    def begin(self, start: int, holes: set[int]) -> None:
        self.log = [start + at for at in range(121) if at not in holes]
        self.start = start
        self.tracker = OffsetTracker(start)
        self.cursor = 0
        self.open: set[int] = set()
        self.done: set[int] = set()
        self.notes: dict[int, str] = {}
        self.committed = start

    @rule(count=st.integers(1, 20))
    def take(self, count: int) -> None:
        for offset in self.log[self.cursor : self.cursor + count]:
            fresh = offset not in self.done and offset not in self.open
            assert (offset in self.done) == self.tracker.is_done(offset)
            assert fresh == self.tracker.take(offset)
            if fresh:
                self.open.add(offset)
            self.cursor += 1

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.open:
            offset = data.draw(st.sampled_from(sorted(self.open)))
            assert self.tracker.finish(offset)
            self.open.remove(offset)
            self.done.add(offset)
            self.notes.pop(offset, None)

    @rule(offset=st.integers(0, 2**40 + 200))
    def finish_a_stranger(self, offset: int) -> None:
        if offset not in self.open:
            assert not self.tracker.finish(offset)

    @rule(data=st.data(), note=st.none() | NOTES)
    def annotate(self, data: st.DataObject, note: str | None) -> None:
        if self.open:
            offset = data.draw(st.sampled_from(sorted(self.open)))
            assert self.tracker.annotate(offset, note)
            self.notes.pop(offset, None)
            if note is not None:
                self.notes[offset] = note

    @rule(back=st.integers(1, 50))
    def seek_back(self, back: int) -> None:
        self.cursor = max(self.cursor - back, 0)

    @precondition(lambda self: self.cursor == len(self.log))
    @rule()
    def reach_the_end(self) -> None:
        self.tracker.reach(self.start + 121)

    @rule()
    def restart(self) -> None:
        metadata = self.tracker.metadata()
        self.committed = self.tracker.committable
        self.tracker = OffsetTracker(self.committed, metadata)
        self.cursor = next(
            (index for index, offset in enumerate(self.log) if offset >= self.committed),
            len(self.log),
        )
        self.open.clear()
        # Notes may be truncated, never changed or added.
        kept = {
            offset: note for offset in self.log if (note := self.tracker.note(offset)) is not None
        }
        assert kept.items() <= self.notes.items()
        self.notes = kept

    @rule(bytes_max=st.integers(0, 200))
    def restart_with_cut_metadata(self, bytes_max: int) -> None:
        metadata = self.tracker.metadata(bytes_max)
        assert len(metadata) <= max(bytes_max, 0) or not metadata
        again = OffsetTracker(self.tracker.committable, metadata)
        assert {offset for offset in self.log if again.is_done(offset)} <= self.done

    @invariant()
    def prefix_is_done_and_grows(self) -> None:
        assert self.committed <= self.tracker.committable
        self.committed = self.tracker.committable
        assert all(offset in self.done for offset in self.log if offset < self.tracker.committable)
        unfinished = [offset for offset in self.log if offset not in self.done]
        if self.open:
            assert min(self.open) >= self.tracker.committable
        assert len(self.open) == self.tracker.unfinished
        assert not unfinished or self.tracker.committable <= unfinished[0]

    @invariant()
    def prefix_is_as_long_as_it_can_be(self) -> None:
        read = self.log[: self.cursor]
        if read and self.tracker.next > read[-1] and not self.open:
            assert self.tracker.committable == self.tracker.next

    @invariant()
    def metadata_is_short_ascii(self) -> None:
        metadata = self.tracker.metadata()
        assert metadata.isascii()
        assert len(metadata) <= METADATA_BYTES_MAX


TestTracker = TrackerAgainstModel.TestCase
TestTracker.settings = settings(max_examples=150, stateful_step_count=40)


@given(
    start=st.integers(0, 2**62),
    metadata=st.text(max_size=300)
    | st.from_regex(r"h1\|[0-9a-f]{1,3}\|[0-9a-f.]*\|[0-9a-f,x]*", fullmatch=True),
)
def test_any_metadata_can_be_read(start: int, metadata: str) -> None:
    """Foreign or damaged commit metadata never raises, and never makes the start itself done."""
    tracker = OffsetTracker(start, metadata)
    assert start == tracker.committable
    assert tracker.take(start)


@given(runs=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=2000))
@settings(max_examples=20)
def test_metadata_is_truncated(runs: list[tuple[int, int]]) -> None:
    """However fragmented the done set is, the metadata fits, and what it contains is a correct
    prefix.
    """
    tracker = OffsetTracker(0)
    at = 0
    done: list[int] = []
    for open_length, done_length in runs:
        done += range(at + open_length, at + open_length + done_length)
        at += open_length + done_length
    for offset in range(at):
        tracker.take(offset)
    for offset in done:
        tracker.finish(offset)
    again = OffsetTracker(tracker.committable, tracker.metadata())
    remembered = [offset for offset in range(at) if again.is_done(offset)]
    assert done[: len(remembered)] == remembered
    assert remembered == done or len(tracker.metadata()) > METADATA_BYTES_MAX * 0.6
