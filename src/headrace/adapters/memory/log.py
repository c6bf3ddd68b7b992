"""The in-memory log: topics as lists in this process. In-memory channels use it, and tests.

With a limit for the bytes that it stores, it is bounded: a topic that has used up its share accepts
no more, except for one whose oldest records may be dropped, which are then counted as lost. Records
are removed when every group of their topic has committed them (see `MemoryGroups`).
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import Callable

import structlog

from headrace.domain.errors import (
    HeadraceError,
    LogFull,
    LogUnavailable,
    RecordTooLarge,
    TopicMissing,
)
from headrace.domain.ports import OnStored
from headrace.domain.record import Record, StoredRecord

logger = structlog.get_logger(__name__)

OnAppended = Callable[[str, int], None]
"""Called with topic and partition after records were appended there."""


TOPIC_SHARE = 4
"""One topic may use this fraction (a quarter) of the bytes that the whole log may store."""
RECORD_OVERHEAD_BYTES = 512
"""Approximate memory that a stored record takes in addition to its content."""

OnLost = Callable[[str, int], None]
"""Called with a topic and how many of its records were dropped before anything has read them."""


class BacklogFull(LogFull):
    """Records that are not delivered yet use up the memory they may take: those of the topic, or
    those of all topics together.
    """

    def __init__(self, topic: str, bytes_max: int, *, together: bool) -> None:
        whose = "all topics together have" if together else f"topic {topic} has"
        super().__init__(
            topic,
            bytes_max,
            f"{whose} {bytes_max} bytes of events that are not delivered yet, and no more are kept"
            f" in memory; topic {topic} takes no more until some are delivered",
        )


class MemoryPartition(list[StoredRecord]):
    """The records of one partition that are still stored, in order of their offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.start = 0
        """The offset of the first stored record."""
        self.stored_bytes = 0

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.start + len(self)

    def at(self, offset: int) -> StoredRecord:
        """Return the record with this offset. Raises IndexError if it is not stored."""
        if offset < self.start:
            raise IndexError(offset)
        return self[offset - self.start]

    def trim(self, before: int) -> int:
        """Remove the records below this offset; return how many bytes they had."""
        count = min(max(before - self.start, 0), len(self))
        removed = sum(stored_size(record.size) for record in self[:count])
        del self[:count]
        self.start += count
        self.stored_bytes -= removed
        return removed


def stored_size(record_size: int) -> int:
    """Return the memory that a stored record takes, approximately."""
    return record_size + RECORD_OVERHEAD_BYTES


