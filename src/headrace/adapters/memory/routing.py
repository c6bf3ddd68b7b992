"""The routing table without Kafka, for tests and for a process that runs everything on the embedded
cluster.

Records are encoded and decoded as in Kafka, so that both readers report the same.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from headrace.codec.routing import apply
from headrace.domain.control_topics import ROUTING_TOPIC
from headrace.domain.record import StoredRecord
from headrace.domain.routing import RoutingTable

OnKeysChanged = Callable[[Collection[str]], None]


class MemoryRoutingLog:
    """The log that the writer and the readers share."""

    def __init__(self) -> None:
        self.records: list[StoredRecord] = []
        self._listeners: list[Callable[[], None]] = []

    def append(self, key: str, value: bytes | None) -> int:
        """Append one record and call the subscribers."""
        offset = len(self.records)
        self.records.append(StoredRecord(ROUTING_TOPIC, 0, offset, 0, key.encode(), value, ()))
        for callback in self._listeners:
            callback()
        return offset

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each record."""
        self._listeners.append(callback)

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Undo `subscribe`."""
        if callback in self._listeners:
            self._listeners.remove(callback)


class MemoryRoutingWriter:
    """Implements `headrace.domain.ports.RoutingWriter`."""

    def __init__(self, log: MemoryRoutingLog) -> None:
        self._log = log

    async def write(self, records: Mapping[str, bytes | None]) -> int:
        """See the port. Returns -1 if `records` is empty."""
        position = -1
        for key, value in records.items():
            position = self._log.append(key, value)
        return position


class MemoryRoutingReader:
    """Implements `headrace.domain.ports.RoutingReader`."""

    def __init__(self, log: MemoryRoutingLog, backends: Collection[str] | None = None) -> None:
        """`backends`: see `RoutingTable`."""
        self._log = log
        self._table = RoutingTable(backends)
        self._watchers: list[OnKeysChanged] = []
        self._keys: set[str] = set()
        self._applied = 0
        self._scheduled = False
        self._running = False

    @property
    def table(self) -> RoutingTable:
        """See the port."""
        return self._table

    @property
    def problem(self) -> str | None:
        """The reason why the table is not ready, for a readiness check."""
        return None if self._running else "the routing table has not been read to its end"

    async def start(self) -> None:
        """See the port."""
        self._running = True
        self._log.subscribe(self._schedule)
        self._apply()

    async def refresh(self, timeout_seconds: float) -> bool:
        """See the port."""
        if not self._running:
            return False
        self._schedule()
        await asyncio.sleep(0)
        return True

    def watch(self, changed: OnKeysChanged) -> None:
        """See the port."""
        self._watchers.append(changed)
        if self._running and self._keys:
            asyncio.get_running_loop().call_soon(changed, frozenset(self._keys))

    async def stop(self) -> None:
        """See the port."""
        self._running = False
        self._log.unsubscribe(self._schedule)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._apply)

    def _apply(self) -> None:
        self._scheduled = False
        if not self._running:
            return
        records, self._applied = self._log.records[self._applied :], len(self._log.records)
        changed = apply(self._table, records).changed
        removed = {key for key in changed if self._table.get(key) is None}
        self._keys = (self._keys | changed) - removed
        if changed:
            for callback in self._watchers:
                callback(frozenset(changed))
