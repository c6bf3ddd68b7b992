"""The done records of one partition: the contiguous prefix that may be committed, and the runs of
done records beyond it.

A feed has one tracker for each partition it owns. Records are taken in log order and finished in
any order. Kafka stores one number for each group and partition: the end of the prefix. The runs
beyond it are stored as text in the commit metadata, so that these records are not handed out again
after a restart. If this text is truncated or cannot be read, records are repeated, but never lost.
"""

from bisect import bisect_right
from itertools import pairwise

METADATA_BYTES_MAX = 3 * 1024
"""Kafka refuses a commit with more than 4,096 bytes of metadata by default
(`offset.metadata.max.bytes`). The remaining quarter allows for brokers with a lower limit.
"""

NOTE_LENGTH_MAX = 200
_NOTES_BYTES_MAX = 1024
_VERSION = "h1"
_OFFSET_MAX = 2**63 - 1


class OffsetTracker:
    """The done prefix of one partition, with gaps.

    Offsets that were never taken although later ones were (transaction markers, compacted or
    expired records) count as done. Each operation is O(1) amortised. Memory grows with the records
    that are taken and not finished, not with the number of records done after a slow one.
    """

    __slots__ = ("_ends", "_next", "_notes", "_open", "_restored", "_starts", "committable")

    def __init__(self, start: int, metadata: str = "") -> None:
        """Start at the committed offset `start`, with the text that `metadata()` returned for it.
        Text that is damaged or has another format is ignored.
        """
        self.committable = start
        """Every record below this offset is done. Never decreases."""
        self._next = start
        self._open: set[int] = set()
        # Runs of done offsets above the prefix, as half-open ranges that can be looked up by either
        # end. There is at most one run more than there are open offsets.
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        # Boundaries of the runs known from before the restart, in ascending order (start, end,
        # start, end, ...). All are above `_next`.
        self._restored, self._notes = _parse(metadata, start)

    @property
    def next(self) -> int:
        """The lowest offset that has not been taken yet."""
        return self._next

    @property
    def unfinished(self) -> int:
        """The number of records that are taken and not finished."""
        return len(self._open)

    def take(self, offset: int) -> bool:
        """Mark the record at `offset` as read; return False if there is nothing to do for it
        because it is done already or was taken before.
        """
        if offset < self._next:
            return False
        if offset > self._next:
            self.reach(offset)
            if offset < self._next:
                return False
        self._open.add(offset)
        self._next = offset + 1
        if self._restored:
            self._absorb()
        return True

    def finish(self, offset: int) -> bool:
        """Mark the record at `offset` as done; return False if it was not taken or was
        finished before.
        """
        if offset not in self._open:
            return False
        self._open.remove(offset)
        if self._notes:
            self._notes.pop(offset, None)
        following = self._starts.pop(offset + 1, offset + 1)
        if offset == self.committable:
            self._ends.pop(following, None)
            self.committable = following
            return True
        start = self._ends.pop(offset, offset)
        self._starts[start] = following
        self._ends[following] = start
        return True

    def reach(self, offset: int) -> None:
        """Note that no record below `offset` will be read from now on: offsets below it that were
        not taken do not exist.
        """
        if offset <= self._next:
            return
        if self._notes:
            self._notes = {
                at: note for at, note in self._notes.items() if at >= offset or at in self._open
            }
        if self.committable == self._next:
            self.committable = offset
        else:
            start = self._ends.pop(self._next, self._next)
            self._starts[start] = offset
            self._ends[offset] = start
        self._next = offset
        if self._restored:
            self._absorb()

    def _absorb(self) -> None:
        """Skip the run from before the restart that begins at the next offset, and drop the runs
        below it.
        """
        passed = bisect_right(self._restored, self._next)
        if passed % 2 == 0:
            del self._restored[:passed]
            return
        end = self._restored[passed]
        del self._restored[: passed + 1]
        self.reach(end)

    def is_done(self, offset: int) -> bool:
        """Whether the record at `offset` needs no more work, as far as this is known before it is
        read.
        """
        if offset < self._next:
            return offset not in self._open
        return bisect_right(self._restored, offset) % 2 == 1

    def note(self, offset: int) -> str | None:
        """Return the note kept with the record at `offset`, from this process or from before the
        restart.
        """
        return self._notes.get(offset)

    def annotate(self, offset: int, note: str | None) -> bool:
        """Keep `note` with the unfinished record at `offset`, or remove it if None; return False if
        the record is not taken.

        Raises ValueError for a note that is not printable ASCII or has more than 200 characters.
        """
        if note is not None and (
            len(note) > NOTE_LENGTH_MAX or not note.isascii() or not note.isprintable()
        ):
            raise ValueError(
                f"a note has at most {NOTE_LENGTH_MAX} printable ASCII characters; this one has"
                f" {len(note)} characters"
            )
        if offset not in self._open:
            return False
        if note is None:
            self._notes.pop(offset, None)
        else:
            self._notes[offset] = note
        return True

    def metadata(self, bytes_max: int = METADATA_BYTES_MAX) -> str:
        """Return what a restart at `committable` needs to know, as ASCII text; empty if the prefix
        is enough.

        Text that is too long is cut: the runs and notes with the highest offsets are left out.
        """
        if not self._starts and not self._notes and not self._restored:
            return ""
        head = f"{_VERSION}|{self.committable:x}|"
        room = bytes_max - len(head) - 1
        notes = _write_notes(
            self._notes, self.committable, min(_NOTES_BYTES_MAX, bytes_max // 3, room)
        )
        runs = _write_runs(self._boundaries(), self.committable, room - len(notes))
        return f"{head}{runs}|{notes}" if runs or notes else ""

    def _boundaries(self) -> list[int]:
        """Return the starts and ends of all done runs above the prefix, in ascending order: those
        known here, then those remaining from before the restart.
        """
        return [edge for run in sorted(self._starts.items()) for edge in run] + self._restored


def _write_runs(boundaries: list[int], base: int, bytes_max: int) -> str:
    """Format the distances from one boundary to the next as hexadecimal numbers; whole
    runs only.
    """
    steps = [f"{end - start:x}" for start, end in pairwise([base, *boundaries[:bytes_max]])]
    length, kept = -1, 0
    for index in range(0, len(steps) - 1, 2):
        length += len(steps[index]) + len(steps[index + 1]) + 2
        if length > bytes_max:
            break
        kept = index + 2
    return ".".join(steps[:kept])


def _write_notes(notes: dict[int, str], base: int, bytes_max: int) -> str:
    """Format each note as `<distance>,<length>,<note>`, lowest offset first, without separators."""
    written: list[str] = []
    room = bytes_max
    for offset in sorted(notes):
        text = f"{offset - base:x},{len(notes[offset]):x},{notes[offset]}"
        room -= len(text)
        if room < 0:
            break
        written.append(text)
    return "".join(written)


def _parse(metadata: str, start: int) -> tuple[list[int], dict[int, str]]:
    """Parse the boundaries and notes of a text written at `start`. Both are empty if the text has
    another format or belongs to another offset.

    The offset in the text protects against a tool that moved the group's offset but kept the
    metadata: runs applied at another offset would skip records that were never done.
    """
    parts = (
        metadata.split("|", 3)
        if len(metadata) <= 2 * METADATA_BYTES_MAX and metadata.isascii()
        else []
    )
    if len(parts) != 4 or parts[0] != _VERSION:
        return [], {}
    try:
        if _number(parts[1]) != start:
            return [], {}
        return _read_runs(parts[2], start), _read_notes(parts[3], start)
    except ValueError:
        return [], {}


def _read_runs(text: str, base: int) -> list[int]:
    boundaries: list[int] = []
    for step in text.split(".") if text else ():
        distance = _number(step)
        base += distance
        if distance == 0 or base > _OFFSET_MAX:
            raise ValueError("boundaries must ascend")
        boundaries.append(base)
    if len(boundaries) % 2:
        raise ValueError("a run has a start and an end")
    return boundaries


def _read_notes(text: str, base: int) -> dict[int, str]:
    notes: dict[int, str] = {}
    at = 0
    while at < len(text):
        distance, length, rest = (
            text[at:].split(",", 2) if text.count(",", at) >= 2 else ("", "", "")
        )
        size = _number(length)
        note = rest[:size]
        if len(note) != size or size > NOTE_LENGTH_MAX or not note.isprintable():
            raise ValueError("a note is cut short or not printable")
        notes[base + _number(distance)] = note
        at += len(distance) + len(length) + 2 + size
    return notes


def _number(text: str) -> int:
    """Parse a hexadecimal number in the format written here. `int` alone would also accept signs,
    spaces and underscores.
    """
    if not text.isalnum() or len(text) > 16:
        raise ValueError("not a number in this format")
    return int(text, 16)
