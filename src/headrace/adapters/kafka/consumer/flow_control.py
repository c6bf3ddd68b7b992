"""Back-pressure between the consumer's thread and the event loop.

Each counter has one writer, so no lock is needed: the thread counts what it delivers, the loop
counts what is released.
"""

import threading
from collections.abc import Callable

from headrace.domain.feed import FeedBounds

BATCH_RECORDS_MAX = 64
"""Records in one batch. After a batch the loop serves other feeds, so that a feed with a backlog
does not delay them.
"""

_BATCHES_AHEAD_MAX = 2


def _never() -> bool:
    return False


class FlowControl:
    """The capacity of one feed, and what is used of it."""

    __slots__ = (
        "_bounds",
        "_expected_record_bytes",
        "_wake_bytes",
        "_wake_records",
        "delivered_batches",
        "delivered_bytes",
        "delivered_records",
        "over_process_budget",
        "received_batches",
        "released_bytes",
        "released_records",
        "starved",
        "wake",
    )

    def __init__(self, bounds: FeedBounds) -> None:
        self._bounds = bounds
        # The thread is woken when a quarter is free, not for every single record.
        self._wake_records = bounds.records_max * 3 // 4
        self._wake_bytes = bounds.bytes_max * 3 // 4
        # The largest record of the last batch, to estimate how many fit; a cautious estimate before
        # the first batch.
        self._expected_record_bytes = max(bounds.bytes_max // 4, 1)
        self.over_process_budget: Callable[[], bool] = _never
        """Whether the process holds too much; if so, a feed that holds a record waits."""
        self.wake = threading.Event()
        self.starved = False
        self.delivered_records = 0
        self.delivered_bytes = 0
        self.delivered_batches = 0
        self.released_records = 0
        self.released_bytes = 0
        self.received_batches = 0

    @property
    def records(self) -> int:
        """The number of records handed out and not done."""
        return self.delivered_records - self.released_records

    @property
    def bytes(self) -> int:
        """The bytes of these records."""
        return self.delivered_bytes - self.released_bytes

    def free_records(self) -> int:
        """Return how many records may be delivered now. Thread."""
        if self.over_process_budget():
            return 0 if self.records else 1
        free = self._bounds.bytes_max - self.bytes
        if free <= 0 or self.delivered_batches - self.received_batches >= _BATCHES_AHEAD_MAX:
            return 0
        fit = max(free // self._expected_record_bytes, 1)
        return max(min(self._bounds.records_max - self.records, BATCH_RECORDS_MAX, fit), 0)

    def is_half_empty(self) -> bool:
        """Return whether at most half of the bounds is in use. Thread."""
        return (
            (not self.records or not self.over_process_budget())
            and self.records * 2 <= self._bounds.records_max
            and self.bytes * 2 <= self._bounds.bytes_max
        )

    def wait_for_capacity(self, timeout_seconds: float) -> None:
        """Sleep until a quarter of the capacity is free, or there is other work. Thread."""
        self.wake.clear()
        self.starved = True
        if not self._has_capacity():
            self.wake.wait(timeout_seconds)
        self.starved = False

    def add_batch(self, records: int, size: int, *, largest: int) -> None:
        """Count one batch of `size` bytes with a `largest` record. Thread."""
        if records:
            self._expected_record_bytes = max(largest, 1)
        self.delivered_records += records
        self.delivered_bytes += size
        self.delivered_batches += 1

    def batch_received(self) -> None:
        """Note that a batch has arrived. Loop."""
        self.received_batches += 1
        if self.starved and self._has_capacity():
            self.wake.set()

    def release(self, records: int, size: int) -> None:
        """Free the capacity of these records. Loop."""
        self.released_records += records
        self.released_bytes += size
        if self.starved and self._has_capacity():
            self.wake.set()

    def _has_capacity(self) -> bool:
        return (
            self.records <= self._wake_records
            and not (self.records and self.over_process_budget())
            and self.bytes <= self._wake_bytes
            and self.delivered_batches - self.received_batches < _BATCHES_AHEAD_MAX
        )
