"""The three lanes of one subscription, each with its feed: opened, closed and reopened.

The live lane reads the channel topic only, and its subscription never changes: a new filter, URL or
policy replaces the compiled subscription while the consumer stays in its group. The retry lane
reads the retry topic, and the dead letter lane the dead letter topic while there is a sink. Both
open when there is work, and stay open. They have separate feeds so that a sink which accepts
nothing never uses up the bounds that retries need, nor a breaker that holds retries back those of
the dead letters.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping

import structlog

from headrace.domain.concurrency import Concurrency
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import FeedBounds, FeedConfig, InitialOffset
from headrace.domain.filters import Filter
from headrace.domain.lanes import Ordered, Unordered
from headrace.domain.ports import Feed, Lag
from headrace.domain.record import Partition
from headrace.domain.routing import DeliveryOrder, Subscription
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.delivery import DeliveryHandler
from headrace_dispatcher.feed_listeners import (
    ChannelListener,
    DeadLetterListener,
    PoisonGuard,
    RetryListener,
)
from headrace_dispatcher.gate import BreakerGate, OpenGate
from headrace_dispatcher.lane import Gate, Lane
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.retry_or_dead_letter import RetryOrDeadLetter
from headrace_dispatcher.subscription_health import SubscriptionHealth, log_fields

logger = structlog.get_logger(__name__)


class LaneSet:
    """Opens and closes the lanes of one subscription.

    Feeds are opened at once and closed in the background, one change after the other: a close may
    take as long as a drain.
    """

    def __init__(
        self,
        *,
        compiled: CompiledSubscription,
        context: DispatcherContext,
        subscriber_handler: DeliveryHandler,
        sink_handler: DeliveryHandler,
        failures: RetryOrDeadLetter,
        gate: BreakerGate,
        metrics: SubscriptionMetrics,
        health: SubscriptionHealth,
        on_failed: Callable[[BaseException], None],
    ) -> None:
        """`on_failed` is called when a lane could not be opened or closed in the background."""
        self.live: ChannelListener | None = None
        self._compiled = compiled
        self._context = context
        self._subscriber_handler = subscriber_handler
        self._sink_handler = sink_handler
        self._failures = failures
        self._gate = gate
        self._metrics = metrics
        self._health = health
        self._on_failed = on_failed
        self._retries: Lane | None = None
        self._dead_letters: Lane | None = None
        self._change_lock = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __iter__(self) -> Iterator[Lane]:
        """The open lanes, the live one first."""
        live = self.live.lane if self.live is not None else None
        return iter([lane for lane in (live, self._retries, self._dead_letters) if lane])

    def __repr__(self) -> str:
        return f"<LaneSet {list(self)}>"

    # Open.

    def open(self) -> None:
        """Open the live lane; the others follow when there is work."""
        self._open_live()

    def _open_live(self) -> None:
        limits, subscription = self._context.limits, self._compiled.subscription
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
                self._compiled.filter,
                exclusive=ordered,
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
            alarm=self._alarm,
            concurrency=concurrency,
            observe_attempt=self._metrics.observe_attempt,
            scheduler=self._context.scheduler,
            number=self._lane_number(subscription.topic),
        )
        self.live = ChannelListener(
            lane=lane,
            compiled=self._compiled,
            metrics=self._metrics,
            guard=self._poison_guard(subscription.topic),
            misplaced=self._content_type_misplaced,
        )
        lane.feed.start(self.live)

    @property
    def unread(self) -> Collection[str]:
        """The topics whose lane opens as soon as they have records."""
        subscription = self._compiled.subscription
        retries = (subscription.retry_topic,) if self._retries is None else ()
        waits = self._dead_letters is None and self._compiled.sink_target is not None
        return (*retries, subscription.dead_topic) if waits else retries

    def open_for(self, topics: Collection[str]) -> None:
        """Open the lanes of topics that have records."""
        subscription = self._compiled.subscription
        if subscription.retry_topic in topics:
            self.open_retries()
        if subscription.dead_topic in topics:
            self.open_dead_letters()

    def open_dead_letters(self) -> None:
        """Open the dead letter lane, if there is a sink that can be called and it is not open.

        Never raises, as `open_retries`.
        """
        if self._compiled.sink_target is None or self._dead_letters is not None or self._stopping:
            return
        topic = self._compiled.subscription.dead_topic
        try:
            self._dead_letters = lane = self._unordered_lane(topic, self._sink_handler, OpenGate())
            lane.feed.start(DeadLetterListener(lane, self._metrics, self._poison_guard(topic)))
        except Exception as error:
            self._on_failed(error)

    def open_retries(self) -> None:
        """Open the retry lane, if it is not open: a record is in the retry topic, or will be soon.

        Never raises: the caller has its own work to end. A failure is reported to `on_failed`.
        """
        if self._retries is not None or self._stopping:
            return
        topic = self._compiled.subscription.retry_topic
        try:
            self._retries = lane = self._unordered_lane(
                topic, self._subscriber_handler, self._gate, self._metrics.observe_attempt
            )
            lane.feed.start(RetryListener(lane, self._failures, self._poison_guard(topic)))
        except Exception as error:
            self._on_failed(error)

    def _unordered_lane(
        self,
        topic: str,
        handler: DeliveryHandler,
        gate: Gate,
        observe_attempt: Callable[[float], None] = lambda _: None,
    ) -> Lane:
        limits, subscription = self._context.limits, self._compiled.subscription
        return Lane(
            # Retries and dead letters have one group; each of its members reads one topic.
            feed=self._feed(
                subscription.retry_topic,
                topic,
                limits.retry_records_max,
                InitialOffset.EARLIEST,
                assigned_with=subscription.topic,
            ),
            lanes=Unordered(limits.retry_concurrency_max),
            handler=handler,
            gate=gate,
            clock=self._context.clock,
            retrying_log=self._context.retrying_log,
            alarm=self._alarm,
            scheduler=self._context.scheduler,
            number=self._lane_number(topic),
            observe_attempt=observe_attempt,
        )

    def _lane_number(self, topic: str) -> int:
        subscription = self._compiled.subscription
        return self._context.poison_tracker.lane_number(
            subscription.uid, topic, log_fields(subscription)
        )

    def _feed(
        self,
        group: str,
        topic: str,
        records_max: int,
        initial_offset: InitialOffset,
        filter: Filter | None = None,
        *,
        assigned_with: str | None = None,
        exclusive: bool = False,
    ) -> Feed:
        config = FeedConfig(
            group=group,
            topics=(topic,),
            bounds=FeedBounds(records_max=records_max, bytes_max=self._context.limits.bytes_max),
            initial_offset=initial_offset,
            filter=filter,
            assigned_with=assigned_with,
            exclusive=exclusive,
        )
        return self._context.feeds.open(config, self._health.on_feed_alarm)

    def _poison_guard(self, topic: str) -> PoisonGuard:
        poison_tracker = self._context.poison_tracker
        uid = self._compiled.subscription.uid
        return PoisonGuard(poison_tracker, poison_tracker.poison(uid, topic))

    def _content_type_misplaced(self) -> None:
        """Count a record whose `ce_datacontenttype` is ignored; the first of a topic is logged, by
        the subscription that reads it first.
        """
        self._metrics.misplaced.value += 1
        subscription, logged = self._compiled.subscription, self._context.misplaced
        if subscription.topic not in logged:
            logged.add(subscription.topic)
            logger.warning(
                "content_type_misplaced",
                topic=subscription.topic,
                kind=subscription.kind,
                namespace=subscription.namespace,
                name=subscription.name,
                next_step="write the header content-type (CloudEvents Kafka binding, 3.2.1)",
            )

    # Change.

    def apply(self, compiled: CompiledSubscription) -> None:
        """Use a changed subscription; lanes whose topic, group or order changed are reopened."""
        before, after = self._compiled.subscription, compiled.subscription
        had_sink = self._compiled.sink_target is not None
        self._compiled = compiled
        if self.live is not None:
            self.live.compiled = compiled
            self.live.lane.feed.change_filter(compiled.filter)
        if (before.order, before.topic, before.group) != (after.order, after.topic, after.group):
            self._change(self._reopen_live)
        if _retry_topics(before) != _retry_topics(after):
            self._change(self._reopen_retries_and_dead_letters)
        elif compiled.sink_target is None and self._dead_letters is not None:
            self._change(self._reconcile_dead_letters)
        elif not had_sink:
            self.open_dead_letters()
        self.pump()

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
        self.open_retries()
        self.open_dead_letters()

    async def _reconcile_dead_letters(self) -> None:
        """Close the dead letter lane, unless there is a sink again; open it, if there is one by the
        time it is closed.
        """
        if self._compiled.sink_target is None:
            await self._close_dead_letters(leave=True)
        self.open_dead_letters()

    def pump(self) -> None:
        """Have every lane send what is ready.

        The live lane first: while the breaker probes, fresh events lose one attempt each rather
        than one event all of them.
        """
        for lane in self:
            lane.pump()

    def verify_membership(self) -> None:
        """Start nothing until the groups confirm that this process still owns its partitions."""
        for lane in self:
            lane.feed.verify_membership()

    # Close.

    def halt(self) -> None:
        """Start nothing more, at once; requests in flight end."""
        self._stopping = True
        for lane in self:
            lane.stopped = True

    async def close(self, *, leave: bool) -> None:
        """Drain and commit; `leave` the groups when the subscription is deleted."""
        self.halt()
        async with self._change_lock:
            await asyncio.gather(
                self._close_live(leave=leave),
                self._close_retries(leave=leave),
                self._close_dead_letters(leave=leave),
            )

    async def _close_live(self, *, leave: bool) -> None:
        if self.live is not None:
            await _close(self.live.lane, leave=leave)
            self.live.count_skipped()
            self.live = None

    async def _close_retries(self, *, leave: bool) -> None:
        if self._retries is not None:
            await _close(self._retries, leave=leave)
            self._retries = None

    async def _close_dead_letters(self, *, leave: bool) -> None:
        if self._dead_letters is not None:
            await _close(self._dead_letters, leave=leave)
            self._dead_letters = None

    # What the lanes hold.

    def _alarm(self, topic: str, error: HeadraceError | None) -> None:
        if error is None and any(lane.stuck for lane in self):
            return
        self._health.on_store_refused(topic, error)

    def lag(self) -> Mapping[Partition, Lag]:
        """Of the partitions of the channel topic that this process owns."""
        return self.live.lane.feed.lag() if self.live is not None else {}

    def count_skipped(self) -> None:
        """As `ChannelListener.count_skipped`, before a scrape."""
        if self.live is not None:
            self.live.count_skipped()

    def retries_waiting(self) -> int:
        """Records of the retry topic not done, in the partitions that this process owns."""
        if self._retries is None:
            return 0
        return sum(each.records for each in self._retries.feed.lag().values())

    def concurrency_limit(self) -> int:
        """Requests to the subscriber that the live lane may have in flight now."""
        return self.live.lane.concurrency_limit if self.live is not None else 0

    def in_flight(self) -> int:
        """Requests to the subscriber and the sink in flight."""
        return sum(lane.sending for lane in self)


async def _close(lane: Lane, *, leave: bool) -> None:
    await lane.feed.stop(leave=leave)
    lane.close()


def _retry_topics(subscription: Subscription) -> tuple[str, str, str]:
    """The topics on which the feeds of retries and dead letters depend."""
    return subscription.topic, subscription.retry_topic, subscription.dead_topic
