"""What can be seen of the dispatcher: gauges computed when somebody looks, and the watchdog for
partitions that stand still.
"""

from collections.abc import Mapping

from headrace.domain.breaker import BreakerState
from headrace_dispatcher.counts import DispatcherMetrics
from headrace_dispatcher.delays import DelayReader
from headrace_dispatcher.subscription import SubscriptionWork


class Watch:
    """Brings the gauges up to date."""

    def __init__(
        self,
        families: DispatcherMetrics,
        works: Mapping[str, SubscriptionWork],
        delays: DelayReader,
    ) -> None:
        self._families = families
        self._works = works
        self._delays = delays

    def update(self) -> None:
        """Called before each scrape and once a second."""
        for work in self._works.values():
            self._update(work)
        for topic, waiting in self._delays.waiting().items():
            self._families.delayed.labels(topic).set(waiting)

    def _update(self, work: SubscriptionWork) -> None:
        families, labels = self._families, (work.subscription.namespace, work.subscription.name)
        lags = work.lag().values()
        families.lag_records.labels(*labels).set(sum(lag.records for lag in lags))
        families.lag_seconds.labels(*labels).set(work.lag_seconds())
        families.retention_used.labels(*labels).set(work.retention_used())
        families.stalled.labels(*labels).set(work.stalled_partitions())
        families.in_flight.labels(*labels).set(work.in_flight())
        families.retries_waiting.labels(*labels).set(work.retries_waiting())
        families.egress_denied.labels(*labels).set(work.egress_denied)
        for state in BreakerState:
            families.breaker.labels(*labels, state.value).set(work.breaker_state() is state)
