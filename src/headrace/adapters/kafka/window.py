"""What is between the consumer's thread and the event loop: counted by both, waited for by one.

Each counter has one writer, so no lock is needed: the thread adds what it hands over, the loop adds
what came back.
"""

import threading
from collections.abc import Callable

from headrace.domain.feed import FeedBounds

HAND_OVER_RECORDS_MAX = 64
"""Records in one hand-over: after that many the loop turns to other feeds, so that one with a
backlog does not hold the rest up.
"""

_HAND_OVERS_AHEAD_MAX = 2


def _never() -> bool:
    return False


class Window:
    """The room left to a feed."""

    __slots__ = (
        "_bounds",
        "_enough_bytes",
        "_enough_records",
        "_typical_bytes",
        "crowded",
        "handed_bytes",
        "handed_over",
        "handed_records",
        "hungry",
        "settled_bytes",
        "settled_records",
        "taken_over",
        "wake",
    )

    def __init__(self, bounds: FeedBounds) -> None:
        self._bounds = bounds
        # The thread is woken when a quarter is free, not for every single record.
        self._enough_records = bounds.records_max * 3 // 4
        self._enough_bytes = bounds.bytes_max * 3 // 4
        # The largest record of the last hand-over, for a guess at how many fit; before the first
        # one, a cautious guess.
        self._typical_bytes = max(bounds.bytes_max // 4, 1)
        self.crowded: Callable[[], bool] = _never
        """Whether the process as a whole holds too much: then a feed that holds something waits."""
        self.wake = threading.Event()
        self.hungry = False
        self.handed_records = 0
        self.handed_bytes = 0
        self.handed_over = 0
        self.settled_records = 0
        self.settled_bytes = 0
        self.taken_over = 0

    @property
    def records(self) -> int:
        """Records handed out and not settled."""
        return self.handed_records - self.settled_records

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return self.handed_bytes - self.settled_bytes

    def room(self) -> int:
        """How many records may be handed over now. Thread."""
        if self.crowded():
            return 0 if self.records else 1
        free = self._bounds.bytes_max - self.bytes
        if free <= 0 or self.handed_over - self.taken_over >= _HAND_OVERS_AHEAD_MAX:
            return 0
        fit = max(free // self._typical_bytes, 1)
        return max(min(self._bounds.records_max - self.records, HAND_OVER_RECORDS_MAX, fit), 0)

    def half_empty(self) -> bool:
        """Whether at most half of the bounds is in use. Thread."""
        return (
            (not self.records or not self.crowded())
            and self.records * 2 <= self._bounds.records_max
            and self.bytes * 2 <= self._bounds.bytes_max
        )

    def await_room(self, timeout_seconds: float) -> None:
        """Sleep until there is a good deal of room, or something else to do. Thread."""
        self.wake.clear()
        self.hungry = True
        if not self._enough():
            self.wake.wait(timeout_seconds)
        self.hungry = False

    def hand(self, records: int, size: int, *, largest: int) -> None:
        """Count one hand-over, of `size` bytes with a `largest` record. Thread."""
        if records:
            self._typical_bytes = max(largest, 1)
        self.handed_records += records
        self.handed_bytes += size
        self.handed_over += 1

    def take(self) -> None:
        """A hand-over has arrived. Loop."""
        self.taken_over += 1
        if self.hungry and self._enough():
            self.wake.set()

    def settle(self, records: int, size: int) -> None:
        """So much needs no more room. Loop."""
        self.settled_records += records
        self.settled_bytes += size
        if self.hungry and self._enough():
            self.wake.set()

    def _enough(self) -> bool:
        return (
            self.records <= self._enough_records
            and not (self.records and self.crowded())
            and self.bytes <= self._enough_bytes
            and self.handed_over - self.taken_over < _HAND_OVERS_AHEAD_MAX
        )
