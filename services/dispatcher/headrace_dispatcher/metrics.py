"""The metrics of the dispatcher, most of them by subscription; the hot path adds to plain integers
(`headrace.runtime.metrics`).
"""

from headrace.adapters.http.client_options import ClientCounts
from headrace.domain.breaker import BreakerState
from headrace.domain.cesql import ErrorKind, Problem
from headrace.domain.delivery import DeadLetterReason, Failure, Outcome
from headrace.domain.feed import AlarmKind
from headrace.domain.routing import DelayTier, Subscription
from headrace.runtime.metrics import LATENCY_BUCKETS, CounterChild, Metrics

LABELS = ("kind", "namespace", "name")
"""Of a subscription; `kind` is empty when its routing record does not have it."""
DELIVERY_BUCKETS = (*LATENCY_BUCKETS, 300.0, 3600.0)
"""Seconds from stored to delivered; retries make the tail long."""

OUTCOMES = (*(f"{hundreds}xx" for hundreds in range(1, 6)), *Failure)
"""Every value of the label `outcome`."""

KEPT_REASONS = ("rejected", "not-an-event")
"""Every value of the label `reason` of dead letters that are not posted again."""


class DispatcherMetrics:
    """The families of this service; `SubscriptionMetrics` holds one subscription's children."""

    def __init__(self, metrics: Metrics) -> None:
        self.events = EventCounters(metrics)
        self.attempts = AttemptCounters(metrics)
        self.replies = ReplyCounters(metrics)
        self.dead_letters = DeadLetterCounters(metrics)
        self.readers = ReaderCounters(metrics)
        self.gauges = SubscriptionGauges(metrics)
        self.backlog_unknown = metrics.counter(
            "backlog_unknown",
            "Partitions of retry topics whose backlog could not be read; retried after 2 s.",
            (),
        ).labels()
        self.delayed = metrics.gauge(
            "delayed_records",
            "Records waiting in a delay topic, in partitions owned here.",
            ("topic",),
        )

    def remove(self, labels: tuple[str, str, str]) -> None:
        """Stop exporting what there is of one subscription."""
        for each in (
            self.events,
            self.attempts,
            self.replies,
            self.dead_letters,
            self.readers,
            self.gauges,
        ):
            each.remove(labels)

    def of(self, subscription: Subscription) -> "SubscriptionMetrics":
        """Return the metrics of a subscription."""
        return SubscriptionMetrics(self, subscription)


class EventCounters:
    """What happens to the events of a channel."""

    def __init__(self, metrics: Metrics) -> None:
        self.received = metrics.counter(
            "dispatcher_received", "Records read from channel topics.", LABELS
        )
        self.filtered = metrics.counter("filtered", "Events that did not pass the filter.", LABELS)
        self.filter_errors = metrics.counter(
            "filter_errors",
            "Filter evaluations that ended in an error, by kind of error.",
            (*LABELS, "error"),
        )
        self.delivered = metrics.counter("delivered", "Events delivered (2xx seen).", LABELS)
        self.delivery_seconds = metrics.histogram(
            "delivery_seconds",
            "Seconds from stored to delivered.",
            LABELS,
            buckets=DELIVERY_BUCKETS,
        )
        self.misplaced = metrics.counter(
            "content_type_misplaced",
            "Records with a header ce_datacontenttype, which is ignored in favour of content-type.",
            LABELS,
        )
        self.expired = metrics.counter(
            "expired", "Events that expired from their channel before they were delivered.", LABELS
        )

    def remove(self, labels: tuple[str, str, str]) -> None:
        """Stop exporting the counters of one subscription."""
        for counter in (self.received, self.filtered, self.delivered, self.misplaced, self.expired):
            counter.remove(*labels)
        self.delivery_seconds.remove(*labels)
        for kind in ErrorKind:
            self.filter_errors.remove(*labels, kind.value)


class AttemptCounters:
    """The requests to subscribers, and their repetitions."""

    def __init__(self, metrics: Metrics) -> None:
        self.outcomes = metrics.counter(
            "attempts", "Requests to subscribers, by outcome.", (*LABELS, "outcome")
        )
        self.seconds = metrics.histogram(
            "attempt_seconds", "Seconds that requests to subscribers took, failed ones too.", LABELS
        )
        self.retried = metrics.counter("retried", "Failed attempts that are retried.", LABELS)
        self.scheduled = metrics.counter(
            "retries_scheduled",
            "Records stored in the retry topic (tier 0s) or in a delay topic, by tier. All records"
            " of a tier wait equally long, so the increase over that time is how many wait now.",
            (*LABELS, "tier"),
        )

    def remove(self, labels: tuple[str, str, str]) -> None:
        """Stop exporting the counters of one subscription, except those of tiers."""
        self.seconds.remove(*labels)
        self.retried.remove(*labels)
        for outcome in OUTCOMES:
            self.outcomes.remove(*labels, outcome)


