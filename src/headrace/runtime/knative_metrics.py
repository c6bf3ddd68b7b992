"""The names under which Knative exports what is measured here too, for dashboards that query them.

At a scrape, what was counted is written once more: with the names of Knative's Kafka Broker up to
version 1.20, with those since 1.21, and with those of its Broker over channels since 1.21. The
limits of the buckets are Knative's, as far as they are limits here. What is not measured here is
not written: the time that a filter takes, and labels with the type of an event, which has any
number of values.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Metric
from prometheus_client.samples import Sample

ATTEMPTS: Final = "attempt_seconds_by_status"
"""The histogram of the attempts of a subscription by status code. It is a source only: its own name
is not on the page.
"""
ATTEMPT_LABELS: Final = (
    "kind",
    "namespace",
    "name",
    "channel_kind",
    "channel_namespace",
    "channel_name",
    "status",
)
"""The subscription, the addressable whose events it gets, and the status code, which is empty for
an attempt without a response.
"""

MILLISECONDS: Final = (0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Limits of the buckets of histograms in milliseconds, in seconds."""
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Limits of the buckets of histograms in seconds."""

_ACCEPTED: Final = "headrace_ingress_events_accepted_total"
_REFUSED: Final = "headrace_ingress_refused_total"
_STORED: Final = "headrace_ingress_stored_seconds"
_ATTEMPTS: Final = f"headrace_{ATTEMPTS}"
_NO_RESPONSE_CLASS: Final = "5xx"

_Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Resource:
    """An addressable or a subscription, by the labels of its time series."""

    kind: str
    namespace: str
    name: str

    def labels(self, key: str) -> _Labels:
        return {f"kn_{key}_name": self.name, f"kn_{key}_namespace": self.namespace}


@dataclass(slots=True)
class _Histogram:
    """The events that were stored for an addressable, or the attempts of a subscription that had
    the same status.
    """

    addressable: _Resource
    subscription: _Resource | None
    status: str
    buckets: dict[float, float] = field(default_factory=dict)
    """Cumulative, by upper limit in seconds."""
    seconds: float = 0.0

    @property
    def count(self) -> float:
        return self.buckets.get(math.inf, 0.0)


def knative_families(families: Iterable[Metric]) -> Iterator[Metric]:
    """Yield what `families` contain with Knative's names; nothing without a source."""
    samples: dict[str, list[Sample]] = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    histograms = [
        *_histograms(samples, _STORED, lambda labels: _Histogram(_resource(labels), None, "202")),
        *_histograms(
            samples,
            _ATTEMPTS,
            lambda labels: _Histogram(
                _resource(labels, "channel_"), _resource(labels), labels["status"]
            ),
        ),
    ]
    if not histograms:
        return
    yield _event_count(samples, histograms)
    yield _family(
        "event_dispatch_latencies_ms",
        "Milliseconds to store an event, or of an attempt (Knative's Kafka Broker up to 1.20).",
        histograms,
        _until_1_20,
        (MILLISECONDS, 1000.0),
    )
    yield _family(
        "kn_eventing_dispatch_latency_ms",
        "Milliseconds to store an event, or of an attempt (Knative's Kafka Broker since 1.21).",
        histograms,
        _since_1_21,
        (MILLISECONDS, 1000.0),
    )
    yield _family(
        "kn_eventing_dispatch_duration_seconds",
        "Seconds to store an event, or of an attempt (Knative's Broker over channels since 1.21).",
        histograms,
        _over_channels,
        (SECONDS, 1.0),
    )


def _resource(labels: _Labels, prefix: str = "") -> _Resource:
    kind, namespace, name = (labels[prefix + each] for each in ("kind", "namespace", "name"))
    return _Resource(kind, namespace, name)


