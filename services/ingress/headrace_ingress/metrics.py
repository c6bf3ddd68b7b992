"""What the ingress counts. Label values come from the routing table and from closed sets, never
from a request.
"""

from headrace.runtime.metrics import CounterChild, HistogramChild, Metrics
from headrace_ingress.problems import ProblemType

_LABELS = ("namespace", "name")


class AddressableMetrics:
    """The children of one addressable."""

    __slots__ = ("accepted", "bytes", "stored_seconds")

    def __init__(
        self, accepted: CounterChild, stored_bytes: CounterChild, stored_seconds: HistogramChild
    ) -> None:
        self.accepted = accepted
        self.bytes = stored_bytes
        self.stored_seconds = stored_seconds


class IngressMetrics:
    """The families of this service."""

    def __init__(self, metrics: Metrics) -> None:
        self.events = metrics.counter(
            "ingress_events_accepted", "Events stored and acknowledged with 202.", _LABELS
        )
        self.bytes = metrics.counter(
            "ingress_event_bytes", "Bytes of data in accepted events.", _LABELS
        )
        self.refused = metrics.counter(
            "ingress_refused", "Requests refused, by reason.", (*_LABELS, "code", "reason")
        )
        self.stored = metrics.histogram(
            "ingress_stored_seconds",
            "Seconds from a complete request to its acknowledgement.",
            _LABELS,
        )
        self.in_flight = metrics.gauge(
            "ingress_in_flight", "Requests waiting for their events to be stored."
        )

    def for_addressable(self, namespace: str, name: str) -> AddressableMetrics:
        """The children of an addressable."""
        return AddressableMetrics(
            self.events.labels(namespace, name),
            self.bytes.labels(namespace, name),
            self.stored.labels(namespace, name),
        )

    def count_refusal(self, namespace: str, name: str, status: int, reason: ProblemType) -> None:
        """Count a refusal; both names are empty when the request reached no addressable."""
        self.refused.labels(namespace, name, f"{status // 100}xx", reason.slug).value += 1

    def remove(self, namespace: str, name: str) -> None:
        """Show an addressable that is gone no more."""
        for family in (self.events, self.bytes):
            family.remove(namespace, name)
        self.stored.remove(namespace, name)
