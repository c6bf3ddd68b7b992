"""Adds the in-memory backend to the ingress and the dispatcher of one process."""

from dataclasses import replace

from headrace.adapters.memory.backend import MemoryBackend
from headrace.domain.backend_name import IN_MEMORY, KAFKA
from headrace.runtime.metrics import Metrics
from headrace_dispatcher.app import DispatcherBackends
from headrace_ingress.app import IngressBackends

SERVED = (KAFKA, IN_MEMORY)
"""The backends of a process that has both."""


def add_to_ingress(backends: IngressBackends, memory: MemoryBackend) -> IngressBackends:
    """Return backends that accept events for in-memory channels too."""
    added = backends.adding(IN_MEMORY, memory.log)
    return replace(added, routes=memory.reader(backends.routes))


def add_to_dispatcher(backends: DispatcherBackends, memory: MemoryBackend) -> DispatcherBackends:
    """Return backends that deliver the events of in-memory channels too."""
    added = backends.adding(IN_MEMORY, memory.log, memory.feeds)
    return replace(added, routes=memory.reader(backends.routes))


def measure_memory(metrics: Metrics, memory: MemoryBackend) -> None:
    """Export what the in-memory backend stores, its limit, and what was lost."""
    stored = metrics.gauge(
        "in_memory_bytes",
        "Bytes of events in memory: not delivered to every subscription yet, or dead letters.",
        ["topic"],
    )
    limit = metrics.gauge("in_memory_bytes_max", "Limit of the bytes of events in memory.")
    lost = metrics.counter(
        "in_memory_lost_events", "Dead letters dropped because there was no room.", ["topic"]
    )
    shown: set[str] = set()

    def update() -> None:
        limit.set(memory.bytes_max)
        sizes = memory.stored_bytes()
        for topic, size in sizes.items():
            stored.labels(topic).set(size)
        for topic in shown - sizes.keys():
            stored.remove(topic)
        shown.clear()
        shown.update(sizes)
        for topic, count in memory.lost.items():
            lost.labels(topic).value = count

    metrics.before_scrape(update)
