"""The in-memory log: topics as lists, for tests and for local use without Kafka."""

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


class MemoryLog:
    """Implements `headrace.domain.ports.Log`; `topics[name][partition]` is a list whose index is
    the offset.

    Tests simulate failures of a log. Slow: `hold()` keeps records open until `release()`.
    Unavailable: `fail(error)` rejects all later records. Partly failed: `refuse(topic, error)`
    rejects those for one topic.
    """

    def __init__(
        self, *, topic_bytes_max: int = 16 * 1_048_576, record_bytes_max: int = 1_048_576 + 65_536
    ) -> None:
        self.topics: dict[str, list[list[StoredRecord]]] = {}
        self.topic_bytes_max = topic_bytes_max
        self.record_bytes_max = record_bytes_max
        self._open: dict[str, int] = {}
        self._waiting: list[tuple[str, Record, OnStored]] = []
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
        lists.extend([] for _ in range(partitions - len(lists)))

    def delete(self, topic: str) -> None:
        """Delete a topic and its records."""
        self.topics.pop(topic, None)

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
        waiting = self._open.get(topic, 0)
        if waiting and waiting + size > self.topic_bytes_max:
            raise LogFull(topic, self.topic_bytes_max)
        self._open[topic] = waiting + size
        self._waiting.append((topic, record, stored))
        self._schedule()

    async def flush(self, timeout_seconds: float) -> int:
        """See the port."""
        if self._waiting:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), timeout_seconds)
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
        for topic, record, stored in waiting:
            self._open[topic] -= record.size
            outcome = self._store_one(topic, record)
            try:
                stored(outcome)
            except Exception:
                logger.exception("delivery_callback_failed", topic=topic)
        if not self._waiting:
            self._emptied.set()

    def _store_one(self, topic: str, record: Record) -> HeadraceError | None:
        if (failure := self._failure or self._refused.get(topic)) is not None:
            return failure
        partitions = self.topics.get(topic)
        if not partitions:
            return TopicMissing(topic)
        partition = self._partition(record.key, len(partitions))
        records = partitions[partition]
        records.append(
            StoredRecord(
                topic=topic,
                partition=partition,
                offset=len(records),
                timestamp_ms=time.time_ns() // 1_000_000,
                key=record.key,
                value=record.value,
                headers=record.headers,
                size=record.size,
            )
        )
        for appended in self._watchers:
            appended(topic, partition)
        return None

    def _partition(self, key: bytes | None, count: int) -> int:
        if key is not None:
            return zlib.crc32(key) % count
        self._next_partition += 1
        return self._next_partition % count
