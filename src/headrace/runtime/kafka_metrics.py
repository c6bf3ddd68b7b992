"""The metrics of the Kafka clients of a service, and of the routing table that it has read."""

from collections.abc import Mapping
from typing import Protocol

from headrace.adapters.kafka.client_measurements import ClientMeasurements
from headrace.runtime.metrics import Metrics


class RoutingPosition(Protocol):
    """A routing table."""

    @property
    def position(self) -> int:
        """The log position of the newest record applied, -1 before the first."""
        ...


def measure_kafka(
    metrics: Metrics,
    component: str,
    table: RoutingPosition,
    measurements: ClientMeasurements | None,
) -> None:
    """Export how far a service has read the routing table, and what its Kafka clients measure: None
    if it has none of its own. The clients of several services of one process are added up.
    """
    _measure_routing(metrics, component, table)
    if measurements is not None:
        _measure_clients(metrics, measurements)


def _measure_clients(metrics: Metrics, measurements: ClientMeasurements) -> None:
    errors = metrics.counter(
        "kafka_errors",
        "Errors that Kafka clients reported, by client (producer, consumer) and name of the error"
        " in librdkafka.",
        ("client", "error"),
    )
    produce = metrics.histogram(
        "kafka_produce_seconds",
        "Seconds from appending a record to its acknowledgement by Kafka, one record at a time.",
    ).labels()
    for client in ("producer", "consumer"):
        errors.labels(client, "_ALL_BROKERS_DOWN")  # From 0, so that the first increase is seen.
    measurements.observe_produce = produce.observe
    seen: Mapping[tuple[str, str], int] = {}

    def update() -> None:
        nonlocal seen
        before, seen = seen, measurements.errors()
        for labels, count in seen.items():
            errors.labels(*labels).value += count - before.get(labels, 0)

    metrics.before_scrape(update)


def _measure_routing(metrics: Metrics, component: str, table: RoutingPosition) -> None:
    offset = metrics.gauge(
        "routing_offset",
        "Offset of the newest record of headrace.routing that is applied, -1 before the first.",
        ("component",),
        across="livemin",
    ).labels(component)

    metrics.before_scrape(lambda: offset.set(table.position))
