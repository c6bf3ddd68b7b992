"""What the HTTP client of a dispatcher counts is on the metrics page."""

from headrace.adapters.http.client_options import ClientCounts
from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.feed import MemoryGroups
from headrace.adapters.memory.feeds import MemoryFeeds
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.routing import MemoryRoutingLog, MemoryRoutingReader
from headrace.domain.egress import EgressPolicy
from headrace.runtime.metrics import Metrics
from headrace.runtime.service import Service
from headrace_dispatcher.app import DispatcherBackends, compose
from headrace_dispatcher.metrics import measure_client
from headrace_dispatcher.settings import DispatcherSettings

NAMES = (
    "headrace_dispatcher_connections_opened_total",
    "headrace_dispatcher_connections_failed_total",
    "headrace_dispatcher_stale_connection_retries_total",
    "headrace_dispatcher_request_timeouts_total",
    "headrace_dispatcher_unexpected_responses_total",
)


def _samples(metrics: Metrics) -> list[str]:
    """The samples with these names, in their order."""
    lines = metrics.expose()[0].decode().splitlines()
    return [line for name in NAMES for line in lines if line.startswith(f"{name} ")]


def test_each_count_of_the_client_is_exported() -> None:
    """Under its own name; a second scrape shows what was counted since."""
    metrics, counts = Metrics(process=False), ClientCounts(1, 2, 3, 4, 5)
    measure_client(metrics, counts)
    assert [f"{name} {value}.0" for value, name in enumerate(NAMES, 1)] == _samples(metrics)
    counts.timeouts += 1
    values = (1, 2, 3, 5, 5)
    assert [f"{name} {value}.0" for name, value in zip(NAMES, values, strict=True)] == _samples(
        metrics
    )


async def test_a_composed_dispatcher_exports_the_counts() -> None:
    """From 0, so that the first increase is seen."""
    metrics, log = Metrics(process=False), MemoryLog()
    backends = DispatcherBackends(
        log=log,
        feeds=MemoryFeeds(MemoryGroups(log)),
        routes=MemoryRoutingReader(MemoryRoutingLog()),
        instances=MemoryInstances(MemoryClock()),
    )
    service = Service("dispatcher", drain_seconds=1.0, stop_seconds=1.0)
    compose(service, DispatcherSettings(), backends, metrics, EgressPolicy())
    assert [f"{name} 0.0" for name in NAMES] == _samples(metrics)
    await log.stop()
