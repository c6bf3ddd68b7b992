"""Reads the retry and dead letter topics of the subscriptions of a channel, with one consumer for
all of them.

No group assigns these partitions: each belongs to the process that owns a certain partition of the
channel (`headrace.domain.reader_group.assigned_with`). So a subscription that begins to fail joins
nothing, and its first retry waits for no rebalance.
"""

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import replace
from typing import Final, Protocol

from headrace.adapters.kafka.channel_reader.admission import Admission
from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.channel_reader.forward_commits import ForwardCommits
from headrace.adapters.kafka.channel_reader.group_commits import (
    FINAL_COMMIT_SECONDS,
    GroupCommits,
)
from headrace.adapters.kafka.channel_reader.membership import ReaderMembership
from headrace.adapters.kafka.channel_reader.subscription_feed import (
    ReaderProgress,
    SubscriptionFeed,
)
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, consumer_alarm
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.group_offsets.connection import Unanswered
from headrace.adapters.kafka.group_offsets.group_offsets import GroupOffsets
from headrace.adapters.kafka.group_offsets.topic_offsets import TopicOffsets
from headrace.domain.reader_group import assigned_with
from headrace.domain.record import Partition, StoredRecord

FETCH_WAIT_MS: Final = 250
"""A partition that is added is not fetched before the fetch in progress has ended, which waits this
long when there are no retries.
"""
_DESCRIBED_SECONDS = 0.05
_VISIT_SECONDS = 1.0
_VISITS: Final = 5
"""Each feed is visited once in this number of intervals."""
_ENDS_SECONDS = 5.0
"""How old the end of a topic may be that is not read because its feed has no room."""
_ENDS_TIMEOUT_SECONDS = 5.0
_PROGRESS: Final = ReaderProgress({}, {}, at_end=False)


