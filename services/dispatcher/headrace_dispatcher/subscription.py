"""One subscription at work in this process: its feeds, its lanes, its rules.

Two feeds. The live one reads the channel topic and nothing else, and never changes: a new filter, URL or policy swaps the rules
under it while it stays in its group. The parked one reads the retry topic, and the dead letter topic when there is a sink; it opens
when there is work.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence

import structlog

from headrace.domain.breaker import Breaker, BreakerState
from headrace.domain.concurrency import Concurrency
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds
from headrace.domain.lanes import Ordered, Unordered
from headrace.domain.ports import Feed, Lag
from headrace.domain.record import Partition
from headrace.domain.routing import Order, Subscription
from headrace.domain.subscription_state import SubscriptionState
from headrace_dispatcher.counts import Counts
from headrace_dispatcher.environment import Environment
from headrace_dispatcher.gate import BreakerGate, OpenGate
from headrace_dispatcher.intake import LiveIntake, ParkedIntake
from headrace_dispatcher.lane import Lane
from headrace_dispatcher.parking import Parking
from headrace_dispatcher.rules import Rules, compile_rules
from headrace_dispatcher.sink import DeadLetterSink
from headrace_dispatcher.subscriber import Subscriber

log = structlog.get_logger(__name__)

STALLED_SECONDS = 10.0
RETENTION_ALARM_PERCENT = 50


class SubscriptionWork:
    """Starts, changes and stops the work on one subscription."""

    def __init__(self, subscription: Subscription, environment: Environment) -> None:
        self.subscription = subscription
        self.counts = Counts(environment.metrics, subscription.namespace, subscription.name)
        self.stuck = ""
        """Why a lane stands still, empty when none does."""
        self._environment = environment
        limits = environment.limits
        self._breaker = Breaker(limits.concurrency_max)
        self._gate = BreakerGate(breaker=self._breaker, clock=environment.clock, pump=self._pump)
        self._gate.enabled = subscription.breaker
        self._rules = self._compile(subscription)
        self._parking = Parking(
            subscription=subscription,
            appends=environment.appends,
            counts=self.counts,
            clock=environment.clock,
            jitter=environment.jitter,
            delays=environment.delays,
            observer=self,
        )
        self._subscriber = Subscriber(
            rules=self._rules,
            parking=self._parking,
            appends=environment.appends,
            gate=self._gate,
            counts=self.counts,
            clock=environment.clock,
            hops_max=limits.hops_max,
        )
        self._sink = DeadLetterSink(rules=self._rules, counts=self.counts, clock=environment.clock, jitter=environment.jitter)
        self._live_feed: Feed | None = None
        self._live: LiveIntake | None = None
        self._parked_feed: Feed | None = None
        self._parked_topics: tuple[str, ...] = ()
        self._parked_lanes: tuple[Lane, ...] = ()
        """Retry and dead letter lane, while the parked feed is open."""
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __repr__(self) -> str:
        subscription = self.subscription
        return f"<SubscriptionWork {subscription.namespace}/{subscription.name} {self._breaker.state} {list(self._lanes())}>"

    def _compile(self, subscription: Subscription) -> Rules:
        return compile_rules(
            subscription,
            self._environment.sender,
            connections_max=self._environment.limits.concurrency_max + self._environment.limits.retry_concurrency_max,
            filter_failed=self.counts.filter_failed,
        )

    def start(self) -> None:
        """Join the group and begin to deliver; the parked feed follows when there is work."""
        limits, subscription = self._environment.limits, self.subscription
        ordered = subscription.order is Order.ORDERED
        feed = self._environment.feeds.open(
            group=subscription.group,
            topics=[subscription.topic],
            bounds=FeedBounds(
                records_max=limits.ordered_records_max if ordered else limits.unordered_records_max, bytes_max=limits.bytes_max
            ),
            alarm=self._feed_alarm,
        )
        concurrency = Concurrency(floor=min(limits.concurrency_floor, limits.concurrency_max), maximum=limits.concurrency_max)
        lanes = Ordered(concurrency.limit, lane_records_max=limits.lane_records_max) if ordered else Unordered(concurrency.limit)
        lane = Lane(
            feed=feed,
            lanes=lanes,
            course=self._subscriber,
            gate=self._gate,
            clock=self._environment.clock,
            concurrency=concurrency,
        )
        self._live_feed, self._live = feed, LiveIntake(lane=lane, rules=self._rules, counts=self.counts)
        feed.start(self._live)
        if subscription.dead_letter_sink is not None:
            self.parked()

    def apply(self, subscription: Subscription) -> None:
        """Put new rules in force: for every attempt from now on, while requests on their way end under the old ones."""
        before, old_rules = self.subscription, self._rules
        self.subscription = subscription
        self._rules = self._compile(subscription)
        self._parking.subscription = subscription
        self._subscriber.rules = self._sink.rules = self._rules
        self._gate.enabled = subscription.breaker
        if self._live is not None:
            self._live.rules = self._rules
        old_rules.close()
        if (before.order, before.topic, before.group) != (subscription.order, subscription.topic, subscription.group):
            self._change(self._reopen_live)
        elif subscription.dead_letter_sink is not None or self._parked_feed is not None:
            self.parked()
        self._pump()

    def parked(self) -> None:
        """A record waits in the retry or dead letter topic: open the feed that reads them, if it is not open."""
        subscription = self.subscription
        topics = [subscription.retry_topic]
        if subscription.dead_letter_sink is not None:
            topics.append(subscription.dead_topic)
        if self._stopping or self._parked_topics == tuple(topics):
            return
        if self._parked_feed is None:
            self._open_parked(tuple(topics))
        else:
            self._change(self._reopen_parked)

    def _open_parked(self, topics: tuple[str, ...]) -> None:
        environment, limits = self._environment, self._environment.limits
        feed = environment.feeds.open(
            group=self.subscription.retry_topic,
            topics=topics,
            bounds=FeedBounds(records_max=limits.parked_records_max, bytes_max=limits.bytes_max),
            alarm=self._parked_feed_alarm,
        )
        retry = Lane(
            feed=feed,
            lanes=Unordered(limits.retry_concurrency_max),
            course=self._subscriber,
            gate=self._gate,
            clock=environment.clock,
        )
        dead = Lane(
            feed=feed,
            lanes=Unordered(limits.retry_concurrency_max),
            course=self._sink,
            gate=OpenGate(),
            clock=environment.clock,
        )
        self._parked_feed, self._parked_topics, self._parked_lanes = feed, topics, (retry, dead)
        feed.start(ParkedIntake(retry=retry, dead=dead, parking=self._parking, counts=self.counts))

    # Feeds are opened at once and closed in the background, one change after the other: a close may take as long as a drain.

    def _change(self, change: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._one_by_one(change))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _one_by_one(self, change: Callable[[], Coroutine[None, None, None]]) -> None:
        async with self._changing:
            if not self._stopping:
                await change()

    async def _reopen_live(self) -> None:
        await self._close_live(leave=True)
        self.start()

    async def _reopen_parked(self) -> None:
        await self._close_parked(leave=True)
        self.parked()

    async def _close_live(self, *, leave: bool = False) -> None:
        if self._live_feed is not None and self._live is not None:
            feed, lane = self._live_feed, self._live.lane
            await feed.stop(leave=leave)
            lane.close()
            self._live_feed, self._live = None, None

    async def _close_parked(self, *, leave: bool = False) -> None:
        if self._parked_feed is not None:
            feed, lanes = self._parked_feed, self._parked_lanes
            await feed.stop(leave=leave)
            for lane in lanes:
                lane.close()
            self._parked_feed, self._parked_topics, self._parked_lanes = None, (), ()

    def halt(self) -> None:
        """Start nothing any more, at once; what is on its way ends."""
        self._stopping = True
        for lane in self._lanes():
            lane.stopped = True

    async def stop(self, *, leave: bool = False) -> None:
        """Halt, drain and commit; `leave` both groups for good when the subscription is gone."""
        self.halt()
        async with self._changing:
            await asyncio.gather(self._close_live(leave=leave), self._close_parked(leave=leave))
        self._gate.close()
        self._rules.close()

    def _lanes(self) -> Sequence[Lane]:
        return [*([self._live.lane] if self._live else []), *self._parked_lanes]

    def alarm(self, topic: str, error: HeadraceError | None) -> None:
        """A record cannot be stored where it must go: say so, once, until no lane has such a record."""
        if error is None and any(lane.stuck for lane in self._lanes()):
            return
        reason = f"{topic}: {error}" if error else ""
        if reason != self.stuck:
            self.stuck = reason
            where = {"namespace": self.subscription.namespace, "name": self.subscription.name}
            if error:
                log.error(
                    "parking_refused", topic=topic, reason=str(error), next_step="mend the topic; delivery goes on by itself", **where
                )
            else:
                log.info("parking_resumed", **where)

    def _parked_feed_alarm(self, alarm: FeedAlarm) -> None:
        # Retry and dead letter topics are read from their beginning: a group that has no place in them yet is no cause for alarm.
        if alarm.kind is not AlarmKind.OFFSET_MISSING:
            self._feed_alarm(alarm)

    def _feed_alarm(self, alarm: FeedAlarm) -> None:
        subscription = self.subscription
        if alarm.kind is AlarmKind.EXPIRED:
            self.counts.expired.value += alarm.count
        partition = f"{alarm.partition.topic}/{alarm.partition.partition}" if alarm.partition else ""
        log.warning(
            "feed_alarm", namespace=subscription.namespace, name=subscription.name, group=alarm.group, kind=alarm.kind.value,
            partition=partition, count=alarm.count, detail=alarm.detail,
        )  # fmt: skip

    def _pump(self) -> None:
        # The live lane first: while the breaker probes, fresh events lose one attempt each rather than one event all of them.
        for lane in self._lanes():
            lane.pump()

    def state(self) -> SubscriptionState:
        """What is worth telling the controller."""
        open_breaker = self._gate.enabled and self._breaker.state is not BreakerState.CLOSED
        return SubscriptionState(
            breaker=self._breaker.state.value if open_breaker else "",
            refused=self.stuck,
            expired=self.counts.expired.value,
            stalled=self.stalled_partitions(),
            retention_used=used if (used := round(100 * self.retention_used())) >= RETENTION_ALARM_PERCENT else 0,
        )

    def lag_seconds(self) -> float:
        """Age of the oldest record not done, of the partitions owned here; 0.0 when there is none."""
        oldest = min((each.oldest_ms for each in self.lag().values() if each.oldest_ms is not None), default=None)
        return max(0.0, self._environment.clock.now() - oldest / 1000) if oldest is not None else 0.0

    def retention_used(self) -> float:
        """That age as a share of the time the channel topic keeps events: at 1.0 they expire undelivered."""
        retention_seconds = self.subscription.retention_seconds
        return self.lag_seconds() / retention_seconds if retention_seconds else 0.0

    def stalled_partitions(self) -> int:
        """Partitions of the channel topic with work and without progress for 10 s."""
        return sum(each.records > 0 and each.progress_seconds > STALLED_SECONDS for each in self.lag().values())

    def lag(self) -> Mapping[Partition, Lag]:
        """Of the partitions of the channel topic that this process owns."""
        return self._live_feed.lag() if self._live_feed is not None else {}

    @property
    def reads_parked(self) -> bool:
        """Whether the parked feed is open."""
        return self._parked_feed is not None

    def retries_waiting(self) -> int:
        """Records of the retry topic not done, as far as this process owns them."""
        retry_topic = self.subscription.retry_topic
        lag = self._parked_feed.lag() if self._parked_feed is not None else {}
        return sum(each.records for partition, each in lag.items() if partition.topic == retry_topic)

    def in_flight(self) -> int:
        """Requests to the subscriber on their way."""
        return sum(lane.sending for lane in self._lanes())

    def breaker_state(self) -> BreakerState:
        """Of the subscriber."""
        return self._breaker.state
