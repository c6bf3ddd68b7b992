"""Metrics: plain integers on the hot paths, Prometheus at the edges.

An instrument's child (`CounterChild`, `HistogramChild`) is an object that the hot path adds to
without locks, lookups or calls into a library; what it gathered moves into prometheus-client when
they are scraped and once a second. With several worker processes the parent sets
`PROMETHEUS_MULTIPROC_DIR` before it starts them, and any of them answers a scrape for all.
"""

import asyncio
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

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
"""Seconds, from 1 ms to the longest an attempt may take."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # A series beside each counter, half of the page, that no dashboard asks for.

GaugeAcrossProcesses = Literal["livesum", "livemax", "livemin", "livemostrecent", "max", "sum"]
"""How values of several workers become one. `liveall` is left out: a label per process has no
bound.
"""


class CounterChild:
    """A counter's child: add to `value` wherever something happens. One thread only, the loop's."""

    __slots__ = ("_child", "_flushed", "value")

    def __init__(self, child: Counter) -> None:
        self.value = 0
        self._flushed = 0
        self._child = child

    def add(self, count: int = 1) -> None:
        """The same as `value += count`, for callers that want a callable."""
        self.value += count

    def flush(self) -> None:
        """Move what is new into Prometheus."""
        new = self.value - self._flushed
        if new:
            self._child.inc(new)
            self._flushed = self.value


class HistogramChild:
    """A histogram's child; about half a microsecond per observation. One thread only, the
    loop's.
    """

    __slots__ = ("_bounds", "_child", "_counts", "_sum", "count")

    def __init__(self, child: Histogram, bounds: Sequence[float]) -> None:
        self.count = 0
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self._child: Any = child

    def observe(self, value: float) -> None:
        """Count one value, in the unit of the metric."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        self.count += 1

    def flush(self) -> None:
        """Move what is new into Prometheus.

        Its public call takes one observation at a time; a second's worth goes into its buckets
        directly, which a test holds it to.
        """
        if not any(self._counts):
            return
        for index, count in enumerate(self._counts):
            if count:
                self._child._buckets[index].inc(count)
                self._counts[index] = 0
        self._child._sum.inc(self._sum)
        self._sum = 0.0


Child = TypeVar("Child", CounterChild, HistogramChild)


class MetricFamily(Generic[Child]):
    """One metric with its labels; `labels` gives the child to keep."""

    def __init__(self, metric: Counter | Histogram, make: Callable[[Any], Child]) -> None:
        self._metric = metric
        self._make: Callable[[Any], Child] = make
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """The child with these label values, in the order of the label names; the same object each
        time.

        Keep it: this is not for hot paths.
        """
        child = self._children.get(values)
        if child is None:
            child = self._make(self._metric.labels(*values) if values else self._metric)
            self._children[values] = child
        return child

    def remove(self, *values: str) -> None:
        """Show this child no more (its subscription is gone)."""
        if self._children.pop(values, None) is not None and not several_processes():
            self._metric.remove(*values)

    def flush(self) -> None:
        """Move what is new of every child into Prometheus."""
        for child in self._children.values():
            child.flush()


class Metrics:
    """All metrics of one process. Asking twice for a name gives the same family, so parts need not
    know of each other.
    """

    def __init__(self, *, process: bool = True) -> None:
        """`process` adds CPU, memory and file descriptors of the process itself."""
        self._registry = CollectorRegistry()
        self._families: dict[str, MetricFamily[Any]] = {}
        self._gauges: dict[str, Gauge] = {}
        self._before_scrape: list[Callable[[], None]] = []
        if process and not several_processes():
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    def counter(
        self, name: str, documentation: str, labels: Sequence[str] = ()
    ) -> MetricFamily[CounterChild]:
        """A counter `headrace_<name>_total`."""
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
    ) -> MetricFamily[HistogramChild]:
        """A histogram `headrace_<name>`; `name` ends in its unit."""

        def make(full: str) -> MetricFamily[HistogramChild]:
            histogram = Histogram(
                full, documentation, labels, registry=self._registry, buckets=buckets
            )
            return MetricFamily(histogram, lambda child: HistogramChild(child, buckets))

        return self._family(name, make)

    def gauge(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        across: GaugeAcrossProcesses = "livesum",
    ) -> Gauge:
        """A gauge `headrace_<name>`, set at scrape time by a function given to `before_scrape`, or
        whenever it changes.
        """
        full = PREFIX + name
        if full not in self._gauges:
            self._gauges[full] = Gauge(
                full, documentation, labels, registry=self._registry, multiprocess_mode=across
            )
        return self._gauges[full]

    def before_scrape(self, update: Callable[[], None]) -> None:
        """Call `update` before each scrape and each second: for gauges that are cheaper to compute
        than to keep.
        """
        self._before_scrape.append(update)

    def flush(self) -> None:
        """Bring Prometheus up to date."""
        for update in self._before_scrape:
            update()
        for family in self._families.values():
            family.flush()

    def expose(self) -> tuple[bytes, str]:
        """The page for a scraper, and its content type; of all worker processes where there are
        several.
        """
        self.flush()
        return self.render()

    def render(self) -> tuple[bytes, str]:
        """As `expose`, of what was flushed. May run on another thread: a page of a hundred
        subscriptions takes 13 ms to write.
        """
        if not several_processes():
            return generate_latest(self._registry), CONTENT_TYPE_LATEST
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        page = generate_latest(shared)
        if not values.ValueClass._multiprocess:
            # A parent that set the directory for its workers when it had loaded the library
            # already: its own values are in no file.
            page += generate_latest(self._registry)
        return page, CONTENT_TYPE_LATEST

    def _family(self, name: str, make: Callable[[str], MetricFamily[Child]]) -> MetricFamily[Child]:
        full = PREFIX + name
        if full not in self._families:
            self._families[full] = make(full)
        family: MetricFamily[Child] = self._families[full]
        return family


class MetricsFlusher:
    """A part of a service: flushes once a second, so that another worker's scrape is no older than
    that.
    """

    def __init__(self, metrics: Metrics, *, every_seconds: float = FLUSH_SECONDS) -> None:
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Begin."""
        self._again()

    async def stop(self) -> None:
        """Flush a last time and end. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._metrics.flush()

    def _again(self) -> None:
        self._metrics.flush()
        self._timer = asyncio.get_running_loop().call_later(self._every_seconds, self._again)


def several_processes() -> bool:
    """Whether this process is one of several workers that share their metrics."""
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))


def forget_process(pid: int) -> None:
    """Called by the parent when a worker has ended: its live gauges no longer count, its counters
    stay.
    """
    if several_processes():
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
