"""The feed of one subscription whose channel topic is read by a `ChannelReader`.

The reader is a member of a group that only assigns partitions. The group of the subscription has no
members: it has the offsets of the subscription, which are committed from outside.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headrace.adapters.kafka.consumer.alarms import AlarmReporter
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.partition_state import PartitionState
from headrace.adapters.kafka.consumer.positions import Position
from headrace.domain import filters
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedConfig, InitialOffset
from headrace.domain.filters import Filter
from headrace.domain.ports import NO_LAG, FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord

COMMIT_AGAIN_SECONDS = 600.0
BUDGET_SECONDS = 0.25
"""How often a feed that waits for the byte budget of the process looks whether there is room."""


class ReaderProgress(NamedTuple):
    """How far a reader has read."""

    positions: Mapping[int, int]
    """The offset that is read next, by partition."""
    ends: Mapping[int, int]
    """The end of each partition, as last reported."""
    at_end: bool
    """Whether all that was there has been read."""


class Reader(Protocol):
    """What a feed needs of its reader."""

    def attach(self, feed: "SubscriptionFeed") -> None:
        """Begin to serve a feed."""
        ...

    async def detach(self, feed: "SubscriptionFeed", *, leave: bool) -> None:
        """Drain a feed, commit, and stop serving it."""
        ...

    def abandon(self, feed: "SubscriptionFeed") -> None:
        """Stop serving a feed as in a crash."""
        ...

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end of the threads; return False if they still run."""
        ...

    def filter_changed(self, feed: "SubscriptionFeed") -> None:
        """The feed has another filter."""
        ...

    def commit_soon(self, feed: "SubscriptionFeed") -> None:
        """The feed has offsets to commit."""
        ...

    def resumed(self, feed: "SubscriptionFeed", number: int) -> None:
        """The feed takes records of this partition again."""
        ...

    def room_available(self, feed: "SubscriptionFeed") -> None:
        """The feed was full, or has reported its room, and half of it is free."""
        ...

    def verify_membership(self) -> None:
        """Verify that this process still owns its partitions."""
        ...

    def position(self, number: int) -> int:
        """The offset that is read next in this partition."""
        ...

    def high_watermark(self, partition: Partition) -> int:
        """The end of this partition."""
        ...

    def progress(self) -> ReaderProgress:
        """Return how far it has read."""
        ...

    def on_unfollowed(self, number: int) -> None:
        """A feed does not follow the reader in this partition any longer."""
        ...


@dataclass(slots=True, eq=False)
class _Progress:
    """One partition of one subscription."""

    state: PartitionState
    following: bool = False
    """Whether it takes records as the reader reads them. Everything below the reader's position
    that it did not take did not match.
    """
    failures_counted_to: int = 0
    """Failed filters of the records below this offset are counted."""
    at_log_start: bool = False
    """Whether the position 0 stands for the start of the log, wherever that is."""


@dataclass(frozen=True, slots=True)
class _NoLag:
    """The answer of `SubscriptionFeed.lag` when there is none. It applies as long as the reader has
    not moved, or has moved to the end while the feed follows it.
    """

    lag: Mapping[Partition, Lag]
    reached: ReaderProgress
    following: bool
    """In all partitions."""


