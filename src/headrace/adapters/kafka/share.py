"""One partition as its feed holds it on the event loop: what is in hand, what is done, what was
committed.
"""

from collections.abc import Iterable

from headrace.adapters.kafka.commits import Position
from headrace.adapters.kafka.topic_ids import mark, unmark
from headrace.domain.offsets import OffsetTracker
from headrace.domain.ports import Lag
from headrace.domain.record import StoredRecord


class Share:
    """A partition between its assignment and its revocation. Nothing of it outlives the
    ownership.
    """

    __slots__ = (
        "_committed",
        "_moved_at",
        "_prefix",
        "_sending",
        "changed",
        "high",
        "in_hand",
        "kept_back",
        "partition",
        "paused",
        "topic_id",
        "tracker",
    )

    def __init__(self, start: Position, now: float) -> None:
        self.partition = start.partition
        self.topic_id, metadata = unmark(start.metadata)
        """Of the topic in which the start was committed, or that was seen first; empty as long as
        it is not known.
        """
        self.tracker = OffsetTracker(start.offset, metadata)
        self.in_hand: dict[int, StoredRecord] = {}
        self.kept_back: list[StoredRecord] = []
        """Records that came while the listener had the partition paused; at most two hand-overs."""
        self.paused = False
        self.changed = False
        self.high = start.offset
        """The log's end, as last heard."""
        self._committed = (start.offset, start.metadata)
        self._sending: tuple[int, str] | None = None
        self._prefix = start.offset
        self._moved_at = now

    def take(self, record: StoredRecord, now: float) -> bool:
        """Whether this record is to be worked on; then it is in hand."""
        tracker = self.tracker
        if not tracker.take(record.offset):
            return False
        if not self.in_hand:
            self._moved_at = now
        self.in_hand[record.offset] = record
        record.note = tracker.note(record.offset)
        return True

    def finish(self, record: StoredRecord) -> bool:
        """Whether this very record was in hand; then it is done.

        Compared by identity: a record from before a revocation must not finish its successor, which
        somebody works on now.
        """
        if self.in_hand.get(record.offset) is not record:
            return False
        del self.in_hand[record.offset]
        self.tracker.finish(record.offset)
        return True

    def reach(self, offset: int) -> None:
        """The log's end was reached at `offset`."""
        if offset > self.high:
            self.high = offset
        if offset > self.tracker.next and not self.kept_back:
            self.tracker.reach(offset)
            self.changed = True

    def next_commit(self, now: float, *, again: bool = False) -> Position | None:
        """What should be committed, None when Kafka knows it, unless it shall hear it `again`; to
        be answered by `committed`.
        """
        self.changed = False
        self._observe(now)
        wanted = (self.tracker.committable, mark(self.topic_id, self.tracker.metadata()))
        if wanted == self._committed and not again:
            return None
        self._sending = wanted
        return Position(self.partition, *wanted)

    def committed(self, *, stored: bool) -> None:
        """The last `next_commit` is stored, or was refused and must be tried again."""
        if stored and self._sending is not None:
            self._committed = self._sending
        elif not stored:
            self.changed = True
        self._sending = None

    def lag(self, now: float) -> Lag:
        """How far behind this partition is."""
        self._observe(now)
        records = max(self.high - self.tracker.next, 0) + self.tracker.unfinished
        if records == 0:
            self._moved_at = now
        oldest = self.in_hand.get(self.tracker.committable)
        return Lag(
            records, oldest.timestamp_ms if oldest is not None else None, now - self._moved_at
        )

    def _observe(self, now: float) -> None:
        if self.tracker.committable != self._prefix:
            self._prefix = self.tracker.committable
            self._moved_at = now

    def held(self) -> tuple[int, int]:
        """Records and bytes that are handed out or kept back."""
        records: Iterable[StoredRecord] = (*self.in_hand.values(), *self.kept_back)
        sizes = [record.size for record in records]
        return len(sizes), sum(sizes)