def _histograms(
    samples: dict[str, list[Sample]], name: str, make: Callable[[_Labels], _Histogram]
) -> Iterable[_Histogram]:
    found: dict[tuple[str, ...], _Histogram] = {}

    def of(sample: Sample) -> _Histogram:
        labels = {key: value for key, value in sorted(sample.labels.items()) if key != "le"}
        key = tuple(labels.values())
        if key not in found:
            found[key] = make(labels)
        return found[key]

    for sample in samples.get(f"{name}_bucket", ()):
        of(sample).buckets[float(sample.labels["le"])] = sample.value
    for sample in samples.get(f"{name}_sum", ()):
        of(sample).seconds = sample.value
    return found.values()


def _event_count(samples: dict[str, list[Sample]], histograms: Iterable[_Histogram]) -> Metric:
    """The counter by response code, which histograms in milliseconds had beside them until 1.20.

    Knative's base unit `1` became a part of its name.
    """
    counts: dict[tuple[tuple[str, str], ...], float] = {}

    def add(labels: _Labels, count: float) -> None:
        key = tuple(labels.items())
        counts[key] = counts.get(key, 0.0) + count

    for sample in samples.get(_ACCEPTED, ()):
        add(_until_1_20(_Histogram(_resource(sample.labels), None, "202")), sample.value)
    for sample in samples.get(_REFUSED, ()):
        refused = _Histogram(_resource(sample.labels), None, "")
        add(
            {**_until_1_20(refused), "response_code_class": sample.labels["code"]},
            sample.value,
        )
    for histogram in histograms:
        if histogram.subscription is not None:
            add(_until_1_20(histogram), histogram.count)
    family = Metric(
        "event_count_1",
        "Events received, or attempts, by response code (Knative's Kafka Broker up to 1.20).",
        "counter",
    )
    for key, count in counts.items():
        family.add_sample("event_count_1_total", dict(key), count)
    return family


def _family(
    name: str,
    documentation: str,
    histograms: Iterable[_Histogram],
    labels_of: Callable[[_Histogram], _Labels],
    limits: tuple[Iterable[float], float],
) -> Metric:
    """Return a histogram with these limits in seconds, multiplied for its unit."""
    bounds, factor = limits
    family = Metric(name, documentation, "histogram")
    for histogram in histograms:
        labels = labels_of(histogram)
        for bound in (*bounds, math.inf):
            le = "+Inf" if math.isinf(bound) else str(bound * factor)
            family.add_sample(f"{name}_bucket", {**labels, "le": le}, histogram.buckets[bound])
        family.add_sample(f"{name}_count", labels, histogram.count)
        family.add_sample(f"{name}_sum", labels, histogram.seconds * factor)
    return family


def _until_1_20(histogram: _Histogram) -> _Labels:
    """An attempt without a response has a class only, as there."""
    labels = {
        "name": histogram.addressable.name,
        "namespace_name": histogram.addressable.namespace,
    }
    if histogram.subscription is not None:
        labels["consumer_name"] = histogram.subscription.name
    if not histogram.status:
        return {**labels, "response_code_class": _NO_RESPONSE_CLASS}
    return {
        **labels,
        "response_code": histogram.status,
        "response_code_class": f"{histogram.status[0]}xx",
    }


def _since_1_21(histogram: _Histogram) -> _Labels:
    subscription = histogram.subscription
    if subscription is None:
        addressable = histogram.addressable
        return {**addressable.labels(addressable.kind.lower()), **_status(histogram)}
    return {
        **subscription.labels(subscription.kind.lower()),
        "messaging_consumer_group_name": subscription.name,
        **_status(histogram),
    }


def _over_channels(histogram: _Histogram) -> _Labels:
    addressable = histogram.addressable
    key = addressable.kind.lower()
    to = histogram.subscription or addressable
    return {
        # There, channels of all kinds have the same labels.
        **addressable.labels("channel" if key.endswith("channel") else key),
        "messaging_destination_name": f"{to.kind.lower()}:{to.name}.{to.namespace}",
        **_status(histogram),
    }


def _status(histogram: _Histogram) -> _Labels:
    return {"http_response_status_code": histogram.status} if histogram.status else {}
