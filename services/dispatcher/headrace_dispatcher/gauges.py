"""What can be seen of the dispatcher: gauges computed when somebody looks, and the watchdog for
partitions that stand still.
"""

from collections.abc import Mapping

from headrace.domain.breaker import BreakerState
from headrace_dispatcher.delays import DelayReader
from headrace_dispatcher.metrics import DispatcherMetrics
from headrace_dispatcher.subscription_worker import SubscriptionWorker


class GaugeUpdater:
    """Brings the gauges up to date."""

    def __init__(
        self,
        families: DispatcherMetrics,
        workers: Mapping[str, SubscriptionWorker],
        delays: DelayReader,
    ) -> None:
        self._families = families
        self._works = workers
        self._delays = delays

    def update(self) -> None:
        """Called before each scrape and once a second."""
        for worker in self._works.values():
            self._update(worker)
        for topic, waiting in self._delays.waiting().items():
            self._families.delayed.labels(topic).set(waiting)

    def _update(self, worker: SubscriptionWorker) -> None:
        families, labels = self._families, (worker.subscription.namespace, worker.subscription.name)
        lags = worker.lag().values()
        families.lag_records.labels(*labels).set(sum(lag.records for lag in lags))
        families.lag_seconds.labels(*labels).set(worker.lag_seconds())
        families.retention_used.labels(*labels).set(worker.retention_used())
        families.stalled.labels(*labels).set(worker.stalled_partitions())
        families.in_flight.labels(*labels).set(worker.in_flight())
        families.retries_waiting.labels(*labels).set(worker.retries_waiting())
        families.egress_denied.labels(*labels).set(worker.egress_denied)
        for state in BreakerState:
            families.breaker.labels(*labels, state.value).set(worker.breaker_state() is state)
