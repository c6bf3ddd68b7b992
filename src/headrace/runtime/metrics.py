"""Metrics: plain integers on the hot paths, exported to Prometheus.

A child of a metric (`CounterChild`, `HistogramChild`) is an object that the hot path updates
without locks, lookups or library calls. Its values move into prometheus-client at each scrape and
once a second. With several worker processes, the parent sets `PROMETHEUS_MULTIPROC_DIR` before it
starts them, and any of them answers a scrape for all.
"""

import asyncio
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_page
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from headrace.runtime.knative_metrics import knative_families

PREFIX = "headrace_"
FLUSH_SECONDS = 1.0
LATENCY_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Seconds, from 1 ms to the maximum duration of an attempt."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # One more series per counter, half of the page, that no dashboard uses.

GaugeAcrossProcesses = Literal["livesum", "livemax", "livemin", "livemostrecent", "max", "sum"]
"""How the values of several workers are combined. `liveall` is omitted: a label per process is
unbounded.
"""


class CounterChild:
    """The child of a counter: add to `value` directly. Only the thread of the loop may use it."""

    __slots__ = ("_child", "_flushed", "value")

    def __init__(self, child: Counter) -> None:
        self.value = 0
        self._flushed = 0
        self._child = child

    def add(self, count: int = 1) -> None:
        """Do `value += count`, for callers that need a callable."""
        self.value += count

    def flush(self) -> None:
        """Move new values into Prometheus."""
        new = self.value - self._flushed
        if new:
            self._child.inc(new)
            self._flushed = self.value


