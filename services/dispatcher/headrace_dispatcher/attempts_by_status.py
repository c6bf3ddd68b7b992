"""The durations of attempts by status code, which Knative's names need
(`headrace.runtime.knative_metrics`). A dispatcher measures them only if these are exported.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from headrace.domain.delivery import Outcome
from headrace.domain.routing import Addressable, Subscription
from headrace.runtime.knative_metrics import ATTEMPT_LABELS, ATTEMPTS
from headrace.runtime.metrics import HistogramChild, MetricFamily, Metrics
from headrace_dispatcher.metrics import DispatcherMetrics, SubscriptionMetrics

_KNOWN: Final = frozenset(HTTPStatus)


class AttemptsByStatus(DispatcherMetrics):
    """The families of a dispatcher, with that of attempts by status code."""

    def __init__(
        self, metrics: Metrics, addressable_of: Callable[[str], Addressable | None]
    ) -> None:
        """`addressable_of` returns the addressable of a topic, None if there is none."""
        super().__init__(metrics)
        self.addressable_of = addressable_of
        self.by_status: MetricFamily[HistogramChild] = metrics.histogram(
            ATTEMPTS,
            "Seconds that requests to subscribers took, by status code.",
            ATTEMPT_LABELS,
            exported=False,
        )

    def of(self, subscription: Subscription) -> SubscriptionMetrics:
        """As `DispatcherMetrics.of`."""
        return _SubscriptionMetrics(self, subscription)


class _SubscriptionMetrics(SubscriptionMetrics):
    """Also measures the attempts of one subscription by status code."""

    __slots__ = ("_by_status", "_children", "_seconds", "_series", "_topic")

    def __init__(self, families: AttemptsByStatus, subscription: Subscription) -> None:
        self._by_status = families
        self._topic = subscription.topic
        self._seconds = 0.0
        """What the attempt took whose outcome comes next."""
        self._children: dict[int | None, HistogramChild] = {}
        self._series: set[tuple[str, ...]] = set()
        """The labels of all children."""
        super().__init__(families, subscription)

    def observe_attempt(self, seconds: float) -> None:
        """As `SubscriptionMetrics.observe_attempt`; `attempt` follows."""
        super().observe_attempt(seconds)
        self._seconds = seconds

    def attempt(self, outcome: Outcome) -> None:
        """As `SubscriptionMetrics.attempt`."""
        super().attempt(outcome)
        child = self._children.get(outcome.status)
        if child is None:
            child = self._children[outcome.status] = self._child(outcome.status)
        child.observe(self._seconds)

    def remove(self) -> None:
        """As `SubscriptionMetrics.remove`."""
        super().remove()
        for values in self._series:
            self._by_status.by_status.remove(*values)
        self._series.clear()
        self._children.clear()

    def _child(self, status: int | None) -> HistogramChild:
        """A status code that is not registered is the x00 of its class (RFC 9110, 15), so that a
        subscriber cannot create hundreds of time series.
        """
        addressable = self._by_status.addressable_of(self._topic)
        channel = (
            ("", "", "")
            if addressable is None
            else (addressable.kind, addressable.namespace, addressable.name)
        )
        text = ""
        if status is not None:
            text = str(status if status in _KNOWN else status // 100 * 100)
        values = (*self.labels, *channel, text)
        self._series.add(values)
        return self._by_status.by_status.labels(*values)
