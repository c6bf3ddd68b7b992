"""What all feeds of one process may hold together: neither one subscription with large events nor a
hundred stuck ones may fill the memory.

Two parts. Records handed out and not done are counted exactly, over all windows. What librdkafka
prefetches cannot be counted from here, so each new consumer gets a queue that is smaller the more
there are.
"""

import time
from collections.abc import Callable
from functools import partial

from headrace.adapters.kafka.consumer.flow_control import FlowControl

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
        self._flows: tuple[
            FlowControl, ...
        ] = ()  # Replaced as a whole: consumers' threads read it while the loop changes it.
        self._now = now
        self._full = False
        self._counted_at = float("-inf")

    def register(self, flow: FlowControl) -> None:
        """Count this window too."""
        self._flows = (*self._flows, flow)
        flow.over_process_budget = partial(self._is_over_budget, flow)

    def unregister(self, flow: FlowControl) -> None:
        """Count it no more."""
        self._flows = tuple(each for each in self._flows if each is not flow)

    @property
    def held(self) -> int:
        """Bytes handed out and not done, in all feeds."""
        return sum(flow.bytes for flow in self._flows)

    def _is_over_budget(self, flow: FlowControl) -> bool:
        """Whether this window must wait for others."""
        if flow.bytes * len(self._flows) < self.bytes_max:
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
        share = self.bytes_max // 4 // (len(self._flows) + 1)
        return min(max(share, QUEUE_BYTES_MIN), QUEUE_BYTES_MAX)
