"""Exemplars (OpenMetrics): the newest trace of each bucket of a histogram, which leads from a slow
bucket to an event that was slow.

Only a process that records traces has histograms of this kind. prometheus-client has no exemplars
for several worker processes, so there are none then.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import Histogram
from prometheus_client.samples import Exemplar

from headrace.codec.trace_context import TraceContext
from headrace.runtime.metrics import HistogramChild, Metrics, several_processes

CurrentTrace = Callable[[], TraceContext | None]
"""Returns the position of the span in which the running call was made, None if no sampled one."""


class ExemplarHistogramChild(HistogramChild):
    """A child that keeps, for each bucket, the last value that was observed in a sampled trace."""

    __slots__ = ("_current_trace", "_newest")

    def __init__(
        self, child: Histogram, bounds: Sequence[float], *, current_trace: CurrentTrace
    ) -> None:
        super().__init__(child, bounds)
        self._current_trace = current_trace
        self._newest: dict[int, tuple[float, TraceContext, float]] = {}
        """Value, position and time (Unix seconds) by index of the bucket, since the last flush."""

    def observe(self, value: float) -> None:
        """As `HistogramChild.observe`."""
        index = bisect_left(self._bounds, value)
        self._counts[index] += 1
        self._sum += value
        position = self._current_trace()
        if position is not None:
            self._newest[index] = (value, position, time.time())

    def flush(self) -> None:
        """As `HistogramChild.flush`, with the exemplars."""
        super().flush()
        for index, (value, position, at) in self._newest.items():
            labels = {
                "trace_id": f"{position.trace_id:032x}",
                "span_id": f"{position.span_id:016x}",
            }
            self._child._buckets[index].set_exemplar(Exemplar(labels, value, round(at, 3)))
        self._newest.clear()


def add_exemplars(metrics: Metrics, current_trace: CurrentTrace) -> None:
    """Let all histograms of `metrics` have exemplars. Raises RuntimeError if it has one already."""
    if not several_processes():
        metrics.make_histogram_children(
            partial(ExemplarHistogramChild, current_trace=current_trace)
        )
