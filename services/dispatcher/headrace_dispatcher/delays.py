"""The delay reader: moves records from the delay topics to the next topic on their way.

Every record of a tier waits the same time from its append, so the head of a partition is always the
first due: a few records of each partition are held, each is only written to another topic, and no
record waits for one with a longer delay.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import structlog

from headrace.codec import delivery_state
from headrace.codec.delivery_state import DeliveryState
from headrace.domain.backend_name import backend_of
from headrace.domain.errors import HeadraceError, Permanent, TopicMissing
from headrace.domain.feed import FeedAlarm, FeedBounds, FeedConfig, InitialOffset
from headrace.domain.ports import Clock, Feed, Feeds
from headrace.domain.record import Partition, Record, StoredRecord
from headrace.domain.routing import Delays, DelayTier, Subscription
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_dispatcher.broker_clock import BrokerClock
from headrace_dispatcher.pending_revocations import PendingRevocations
from headrace_dispatcher.retrying_log import RetryingLog

logger = structlog.get_logger(__name__)

BOUNDS = FeedBounds(records_max=256, bytes_max=16 * 1024 * 1024)


class DelayReader:
    """Reads the delay topics of this installation, a feed for each tier."""

    def __init__(
        self,
        *,
        retrying_log: RetryingLog,
        feeds: Feeds,
        clock: Clock,
        delays: Callable[[str], Delays | None],
        all_delays: Callable[[], Iterable[Delays]],
        subscription: Callable[[str], Subscription | None],
        on_moved: Callable[[str, DelayTier | None], None],
    ) -> None:
        """`on_moved` is called with the uid of a subscription and the tier that its record is in
        now; None for its retry topic.
        """
        self._log = retrying_log
        self._feeds = feeds
        self._clock = clock
        self._delays = delays
        self._all_delays = all_delays
        self._subscription = subscription
        self._on_moved = on_moved
        self._tiers: dict[str, TierReader] = {}

    def start(self) -> None:
        """Read the tiers of the routing table that are not read yet. Called again whenever the
        table changes.
        """
        for delays in self._all_delays():
            for tier in delays.tiers:
                if tier.topic not in self._tiers:
                    self._tiers[tier.topic] = self._open(delays, tier)

    def _open(self, delays: Delays, tier: DelayTier) -> "TierReader":
        config = FeedConfig(
            group=delays.group,
            topics=(tier.topic,),
            bounds=BOUNDS,
            initial_offset=InitialOffset.EARLIEST,
        )
        feed = self._feeds.open(config, _log_alarm)
        broker_clock = BrokerClock(self._clock)
        reader = TierReader(
            tier=tier,
            feed=feed,
            clock=broker_clock,
            move=partial(self._move, feed, broker_clock),
        )
        feed.start(reader)
        return reader

    def waiting(self) -> Mapping[str, int]:
        """Records that wait in each delay topic, in the partitions that this process owns."""
        return {
            topic: sum(lag.records for lag in reader.feed.lag().values())
            for topic, reader in self._tiers.items()
        }

    async def stop(self) -> None:
        """Stop reading, commit, leave."""
        readers = list(self._tiers.values())
        for reader in readers:
            reader.close()
        await asyncio.gather(*(reader.feed.stop() for reader in readers))

    def _move(
        self, feed: Feed, broker_clock: BrokerClock, record: StoredRecord, moved: Callable[[], None]
    ) -> None:
        """The delay of this record is over: append it to the next topic on its way, then call
        `moved`.
        """
        try:
            state = delivery_state.read(record.headers)
        except delivery_state.InvalidDeliveryState as error:
            logger.error(
                "delay_topic_has_a_foreign_record",
                origin=record.origin,
                error=str(error),
                next_step="only Headrace writes to this topic; find the other producer",
            )
            feed.done(record)
            moved()
            return
        topic, tier, headers = self._next(record, state)
        if topic == record.topic:
            broker_clock.sent(state.origin, state.attempt)

        def on_result(error: HeadraceError | None) -> bool:
            if error is None:
                failpoint(Failpoint.IN_DELAY_READER)
                feed.done(record)
                moved()
                self._on_moved(state.subscription, tier)
                return False
            if not isinstance(error, Permanent):
                return True
            if topic == state.dead_topic and isinstance(error, TopicMissing):
                logger.warning(
                    "delayed_event_orphaned",
                    origin=record.origin,
                    topic=topic,
                    error="its subscription and its dead letter topic are deleted",
                )
                feed.done(record)
                moved()
                return False
            logger.error(
                "delayed_event_put_back",
                origin=record.origin,
                topic=topic,
                error=str(error),
                next_step="fix the topic; the event is moved after one more delay",
            )
            broker_clock.sent(state.origin, state.attempt)
            self._put_back(feed, record, moved)
            return False

        self._log.store(topic, Record(record.key, record.value, headers), on_result)

    def _put_back(self, feed: Feed, record: StoredRecord, moved: Callable[[], None]) -> None:
        """Let it wait for one more delay: held here, the records of one broken topic would fill the
        feed that all subscriptions share.
        """

        def on_result(error: HeadraceError | None) -> bool:
            if error is not None:
                return True
            feed.done(record)
            moved()
            return False

        self._log.store(record.topic, Record(record.key, record.value, record.headers), on_result)

    def _next(
        self, record: StoredRecord, state: DeliveryState
    ) -> tuple[str, DelayTier | None, Sequence[tuple[str, bytes]]]:
        """Where the record goes: the topic, its tier if it is a delay topic, and the headers."""
        subscription = self._subscription(state.subscription)
        if subscription is None:
            reason = (
                "misdirected: its subscription was deleted while it waited for its next attempt"
            )
            return state.dead_topic, None, [*record.headers, ("headrace_reason", reason.encode())]
        delays = self._delays(backend_of(subscription.topic))
        tier = delays.tier_for(state.due_ms / 1000 - self._clock.now()) if delays else None
        return tier.topic if tier else subscription.retry_topic, tier, record.headers


def _log_alarm(alarm: FeedAlarm) -> None:
    logger.error(
        "feed_alarm", group=alarm.group, kind=alarm.kind, detail=alarm.detail, count=alarm.count
    )


class TierReader:
    """Listens to one delay topic: holds the first few records of each partition until the head is
    due.
    """

    HELD_MAX = 16
    """Records held of one partition before it is paused."""

    def __init__(
        self,
        *,
        tier: DelayTier,
        feed: Feed,
        clock: BrokerClock,
        move: Callable[[StoredRecord, Callable[[], None]], None],
    ) -> None:
        self.feed = feed
        self._tier = tier
        self._clock = clock
        self._move = move
        self._held: dict[Partition, deque[StoredRecord]] = {}
        self._moving: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._timers: dict[Partition, asyncio.TimerHandle] = {}
        self._revocations = PendingRevocations()

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch."""
        touched = set()
        for record in records:
            partition = Partition(record.topic, record.partition)
            self._held.setdefault(partition, deque()).append(record)
            self._update_clock(record)
            touched.add(partition)
        for partition in touched:
            self._move_due(partition)

    def _update_clock(self, record: StoredRecord) -> None:
        append_seconds = record.timestamp_ms / 1000
        self._clock.read(append_seconds)
        if self._clock.expects:
            try:
                state = delivery_state.read(record.headers)
            except delivery_state.InvalidDeliveryState:
                return
            self._clock.returned(state.origin, state.attempt, append_seconds)

    def _move_due(self, partition: Partition) -> None:
        """Move what is due and set the timer for what is next."""
        held = self._held.get(partition)
        if held is None:
            return
        now_ms = self._clock.now() * 1000
        while held and held[0].timestamp_ms + self._tier.seconds * 1000 <= now_ms:
            record = held.popleft()
            self._moving[partition] = self._moving.get(partition, 0) + 1
            self._move(record, partial(self._moved, partition))
        if timer := self._timers.pop(partition, None):
            timer.cancel()
        if held:
            due_seconds = held[0].timestamp_ms / 1000 + self._tier.seconds - now_ms / 1000
            self._timers[partition] = asyncio.get_running_loop().call_later(
                max(0.001, due_seconds), self._move_due, partition
            )
        self._pause_or_resume(partition, len(held))

    def _pause_or_resume(self, partition: Partition, held: int) -> None:
        if held >= self.HELD_MAX and partition not in self._paused:
            self._paused.add(partition)
            self.feed.pause(partition)
        elif held < self.HELD_MAX // 2 and partition in self._paused:
            self._paused.discard(partition)
            self.feed.resume(partition)

    def _moved(self, partition: Partition) -> None:
        self._moving[partition] -= 1
        if not self._moving[partition]:
            del self._moving[partition]
            self._revocations.complete(self._moving)

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Give partitions back once the records being moved are stored."""
        self.on_lost(partitions)
        self._revocations.add(partitions, drained)
        self._revocations.complete(self._moving)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Drop what is held: its next reader finds it in the topic."""
        for partition in partitions:
            self._held.pop(partition, None)
            self._paused.discard(partition)
            if timer := self._timers.pop(partition, None):
                timer.cancel()

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        """Continue: if two members move one record, the reader of the next topic drops the second
        copy.
        """

    def close(self) -> None:
        """Start nothing more."""
        self.on_lost(list(self._held))