class DeadLetterCounters:
    """The dead letter topics, and the dead letter sinks."""

    def __init__(self, metrics: Metrics) -> None:
        self.reasons = metrics.counter(
            "dead_lettered",
            "Events moved to the dead letter topic, by reason.",
            (*LABELS, "reason"),
        )
        self.sink = metrics.counter(
            "dead_letter_sink_attempts", "Requests to dead letter sinks.", (*LABELS, "result")
        )
        self.kept = metrics.counter(
            "dead_letters_kept",
            "Dead letters that stay in the dead letter topic and are not posted again, by reason.",
            (*LABELS, "reason"),
        )
        self.store_refused = metrics.counter(
            "parking_refused", "Records that a retry or dead letter topic refused.", LABELS
        )

    def remove(self, labels: tuple[str, str, str]) -> None:
        """Stop exporting the counters of one subscription."""
        self.store_refused.remove(*labels)
        for reason in DeadLetterReason:
            self.reasons.remove(*labels, reason.value)
        for result in ("stored", "failed"):
            self.sink.remove(*labels, result)
        for kept in KEPT_REASONS:
            self.kept.remove(*labels, kept)


class ReaderCounters:
    """The readers of topics, and the workers that they belong to."""

    def __init__(self, metrics: Metrics) -> None:
        self.rebalances = metrics.counter(
            "rebalances",
            "Rebalances that took partitions of the channel topic away from this process.",
            LABELS,
        )
        self.alarms = metrics.counter(
            "feed_alarms",
            "What readers of the subscription's topics reported, by kind.",
            (*LABELS, "alarm"),
        )
        self.failures = metrics.counter(
            "subscription_failures",
            "Failed starts and changes of subscription workers, which are then restarted.",
            LABELS,
        )

    def remove(self, labels: tuple[str, str, str]) -> None:
        """Stop exporting the counters of one subscription."""
        self.rebalances.remove(*labels)
        self.failures.remove(*labels)
        for alarm in AlarmKind:
            self.alarms.remove(*labels, alarm.value)


class ReplyCounters:
    """The counters of what subscribers reply."""

    def __init__(self, metrics: Metrics) -> None:
        self.results = metrics.counter(
            "replies",
            "Reply events: stored or delivered, or dropped without a destination.",
            (*LABELS, "result"),
        )
        self.long_chains = metrics.counter(
            "long_chain_replies",
            "Replies after the 8th in a chain of replies to replies.",
            LABELS,
        )
        self.loop_held = metrics.counter(
            "loop_replies_held", "Replies in a loop that were delayed.", LABELS
        )

    def remove(self, labels: tuple[str, str, str]) -> None:
        """Stop exporting the counters of one subscription."""
        for result in ("stored", "dropped"):
            self.results.remove(*labels, result)
        self.long_chains.remove(*labels)
        self.loop_held.remove(*labels)


