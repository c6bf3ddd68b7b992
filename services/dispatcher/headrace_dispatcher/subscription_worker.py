"""One subscription at work in this process: its feeds, its lanes, its rules.

Up to three feeds. The live one reads the channel topic and nothing else, and never changes: a new
filter, URL or policy swaps the rules under it while it stays in its group. The retry feed reads the
retry topic and opens when there is work. The letter feed reads the dead letter topic as long as
there is a sink. They are apart so that a sink which takes nothing never fills the room that retries
need, nor a breaker that holds retries the room of the letters.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence

import structlog

from headrace.domain.breaker import Breaker, BreakerState
from headrace.domain.cesql import ErrorKind, Problem
from headrace.domain.concurrency import Concurrency
from headrace.domain.egress import ALLOW_SETTING
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds, InitialOffset
from headrace.domain.lanes import Ordered, Unordered
from headrace.domain.observed_event_types import EventTypeObserver
from headrace.domain.ports import Feed, Lag
from headrace.domain.record import Partition
from headrace.domain.routing import DeliveryOrder, Subscription
from headrace.domain.subscription_state import SubscriptionState
from headrace_dispatcher.compiled_subscription import CompiledSubscription, compile_subscription
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.dead_letter_sink_handler import DeadLetterSinkHandler
from headrace_dispatcher.delivery import DeliveryHandler
from headrace_dispatcher.failure_handler import FailureHandler
from headrace_dispatcher.feed_listeners import (
    ChannelListener,
    DeadLetterListener,
    PoisonGuard,
    RetryListener,
)
from headrace_dispatcher.gate import BreakerGate, OpenGate
from headrace_dispatcher.lane import Gate, Lane
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.recent_growth import RecentGrowth
from headrace_dispatcher.reply_loop_guard import ReplyLoopGuard
from headrace_dispatcher.subscriber_handler import SubscriberHandler

log = structlog.get_logger(__name__)

STALLED_SECONDS = 10.0
RETENTION_ALARM_PERCENT = 50
_SAFE_TO_LOG = frozenset(
    {ErrorKind.MISSING_ATTRIBUTE, ErrorKind.MISSING_FUNCTION, ErrorKind.BUDGET}
)
"""Errors of filters whose messages hold nothing but names out of the filter itself and limits;
others may tell what an event holds, which no log does.
"""


class SubscriptionWorker:
    """Starts, changes and stops the work on one subscription."""

    def __init__(
        self,
        subscription: Subscription,
        context: DispatcherContext,
        *,
        failed: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """`failed` is told when a feed could not be opened behind the back of a caller: this work
        then has to be replaced by a new one.
        """
        self.subscription = subscription
        self._on_failed = failed
        self.metrics = SubscriptionMetrics(
            context.metrics, subscription.namespace, subscription.name
        )
        self._recent_dead_letters = RecentGrowth()
        self._denied_logged = ""
        self._recent_rejections = RecentGrowth()
        self.stuck = ""
        """Why a lane stands still, empty when none does."""
        self._context = context
        limits = context.limits
        self._breaker = Breaker(limits.concurrency_max)
        self._gate = BreakerGate(breaker=self._breaker, clock=context.clock, pump=self._pump)
        self._gate.enabled = subscription.breaker
        self._compiled = self._compile(subscription)
        self._failures = FailureHandler(
            subscription=subscription,
            metrics=self.metrics,
            clock=context.clock,
            jitter=context.jitter,
            delays=context.delays,
            on_retry_stored=self.on_retry_stored,
        )
        self._loop_guard = ReplyLoopGuard(
            subscription.uid,
            hops_max=limits.hops_max,
            long_hops=limits.long_hops,
            per_second=limits.loop_replies_per_second,
            metrics=self.metrics,
            clock=context.clock,
        )
        self._subscriber_handler = SubscriberHandler(
            reply_limit=context.reply_limit,
            compiled=self._compiled,
            failures=self._failures,
            metrics=self.metrics,
            clock=context.clock,
            loop_guard=self._loop_guard,
            hops_max=limits.hops_max,
            poison_tracker=context.poison_tracker,
        )
        self._update_type_observer()
        self._sink_handler = DeadLetterSinkHandler(
            compiled=self._compiled,
            failures=self._failures,
            metrics=self.metrics,
            clock=context.clock,
            jitter=context.jitter,
            poison_tracker=context.poison_tracker,
        )
        self._channel_listener: ChannelListener | None = None
        self._retries: Lane | None = None
        self._dead_letters: Lane | None = None
        self._change_lock = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __repr__(self) -> str:
        subscription = self.subscription
        return (
            f"<SubscriptionWorker {subscription.namespace}/{subscription.name} "
            f"{self._breaker.state} {list(self._lanes())}>"
        )

    def _compile(self, subscription: Subscription) -> CompiledSubscription:
        return compile_subscription(
            subscription,
            self._context.sender,
            connections_max=self._context.limits.concurrency_max
            + self._context.limits.retry_concurrency_max,
            filter_failed=self._filter_error_handler(subscription),
            reply_limit=self._context.reply_limit,
        )

    def _filter_error_handler(self, subscription: Subscription) -> Callable[[Problem], None]:
        """Counts every error of these filters, and logs the first of each kind: a function that
        does not exist fails for every event.
        """
        logged: set[ErrorKind] = set()

        def failed(problem: Problem) -> None:
            self.metrics.filter_failed(problem)
            if problem.kind not in logged:
                logged.add(problem.kind)
                log.warning(
                    "filter_failed",
                    namespace=subscription.namespace,
                    name=subscription.name,
                    kind=problem.kind.value,
                    detail=problem.message if problem.kind in _SAFE_TO_LOG else "",
                    next_step="such events do not pass; headrace filter shows why",
                )

        return failed

    def _update_type_observer(self) -> None:
        wanted = self.subscription.event_types
        if wanted != (self._subscriber_handler.types is not None):
            self._subscriber_handler.types = (
                EventTypeObserver(self.subscription.uid, self._context.observed_types)
                if wanted
                else None
            )

    def start(self) -> None:
        """Join the group and begin to deliver; the retry feed follows when there is work."""
        self._open_live()
        self._open_dead_letters()

    def _open_live(self) -> None:
        limits, subscription = self._context.limits, self.subscription
        ordered = subscription.order is DeliveryOrder.ORDERED
        concurrency = Concurrency(
            floor=min(limits.concurrency_floor, limits.concurrency_max),
            maximum=limits.concurrency_max,
        )
        lane = Lane(
            feed=self._feed(
                subscription.group,
                subscription.topic,
                limits.ordered_records_max if ordered else limits.unordered_records_max,
                InitialOffset.COMMITTED,
            ),
            lanes=(
                Ordered(concurrency.limit, lane_records_max=limits.lane_records_max)
                if ordered
                else Unordered(concurrency.limit)
            ),
            handler=self._subscriber_handler,
            gate=self._gate,
            clock=self._context.clock,
            retrying_log=self._context.retrying_log,
            alarm=self.alarm,
            concurrency=concurrency,
            scheduler=self._context.scheduler,
            number=self._context.poison_tracker.lane_number(subscription.uid, subscription.topic),
        )
        self._channel_listener = ChannelListener(
            lane=lane,
            compiled=self._compiled,
            metrics=self.metrics,
            guard=self._poison_guard(subscription.topic),
            misplaced=self._content_type_misplaced,
        )
        lane.feed.start(self._channel_listener)

    def _content_type_misplaced(self) -> None:
        """Count a record whose `ce_datacontenttype` is ignored; the first of a topic is logged, by
        whichever subscription reads it.
        """
        self.metrics.misplaced.value += 1
        topic, said = self.subscription.topic, self._context.misplaced
        if topic not in said:
            said.add(topic)
            log.warning(
                "content_type_misplaced",
                topic=topic,
                namespace=self.subscription.namespace,
                next_step="write the header content-type (CloudEvents Kafka binding, 3.2.1)",
            )

    def _open_dead_letters(self) -> None:
        """Open the letter feed, if there is a sink that can be called and it is not open."""
        if self._compiled.sink_target is not None and self._dead_letters is None:
            self._dead_letters = lane = self._unordered_lane(
                self.subscription.dead_topic, self._sink_handler, OpenGate()
            )
            lane.feed.start(
                DeadLetterListener(
                    lane, self.metrics, self._poison_guard(self.subscription.dead_topic)
                )
            )

    def on_retry_stored(self) -> None:
        """A record waits in the retry topic, or will soon: open the feed that reads it, if it is
        not open.
        """
        if self._retries is not None or self._stopping:
            return
        try:
            self._retries = lane = self._unordered_lane(
                self.subscription.retry_topic, self._subscriber_handler, self._gate
            )
            lane.feed.start(
                RetryListener(
                    lane, self._failures, self._poison_guard(self.subscription.retry_topic)
                )
            )
        except (
            Exception
        ) as error:  # Told of a stored record: whoever tells that has its own work to end.
            self._on_failed(error)

    def _unordered_lane(self, topic: str, handler: DeliveryHandler, gate: Gate) -> Lane:
        limits = self._context.limits
        return Lane(
            # Retries and letters are read under one group, by members that know one topic each.
            feed=self._feed(
                self.subscription.retry_topic,
                topic,
                limits.retry_records_max,
                InitialOffset.EARLIEST,
            ),
            lanes=Unordered(limits.retry_concurrency_max),
            handler=handler,
            gate=gate,
            clock=self._context.clock,
            retrying_log=self._context.retrying_log,
            alarm=self.alarm,
            scheduler=self._context.scheduler,
            number=self._context.poison_tracker.lane_number(self.subscription.uid, topic),
        )

    def _poison_guard(self, topic: str) -> PoisonGuard:
        poison_tracker = self._context.poison_tracker
        return PoisonGuard(poison_tracker, poison_tracker.poison(self.subscription.uid, topic))

    def _feed(
        self, group: str, topic: str, records_max: int, initial_offset: InitialOffset
    ) -> Feed:
        bounds = FeedBounds(records_max=records_max, bytes_max=self._context.limits.bytes_max)
        return self._context.feeds.open(
            group=group,
            topics=[topic],
            bounds=bounds,
            alarm=self._feed_alarm,
            initial_offset=initial_offset,
        )

    def apply(self, subscription: Subscription) -> None:
        """Put new rules in force: for every attempt from now on, while requests on their way end
        under the old ones.

        Raises ValueError for rules that this version cannot serve, and leaves everything as it was.
        """
        compiled = self._compile(subscription)
        before, old_compiled = self.subscription, self._compiled
        self.subscription, self._compiled = subscription, compiled
        self._failures.subscription = subscription
        self._subscriber_handler.compiled = self._sink_handler.compiled = compiled
        self._gate.enabled = subscription.breaker
        self._update_type_observer()
        if self._channel_listener is not None:
            self._channel_listener.compiled = compiled
        old_compiled.close()
        if (before.order, before.topic, before.group) != (
            subscription.order,
            subscription.topic,
            subscription.group,
        ):
            self._change(self._reopen_live)
        if (before.retry_topic, before.dead_topic) != (
            subscription.retry_topic,
            subscription.dead_topic,
        ):
            self._change(self._reopen_retries_and_dead_letters)
        elif compiled.sink_target is None and self._dead_letters is not None:
            self._change(self._reconcile_dead_letters)
        else:
            self._open_dead_letters()
        self._pump()

    # Feeds are opened at once and closed in the background, one change after the other: a close may
    # take as long as a drain.

    def _change(self, change: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._run_change(change))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _run_change(self, change: Callable[[], Coroutine[None, None, None]]) -> None:
        async with self._change_lock:
            if not self._stopping:
                try:
                    await change()
                except Exception as error:
                    self._on_failed(error)

    async def _reopen_live(self) -> None:
        await self._close_live(leave=True)
        if not self._stopping:
            self._open_live()

    async def _reopen_retries_and_dead_letters(self) -> None:
        await asyncio.gather(self._close_retries(leave=True), self._close_dead_letters(leave=True))
        self.on_retry_stored()
        if not self._stopping:
            self._open_dead_letters()

    async def _reconcile_dead_letters(self) -> None:
        """Close the letter feed, unless there is a sink again; open it, if there is one by the time
        it is closed.
        """
        if self._compiled.sink_target is None:
            await self._close_dead_letters(leave=True)
        if not self._stopping:
            self._open_dead_letters()

    async def _close_live(self, *, leave: bool) -> None:
        if self._channel_listener is not None:
            await _close(self._channel_listener.lane, leave=leave)
            self._channel_listener = None

    async def _close_retries(self, *, leave: bool) -> None:
        if self._retries is not None:
            await _close(self._retries, leave=leave)
            self._retries = None

    async def _close_dead_letters(self, *, leave: bool) -> None:
        if self._dead_letters is not None:
            await _close(self._dead_letters, leave=leave)
            self._dead_letters = None

    def halt(self) -> None:
        """Start nothing any more, at once; what is on its way ends."""
        self._stopping = True
        for lane in self._lanes():
            lane.stopped = True

    def verify_membership(self) -> None:
        """The process stood still: start nothing that may be somebody else's by now."""
        for lane in self._lanes():
            lane.feed.verify_membership()

    async def stop(self, *, leave: bool = False) -> None:
        """Halt, drain and commit; `leave` the groups for good when the subscription is gone."""
        self.halt()
        async with self._change_lock:
            await asyncio.gather(
                self._close_live(leave=leave),
                self._close_retries(leave=leave),
                self._close_dead_letters(leave=leave),
            )
        self._gate.close()
        self._compiled.close()

    def _lanes(self) -> Sequence[Lane]:
        live = self._channel_listener.lane if self._channel_listener is not None else None
        return [lane for lane in (live, self._retries, self._dead_letters) if lane is not None]

    def alarm(self, topic: str, error: HeadraceError | None) -> None:
        """A record cannot be stored where it must go: say so, once, until no lane has such a
        record.
        """
        if error is not None:
            self.metrics.parking_refused.value += 1
        elif any(lane.stuck for lane in self._lanes()):
            return
        reason = f"{topic}: {error}" if error else ""
        if reason != self.stuck:
            self.stuck = reason
            where = {"namespace": self.subscription.namespace, "name": self.subscription.name}
            if error:
                log.error(
                    "parking_refused",
                    topic=topic,
                    reason=str(error),
                    next_step="mend the topic; delivery goes on by itself",
                    **where,
                )
            else:
                log.info("parking_resumed", **where)

    def _feed_alarm(self, alarm: FeedAlarm) -> None:
        subscription = self.subscription
        if alarm.kind is AlarmKind.EXPIRED:
            self.metrics.expired.value += alarm.count
        partition = (
            f"{alarm.partition.topic}/{alarm.partition.partition}" if alarm.partition else ""
        )
        log.warning(
            "feed_alarm",
            namespace=subscription.namespace,
            name=subscription.name,
            group=alarm.group,
            kind=alarm.kind.value,
            partition=partition,
            count=alarm.count,
            detail=alarm.detail,
        )

    def _pump(self) -> None:
        # The live lane first: while the breaker probes, fresh events lose one attempt each rather
        # than one event all of them.
        for lane in self._lanes():
            lane.pump()

    def state(self) -> SubscriptionState:
        """What is worth telling the controller."""
        open_breaker = self._gate.enabled and self._breaker.state is not BreakerState.CLOSED
        return SubscriptionState(
            breaker=self._breaker.state.value if open_breaker else "",
            refused=self.stuck,
            denied=self._check_denied(),
            loop=self._loop_guard.describe(self._context.name_of),
            expired=self.metrics.expired.value,
            stalled=self.stalled_partitions(),
            dead_letters=self._recent_dead_letters.grew_recently(
                self.metrics.dead_letters, self._context.clock.monotonic()
            ),
            sink_rejected=self._recent_rejections.grew_recently(
                self._sink_handler.rejected, self._context.clock.monotonic()
            ),
            retention_used=(
                used
                if (used := round(100 * self.retention_used())) >= RETENTION_ALARM_PERCENT
                else 0
            ),
        )

    def _check_denied(self) -> str:
        denied = self._compiled.denied
        if denied != self._denied_logged:
            self._denied_logged = denied
            where = {"namespace": self.subscription.namespace, "name": self.subscription.name}
            if denied:
                log.warning(
                    "egress_denied",
                    reason=denied,
                    next_step=f"another address, or {ALLOW_SETTING} (docs/security.md)",
                    **where,
                )
            else:
                log.info("egress_allowed", **where)
        return denied

    @property
    def egress_denied(self) -> bool:
        """Whether our own address policy denies one of the destinations."""
        return bool(self._compiled.denied)

    def lag_seconds(self) -> float:
        """Age of the oldest record not done, of the partitions owned here; 0.0 when there
        is none.
        """
        oldest = min(
            (each.oldest_ms for each in self.lag().values() if each.oldest_ms is not None),
            default=None,
        )
        return max(0.0, self._context.clock.now() - oldest / 1000) if oldest is not None else 0.0

    def retention_used(self) -> float:
        """That age as a share of the time the channel topic keeps events: at 1.0 they expire
        undelivered.
        """
        retention_seconds = self.subscription.retention_seconds
        return self.lag_seconds() / retention_seconds if retention_seconds else 0.0

    def stalled_partitions(self) -> int:
        """Partitions of the channel topic with work and without progress for 10 s."""
        return sum(
            each.records > 0 and each.progress_seconds > STALLED_SECONDS
            for each in self.lag().values()
        )

    def lag(self) -> Mapping[Partition, Lag]:
        """Of the partitions of the channel topic that this process owns."""
        return self._channel_listener.lane.feed.lag() if self._channel_listener is not None else {}

    @property
    def reads_retries(self) -> bool:
        """Whether the retry feed is open."""
        return self._retries is not None

    def retries_waiting(self) -> int:
        """Records of the retry topic not done, as far as this process owns them."""
        return (
            sum(each.records for each in self._retries.feed.lag().values())
            if self._retries is not None
            else 0
        )

    def in_flight(self) -> int:
        """Requests to the subscriber on their way."""
        return sum(lane.sending for lane in self._lanes())

    def breaker_state(self) -> BreakerState:
        """Of the subscriber."""
        return self._breaker.state


async def _close(lane: Lane, *, leave: bool) -> None:
    await lane.feed.stop(leave=leave)
    lane.close()
