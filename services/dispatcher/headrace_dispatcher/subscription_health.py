"""The health of one subscription in this process: alarms, lag, and the state that is reported to
the controller.
"""

from collections.abc import Callable, Mapping

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
from headrace_dispatcher.gate import BreakerGate
from headrace_dispatcher.limits import RECENT_SECONDS
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.reply_loop_guard import ReplyLoopGuard

logger = structlog.get_logger(__name__)

STALLED_SECONDS = 10.0
RETENTION_ALARM_PERCENT = 50
_SAFE_TO_LOG = frozenset(
    {ErrorKind.MISSING_ATTRIBUTE, ErrorKind.MISSING_FUNCTION, ErrorKind.BUDGET}
)
"""Errors of filters whose messages hold only names from the filter itself and limits; others may
contain data of an event, which is never logged.
"""


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
        clock: Clock,
        lag: Callable[[], Mapping[Partition, Lag]],
    ) -> None:
        self.compiled = compiled
        self.stuck = ""
        """Why a lane has stopped, empty when none has."""
        self._metrics = metrics
        self._gate = gate
        self._loop_guard = loop_guard
        self._clock = clock
        self._lag = lag
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
        """Count and log what a feed reports."""
        self._metrics.alarm(alarm.kind)
        if alarm.kind is AlarmKind.EXPIRED:
            self._metrics.expired.value += alarm.count
        where = alarm.partition
        logger.warning(
            "feed_alarm",
            group=alarm.group,
            alarm=alarm.kind.value,
            partition=f"{where.topic}/{where.partition}" if where else "",
            count=alarm.count,
            detail=alarm.detail,
            **log_fields(self.compiled.subscription),
        )

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
        used = round(100 * self.retention_used())
        open_breaker = self._gate.enabled and self.breaker_state is not BreakerState.CLOSED
        return SubscriptionState(
            breaker=self.breaker_state.value if open_breaker else "",
            refused=self.stuck,
            denied=self._log_denied(),
            loop=self._loop_guard.describe(name_of),
            expired=self._metrics.expired.value,
            stalled=self.stalled_partitions(),
            dead_letters=self._recent_dead_letters.update(self._metrics.dead_letters, now),
            sink_rejected=self._recent_rejections.update(sink_rejected, now),
            retention_used=used if used >= RETENTION_ALARM_PERCENT else 0,
            changing=changing,
        )

    @property
    def breaker_state(self) -> BreakerState:
        """Of the subscriber."""
        return self._gate.breaker.state

    def lag_seconds(self) -> float:
        """Age of the oldest record not done, in the partitions that this process owns; 0.0 without
        one.
        """
        times = (each.oldest_ms for each in self._lag().values() if each.oldest_ms is not None)
        oldest_ms = min(times, default=None)
        return 0.0 if oldest_ms is None else max(0.0, self._clock.now() - oldest_ms / 1000)

    def retention_used(self) -> float:
        """That age divided by the retention of the channel topic: at 1.0 events expire
        undelivered.
        """
        retention_seconds = self.compiled.subscription.retention_seconds
        return self.lag_seconds() / retention_seconds if retention_seconds else 0.0

    def stalled_partitions(self) -> int:
        """Partitions of the channel topic with work and without progress for 10 s."""
        return sum(
            each.records > 0 and each.progress_seconds > STALLED_SECONDS
            for each in self._lag().values()
        )

    def update_gauges(
        self, *, in_flight: int, retries_waiting: int, concurrency_limit: int
    ) -> None:
        """Set the gauges of this subscription, before a scrape."""
        self._metrics.set_gauges(
            lag_records=sum(each.records for each in self._lag().values()),
            lag_seconds=self.lag_seconds(),
            retention_used=self.retention_used(),
            stalled=self.stalled_partitions(),
            in_flight=in_flight,
            retries_waiting=retries_waiting,
            partitions=len(self._lag()),
            concurrency_limit=concurrency_limit,
            egress_denied=bool(self.compiled.denied),
            breaker=self.breaker_state,
        )


def filter_error_handler(
    subscription: Subscription, metrics: SubscriptionMetrics
) -> Callable[[Problem], None]:
    """Count every error of these filters, and log the first of each kind: a function that does not
    exist fails for every event.
    """
    logged: set[ErrorKind] = set()

    def on_error(problem: Problem) -> None:
        metrics.filter_failed(problem)
        if problem.kind not in logged:
            logged.add(problem.kind)
            logger.warning(
                "filter_failed",
                error_kind=problem.kind.value,
                error=problem.message if problem.kind in _SAFE_TO_LOG else "",
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