class SubscriptionGauges:
    """The gauges of subscriptions, which are set before a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self.in_flight = metrics.gauge("in_flight", "Requests to subscribers in flight.", LABELS)
        self.lag_records = metrics.gauge(
            "lag_records",
            "Records of the channel topic not done, in partitions owned here.",
            LABELS,
        )
        self.lag_seconds = metrics.gauge(
            "lag_seconds", "Age of the oldest record not done, in partitions owned here.", LABELS
        )
        self.retention_used = metrics.gauge(
            "retention_used_ratio",
            "Age of the oldest record not done divided by the channel topic's retention;"
            " at 1 events expire.",
            LABELS,
        )
        self.retries_waiting = metrics.gauge(
            "retries_waiting",
            "Records of the retry topic not done, in partitions owned here.",
            LABELS,
        )
        self.dead_letters_waiting = metrics.gauge(
            "dead_letters_waiting",
            "Records of the dead letter topic that no dead letter sink has taken, as read within"
            " the last 30 s. Each dispatcher shows all of them: use the maximum, not the sum.",
            LABELS,
            across="max",
        )
        self.partitions = metrics.gauge(
            "partitions_assigned", "Partitions of the channel topic owned here.", LABELS
        )
        self.concurrency = metrics.gauge(
            "concurrency_limit",
            "Requests to the subscriber that may be in flight at a time, as its latency allows.",
            LABELS,
        )
        self.stalled = metrics.gauge(
            "stalled_partitions", "Partitions with work and without progress for 10 s.", LABELS
        )
        self.egress_denied = metrics.gauge(
            "egress_denied",
            "1 while the egress policy denies a destination of the subscription.",
            LABELS,
            across="max",
        )
        self.breaker = metrics.gauge(
            "breaker_state", "1 for the current state of the breaker, else 0.", (*LABELS, "state")
        )

    def remove(self, labels: tuple[str, str, str]) -> None:
        """Stop exporting the gauges of one subscription."""
        for gauge in (
            self.in_flight,
            self.lag_records,
            self.lag_seconds,
            self.retention_used,
            self.retries_waiting,
            self.dead_letters_waiting,
            self.partitions,
            self.concurrency,
            self.stalled,
            self.egress_denied,
        ):
            gauge.remove(*labels)
        for state in BreakerState:
            self.breaker.remove(*labels, state.value)


class SubscriptionMetrics:
    """The metrics of one subscription in this process, since it started."""

    __slots__ = (
        "_attempts",
        "_dead_lettered",
        "_families",
        "_tiers",
        "attempt_seconds",
        "dead_letters",
        "dead_letters_waiting",
        "delivered",
        "delivery_seconds",
        "expired",
        "filtered",
        "labels",
        "long_chains",
        "loop_held",
        "misplaced",
        "not_events",
        "rebalances",
        "received",
        "replies_dropped",
        "replies_stored",
        "retried",
        "sink_failed",
        "sink_rejected",
        "sink_stored",
        "store_refused",
    )

    def __init__(self, families: DispatcherMetrics, subscription: Subscription) -> None:
        self._families = families
        self.dead_letters = 0
        """For any reason, since this was created; the counters continue when a subscription of the
        same name is created again.
        """
        self.dead_letters_waiting: int | None = None
        """In the dead letter topic; None before they were counted."""
        self._bind(_labels(subscription))

    def relabel(self, subscription: Subscription) -> None:
        """Use the labels of a changed subscription: a newer controller adds the kind. Counters
        start at 0 then.
        """
        if (labels := _labels(subscription)) != self.labels:
            self.remove()
            self._bind(labels)

    def _bind(self, labels: tuple[str, str, str]) -> None:
        families = self._families
        self.labels = labels
        self.received = families.events.received.labels(*labels)
        self.filtered = families.events.filtered.labels(*labels)
        self.delivered = families.events.delivered.labels(*labels)
        self.delivery_seconds = families.events.delivery_seconds.labels(*labels)
        self.attempt_seconds = families.attempts.seconds.labels(*labels)
        self.retried = families.attempts.retried.labels(*labels)
        self.rebalances = families.readers.rebalances.labels(*labels)
        self.replies_stored = families.replies.results.labels(*labels, "stored")
        self.replies_dropped = families.replies.results.labels(*labels, "dropped")
        self.long_chains = families.replies.long_chains.labels(*labels)
        self.loop_held = families.replies.loop_held.labels(*labels)
        self.sink_stored = families.dead_letters.sink.labels(*labels, "stored")
        self.sink_failed = families.dead_letters.sink.labels(*labels, "failed")
        self.sink_rejected = families.dead_letters.kept.labels(*labels, "rejected")
        self.misplaced = families.events.misplaced.labels(*labels)
        self.not_events = families.dead_letters.kept.labels(*labels, "not-an-event")
        self.expired = families.events.expired.labels(*labels)
        self.store_refused = families.dead_letters.store_refused.labels(*labels)
        self._tiers: set[str] = set()
        self._attempts: dict[int | Failure, CounterChild] = {}
        self._dead_lettered: dict[DeadLetterReason, CounterChild] = {}

    def attempt(self, outcome: Outcome) -> None:
        """A request to the subscriber has ended."""
        key = (
            outcome.status // 100
            if outcome.status is not None
            else outcome.failure or Failure.PROTOCOL
        )
        counter = self._attempts.get(key)
        if counter is None:
            label = key.value if isinstance(key, Failure) else f"{key}xx"
            counter = self._attempts[key] = self._families.attempts.outcomes.labels(
                *self.labels, label
            )
        counter.value += 1

    def observe_attempt(self, seconds: float) -> None:
        """A request to the subscriber took this long."""
        self.attempt_seconds.observe(seconds)

    def retry_scheduled(self, tier: DelayTier | None) -> None:
        """A retry record is in the topic of this tier; None for the retry topic."""
        label = tier_label(tier)
        self._tiers.add(label)
        self._families.attempts.scheduled.labels(*self.labels, label).value += 1

    def alarm(self, kind: AlarmKind) -> None:
        """A reader has reported this."""
        self._families.readers.alarms.labels(*self.labels, kind.value).value += 1

    def filter_failed(self, problem: Problem) -> None:
        """A CESQL expression ended in an error, which lets no event pass; once per event and
        expression.
        """
        self._families.events.filter_errors.labels(*self.labels, problem.kind.value).value += 1

    @property
    def successes(self) -> int:
        """Events delivered, and dead letters posted to the sink, since the process started."""
        return self.delivered.value + self.sink_stored.value

    def observe_delivery(self, seconds: float) -> None:
        """An event is delivered, this long after it was stored."""
        self.delivered.value += 1
        self.delivery_seconds.observe(max(0.0, seconds))

    def dead_letter(self, reason: DeadLetterReason) -> None:
        """An event is in the dead letter topic."""
        self.dead_letters += 1
        counter = self._dead_lettered.get(reason)
        if counter is None:
            counter = self._dead_lettered[reason] = self._families.dead_letters.reasons.labels(
                *self.labels, reason.value
            )
        counter.value += 1

    def set_gauges(
        self,
        *,
        lag_records: int,
        lag_seconds: float,
        retention_used: float,
        stalled: int,
        in_flight: int,
        retries_waiting: int,
        partitions: int,
        concurrency_limit: int,
        egress_denied: bool,
        breaker: BreakerState,
    ) -> None:
        """Set every gauge; see the help texts for units."""
        gauges, labels = self._families.gauges, self.labels
        gauges.lag_records.labels(*labels).set(lag_records)
        gauges.lag_seconds.labels(*labels).set(lag_seconds)
        gauges.retention_used.labels(*labels).set(retention_used)
        gauges.stalled.labels(*labels).set(stalled)
        gauges.in_flight.labels(*labels).set(in_flight)
        gauges.retries_waiting.labels(*labels).set(retries_waiting)
        gauges.partitions.labels(*labels).set(partitions)
        gauges.concurrency.labels(*labels).set(concurrency_limit)
        if self.dead_letters_waiting is not None:
            gauges.dead_letters_waiting.labels(*labels).set(self.dead_letters_waiting)
        gauges.egress_denied.labels(*labels).set(egress_denied)
        for state in BreakerState:
            gauges.breaker.labels(*labels, state.value).set(breaker is state)

    def remove(self) -> None:
        """The subscription is deleted: export it no longer."""
        self._families.remove(self.labels)
        for tier in self._tiers:
            self._families.attempts.scheduled.remove(*self.labels, tier)


def measure_client(metrics: Metrics, counts: ClientCounts) -> None:
    """Export what the HTTP client counts, for all destinations together."""
    opened = metrics.counter(
        "dispatcher_connections_opened", "Connections opened to destinations."
    ).labels()
    failed = metrics.counter(
        "dispatcher_connections_failed",
        "Connections to destinations that could not be opened: name lookup, egress policy, TCP or"
        " TLS.",
    ).labels()
    repeated = metrics.counter(
        "dispatcher_stale_connection_retries",
        "Requests sent again at once because the destination closed a kept connection; it may have"
        " received each of them twice.",
    ).labels()
    timeouts = metrics.counter(
        "dispatcher_request_timeouts", "Requests without a complete response in time."
    ).labels()
    unexpected = metrics.counter(
        "dispatcher_unexpected_responses",
        "Connections closed because the destination sent data without a request.",
    ).labels()

    def update() -> None:
        opened.value = counts.connections_opened
        failed.value = counts.connections_failed
        repeated.value = counts.stale_retries
        timeouts.value = counts.timeouts
        unexpected.value = counts.surplus

    metrics.before_scrape(update)


def tier_label(tier: DelayTier | None) -> str:
    """Return the value of the label `tier`: how long its records wait, as a duration."""
    seconds = 0 if tier is None else round(tier.seconds)
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _labels(subscription: Subscription) -> tuple[str, str, str]:
    return subscription.kind, subscription.namespace, subscription.name