class SubscriptionFeed:
    """Implements `headrace.domain.ports.Feed`. Everything here runs on the event loop."""

    def __init__(
        self, config: FeedConfig, reader: Reader, alarm: Callable[[FeedAlarm], None]
    ) -> None:
        (self.topic,) = config.topics
        self.group = config.group
        self.begins_at_oldest = config.initial_offset is InitialOffset.EARLIEST
        """Whether no alarm is due if nothing is committed."""
        self.filter = config.filter or filters.compile(())
        self.flow = FlowControl(config.bounds)
        self.partitions: dict[int, _Progress] = {}
        """The partitions that this process owns and in which the offsets are known."""
        self.listener: FeedListener | None = None
        self.commit_timer: asyncio.TimerHandle | None = None
        self.commit_lock = asyncio.Lock()
        """Held during a commit: a second one could overtake it and set the offset back."""
        self.full = False
        """Whether the reader waits for room: a record was refused, or others have none."""
        self._budget_timer: asyncio.TimerHandle | None = None
        self.refused_since: float | None = None
        """Since when the group does not let this process begin, as far as is known (seconds of the
        loop).
        """
        self.stopping = False
        self._stopped = asyncio.Event()
        self._reader = reader
        self.raise_alarm = AlarmReporter(config.group, alarm).report
        self._skipped = 0
        self._loop = asyncio.get_running_loop()
        self._committed_at = self._loop.time()
        """When everything was committed last, whether it had changed or not."""
        self._no_lag: _NoLag | None = None
        self._no_lag_at = -math.inf
        """When `lag` last gave that answer."""

    # The port.

    def start(self, listener: FeedListener) -> None:
        """As `Feed.start`; to be called once."""
        if self.listener is not None:
            raise RuntimeError(f"the feed of group {self.group} was started before; open a new one")
        self.listener = listener
        self._reader.attach(self)

    def done(self, record: StoredRecord) -> None:
        """As `Feed.done`."""
        progress = self.partitions.get(record.partition)
        if progress is None or not progress.state.finish(record):
            return
        progress.state.changed = True
        self.flow.release(1, record.size)
        if self.commit_timer is None:
            self._reader.commit_soon(self)
        if self.full:
            self.wait_for_room()

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`. Raises ValueError for a note that is too long or not printable
        ASCII.
        """
        progress = self.partitions.get(record.partition)
        if (
            progress is not None
            and progress.state.in_flight.get(record.offset) is record
            and progress.state.tracker.annotate(record.offset, note)
        ):
            progress.state.changed = True
            self._reader.commit_soon(self)

    def pause(self, partition: Partition) -> None:
        """As `Feed.pause`. The pause ends when the partition is revoked or lost."""
        progress = self.partitions.get(partition.partition)
        if progress is not None and not progress.state.paused:
            progress.state.paused = True
            number = partition.partition
            if self.fall_behind(number, self._reader.position(number)):
                self._reader.on_unfollowed(number)

    def resume(self, partition: Partition) -> None:
        """As `Feed.resume`."""
        progress = self.partitions.get(partition.partition)
        if progress is not None and progress.state.paused:
            progress.state.paused = False
            self._reader.resumed(self, partition.partition)

    def change_filter(self, filter: Filter) -> None:
        """As `Feed.change_filter`."""
        self.filter = filter
        self._reader.filter_changed(self)

    @property
    def skipped(self) -> int:
        """As `Feed.skipped`."""
        for number in self.partitions:
            self.skip_to_reader(number)
        return self._skipped

    def verify_membership(self) -> None:
        """As `Feed.verify_membership`, for all feeds of the reader."""
        if self.partitions:
            self._reader.verify_membership()

    def lag(self) -> Mapping[Partition, Lag]:
        """As `Feed.lag`. The end of the log is at most a second old, 5 s for paused partitions."""
        now = self._loop.time()
        reader = self._reader
        reached, before = reader.progress(), self._no_lag
        if (
            before is not None
            and not self.flow.records
            and (reached == before.reached or (before.following and reached.at_end))
        ):
            self._no_lag_at = now
            return before.lag
        found = {}
        for number, progress in self.partitions.items():
            state = progress.state
            state.had_no_lag(self._no_lag_at)
            if progress.following:
                self._skip(progress, reader.position(number))
            state.high_watermark = max(state.high_watermark, reader.high_watermark(state.partition))
            found[state.partition] = state.lag(now)
        self._no_lag = None
        if all(each is NO_LAG for each in found.values()):
            following = all(each.following for each in self.partitions.values())
            self._no_lag, self._no_lag_at = _NoLag(found, reached, following), now
        return found

    async def stop(self, *, leave: bool = False) -> None:
        """As `Feed.stop`."""
        if self.listener is None:
            return
        if self.stopping:
            await self._stopped.wait()
            return
        self.stopping = True
        try:
            await self._reader.detach(self, leave=leave)
        finally:
            self._stopped.set()

    def abandon(self) -> None:
        """Stop as in a crash: nothing is drained or committed, and the listener is not called
        again.
        """
        self._reader.abandon(self)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end of the reader's threads, if this was its last feed; return False if they
        still run. Blocks, so never call it on the loop.
        """
        return self._reader.join(timeout_seconds)

    # For the reader.

    def assign(
        self, start: Position, *, committed: bool = True, at_log_start: bool = False
    ) -> None:
        """Begin a partition of which this process has become the owner; `committed` says whether
        the position is committed already. `at_log_start` says that the group had no offset, and
        begins at the oldest record.
        """
        state = PartitionState(start, self._loop.time())
        progress = _Progress(state, at_log_start=at_log_start)
        self.partitions[start.partition.partition] = progress
        self._no_lag = None
        if not committed:
            state.forget_commit()
            state.changed = True
            self._reader.commit_soon(self)

    def set_topic_id(self, number: int, topic_id: str) -> bool:
        """Note the id of the topic; return False if the offsets are of another one."""
        state = self.partitions[number].state
        if not state.topic_id:
            state.topic_id = topic_id
            state.changed = True
        return state.topic_id == topic_id

    def expire(self, number: int, offset: int) -> None:
        """The log no longer has the records before `offset`."""
        progress = self.partitions[number]
        missing = offset - progress.state.tracker.next
        if progress.at_log_start and not progress.state.tracker.next:
            self._skip(progress, offset)
        elif missing > 0:
            progress.state.reach(offset)
            partition = progress.state.partition
            self.raise_alarm(
                AlarmKind.EXPIRED,
                f"the next record of {partition.topic}/{number} is not in the log; reading"
                f" continues at offset {offset}, {missing} offsets are lost",
                partition,
                missing,
            )

    def note_end(self, number: int, end: int) -> None:
        """The partition has records up to this offset."""
        state = self.partitions[number].state
        state.high_watermark = max(state.high_watermark, end)
        self._no_lag = None

    def next_offset(self, number: int) -> int:
        """The lowest offset that was neither taken nor skipped."""
        return self.partitions[number].state.tracker.next

    def follows(self, number: int) -> bool:
        """Whether records are taken as the reader reads them."""
        progress = self.partitions.get(number)
        return progress is not None and progress.following

    def counts_failures(self, record: StoredRecord, *, following: bool) -> bool:
        """Return whether filters that fail for this record are to be counted, which is so once.

        `following` says whether it is read for feeds that follow the reader or are behind.
        """
        progress = self.partitions.get(record.partition)
        if (
            progress is None
            or progress.following is not following
            or record.offset < progress.failures_counted_to
        ):
            return False
        progress.failures_counted_to = record.offset + 1
        return True

    def follow(self, number: int) -> None:
        """Take the records that the reader reads from now on."""
        self.partitions[number].following = True

    def wants(self, number: int) -> bool:
        """Whether records of this partition are wanted, if there is room."""
        progress = self.partitions.get(number)
        return progress is not None and not progress.state.paused and not self.stopping

    def takes(self, number: int) -> bool:
        """Whether records of this partition may be handed out now."""
        return not self.full and self.wants(number)

    def report_room(self) -> None:
        """Notify the reader when half of the room is free, as after a record that was refused."""
        self.full = True
        self.wait_for_room()

    def wait_for_room(self) -> None:
        """There was no room for a record: notify the reader when there is again."""
        if not self.full:
            return
        if self.flow.is_half_empty():
            self.full = False
            self._reader.room_available(self)
        elif self._budget_timer is None and self.flow.over_process_budget():
            # Others make that room, while a request of this feed may hang.
            self._budget_timer = self._loop.call_later(BUDGET_SECONDS, self._look_for_room)

    def _look_for_room(self) -> None:
        self._budget_timer = None
        self.wait_for_room()

    def fall_behind(self, number: int, offset: int) -> bool:
        """Take no more records as they are read; the records from `offset` on are read again.
        Return whether the feed has followed the reader.
        """
        progress = self.partitions[number]
        if not progress.following:
            return False
        progress.following = False
        self._no_lag = None
        self._skip(progress, offset)
        return True

    def skip_to_reader(self, number: int) -> None:
        """Count what the reader has read and this feed has not taken as skipped."""
        progress = self.partitions[number]
        if progress.following:
            self._skip(progress, self._reader.position(number))

    def skip_to(self, number: int, offset: int) -> None:
        """Count the records below `offset` that were not taken as skipped."""
        self._skip(self.partitions[number], offset)

    def _skip(self, progress: _Progress, offset: int) -> None:
        skipped = offset - progress.state.tracker.next
        if skipped > 0:
            self._skipped += skipped
            progress.state.reach(offset)

    def take(
        self, records: Sequence[StoredRecord], *, shared: bool
    ) -> tuple[list[StoredRecord], Sequence[StoredRecord]]:
        """Take matching records, in order, as far as there is room; return those to hand out, and
        those for which there is no room (`full` is set then).

        `shared` says that other feeds get the same records: this one gets copies, because a feed
        identifies its records by identity.
        """
        flow, now = self.flow, self._loop.time()
        room = flow.free_records()
        fresh: list[StoredRecord] = []
        refused: Sequence[StoredRecord] = ()
        size = largest = 0
        for index, record in enumerate(records):
            progress = self.partitions[record.partition]
            state = progress.state
            if record.offset < state.tracker.next:
                continue
            if len(fresh) >= room:
                self.full = True
                refused = records[index:]
                break
            if record.offset > state.tracker.next:
                self._skip(progress, record.offset)
            own = record.copy() if shared else record
            if state.take(own, now):
                fresh.append(own)
                size += own.size
                largest = max(largest, own.size)
            else:
                state.changed = True
        if fresh:
            flow.add_batch(len(fresh), size, largest=largest)
        return fresh, refused

    def hand_out(self, records: Sequence[StoredRecord]) -> None:
        """Hand out records that were taken."""
        self.flow.batch_received()
        self._notify(self._listen().on_records, records)

    def _notify(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call the listener. One that fails keeps no records from other feeds, and no loss or
        revocation: they would continue to commit for partitions of another process.
        """
        try:
            callback(*arguments)
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": "a feed's listener failed", "exception": error}
            )

    def next_commit(
        self, numbers: Collection[int] | None = None
    ) -> list[tuple[PartitionState, Position]]:
        """Return what should be committed, in all partitions or in these.

        Everything is committed again from time to time: Kafka forgets the offsets of a group
        without members some days after their last commit, and other tools may change them.
        """
        now = self._loop.time()
        again = numbers is None and now - self._committed_at > COMMIT_AGAIN_SECONDS
        if again:
            self._committed_at = now
        found = []
        for number in self.partitions if numbers is None else numbers:
            progress = self.partitions.get(number)
            if progress is None:
                continue
            self.skip_to_reader(number)
            state = progress.state
            if (state.changed or again) and (
                position := state.next_commit(now, again=again)
            ) is not None:
                found.append((state, position))
        return found

    def states(self, numbers: Collection[int]) -> Mapping[int, PartitionState]:
        """Return the present states of these partitions, for `still`."""
        return {
            number: progress.state
            for number in numbers
            if (progress := self.partitions.get(number)) is not None
        }

    def still(self, states: Mapping[int, PartitionState]) -> list[int]:
        """Return the partitions that have the same state as when `states` was called."""
        return [
            number
            for number, state in self.states(states.keys()).items()
            if state is states[number]
        ]

    def revoke(self, numbers: Collection[int], drained: Callable[[], None]) -> None:
        """Have the listener return these partitions."""
        partitions = [
            progress.state.partition
            for number in numbers
            if (progress := self.partitions.get(number)) is not None
        ]
        if partitions:
            self._notify(self._listen().on_revoked, partitions, drained)
        else:
            drained()

    def lose(self, numbers: Collection[int]) -> None:
        """These partitions belong to another process, or their time is over."""
        partitions = [
            progress.state.partition
            for number in numbers
            if (progress := self.partitions.get(number)) is not None
        ]
        if partitions:
            self._notify(self._listen().on_lost, partitions)
            self.remove(numbers)

    def drain_overdue(self, numbers: Collection[int]) -> None:
        """The drain deadline has passed: what is done is committed, the rest is given up."""
        states = [self.partitions[number].state for number in numbers if number in self.partitions]
        if not states:  # They were lost meanwhile.
            return
        records = sum(len(state.in_flight) for state in states)
        self._notify(self._listen().on_lost, [state.partition for state in states])
        self.raise_alarm(
            AlarmKind.DRAIN_OVERDUE,
            f"{records} records were not done when their partitions had to be given back",
            count=records,
        )

    def has_changed(self) -> bool:
        """Whether there is progress that is not committed."""
        return any(progress.state.changed for progress in self.partitions.values())

    def has_skipped(self) -> bool:
        """Whether there is progress that is not committed because records did not match, or all is
        to be committed again.
        """
        for number in self.partitions:
            self.skip_to_reader(number)
        due = self._loop.time() - self._committed_at > COMMIT_AGAIN_SECONDS
        return due or self.has_changed()

    def notify_membership(self, unconfirmed: bool) -> None:
        """As `FeedListener.on_membership_unconfirmed`."""
        self._notify(self._listen().on_membership_unconfirmed, unconfirmed)

    def remove(self, numbers: Collection[int]) -> None:
        """Drop the state of these partitions."""
        self._no_lag = None
        for number in numbers:
            progress = self.partitions.pop(number, None)
            if progress is not None:
                self.flow.release(*progress.state.held())
        # The records that filled it may have been those of these partitions.
        self.wait_for_room()

    def close(self) -> None:
        """Drop everything."""
        self.remove(list(self.partitions))
        if self.commit_timer is not None:
            self.commit_timer.cancel()
            self.commit_timer = None
        if self._budget_timer is not None:
            self._budget_timer.cancel()
            self._budget_timer = None

    def _listen(self) -> FeedListener:
        if self.listener is None:
            raise RuntimeError(f"the feed of group {self.group} was not started")
        return self.listener
