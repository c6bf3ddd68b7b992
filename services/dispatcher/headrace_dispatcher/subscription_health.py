"""The health of one subscription in this process: alarms, lag, and the state that is reported to
the controller.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from headrace.domain.breaker import BreakerState
from headrace.domain.cesql import ErrorKind, Problem
from headrace.domain.egress import ALLOW_SETTING
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.ports import Clock, Lag
from headrace.domain.record import Partition
from headrace.domain.routing import Subscription
from headrace.domain.subscription_state import SubscriptionState
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.failing_attempts import FailingAttempts
from headrace_dispatcher.failing_filter import FailingFilter, describe
from headrace_dispatcher.gate import BreakerGate
from headrace_dispatcher.limits import RECENT_SECONDS
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.reply_loop_guard import ReplyLoopGuard
from headrace_dispatcher.shared_alarms import SharedAlarms

logger = structlog.get_logger(__name__)

_CLOSED: Final = BreakerState.CLOSED
"""An alias: reading a member through its enum class takes ten times as long."""
_ALARM_STEP: Final = "docs/runbooks/HeadraceFeedAlarm.md has the next steps for each alarm"
STALLED_SECONDS = 10.0
RETENTION_ALARM_PERCENT = 50


class RecentGrowth:
    """Whether a count has grown lately. It is compared with every report, so that counting itself
    does not read the clock. The count only grows, from 0.
    """

    __slots__ = ("_count", "_grown_at", "_seconds")

    def __init__(self, seconds: float = RECENT_SECONDS) -> None:
        self._seconds = seconds
        self._count = 0
        self._grown_at = float("-inf")

    def update(self, count: int, now: float) -> bool:
        """Compare `count` with the last one; return whether it has grown within the last `seconds`.
        `now` is monotonic.
        """
        if count != self._count:
            self._count, self._grown_at = count, now
        return now - self._grown_at < self._seconds


class SubscriptionHealth:
    """Logs the alarms of one subscription, each once, and describes its state."""

    def __init__(
        self,
        compiled: CompiledSubscription,
        *,
        metrics: SubscriptionMetrics,
        gate: BreakerGate,
        loop_guard: ReplyLoopGuard,
        failing: FailingAttempts,
        failing_filter: FailingFilter,
        clock: Clock,
        lag: Callable[[], Mapping[Partition, Lag]],
        shared_alarms: SharedAlarms,
    ) -> None:
        self.compiled = compiled
        self.deleted = False
        """Whether the subscription is deleted. Its topics may be deleted before it has ended, which
        is no alarm then.
        """
        self.stuck = ""
        """Why a lane has stopped, empty when none has."""
        self._metrics = metrics
        self._gate = gate
        self._loop_guard = loop_guard
        self._failing = failing
        self._failing_filter = failing_filter
        self._clock = clock
        self._lag = lag
        self._shared_alarms = shared_alarms
        self._lags: Mapping[Partition, Lag] = {}
        self._summary = _LagSummary(0)
        """Of `_lags`."""
        self._recent_dead_letters = RecentGrowth()
        self._recent_rejections = RecentGrowth()
        self._denied_logged = ""

    # Alarms.

    def on_store_refused(self, topic: str, error: HeadraceError | None) -> None:
        """A retry record or dead letter was refused permanently and its lane has stopped; None when
        no lane has such a record any longer. Logged when it changes.
        """
        if error is not None:
            self._metrics.store_refused.value += 1
        reason = f"{topic}: {error}" if error else ""
        if reason == self.stuck:
            return
        self.stuck = reason
        if error:
            logger.error(
                "store_refused",
                topic=topic,
                error=str(error),
                next_step="fix the topic (does it exist, may the dispatcher write to it?);"
                " delivery resumes automatically",
                **log_fields(self.compiled.subscription),
            )
        else:
            logger.info("store_resumed", **log_fields(self.compiled.subscription))

    def on_feed_alarm(self, alarm: FeedAlarm) -> None:
        """Count what a feed reports, and log it unless another subscription has just reported the
        same.
        """
        self._metrics.alarm(alarm.kind)
        if alarm.kind is AlarmKind.EXPIRED:
            self._metrics.expired.value += alarm.count
        others = self._shared_alarms.report(alarm, self._clock.monotonic())
        if others is None:
            return
        fields: dict[str, str | int] = {"group": alarm.group, "alarm": alarm.kind.value}
        if alarm.partition is not None:
            fields["partition"] = f"{alarm.partition.topic}/{alarm.partition.partition}"
        if alarm.count:
            fields["count"] = alarm.count
        if others:
            fields["others"] = others
        fields |= {"detail": alarm.detail, **log_fields(self.compiled.subscription)}
        if self.deleted:
            logger.info("feed_alarm", **fields)
        else:
            logger.warning("feed_alarm", **fields, next_step=_ALARM_STEP)

    def _log_denied(self) -> str:
        """Why a destination is denied, empty when none is; logged when it changes."""
        denied = self.compiled.denied
        if denied != self._denied_logged:
            self._denied_logged = denied
            if denied:
                logger.warning(
                    "egress_denied",
                    error=denied,
                    next_step=f"use another address, or {ALLOW_SETTING} (docs/security.md)",
                    **log_fields(self.compiled.subscription),
                )
            else:
                logger.info("egress_allowed", **log_fields(self.compiled.subscription))
        return denied

    # State.

    def report(
        self, name_of: Callable[[str], str], sink_rejected: int, *, changing: bool = False
    ) -> SubscriptionState:
        """What the controller should know; logs a change of what the egress policy denies.

        `name_of` is as `DispatcherContext.name_of`; `sink_rejected` counts the dead letters that
        the sink has rejected; `changing` is as `SubscriptionState.changing`.
        """
        now = self._clock.monotonic()
        lag = self._lag_summary()
        used = round(100 * self._retention_used(lag)) if lag.records else 0
        filter_failures = self._failing_filter.current(now)
        return SubscriptionState(
            breaker=self.breaker_state.value if self._holds_back(lag) else "",
            refused=self.stuck,
            denied=self._log_denied(),
            loop=self._loop_guard.describe(name_of),
            failing=self._failing.current(self._metrics.successes, now),
            filter_error=filter_failures.error,
            filter_failures=filter_failures.order,
            expired=self._metrics.expired.value,
            stalled=lag.stalled,
            dead_letters=self._recent_dead_letters.update(self._metrics.dead_letters, now),
            sink_rejected=self._recent_rejections.update(sink_rejected, now),
            retention_used=used if used >= RETENTION_ALARM_PERCENT else 0,
            changing=changing,
        )

    def _holds_back(self, lag: "_LagSummary") -> bool:
        """Whether the breaker is open. One that is reopening, which takes as many answers as there
        may be requests, holds nothing back when nothing waits.
        """
        state = self.breaker_state
        if not self._gate.enabled or state is _CLOSED:
            return False
        return state is not BreakerState.REOPENING or lag.records > 0

    def _lag_summary(self) -> "_LagSummary":
        lags = self._lag()
        if lags is not self._lags:
            self._lags, self._summary = lags, _summary(lags)
        return self._summary

    @property
    def breaker_state(self) -> BreakerState:
        """Of the subscriber."""
        return self._gate.breaker.state

    def _age(self, lag: "_LagSummary") -> float:
        """Age of the oldest record not done, in seconds; 0.0 without one."""
        oldest_ms = lag.oldest_ms
        return 0.0 if oldest_ms is None else max(0.0, self._clock.now() - oldest_ms / 1000)

    def _retention_used(self, lag: "_LagSummary") -> float:
        """That age divided by the retention of the channel topic: at 1.0 events expire
        undelivered.
        """
        retention_seconds = self.compiled.subscription.retention_seconds
        return self._age(lag) / retention_seconds if retention_seconds else 0.0

    def update_gauges(
        self, *, in_flight: int, retries_waiting: int, concurrency_limit: int
    ) -> None:
        """Set the gauges of this subscription, before a scrape."""
        lag = self._lag_summary()
        self._metrics.set_gauges(
            lag_records=lag.records,
            lag_seconds=self._age(lag),
            retention_used=self._retention_used(lag),
            stalled=lag.stalled,
            in_flight=in_flight,
            retries_waiting=retries_waiting,
            partitions=lag.partitions,
            concurrency_limit=concurrency_limit,
            egress_denied=bool(self.compiled.denied),
            breaker=self.breaker_state,
        )


@dataclass(slots=True)
class _LagSummary:
    """The lag in all partitions that this process owns: computed once for all that use it, because
    a process may have a thousand subscriptions.
    """

    partitions: int
    records: int = 0
    oldest_ms: int | None = None
    stalled: int = 0
    """Partitions with work and without progress for 10 s."""


def _summary(lags: Mapping[Partition, Lag]) -> _LagSummary:
    summary = _LagSummary(len(lags))
    for lag in lags.values():
        if lag.records:
            summary.records += lag.records
            summary.stalled += lag.progress_seconds > STALLED_SECONDS
            if lag.oldest_ms is not None and (
                summary.oldest_ms is None or lag.oldest_ms < summary.oldest_ms
            ):
                summary.oldest_ms = lag.oldest_ms
    return summary


def filter_error_handler(
    subscription: Subscription, metrics: SubscriptionMetrics, failing: FailingFilter
) -> Callable[[Problem], None]:
    """Count every error of these filters, and log the first of each kind: a function that does not
    exist fails for every event. Values of an event are never logged.
    """
    logged: set[ErrorKind] = set()

    def on_error(problem: Problem) -> None:
        metrics.filter_failed(problem)
        failing.note(problem)
        if problem.kind not in logged:
            logged.add(problem.kind)
            logger.warning(
                "filter_failed",
                error_kind=problem.kind.value,
                error=describe(problem),
                next_step="such events do not pass; headrace filter shows why",
                **log_fields(subscription),
            )

    return on_error


def log_fields(subscription: Subscription) -> dict[str, str]:
    """Return the fields by which a log event names a subscription: an operator does not know its
    uid.
    """
    return {
        "kind": subscription.kind,
        "namespace": subscription.namespace,
        "name": subscription.name,
    }