class Channel(Protocol):
    """What this needs of the reader of the channel."""

    unconfirmed: bool

    @property
    def owned(self) -> Collection[int]:
        """The partitions of the channel that this process owns."""
        ...

    def channel_partitions(self) -> int:
        """The number of partitions of the channel; 0 if it is not known."""
        ...

    def open(self) -> None:
        """Join the group of the readers."""
        ...

    async def close_if_unused(self, *, leave: bool) -> None:
        """Leave that group if the last feed has left."""
        ...

    def abandon_if_unused(self) -> None:
        """End as in a crash if the last feed has left."""
        ...

    def verify_membership(self) -> None:
        """Verify that this process still owns its partitions."""
        ...

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end of the threads; return False if they still run."""
        ...


class RetryReader:
    """The reader of these topics in one process. Everything here runs on the event loop."""

    def __init__(
        self,
        config: ConsumerConfig,
        shared: SharedConsumerResources,
        offsets: GroupOffsets,
        membership: ReaderMembership,
        *,
        topic_offsets: TopicOffsets,
        channel: Channel,
    ) -> None:
        config = replace(config, fetch_wait_ms=min(config.fetch_wait_ms, FETCH_WAIT_MS))
        self._consumer = AssignedConsumer(config, shared, self, purpose="retries of")
        self._drain_seconds = config.drain_seconds
        self._shared = shared
        self._topic_ids = shared.topic_ids
        self._topic_offsets = topic_offsets
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._membership = membership
        self._admission = Admission(self, offsets, membership, shared.topic_ids)
        self._commits = GroupCommits(
            ForwardCommits(offsets, lambda: bool(self._counts_before)),
            shared.commit_rate_limiter,
            membership,
            on_members=self._admission.on_members,
        )
        self.feeds: dict[SubscriptionFeed, None] = {}
        self._by_topic: dict[str, SubscriptionFeed] = {}
        """A second feed of a topic waits until the first one has ended."""
        self._undescribed: dict[SubscriptionFeed, None] = {}
        """Feeds whose topic has an unknown number of partitions."""
        self._channel_partitions = 0
        """The number by which partitions are assigned now."""
        self._counts_before: list[int] = []
        """Numbers by which other processes may still read."""
        self._moves = 0
        """How often that number has changed."""
        self._tickets: dict[Partition, int] = {}
        """What is read now."""
        self._described_timer: asyncio.TimerHandle | None = None
        self._visit_timer: asyncio.TimerHandle | None = None
        self._ends_at = self._loop.time()
        """When ends were read last."""
        self._queue: list[SubscriptionFeed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # The reader of a feed.

    def attach(self, feed: SubscriptionFeed) -> None:
        """As `subscription_feed.Reader.attach`."""
        self.feeds[feed] = None
        self._shared.byte_budget.register(feed.flow)
        self._topic_ids.watch([feed.topic])
        self._channel.open()
        if self._channel.unconfirmed:
            feed.notify_membership(True)
        if self._by_topic.setdefault(feed.topic, feed) is feed:
            self._begin(feed)
        if self._visit_timer is None:
            self._visit()

    def _begin(self, feed: SubscriptionFeed) -> None:
        self._undescribed[feed] = None
        if self._described_timer is None:
            self._check_described()

    def _check_described(self) -> None:
        """Have the feeds join whose topics are described by now."""
        self._described_timer = None
        for feed in list(self._undescribed):
            if self._topic_ids.partitions(feed.topic):
                del self._undescribed[feed]
                self._admission.join(feed)
            elif error := self._topic_ids.error(feed.topic):
                alarm = consumer_alarm(error)
                feed.raise_alarm(alarm.kind, alarm.detail)
        if self._undescribed:
            self._described_timer = self._loop.call_later(_DESCRIBED_SECONDS, self._check_described)

    async def detach(self, feed: SubscriptionFeed, *, leave: bool) -> None:
        """As `subscription_feed.Reader.detach`."""
        if feed not in self.feeds:
            return
        self._admission.forget(feed)
        self.stop_reading(feed, list(feed.partitions))
        await self._commits.drain(feed, self._drain_seconds)
        self._remove(feed)
        await self._channel.close_if_unused(leave=leave)

    def abandon(self, feed: SubscriptionFeed) -> None:
        """As `subscription_feed.Reader.abandon`."""
        if feed in self.feeds:
            self._admission.forget(feed)
            self._remove(feed)
        self._channel.abandon_if_unused()

    def _remove(self, feed: SubscriptionFeed) -> None:
        self.stop_reading(feed, list(feed.partitions))
        self.feeds.pop(feed, None)
        self._undescribed.pop(feed, None)
        feed.close()
        self._shared.byte_budget.unregister(feed.flow)
        self._topic_ids.unwatch([feed.topic])
        if self._by_topic.get(feed.topic) is feed:
            del self._by_topic[feed.topic]
            for other in self.feeds:
                if other.topic == feed.topic and not other.stopping:
                    self._by_topic[feed.topic] = other
                    self._begin(other)
                    break

    def close(self) -> None:
        """Read no more."""
        self._closed = True
        self._consumer.close()
        for timer in (self._described_timer, self._visit_timer):
            if timer is not None:
                timer.cancel()
        self._admission.close()
        for task in self._tasks:
            task.cancel()

    def has_ended(self, timeout_seconds: float) -> bool:
        """As `AssignedConsumer.has_ended`."""
        return self._consumer.has_ended(timeout_seconds)

    def join(self, timeout_seconds: float) -> bool:
        """As `subscription_feed.Reader.join`."""
        return self._channel.join(timeout_seconds)

    def filter_changed(self, feed: SubscriptionFeed) -> None:
        """As `subscription_feed.Reader.filter_changed`: these topics are not filtered."""

    def commit_soon(self, feed: SubscriptionFeed) -> None:
        """As `subscription_feed.Reader.commit_soon`."""
        self._commits.schedule(feed)

    def resumed(self, feed: SubscriptionFeed, number: int) -> None:
        """As `subscription_feed.Reader.resumed`."""
        self._loop.call_soon(self.place, feed)

    def room_available(self, feed: SubscriptionFeed) -> None:
        """As `subscription_feed.Reader.room_available`."""
        self._loop.call_soon(self.place, feed)

    def verify_membership(self) -> None:
        """As `subscription_feed.Reader.verify_membership`."""
        self._channel.verify_membership()

    def position(self, number: int) -> int:
        """As `subscription_feed.Reader.position`: no feed follows this reader."""
        return 0

    def on_unfollowed(self, number: int) -> None:
        """As `subscription_feed.Reader.on_unfollowed`."""

    def high_watermark(self, partition: Partition) -> int:
        """As `subscription_feed.Reader.high_watermark`: the feed notes what is read."""
        return 0

    def progress(self) -> ReaderProgress:
        """As `subscription_feed.Reader.progress`. Its feeds are notified of the ends themselves."""
        return _PROGRESS

    # Assignment.

    @property
    def changes(self) -> int:
        """As `admission.Reader.changes`."""
        return self._membership.changes + self._moves

    def partition_count(self, feed: SubscriptionFeed) -> int:
        """As `admission.Reader.partition_count`."""
        return self._topic_ids.partitions(feed.topic)

    def owns_partitions(self) -> bool:
        """As `admission.Reader.owns_partitions`."""
        return bool(self._channel.owned)

    def missing(self, feed: SubscriptionFeed) -> Sequence[Partition]:
        """As `admission.Reader.missing`."""
        if self._by_topic.get(feed.topic) is not feed:
            return ()
        return [
            partition
            for number in range(self.partition_count(feed))
            if number not in feed.partitions
            and self.owns(partition := Partition(feed.topic, number))
        ]

    def topic_id(self, partition: Partition) -> str:
        """As `admission.Reader.topic_id`."""
        return self._topic_ids.known(partition.topic)

    def owns(self, partition: Partition) -> bool:
        """As `admission.Reader.owns`: no other process still reads it."""
        return bool(self._channel_partitions) and all(
            owner in self._channel.owned for owner in self._owners(*partition)
        )

    def _owners(self, topic: str, number: int) -> set[int]:
        """The partitions of the channel whose owners read this partition."""
        counts = (self._channel_partitions, *self._counts_before)
        return {assigned_with(topic, number, count) for count in counts}

    def on_assigned(self) -> None:
        """This process owns more partitions of the channel."""
        self._update_channel_partitions()
        self._admission.join_where_missing()

    def _update_channel_partitions(self) -> None:
        """Give back what belongs to another process now, because the channel has got partitions.
        What moves to this process begins when all others have noticed that and given it back.
        """
        count, before = self._channel.channel_partitions(), self._channel_partitions
        if count == before:
            return
        self._channel_partitions = count
        self._moves += 1
        if before:
            self._counts_before.append(before)
            wait = self._topic_ids.noticed_seconds + self._drain_seconds + FINAL_COMMIT_SECONDS
            self._loop.call_later(wait, self._counts_before.remove, before)
        overdue = asyncio.Event()
        for feed in self.feeds:
            numbers = [
                each for each in feed.partitions if not self.owns(Partition(feed.topic, each))
            ]
            if numbers:
                self.stop_reading(feed, numbers)
                self._spawn(self._commits.give_back(feed, numbers, overdue))
        self._loop.call_later(self._drain_seconds, overdue.set)

    async def give_back(self, owned: Collection[int], overdue: asyncio.Event) -> None:
        """Give back what is assigned with these partitions of the channel, until the drain
        deadline.
        """
        async with asyncio.TaskGroup() as tasks:
            for feed in list(self.feeds):
                if numbers := self._assigned_with(feed, owned):
                    self.stop_reading(feed, numbers)
                    tasks.create_task(self._commits.give_back(feed, numbers, overdue))

    def lose(self, owned: Collection[int]) -> None:
        """These partitions of the channel belong to another process."""
        for feed in list(self.feeds):
            if numbers := self._assigned_with(feed, owned):
                self.stop_reading(feed, numbers)
                feed.lose(numbers)

    def _assigned_with(self, feed: SubscriptionFeed, owned: Collection[int]) -> list[int]:
        return [
            each for each in feed.partitions if not self._owners(feed.topic, each).isdisjoint(owned)
        ]

    # Records.

    def place(self, feed: SubscriptionFeed) -> None:
        """As `admission.Reader.place`."""
        for number in feed.partitions:
            partition = Partition(feed.topic, number)
            if (
                partition not in self._tickets
                and feed.takes(number)
                and self.owns(partition)
                and not self._closed
            ):
                self._read(feed, partition)

    def _read(self, feed: SubscriptionFeed, partition: Partition) -> None:
        offset = feed.next_offset(partition.partition)
        self._tickets[partition] = self._consumer.read(partition, offset)

    def stop_reading(self, feed: SubscriptionFeed, numbers: Sequence[int]) -> None:
        """As `admission.Reader.stop_reading`."""
        for number in numbers:
            partition = Partition(feed.topic, number)
            if self._tickets.pop(partition, None) is not None:
                self._consumer.stop_reading(partition)

    def on_records(
        self,
        partition: Partition,
        ticket: int,
        records: Sequence[StoredRecord],
        end: int | None,
    ) -> int:
        """As `AssignedConsumerListener.on_records`: a feed without room does not hold up others."""
        if self._tickets.get(partition) != ticket:
            return len(records)
        feed, number = self._by_topic[partition.topic], partition.partition
        if not self._admission.check_topic_id(feed, partition):
            self.place(feed)
            return len(records)
        fresh, refused = feed.take(records, shared=False) if feed.takes(number) else ([], records)
        if refused:
            self.stop_reading(feed, [number])
            feed.wait_for_room()
        elif end is not None:
            feed.skip_to(number, end)
            if feed.has_changed():
                self._commits.schedule(feed)
        feed.note_end(number, end if end is not None else records[-1].offset + 1)
        # Last: what the listener does must find everything as it is now.
        if fresh:
            feed.hand_out(fresh)
        return len(records)

    def on_reset(self, partition: Partition, ticket: int, low: int) -> None:
        """As `AssignedConsumerListener.on_reset`."""
        if self._tickets.get(partition) != ticket:
            return
        del self._tickets[partition]
        feed, number = self._by_topic[partition.topic], partition.partition
        if low < feed.next_offset(number):
            # Otherwise it would begin once more when the id of the new topic is known.
            self._topic_ids.forget_id(partition.topic)
            where = f"the next record of {partition.topic}/{number} is not in the log"
            self._admission.restart(
                feed, partition, low, f"{where}, which was created again or truncated"
            )
        else:
            feed.expire(number, low)
        self.place(feed)

    def on_error(self, partition: Partition | None, alarm: ConsumerAlarm) -> None:
        """As `AssignedConsumerListener.on_error`."""
        if partition is None:
            for feed in list(self.feeds):
                feed.raise_alarm(alarm.kind, alarm.detail)
        elif partition in self._tickets:
            self._by_topic[partition.topic].raise_alarm(alarm.kind, alarm.detail, partition)

    def on_restarted(self) -> None:
        """As `AssignedConsumerListener.on_restarted`."""
        reading, self._tickets = list(self._tickets), {}
        for partition in reading:
            self._read(self._by_topic[partition.topic], partition)

    # From time to time.

    def _visit(self) -> None:
        """Check some of the feeds: each of them once in a second."""
        self._update_channel_partitions()
        if not self._queue:
            self._queue = list(self.feeds)
        part = -(-len(self.feeds) // _VISITS)
        due, self._queue = self._queue[:part], self._queue[part:]
        for feed in due:
            self._admission.verify(feed)
            if feed.has_skipped():
                self._commits.schedule(feed)
        if self._loop.time() - self._ends_at > _ENDS_SECONDS:
            self._ends_at = self._loop.time()
            if waiting := [feed.topic for feed in self.feeds if feed.full]:
                self._spawn(self._read_ends(waiting))
        self._visit_timer = (
            self._loop.call_later(_VISIT_SECONDS / _VISITS, self._visit) if self.feeds else None
        )

    async def _read_ends(self, topics: Sequence[str]) -> None:
        """Note how far these topics reach, which are not read now."""
        with contextlib.suppress(Unanswered):  # Asked again a little later.
            found = await self._topic_offsets.read(
                topics, self._loop.time() + _ENDS_TIMEOUT_SECONDS
            )
            for partition, offsets in found.known.items():
                feed = self._by_topic.get(partition.topic)
                if feed is not None and partition.partition in feed.partitions:
                    feed.note_end(partition.partition, offsets.end)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
