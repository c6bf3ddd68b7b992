"""The metrics of the ingress. Label values come from the routing table and from closed sets, never
from a request.
"""

from headrace.domain.routing import Addressable
from headrace.runtime.metrics import CounterChild, HistogramChild, Metrics
from headrace_ingress.problems import ProblemType

_LABELS = ("kind", "namespace", "name")
SIZE_BUCKETS = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
"""Bytes."""


class AddressableMetrics:
    """The time series of one addressable."""

    __slots__ = ("accepted", "bytes", "nonconforming", "sizes", "stored_seconds")

    def __init__(
        self,
        accepted: CounterChild,
        stored_bytes: CounterChild,
        stored_seconds: HistogramChild,
        nonconforming: CounterChild,
        sizes: HistogramChild,
    ) -> None:
        self.accepted = accepted
        self.bytes = stored_bytes
        self.stored_seconds = stored_seconds
        self.nonconforming = nonconforming
        self.sizes = sizes


class IngressMetrics:
    """The metric families of this service.

    `kind` is the label of the routing record, empty when the record has none. A Broker and a
    Channel of the same name have different time series.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.events = metrics.counter(
            "ingress_events_accepted", "Events stored and acknowledged with 202.", _LABELS
        )
        self.bytes = metrics.counter(
            "ingress_event_bytes", "Bytes of data in accepted events.", _LABELS
        )
        self.nonconforming = metrics.counter(
            "ingress_schema_warnings",
            "Events whose data does not conform to the schema of their type, accepted with a"
            " warning.",
            _LABELS,
        )
        self.refused = metrics.counter(
            "ingress_refused", "Requests refused, by reason.", (*_LABELS, "code", "reason")
        )
        self.stored = metrics.histogram(
            "ingress_stored_seconds",
            "Seconds from a complete request to its acknowledgement.",
            _LABELS,
        )
        self.sizes = metrics.histogram(
            "ingress_event_size_bytes",
            "Bytes of data of each accepted event.",
            _LABELS,
            buckets=SIZE_BUCKETS,
        )
        self.in_flight = metrics.gauge(
            "ingress_in_flight", "Requests waiting for their events to be stored."
        )

    def for_addressable(self, addressable: Addressable) -> AddressableMetrics:
        """Return the time series of an addressable."""
        labels = labels_of(addressable)
        return AddressableMetrics(
            self.events.labels(*labels),
            self.bytes.labels(*labels),
            self.stored.labels(*labels),
            self.nonconforming.labels(*labels),
            self.sizes.labels(*labels),
        )

    def count_refusal(
        self, addressable: Addressable | None, status: int, reason: ProblemType
    ) -> None:
        """Count a refused request. `addressable` is None when the request reached none: its labels
        are empty then.
        """
        labels = ("", "", "") if addressable is None else labels_of(addressable)
        self.refused.labels(*labels, f"{status // 100}xx", reason.slug).value += 1

    def remove(self, addressable: Addressable) -> None:
        """Remove the time series of an addressable that was deleted or has other labels now."""
        labels = labels_of(addressable)
        for family in (self.events, self.bytes, self.nonconforming):
            family.remove(*labels)
        for histogram in (self.stored, self.sizes):
            histogram.remove(*labels)


def labels_of(addressable: Addressable) -> tuple[str, str, str]:
    """Return the values of the labels `kind`, `namespace` and `name`."""
    return addressable.kind, addressable.namespace, addressable.name
