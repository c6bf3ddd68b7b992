"""The metrics of the sources service, by source."""

from dataclasses import dataclass

from headrace.domain.routing import EventSource
from headrace.runtime.metrics import CounterChild, Metrics

LABELS = ("kind", "namespace", "name")


class SourcesMetrics:
    """The families; `SourceMetrics` holds the children of one source."""

    def __init__(self, metrics: Metrics) -> None:
        self.events = metrics.counter(
            "source_events",
            "Events that sources have read, by result: delivered to the sink, to the dead letter"
            " sink, or not delivered.",
            (*LABELS, "result"),
        )
        self.retried = metrics.counter(
            "source_retried", "Failed attempts to deliver an event that are retried.", LABELS
        )
        self.restarts = metrics.counter(
            "source_restarts", "Sources that failed and were started again.", LABELS
        )
        self.running = metrics.gauge("source_running", "Whether the source runs here.", LABELS)
        self.in_flight = metrics.gauge(
            "source_in_flight", "Events of the source that are on their way.", LABELS
        )

    def of(self, source: EventSource) -> "SourceMetrics":
        """Return the children of one source."""
        labels = (source.kind, source.namespace, source.name)
        return SourceMetrics(
            labels,
            delivered=self.events.labels(*labels, "delivered"),
            dead_lettered=self.events.labels(*labels, "dead-lettered"),
            not_delivered=self.events.labels(*labels, "not-delivered"),
            retried=self.retried.labels(*labels),
            restarts=self.restarts.labels(*labels),
        )

    def remove(self, metrics: "SourceMetrics") -> None:
        """Stop exporting those of one source."""
        for result in ("delivered", "dead-lettered", "not-delivered"):
            self.events.remove(*metrics.labels, result)
        for family in (self.retried, self.restarts, self.running, self.in_flight):
            family.remove(*metrics.labels)


@dataclass(frozen=True, slots=True)
class SourceMetrics:
    """The counters of one source."""

    labels: tuple[str, str, str]
    delivered: CounterChild
    dead_lettered: CounterChild
    not_delivered: CounterChild
    retried: CounterChild
    restarts: CounterChild
