"""Reads the topic of a channel once for all subscriptions of a process.

The reader joins a group of its own, which assigns the partitions of the topic to the processes. It
finds the feeds that want a record with an index of their filters. A feed that has no room, that has
paused a partition, or that begins far behind does not hold up the others: it stops following the
reader, and a second consumer (`catch_up`) reads for it until it has caught up. A third one reads
the retry and dead letter topics of all these subscriptions (`retry_reader`).
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Final

from headrace.adapters.kafka.channel_reader.admission import Admission
from headrace.adapters.kafka.channel_reader.backpressure import first_refused
from headrace.adapters.kafka.channel_reader.catch_up import CatchUp
from headrace.adapters.kafka.channel_reader.event_matcher import EventMatcher
from headrace.adapters.kafka.channel_reader.group_commits import GroupCommits
from headrace.adapters.kafka.channel_reader.held_records import HeldRecords
from headrace.adapters.kafka.channel_reader.log_bounds import LogBounds
from headrace.adapters.kafka.channel_reader.membership import ReaderMembership
from headrace.adapters.kafka.channel_reader.reader_consumer import ReaderConsumer
from headrace.adapters.kafka.channel_reader.record_guard import RecordGuard
from headrace.adapters.kafka.channel_reader.retry_reader import RetryReader
from headrace.adapters.kafka.channel_reader.subscription_feed import (
    Reader,
    ReaderProgress,
    SubscriptionFeed,
)
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.group_offsets.group_offsets import GroupOffsets
from headrace.adapters.kafka.group_offsets.topic_offsets import TopicOffsets
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.record import Partition, StoredRecord

START_DISTANCE_MAX: Final = 10_000
"""How many records the reader goes back for a feed when it begins, and how many it reads before it
reaches a feed that begins ahead of it. Feeds that are further apart do not wait for each other.
"""
LONG_DRAIN_SECONDS: Final = 0.25
"""How long a drain of some partitions may take before the feeds are read for by `catch_up` in those
that stay. The thread of the reader waits for the drain.
"""
BEYOND_ALL: Final = 2**63
"""Above each offset: stands for the position in a partition of another process."""
_OWN_ALARMS: Final = frozenset({AlarmKind.COMMIT_FAILED, AlarmKind.EXPIRED})
"""What the feeds report themselves, about their own records and offsets."""
_LAZY_SECONDS = 1.0
_LAZY_COMMITS_PER_SECOND = 20
"""Commits of positions that moved only because records did not match, for all feeds together."""


class ChannelReader:
    """The reader of one topic in one process. Everything here runs on the event loop."""

    def __init__(
        self,
        config: ConsumerConfig,
        shared: SharedConsumerResources,
        offsets: GroupOffsets,
        topic_offsets: TopicOffsets,
        *,
        guard: RecordGuard,
        previous: Collection[asyncio.Event] = (),
        on_closing: Callable[["ChannelReader"], None] = lambda _: None,
    ) -> None:
        """`previous` are set when the earlier readers of the topic have left the group: two members
        with the same instance name exclude each other. `on_closing` is called when the last feed
        has left: the reader takes no more feeds.
        """
        (self.topic,) = config.topics
        self._config = config
        self._shared = shared
        self._previous = tuple(previous)
        self._on_closing = on_closing
        self.closed = asyncio.Event()
        """Set when the reader has left its group."""
        self._loop = asyncio.get_running_loop()
        self._consumer = ReaderConsumer(config, shared, self._on_alarm, reader=self)
        self._membership = ReaderMembership(self._consumer)
        self._admission = Admission(
            self, offsets, self._membership, shared.topic_ids, LogBounds(topic_offsets)
        )
        self._commits = GroupCommits(
            offsets,
            shared.commit_rate_limiter,
            self._membership,
            on_members=self._admission.on_members,
        )
        self._matcher = EventMatcher(guard)
        self._catch_up = CatchUp(config, shared, self, self._matcher)
        self._retries = RetryReader(
            config, shared, offsets, self._membership, topic_offsets=topic_offsets, channel=self
        )
        self.feeds: dict[SubscriptionFeed, None] = {}
        self._by_group: dict[str, SubscriptionFeed] = {}
        """A second feed of a group waits until the first one has ended: a Trigger that is created
        again while it drains.
        """
        self._positions: dict[int, int] = {}
        """The offset that is read next, by partition that this process owns."""
        self._followers: dict[int, int] = {}
        """How many feeds follow the reader, by partition."""
        self._overdue = asyncio.Event()
        """Whether the drain deadline of the revocation that runs has passed."""
        self._given_back: Collection[int] = ()
        """The partitions of that revocation."""
        self._drains = 0
        """Revocations that run."""
        self._waits_for_drain = False
        """Whether one of them takes long: no feed follows the reader."""
        self._held = HeldRecords(self._dispatch)
        self._replaced: dict[int, Collection[SubscriptionFeed]] = {}
        """The feeds that had begun in a partition when its log was replaced by another one."""
        self._progress = ReaderProgress({}, {}, False)
        self._progress_known = False
        """Whether `_progress` is from this callback of the loop."""
        self._partition_count = 0
        self.unconfirmed = False
        """Whether the group has not confirmed the membership for a while."""
        self._started = False
        self._closing = False
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._lazy_queue: list[SubscriptionFeed] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # Feeds.

    def reader_of(self, topic: str) -> Reader:
        """Return what reads this topic: that of the channel, or one of a subscription."""
        return self if topic == self.topic else self._retries

    def attach(self, feed: SubscriptionFeed) -> None:
        """As `Reader.attach`."""
        self.feeds[feed] = None
        self._by_group.setdefault(feed.group, feed)
        self._matcher.add(feed)
        self._shared.byte_budget.register(feed.flow)
        self.open()
        if self.unconfirmed:
            feed.notify_membership(True)
        self._admission.join(feed)

    def open(self) -> None:
        """Join the group. Idempotent."""
        if not self._started:
            self._started = True
            self._spawn(self._start())

    async def _start(self) -> None:
        for each in self._previous:
            await each.wait()
        if not self._closing:
            self._consumer.start(self)
            self._membership.start()
            self._lazy_timer = self._loop.call_later(_LAZY_SECONDS, self._commit_skipped)

    async def detach(self, feed: SubscriptionFeed, *, leave: bool) -> None:
        """As `Reader.detach`."""
        if feed not in self.feeds:
            return
        self._admission.forget(feed)
        self._matcher.remove(feed)
        self.stop_reading(feed, list(feed.partitions))
        await self._commits.drain(feed, self._config.drain_seconds)
        self._remove(feed)
        await self.close_if_unused(leave=leave)

    def abandon(self, feed: SubscriptionFeed) -> None:
        """As `Reader.abandon`."""
        if feed in self.feeds:
            self._admission.forget(feed)
            self._matcher.remove(feed)
            self._remove(feed)
        self.abandon_if_unused()

    def _remove(self, feed: SubscriptionFeed) -> None:
        self.feeds.pop(feed, None)
        feed.close()
        self._shared.byte_budget.unregister(feed.flow)
        if self._by_group.get(feed.group) is feed:
            del self._by_group[feed.group]
            for other in self.feeds:
                if other.group == feed.group and not other.stopping:
                    self._by_group[feed.group] = other
                    self._admission.join(other)
                    break

    def _is_first(self, feed: SubscriptionFeed) -> bool:
        return self._by_group.get(feed.group) is feed

    def _in_use(self) -> bool:
        return bool(self.feeds or self._retries.feeds)

    async def close_if_unused(self, *, leave: bool) -> None:
        """Leave the group if the last feed has left."""
        if not self._in_use() and not self._closing:
            self._end()
            try:
                await self._consumer.stop(leave=leave)
            finally:
                self.closed.set()
                self._cancel()

    def abandon_if_unused(self) -> None:
        """End as in a crash if the last feed has left."""
        if not self._in_use():
            self._end()
            self._consumer.abandon()
            self.closed.set()
            self._cancel()

    def _end(self) -> None:
        self._closing = True
        self._on_closing(self)
        self._catch_up.close()
        self._retries.close()

    def _cancel(self) -> None:
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
        self._held.backpressure.end()
        self._membership.close()
        self._admission.close()
        for task in self._tasks:
            task.cancel()

    def join(self, timeout_seconds: float) -> bool:
        """As `Reader.join`."""
        return (
            self._consumer.join(timeout_seconds)
            and self._catch_up.has_ended(timeout_seconds)
            and self._retries.has_ended(timeout_seconds)
        )

    def filter_changed(self, feed: SubscriptionFeed) -> None:
        """As `Reader.filter_changed`."""
        if feed in self.feeds and not feed.stopping:
            self._matcher.add(feed)
            self._held.dispatch_if_waiting()

    def commit_soon(self, feed: SubscriptionFeed) -> None:
        """As `Reader.commit_soon`."""
        self._commits.schedule(feed)

    def resumed(self, feed: SubscriptionFeed, number: int) -> None:
        """As `Reader.resumed`."""
        self._loop.call_soon(self._place, feed, number)

    def room_available(self, feed: SubscriptionFeed) -> None:
        """As `Reader.room_available`."""
        self._catch_up.room_available(feed)
        if self._held.backpressure.waiting and self._is_follower(feed):
            self._held.dispatch_soon()
        self._loop.call_soon(self.place, feed)

    def verify_membership(self) -> None:
        """As `Reader.verify_membership`."""
        self._consumer.verify_membership()

    def position(self, number: int) -> int:
        """As `Reader.position`."""
        return self._positions.get(number, 0)

    def high_watermark(self, partition: Partition) -> int:
        """As `Reader.high_watermark`."""
        return self._consumer.high_watermark(partition.partition)

    def progress(self) -> ReaderProgress:
        """As `Reader.progress`. It is determined once for all feeds that ask in one callback of the
        loop, and is the same object while it is equal.
        """
        if not self._progress_known:
            self._progress_known = True
            self._loop.call_soon(self._let_progress_age)
            positions = dict(self._positions)
            ends = {each: self._consumer.high_watermark(each) for each in positions}
            at_end = all(positions[each] >= end for each, end in ends.items())
            progress = ReaderProgress(positions, ends, at_end)
            if progress != self._progress:
                self._progress = progress
        return self._progress

    def _let_progress_age(self) -> None:
        self._progress_known = False

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        """As `FeedListener.on_membership_unconfirmed`."""
        self.unconfirmed = unconfirmed
        for feed in (*self.feeds, *self._retries.feeds):
            feed.notify_membership(unconfirmed)

    def _on_alarm(self, alarm: FeedAlarm) -> None:
        if alarm.kind in _OWN_ALARMS:
            return
        for feed in list(self.feeds):
            feed.raise_alarm(alarm.kind, alarm.detail, alarm.partition, alarm.count)

    # Assignment.

    async def start_positions(
        self, partitions: Sequence[Partition], partition_count: int
    ) -> Sequence[Position]:
        """Return where to begin in newly assigned partitions. Raises a `HeadraceError` if the
        offsets of no subscription can be read.
        """
        self._partition_count = partition_count
        self._membership.on_owned()
        feeds = [feed for feed in self.feeds if not feed.stopping and self._is_first(feed)]
        for partition in partitions:
            self._replaced.pop(partition.partition, None)
        for feed in feeds:  # What is left of an assignment before, for example a late last commit.
            feed.lose([each.partition for each in partitions])
        self._retries.lose([each.partition for each in partitions])
        self._overdue.set()
        await self._admission.admit(dict.fromkeys(feeds, partitions))
        starts = []
        for partition in partitions:
            number = partition.partition
            offsets = [feed.next_offset(number) for feed in feeds if number in feed.partitions]
            starts.append(Position(partition, _start(offsets), ""))
        return starts

    def on_assigned(self, starts: Sequence[Position]) -> None:
        """The reader begins at these positions."""
        for start in starts:
            self._begin(start)
        self._admission.join_where_missing()
        self._retries.on_assigned()

    def _begin(self, start: Position) -> None:
        number = start.partition.partition
        self._positions[number] = start.offset
        self._followers[number] = 0
        for feed in self.feeds:
            self._place(feed, number)
        if not self._followers[number]:
            self._consumer.pause(start.partition)

    @property
    def changes(self) -> int:
        """As `admission.Reader.changes`."""
        return self._membership.changes

    @property
    def owned(self) -> Collection[int]:
        """The partitions that this process owns."""
        return self._positions.keys()

    def owns_partitions(self) -> bool:
        """As `Reader.owns_partitions`."""
        return bool(self._positions)

    def owns(self, partition: Partition) -> bool:
        """As `Reader.owns`."""
        return partition.partition in self._positions

    def channel_partitions(self) -> int:
        """The number of partitions of the topic; 0 if it is not known."""
        return self._shared.topic_ids.partitions(self.topic) or self._partition_count

    def topic_id(self, partition: Partition) -> str:
        """As `admission.Reader.topic_id`. A topic that was created again begins for all feeds
        together, when the consumer has noticed it.
        """
        topic_id = self._shared.topic_ids.known(partition.topic)
        return topic_id if self._consumer.topic_id(partition.partition) in ("", topic_id) else ""

    def partition_count(self, feed: SubscriptionFeed) -> int:
        """As `Reader.partition_count`."""
        return self.channel_partitions()

    def missing(self, feed: SubscriptionFeed) -> Sequence[Partition]:
        """As `Reader.missing`."""
        if not self._is_first(feed):
            return ()
        return [
            Partition(self.topic, number)
            for number in self._positions
            if number not in feed.partitions
        ]

    def stop_reading(self, feed: SubscriptionFeed, numbers: Sequence[int]) -> None:
        """As `Reader.stop_reading`."""
        for number in numbers:
            self._unfollow(feed, number, self.position(number))
            self._catch_up.forget(feed, number)

    def place(self, feed: SubscriptionFeed) -> None:
        """As `Reader.place`."""
        for number in list(feed.partitions):
            self._place(feed, number)

    def _place(self, feed: SubscriptionFeed, number: int) -> None:
        """Have a feed follow the reader in this partition, or catch up first."""
        if number not in self._positions or not feed.takes(number) or feed.follows(number):
            return
        ahead = feed.next_offset(number) - self._positions[number]
        if ahead < 0 or self._waits_for_drain:
            self._catch_up.request(feed, number)
            return
        if ahead > START_DISTANCE_MAX:
            self._move_ahead(number, feed.next_offset(number))
        self.caught_up(feed, number)

    def _move_ahead(self, number: int, offset: int) -> None:
        """Continue at `offset`, where a feed begins: it does not wait until the reader has read
        everything below. The feeds that have followed the reader catch up.
        """
        followers = [feed for feed in self.feeds if feed.follows(number)]
        for feed in followers:
            self._unfollow(feed, number, self._positions[number])
        self._positions[number] = offset
        self._consumer.seek(Position(Partition(self.topic, number), offset, ""))
        for feed in followers:
            self._place(feed, number)

    def behind(self, number: int) -> int:
        """As `catch_up.Reader.behind`."""
        return len(self.feeds) - self._followers.get(number, 0)

    def goal(self, number: int) -> int:
        """As `catch_up.Reader.goal`. There is none while the reader waits for a drain."""
        waits = self._waits_for_drain and number in self._positions
        return BEYOND_ALL if waits else self.position(number)

    def caught_up(self, feed: SubscriptionFeed, number: int) -> None:
        """As `catch_up.Reader.caught_up`."""
        if number not in self._followers or not feed.takes(number) or feed.follows(number):
            return
        feed.follow(number)
        self._held.dispatch_if_waiting()
        self._followers[number] += 1
        if self._followers[number] == 1:
            self._consumer.resume(Partition(self.topic, number))

    def log_is_shorter(self, number: int) -> None:
        """As `catch_up.Reader.log_is_shorter`."""
        self._consumer.begin_again(Partition(self.topic, number))

    def _unfollow(self, feed: SubscriptionFeed, number: int, offset: int) -> None:
        if not feed.follows(number):
            return
        feed.fall_behind(number, offset)
        self.on_unfollowed(number)

    def on_unfollowed(self, number: int) -> None:
        """As `Reader.on_unfollowed`."""
        if number in self._followers:
            self._followers[number] -= 1
            if not self._followers[number]:
                self._consumer.pause(Partition(self.topic, number))

    # Records.

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """As `FeedListener.on_records`."""
        if not self._held.append(records):
            self._dispatch(records)

    def _dispatch(self, records: Sequence[StoredRecord]) -> None:
        batches: dict[SubscriptionFeed, list[StoredRecord]] = {}
        outdated: list[StoredRecord] = []
        positions, matcher = self._positions, self._matcher
        wanted = matcher.wanted
        for record in records:
            number = record.partition
            if record.offset < positions.get(number, BEYOND_ALL):
                outdated.append(record)
                continue
            taken_by_any = False
            for feed in wanted(record, self.feeds):
                if feed.follows(number):
                    taken_by_any = True
                    batch = batches.get(feed)
                    if batch is None:
                        batches[feed] = [record]
                    else:
                        batch.append(record)
            if taken_by_any:
                matcher.write_header_lines(record)
            positions[number] = record.offset + 1
        matcher.examined()
        shared = len(batches) > 1
        taken = []
        refusals: dict[SubscriptionFeed, Sequence[StoredRecord]] = {}
        for feed, batch in batches.items():
            fresh, refused = feed.take(batch, shared=shared)
            if fresh:
                taken.append((feed, fresh))
            if refused:
                refusals[feed] = refused
        followers = filter(self._is_follower, self.feeds)
        if self._held.backpressure.begin(followers, refusals):
            records = self._hold(records, first_refused(records, refusals.values()), outdated)
        else:
            for feed, refused in refusals.items():
                self._leave_behind(feed, refused)
        for feed in refusals:
            feed.wait_for_room()
        self._consumer.finish(records)
        # Last: what the listeners do must find all positions as they are now.
        for feed, fresh in taken:
            feed.hand_out(fresh)

    def _is_follower(self, feed: SubscriptionFeed) -> bool:
        return any(map(feed.follows, feed.partitions))

    def _hold(
        self, records: Sequence[StoredRecord], at: int, outdated: Collection[StoredRecord]
    ) -> Sequence[StoredRecord]:
        """Keep the records from this index on until there is room, and return the others.

        What was below the position when it was dispatched is not kept. Where the reader has moved
        ahead, it would go back to the records that it has left out, and those up to the next one
        would count as read for the feeds that follow it.
        """
        left_out = set(map(id, outdated))
        kept = [each for each in records[at:] if id(each) not in left_out]
        self._held.put_back(kept)
        for record in reversed(kept):
            self._positions[record.partition] = record.offset
        return [*(each for each in records[at:] if id(each) in left_out), *records[:at]]

    def _leave_behind(self, feed: SubscriptionFeed, refused: Sequence[StoredRecord]) -> None:
        """The feed has no room for these records: it falls behind, and the others continue."""
        for record in refused:
            self._unfollow(feed, record.partition, record.offset)

    # Revocation.

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """As `FeedListener.on_revoked`: the feeds return the partitions, and each commits."""
        numbers = [each.partition for each in partitions]
        self._membership.on_owned()
        # At once: a feed that joins before the task runs would begin in these partitions, and
        # commit for them when another process owns them.
        feeds = [feed for feed in self.feeds if not feed.partitions.keys().isdisjoint(numbers)]
        for feed in feeds:
            for number in numbers:
                if number in feed.partitions:
                    feed.fall_behind(number, self.position(number))
        self._drop(numbers)
        self._overdue, self._given_back = asyncio.Event(), numbers
        self._spawn(self._revoke(feeds, numbers, self._overdue, drained))

    async def _revoke(
        self,
        feeds: Collection[SubscriptionFeed],
        numbers: Collection[int],
        overdue: asyncio.Event,
        drained: Callable[[], None],
    ) -> None:
        timer = self._loop.call_later(LONG_DRAIN_SECONDS, self._on_long_drain)
        self._drains += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                for feed in feeds:
                    tasks.create_task(self._commits.give_back(feed, numbers, overdue))
                tasks.create_task(self._retries.give_back(numbers, overdue))
            drained()
        finally:
            timer.cancel()
            self._drains -= 1
            if self._waits_for_drain and not self._drains and not self._closing:
                self._end_long_drain()

    def _on_long_drain(self) -> None:
        """The consumer reads nothing until the drain has ended: what the feeds want of the
        partitions that stay is read by another one. A request that hangs holds up no other feed.
        """
        self._waits_for_drain = True
        for number, position in self._positions.items():
            for feed in self.feeds:
                self._unfollow(feed, number, position)
                self._place(feed, number)

    def _end_long_drain(self) -> None:
        """The consumer continues where most feeds are now."""
        self._waits_for_drain = False
        for number, position in list(self._positions.items()):
            self._catch_up.release(number)
            reached = [feed.next_offset(number) for feed in self.feeds if feed.takes(number)]
            start = _start([offset for offset in reached if offset > position])
            if start > position:
                self._move_ahead(number, start)
            for feed in self.feeds:
                self._place(feed, number)

    def on_drain_overdue(self, partitions: Collection[Partition]) -> None:
        """As `StartPositionsSource.on_drain_overdue`."""
        self._overdue.set()

    def on_log_replaced(self, partition: Partition) -> None:
        """As `StartPositionsSource.on_log_replaced`."""
        number = partition.partition
        self._replaced[number] = [feed for feed in self.feeds if number in feed.partitions]

    def on_restarted(self, partition: Partition, offset: int) -> None:
        """As `StartPositionsSource.on_restarted`: all feeds that had begun continue there. The
        groups of the others have not accepted yet that they are served here.
        """
        number, start = partition.partition, Position(partition, offset, "")
        for feed in self._replaced.pop(number, ()):
            is_served = feed in self.feeds and not feed.stopping and feed.refused_since is None
            if is_served and number not in feed.partitions:
                feed.assign(start, committed=False)
        self._begin(start)
        self._admission.join_where_missing()
        self._retries.on_assigned()

    def on_expired(self, partition: Partition, offset: int) -> None:
        """As `StartPositionsSource.on_expired`."""
        number = partition.partition
        self._held.in_turn(number, partial(self._expire, number, offset))

    def _expire(self, number: int, offset: int) -> None:
        if offset <= self._positions.get(number, BEYOND_ALL):  # The reader has moved ahead since.
            return
        for feed in self.feeds:
            if feed.follows(number):
                feed.skip_to_reader(number)
                feed.expire(number, offset)
        self._positions[number] = offset

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """As `FeedListener.on_lost`."""
        self._membership.on_lost()
        numbers = [each.partition for each in partitions]
        for feed in list(self.feeds):
            feed.lose(numbers)
        self._retries.lose(numbers)
        self._drop(numbers)
        if not set(self._given_back).isdisjoint(numbers):
            self._overdue.set()  # A revocation of them is over.

    def on_all_lost(self) -> None:
        """As `StartPositionsSource.on_all_lost`."""
        self._membership.on_lost()
        for feed in list(self.feeds):
            feed.lose(list(feed.partitions))

    def _drop(self, numbers: Collection[int]) -> None:
        for number in numbers:
            self._positions.pop(number, None)
            self._followers.pop(number, None)
            self._catch_up.drop(number)
        self._consumer.finish(self._held.drop_except(self._positions))

    def on_end(self, number: int, offset: int) -> None:
        """As `StartPositionsSource.on_end`."""
        self._held.in_turn(number, partial(self._reach_end, number, offset))

    def _reach_end(self, number: int, offset: int) -> None:
        if number in self._positions:
            self._positions[number] = max(self._positions[number], offset)

    # Commits of skipped records.

    def _commit_skipped(self) -> None:
        self._lazy_timer = self._loop.call_later(_LAZY_SECONDS, self._commit_skipped)
        if not self._lazy_queue:
            self._lazy_queue = list(self.feeds)
        due, self._lazy_queue = (
            self._lazy_queue[:_LAZY_COMMITS_PER_SECOND],
            self._lazy_queue[_LAZY_COMMITS_PER_SECOND:],
        )
        for feed in due:
            self._admission.verify(feed)
            if feed.has_skipped():
                self._commits.schedule(feed)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _start(offsets: Sequence[int]) -> int:
    """Return where to begin for feeds that are at these offsets: at the lowest that is near the
    highest.
    """
    if not offsets:
        return 0
    lowest = max(offsets) - START_DISTANCE_MAX
    return min(offset for offset in offsets if offset >= lowest)
