"""Limits what all feeds of one process hold together, so that neither one subscription with large
events nor a hundred stuck ones can exhaust the memory.

There are two parts. Records handed out and not done are counted exactly, over all feeds. What
librdkafka prefetches cannot be counted here, so each new consumer gets a smaller queue the more
consumers there are.
"""

import time
from collections.abc import Callable
from functools import partial

from headrace.adapters.kafka.consumer.flow_control import FlowControl

_KIB = 1024
QUEUE_BYTES_MAX = 256 * _KIB
QUEUE_BYTES_MIN = 64 * _KIB
_COUNT_SECONDS = 0.002
_COUNT_SECONDS_FOR_A_FEED = 0.000_02
"""How old a sum over all feeds may be: so much, and so much more for each of them. It is read for
each record that is done, and computing it takes 0.1 us for a feed: half a percent of the time.
"""


class ByteBudget:
    """The byte budget of one process.

    Feeds are not limited while there is room. When there is none, only feeds that hold less than an
    equal share continue. Stuck subscriptions therefore cannot starve the others, and all feeds
    together hold at most twice the budget.
    """

    def __init__(self, bytes_max: int, *, now: Callable[[], float] = time.monotonic) -> None:
        if bytes_max < QUEUE_BYTES_MAX:
            raise ValueError(
                f"the budget of a process must fit one queue: bytes_max={bytes_max}, at least"
                f" {QUEUE_BYTES_MAX}"
            )
        self.bytes_max = bytes_max
        # Replaced as a whole: consumers' threads read it while the loop changes it.
        self._flows: tuple[FlowControl, ...] = ()
        self._now = now
        self._full = False
        self._counted_at = float("-inf")

    def register(self, flow: FlowControl) -> None:
        """Count this feed."""
        self._flows = (*self._flows, flow)
        flow.over_process_budget = partial(self._is_over_budget, flow)

    def unregister(self, flow: FlowControl) -> None:
        """Stop counting this feed."""
        self._flows = tuple(each for each in self._flows if each is not flow)

    @property
    def held(self) -> int:
        """Return the bytes handed out and not done, in all feeds."""
        return sum(flow.bytes for flow in self._flows)

    def _is_over_budget(self, flow: FlowControl) -> bool:
        """Whether this feed must wait for others."""
        if flow.bytes * len(self._flows) < self.bytes_max:
            return False
        now = self._now()
        age_max = _COUNT_SECONDS + _COUNT_SECONDS_FOR_A_FEED * len(self._flows)
        if now - self._counted_at > age_max:
            self._counted_at = now
            self._full = self.held >= self.bytes_max
        return self._full

    def queue_bytes(self) -> int:
        """Return the size of the prefetch queue for the next consumer: its share of a quarter of
        the budget.
        """
        share = self.bytes_max // 4 // (len(self._flows) + 1)
        return min(max(share, QUEUE_BYTES_MIN), QUEUE_BYTES_MAX)