class MemoryLog:
    """Implements `headrace.domain.ports.Log`; `topics[name][partition]` is a list of records, whose
    index is the offset until records are removed.

    Tests simulate failures of a log. Slow: `hold()` keeps records open until `release()`.
    Unavailable: `fail(error)` rejects all later records. Partly failed: `refuse(topic, error)`
    rejects those for one topic.
    """

    def __init__(
        self,
        *,
        topic_bytes_max: int = 16 * 1_048_576,
        record_bytes_max: int = 1_048_576 + 65_536,
        stored_bytes_max: int | None = None,
        lost: OnLost = lambda _topic, _count: None,
    ) -> None:
        """`topic_bytes_max` limits the records of a topic that are not stored yet,
        `stored_bytes_max` the stored ones of all topics; None: no limit, and nothing is removed.
        """
        self.topics: dict[str, list[MemoryPartition]] = {}
        self.stored_bytes_max = stored_bytes_max
        self.stored_bytes = 0
        self.drops_oldest: set[str] = set()
        """Topics whose oldest records are dropped when they are full."""
        self._lost = lost
        self.topic_bytes_max = topic_bytes_max
        self.record_bytes_max = record_bytes_max
        self._open: dict[str, int] = {}
        self._waiting: list[tuple[str, Record, int, OnStored]] = []
        """Topic, record, its size (which is computed once), and its callback."""
        self._scheduled = False
        self._held = False
        self._failure: HeadraceError | None = None
        self._refused: dict[str, HeadraceError] = {}
        self._watchers: list[OnAppended] = []
        self._next_partition = 0
        self._emptied = asyncio.Event()

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic, or add partitions to it."""
        lists = self.topics.setdefault(topic, [])
        lists.extend(MemoryPartition() for _ in range(partitions - len(lists)))

    def delete(self, topic: str) -> None:
        """Delete a topic and its records."""
        partitions = self.topics.pop(topic, ())
        self.stored_bytes -= sum(each.stored_bytes for each in partitions)
        self.drops_oldest.discard(topic)

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Remove the records of a partition below this offset."""
        partitions = self.topics.get(topic, ())
        if partition < len(partitions):
            self.stored_bytes -= partitions[partition].trim(before)

    def watch(self, appended: OnAppended) -> None:
        """Call `appended` on the event loop after each record."""
        self._watchers.append(appended)

    def hold(self) -> None:
        """Store nothing until `release`."""
        self._held = True

    def release(self) -> None:
        """Store the held records."""
        self._held = False
        self._schedule()

    def fail(self, error: HeadraceError | None) -> None:
        """Reject every record with `error` from now on; None stops this."""
        self._failure = error

    def refuse(self, topic: str, error: HeadraceError | None) -> None:
        """Reject every record for `topic` with `error` from now on; None stops this."""
        if error is None:
            self._refused.pop(topic, None)
        else:
            self._refused[topic] = error

    @property
    def waiting(self) -> int:
        """The number of records that are neither stored nor rejected yet."""
        return len(self._waiting)

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """See the port."""
        size = record.size
        if size > self.record_bytes_max:
            raise RecordTooLarge(size, self.record_bytes_max)
        waiting, needed = self._open.get(topic, 0), stored_size(size)
        if waiting and waiting + needed > self.topic_bytes_max:
            raise LogFull(topic, self.topic_bytes_max)
        if self.stored_bytes_max is not None:
            self._make_room(topic, waiting + needed, self.stored_bytes_max)
        self._open[topic] = waiting + needed
        self._waiting.append((topic, record, size, stored))
        self._schedule()

    def _make_room(self, topic: str, needed: int, bytes_max: int) -> None:
        """Raise BacklogFull if the topic's share or the whole log is used up."""
        partitions = self.topics.get(topic, ())
        share = bytes_max // TOPIC_SHARE
        stored = sum(each.stored_bytes for each in partitions)
        if stored + needed <= share and self.stored_bytes + needed <= bytes_max:
            return
        if topic not in self.drops_oldest:
            together = stored + needed <= share
            raise BacklogFull(topic, bytes_max if together else share, together=together)
        for number, records in enumerate(partitions):
            # A quarter at once: the front of a list is not removed for every record.
            count = -(-len(records) // TOPIC_SHARE)
            self.trim(topic, number, records.start + count)
            if count:
                self._lost(topic, count)

    async def flush(self, timeout_seconds: float) -> int:
        """See the port."""
        if self._waiting:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._emptied.wait()
        return len(self._waiting)

    async def stop(self) -> None:
        """Reject all open records."""
        self._failure = LogUnavailable("the log has stopped")
        self._held = False
        self._store()

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting and not self._held:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._store)

    def _store(self) -> None:
        self._scheduled = False
        if self._held:
            return
        waiting, self._waiting = self._waiting, []
        for topic, record, size, stored in waiting:
            self._open[topic] -= stored_size(size)
            outcome = self._store_one(topic, record, size)
            try:
                stored(outcome)
            except Exception:
                logger.exception("delivery_callback_failed", topic=topic)
        if not self._waiting:
            self._emptied.set()

    def _store_one(self, topic: str, record: Record, size: int) -> HeadraceError | None:
        if (failure := self._failure or self._refused.get(topic)) is not None:
            return failure
        partitions = self.topics.get(topic)
        if not partitions:
            return TopicMissing(topic)
        partition = self._partition(record.key, len(partitions))
        records = partitions[partition]
        stored = StoredRecord(
            topic=topic,
            partition=partition,
            offset=records.end,
            timestamp_ms=time.time_ns() // 1_000_000,
            key=record.key,
            value=record.value,
            headers=record.headers,
            size=size,
        )
        records.append(stored)
        records.stored_bytes += stored_size(size)
        self.stored_bytes += stored_size(size)
        for appended in self._watchers:
            appended(topic, partition)
        return None

    def _partition(self, key: bytes | None, count: int) -> int:
        if key is not None:
            return zlib.crc32(key) % count
        self._next_partition += 1
        return self._next_partition % count