class HistogramChild:
    """The child of a histogram; an observation takes about half a microsecond. Only the thread of
    the loop may use it.
    """

    __slots__ = ("_bounds", "_child", "_counts", "_flushed", "_sum")

    def __init__(self, child: Histogram, bounds: Sequence[float]) -> None:
        self._flushed = 0
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self._child: Any = child

    def observe(self, value: float) -> None:
        """Record one value, in the unit of the metric."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        """Number of all values."""
        return self._flushed + sum(self._counts)

    def flush(self) -> None:
        """Move new values into Prometheus.

        Its public method takes one observation at a time. This writes the values of a second
        directly into the buckets; a test verifies that the result is the same.
        """
        new = sum(self._counts)
        if not new:
            return
        self._flushed += new
        for index, count in enumerate(self._counts):
            if count:
                self._child._buckets[index].inc(count)
                self._counts[index] = 0
        self._child._sum.inc(self._sum)
        self._sum = 0.0


Child = TypeVar("Child", CounterChild, HistogramChild)
MakeHistogramChild = Callable[[Histogram, Sequence[float]], HistogramChild]


class MetricFamily(Generic[Child]):
    """One metric with its labels; `labels` returns a child to keep."""

    def __init__(self, metric: Counter | Histogram, make: Callable[[Any], Child]) -> None:
        self._metric = metric
        self._make: Callable[[Any], Child] = make
        self._children: dict[tuple[str, ...], Child] = {}

    @property
    def is_histogram(self) -> bool:
        """Whether the children are those of a histogram."""
        return isinstance(self._metric, Histogram)

    def labels(self, *values: str) -> Child:
        """Return the child with these label values, in the order of the label names. Returns the
        same object each time.

        Keep the result: this method is too slow for hot paths.
        """
        child = self._children.get(values)
        if child is None:
            child = self._make(self._metric.labels(*values) if values else self._metric)
            self._children[values] = child
        return child

    def remove(self, *values: str) -> None:
        """Stop exporting this child (its subscription was deleted)."""
        if self._children.pop(values, None) is not None and not several_processes():
            self._metric.remove(*values)

    def flush(self) -> None:
        """Move new values of every child into Prometheus."""
        for child in self._children.values():
            child.flush()


class Metrics:
    """All metrics of one process. Requesting a name twice returns the same family, so components
    need not know each other.
    """

    def __init__(self, *, process: bool = True) -> None:
        """`process` adds CPU, memory and file descriptors of the process."""
        self.knative_names = False
        """Whether the page has Knative's names too (`knative_metrics`); it is set before the first
        metric of a service is requested.
        """
        self._registry = CollectorRegistry()
        self._unexported = CollectorRegistry()
        """Of metrics that are only the source of others."""
        self._families: dict[str, MetricFamily[Any]] = {}
        self._make_histogram_child: MakeHistogramChild = HistogramChild
        self._gauges: dict[str, Gauge] = {}
        self._before_scrape: list[Callable[[], None]] = []
        if process and not several_processes():
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    def counter(
        self, name: str, documentation: str, labels: Sequence[str] = ()
    ) -> MetricFamily[CounterChild]:
        """Return the counter `headrace_<name>_total`."""
        return self._family(
            name,
            lambda full: MetricFamily(
                Counter(full, documentation, labels, registry=self._registry), CounterChild
            ),
        )

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = LATENCY_BUCKETS,
        exported: bool = True,
    ) -> MetricFamily[HistogramChild]:
        """Return the histogram `headrace_<name>`; `name` ends with its unit. One that is not
        `exported` is a source of Knative's names only.
        """
        registry = self._registry if exported else self._unexported

        def make(full: str) -> MetricFamily[HistogramChild]:
            histogram = Histogram(full, documentation, labels, registry=registry, buckets=buckets)
            return MetricFamily(histogram, lambda child: self._make_histogram_child(child, buckets))

        return self._family(name, make)

    def make_histogram_children(self, make: MakeHistogramChild) -> None:
        """Create the children of histograms with `make` instead of `HistogramChild`. Raises
        RuntimeError if there is a histogram already.
        """
        early = [name for name, family in self._families.items() if family.is_histogram]
        if early:
            raise RuntimeError(f"{', '.join(early)} would have children of another kind")
        self._make_histogram_child = make

    def gauge(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        across: GaugeAcrossProcesses = "livesum",
    ) -> Gauge:
        """Return the gauge `headrace_<name>`. Set it at scrape time in a function passed to
        `before_scrape`, or whenever its value changes.
        """
        full = PREFIX + name
        if full not in self._gauges:
            self._gauges[full] = Gauge(
                full, documentation, labels, registry=self._registry, multiprocess_mode=across
            )
        return self._gauges[full]

    def before_scrape(self, update: Callable[[], None]) -> None:
        """Call `update` before each scrape, and each second in one of several processes, for gauges
        that are cheaper to compute than to maintain.
        """
        self._before_scrape.append(update)

    def flush(self) -> None:
        """Move all new values into Prometheus."""
        for update in self._before_scrape:
            update()
        for family in self._families.values():
            family.flush()

    def expose(self, *, openmetrics: bool = False) -> tuple[bytes, str]:
        """Return the metrics page and its content type; with several worker processes, the metrics
        of all of them.

        `openmetrics` asks for that format, which has exemplars. With several worker processes the
        page has the text format all the same.
        """
        self.flush()
        return self.render(openmetrics=openmetrics)

    def render(self, *, openmetrics: bool = False) -> tuple[bytes, str]:
        """Return the page as `expose` does, without flushing. May run on another thread: a page of
        a hundred subscriptions takes 13 ms to write.
        """
        if openmetrics and not several_processes():
            return openmetrics_page(self), OPENMETRICS  # type: ignore[no-untyped-call]
        return generate_latest(self), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """Yield what the page has, as `prometheus_client.registry.Collector`."""
        if not self.knative_names:
            yield from self._collect()
            return
        families = list(self._collect())
        yield from families
        yield from knative_families((*families, *self._unexported.collect()))

    def _collect(self) -> Iterator[Metric]:
        if several_processes():
            shared = CollectorRegistry()
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
            yield from shared.collect()
            if values.ValueClass._multiprocess:
                return
            # The parent set the directory for its workers after it had loaded the library, so its
            # values are not in any file.
        yield from self._registry.collect()

    def _family(self, name: str, make: Callable[[str], MetricFamily[Child]]) -> MetricFamily[Child]:
        full = PREFIX + name
        if full not in self._families:
            self._families[full] = make(full)
        family: MetricFamily[Child] = self._families[full]
        return family


class MetricsFlusher:
    """A component that flushes once a second where a process is one of several, so that values in
    another worker's scrape are at most that old. A scrape of a single process flushes itself.
    """

    def __init__(self, metrics: Metrics, *, every_seconds: float = FLUSH_SECONDS) -> None:
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start flushing."""
        if several_processes():
            self._again()

    async def stop(self) -> None:
        """Flush one last time and stop. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._metrics.flush()

    def _again(self) -> None:
        self._metrics.flush()
        self._timer = asyncio.get_running_loop().call_later(self._every_seconds, self._again)


def several_processes() -> bool:
    """Return whether this process is one of several workers that share their metrics."""
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))


def forget_process(pid: int) -> None:
    """Remove a worker that has ended: its live gauges no longer count, its counters stay. The
    parent calls this.
    """
    if several_processes():
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
