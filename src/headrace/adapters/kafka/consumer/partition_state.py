"""The state of one partition on the event loop: which records are in flight, done and committed."""

from collections.abc import Iterable

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.topic_ids import add_topic_id, split_topic_id
from headrace.domain.offsets import OffsetTracker
from headrace.domain.ports import NO_LAG, Lag
from headrace.domain.record import StoredRecord


class PartitionState:
    """A partition from its assignment to its revocation. No state is kept after that."""

    __slots__ = (
        "_buffered_end",
        "_commit_in_flight",
        "_committed",
        "_done_prefix",
        "_progressed_at",
        "buffered",
        "changed",
        "high_watermark",
        "in_flight",
        "partition",
        "paused",
        "topic_id",
        "tracker",
    )

    def __init__(self, start: Position, now: float) -> None:
        self.partition = start.partition
        self.topic_id, metadata = split_topic_id(start.metadata)
        """The id of the topic for which the start offset was committed, or the id that was seen
        first. Empty while it is not known.
        """
        self.tracker = OffsetTracker(start.offset, metadata)
        self.in_flight: dict[int, StoredRecord] = {}
        self.buffered: list[StoredRecord] = []
        """Records that arrived while the listener had paused the partition; at most two batches."""
        self._buffered_end = 0
        """How far the log was read after them."""
        self.paused = False
        self.changed = False
        self.high_watermark = start.offset
        """The end of the log, as last reported."""
        self._committed: tuple[int, str] | None = (start.offset, start.metadata)
        self._commit_in_flight: tuple[int, str] | None = None
        self._done_prefix = start.offset
        self._progressed_at = now

    def take(self, record: StoredRecord, now: float) -> bool:
        """Return whether to hand out this record, which is then in flight."""
        tracker = self.tracker
        if not tracker.take(record.offset):
            return False
        if not self.in_flight:
            self._progressed_at = now
        self.in_flight[record.offset] = record
        record.note = tracker.note(record.offset)
        return True

    def finish(self, record: StoredRecord) -> bool:
        """Mark this record as done; return whether it was in flight.

        Compared by identity: a record from before a revocation must not finish its redelivery,
        which is in flight now.
        """
        if self.in_flight.get(record.offset) is not record:
            return False
        del self.in_flight[record.offset]
        self.tracker.finish(record.offset)
        return True

    def reach(self, offset: int) -> None:
        """Note that the end of the log was reached at `offset`."""
        if offset > self.high_watermark:
            self.high_watermark = offset
        if self.buffered:
            self._buffered_end = max(self._buffered_end, offset)
        elif offset > self.tracker.next:
            self.tracker.reach(offset)
            self.changed = True

    def take_buffered(self) -> tuple[list[StoredRecord], int]:
        """Return what is buffered, and how far the log was read after that, for `reach`."""
        buffered, self.buffered = self.buffered, []
        end, self._buffered_end = self._buffered_end, 0
        return buffered, end

    def forget_commit(self) -> None:
        """Nothing is committed, not even the start."""
        self._committed = None

    def next_commit(self, now: float, *, again: bool = False) -> Position | None:
        """Return what should be committed; None when it is committed already, unless `again`.
        Report the answer to `on_commit_answered`.
        """
        self.changed = False
        self._observe(now)
        wanted = (self.tracker.committable, add_topic_id(self.topic_id, self.tracker.metadata()))
        if wanted == self._committed and not again:
            return None
        self._commit_in_flight = wanted
        return Position(self.partition, *wanted)

    def has_progress(self) -> bool:
        """Whether records are done or annotated that the stored commit does not have, or nothing is
        committed that has to be.
        """
        if self._committed is None:
            return True
        offset, metadata = self._committed
        done = (self.tracker.committable, self.tracker.metadata())
        return done != (offset, split_topic_id(metadata)[1])

    def on_commit_answered(self, *, stored: bool) -> None:
        """Note that the last `next_commit` is stored, or was refused and must be repeated."""
        if stored and self._commit_in_flight is not None:
            self._committed = self._commit_in_flight
        elif not stored:
            self.changed = True
        self._commit_in_flight = None

    def lag(self, now: float) -> Lag:
        """Return how far behind this partition is."""
        self._observe(now)
        records = max(self.high_watermark - self.tracker.next, 0) + self.tracker.unfinished
        if records == 0:
            self._progressed_at = now
            return NO_LAG
        oldest = self.in_flight.get(self.tracker.committable)
        return Lag(
            records, oldest.timestamp_ms if oldest is not None else None, now - self._progressed_at
        )

    def had_no_lag(self, at: float) -> None:
        """Note that nothing was waiting or in flight at this time."""
        self._progressed_at = max(self._progressed_at, at)

    def _observe(self, now: float) -> None:
        if self.tracker.committable != self._done_prefix:
            self._done_prefix = self.tracker.committable
            self._progressed_at = now

    def held(self) -> tuple[int, int]:
        """Return the numbers of records and bytes that are in flight or buffered."""
        records: Iterable[StoredRecord] = (*self.in_flight.values(), *self.buffered)
        sizes = [record.size for record in records]
        return len(sizes), sum(sizes)
