"""What all feeds of one process may hold together: neither one subscription with large events nor a
hundred stuck ones may fill the memory.

Two parts. Records handed out and not done are counted exactly, over all windows. What librdkafka
prefetches cannot be counted from here, so each new consumer gets a queue that is smaller the more
there are.
"""

import time
from collections.abc import Callable
from functools import partial

from headrace.adapters.kafka.window import Window

_KIB = 1024
QUEUE_BYTES_MAX = 256 * _KIB
QUEUE_BYTES_MIN = 64 * _KIB
_COUNT_SECONDS = 0.002
"""How old a sum over all windows may be: it is asked for with each record that is done, and over a
hundred feeds it takes 10 us.
"""


class ByteBudget:
    """The bytes of one process.

    Feeds take what they want while there is room; when there is none, only those that hold less
    than an equal share go on. So stuck subscriptions cannot starve the others, and all together
    hold twice the budget at worst.
    """

    def __init__(self, bytes_max: int, *, now: Callable[[], float] = time.monotonic) -> None:
        if bytes_max < QUEUE_BYTES_MAX:
            raise ValueError(
                f"a process needs room for one queue: bytes_max={bytes_max}, at least"
                f" {QUEUE_BYTES_MAX}"
            )
        self.bytes_max = bytes_max
        self._windows: tuple[
            Window, ...
        ] = ()  # Replaced as a whole: consumers' threads read it while the loop changes it.
        self._now = now
        self._full = False
        self._counted_at = float("-inf")

    def join(self, window: Window) -> None:
        """Count this window too."""
        self._windows = (*self._windows, window)
        window.crowded = partial(self._crowds, window)

    def leave(self, window: Window) -> None:
        """Count it no more."""
        self._windows = tuple(each for each in self._windows if each is not window)

    @property
    def held(self) -> int:
        """Bytes handed out and not done, in all feeds."""
        return sum(window.bytes for window in self._windows)

    def _crowds(self, window: Window) -> bool:
        """Whether this window must wait for others."""
        if window.bytes * len(self._windows) < self.bytes_max:
            return False
        now = self._now()
        if now - self._counted_at > _COUNT_SECONDS:
            self._counted_at = now
            self._full = self.held >= self.bytes_max
        return self._full

    def queue_bytes(self) -> int:
        """The prefetch queue of the next consumer: a quarter of the budget is theirs, shared by
        those there are.
        """
        share = self.bytes_max // 4 // (len(self._windows) + 1)
        return min(max(share, QUEUE_BYTES_MIN), QUEUE_BYTES_MAX)
