"""The event loop's side of a feed: its partitions, the records in flight, and the commits.

The consumer's thread (`consumer_thread`) reports what happened by calling these methods through the
loop, in the order of the events. The loop answers with commands for the thread. Neither side ever
waits for the other here, except that a revocation waits in the thread for its request.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from headrace.adapters.kafka.consumer.alarms import AlarmReporter
from headrace.adapters.kafka.consumer.commands import ConsumerCommands
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.membership_monitor import (
    UNCONFIRMED_SECONDS,
    MembershipMonitor,
)
from headrace.adapters.kafka.consumer.partition_state import PartitionState
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.revocation import RevocationRequest
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.consumer.start_positions import PositionResolver
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.filters import Filter
from headrace.domain.ports import FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord

COMMIT_INTERVAL_SECONDS = 0.1
_COMMIT_ANSWER_SECONDS = 30.0


class Assignment:
    """The partitions of one feed, with the methods of `headrace.domain.ports.Feed` for them. Create
    it on the event loop.
    """

    _listener: FeedListener

    def __init__(
        self,
        config: ConsumerConfig,
        shared: SharedConsumerResources,
        alarm: Callable[[FeedAlarm], None],
    ) -> None:
        self.config = config
        self.shared = shared
        self.flow = FlowControl(config.bounds)
        self.channel = ConsumerCommands(shared.callback_queues, self.flow)
        self._alarm = alarm
        self._loop = asyncio.get_running_loop()
        self._membership = MembershipMonitor(self._on_membership_change)
        self._states: dict[tuple[str, int], PartitionState] = {}
        self._commit_timer: asyncio.TimerHandle | None = None
        self._confirming = False
        self._committing: Sequence[PartitionState] = ()
        self._committing_since = 0.0
        self._losses = 0
        """How many losses were handled."""
        self.raise_alarm = AlarmReporter(config.group, alarm).report
        self._closed = False
        self.recreated_partitions: deque[Partition] = deque()
        """Partitions whose log is another one than before: the topic was deleted and created again,
        or the log was truncated. The thread takes them from here and reads them from the position
        that the policy gives.
        """
        self.expired = 0
        """Records that were removed from the log before they were handed out."""

    def attach(self, listener: FeedListener) -> None:
        """Hand records out to this listener. Call this before the thread starts."""
        self._listener = listener

    # Called by the listener.

    def done(self, record: StoredRecord) -> None:
        """As `Feed.done`."""
        state = self._states.get((record.topic, record.partition))
        if state is None or not state.finish(record):
            return
        self.flow.release(1, record.size)
        state.changed = True
        if self._commit_timer is None:
            self._schedule_commit()

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`. Raises ValueError for a note that is too long or not printable
        ASCII.
        """
        state = self._states.get((record.topic, record.partition))
        if (
            state is not None
            and state.in_flight.get(record.offset) is record
            and state.tracker.annotate(record.offset, note)
        ):
            self._mark_changed(state)

    def pause(self, partition: Partition) -> None:
        """As `Feed.pause`. The pause ends when the partition is revoked or lost."""
        state = self._states.get(partition)
        if state is not None and not state.paused:
            state.paused = True
            self.channel.pause(partition)

    def resume(self, partition: Partition) -> None:
        """As `Feed.resume`."""
        state = self._states.get(partition)
        if state is not None and state.paused:
            state.paused = False
            self.channel.resume(partition)
            self._loop.call_soon(self._deliver_buffered, state)

    def verify_membership(self) -> None:
        """As `Feed.verify_membership`: what was committed is committed again, because the answer
        shows whether the group still has this member.
        """
        if self._states:
            self._membership.suspend()

    @property
    def confirmed_at(self) -> float:
        """When the group last confirmed the membership (seconds of the loop)."""
        return self._membership.confirmed_at

    @property
    def has_partitions(self) -> bool:
        """Whether this process owns partitions, which it may be giving back."""
        return bool(self._states)

    @property
    def has_lost_more(self) -> bool:
        """Whether the thread has lost partitions that are not dropped here yet."""
        return self.channel.losses > self._losses

    def confirm_membership(self) -> None:
        """Commit what is committed again, because the answer shows whether the group still has this
        member. Unlike after `verify_membership`, deliveries continue meanwhile.
        """
        self._confirming = True
        if self._states and self._commit_timer is None:
            self._commit_timer = self._loop.call_later(0, self._commit)

    def change_filter(self, filter: Filter) -> None:
        """As `Feed.change_filter`: every record is handed out, matching or not."""

    @property
    def skipped(self) -> int:
        """As `Feed.skipped`."""
        return 0

    def position_resolver(self) -> PositionResolver:
        """Return what determines where partitions begin, for the consumer's thread."""
        return PositionResolver(
            policy=self.config.out_of_range, initial_offset=self.config.initial_offset
        )

    def lag(self) -> Mapping[Partition, Lag]:
        """As `Feed.lag`. The end of the log is at most a second old, 5 s for paused partitions."""
        now = self._loop.time()
        return {state.partition: state.lag(now) for state in self._states.values()}

    # Called for the consumer's thread.

    def on_partitions_assigned(self, starts: Sequence[Position]) -> None:
        """Take over these partitions, starting at these positions."""
        self.channel.take_over([start.partition for start in starts])
        now = self._loop.time()
        for start in starts:
            state = self._states[start.partition] = PartitionState(start, now)
            self._check_topic_id(state)

    def commit_starts(self, partitions: Collection[Partition]) -> None:
        """Commit where these partitions begin, although nothing of them is done."""
        for partition in partitions:
            state = self._states.get(partition)
            if state is not None:
                state.forget_commit()
                self._mark_changed(state)

    def on_batch(
        self, records: Sequence[StoredRecord], ends: Sequence[tuple[Partition, int]]
    ) -> None:
        """Hand out records that were read, and note the ends of partitions that were reached after
        them.
        """
        self.flow.batch_received()
        now = self._loop.time()
        fresh: list[StoredRecord] = []
        number, topic, state = -1, "", None
        for record in records:
            if record.partition != number or record.topic != topic:
                number, topic = record.partition, record.topic
                state = self._states.get((topic, number))
            if state is not None and (state.paused or state.buffered):
                state.buffered.append(record)
            elif state is not None and state.take(record, now):
                fresh.append(record)
            else:
                self._skip(record, state)
        for partition, offset in ends:
            ended = self._states.get(partition)
            if ended is not None:
                ended.reach(offset)
                if ended.changed:
                    self._mark_changed(ended)
        if fresh:
            self._listener.on_records(fresh)

    def _skip(self, record: StoredRecord, state: PartitionState | None) -> None:
        self.flow.release(1, record.size)
        if state is not None:
            self._mark_changed(state)

    def _deliver_buffered(self, state: PartitionState) -> None:
        if state.paused or self._states.get(state.partition) is not state or not state.buffered:
            return
        records, end = state.take_buffered()
        now = self._loop.time()
        fresh: list[StoredRecord] = []
        for record in records:
            if state.take(record, now):
                fresh.append(record)
            else:
                self._skip(record, state)
        state.reach(end)
        if state.changed:
            self._mark_changed(state)
        if fresh:
            self._listener.on_records(fresh)

    def on_high_watermarks(self, high_watermarks: Sequence[tuple[Partition, int]]) -> None:
        """Note the ends of these logs."""
        for partition, high_watermark in high_watermarks:
            state = self._states.get(partition)
            if state is not None and high_watermark > state.high_watermark:
                state.high_watermark = high_watermark
            if state is not None:
                self._check_topic_id(state)

    def _check_topic_id(self, state: PartitionState) -> None:
        """Check whether the topic of this partition is still the one in which its offsets were
        committed.
        """
        topic_id = self.shared.topic_ids.known(state.partition.topic)
        if not topic_id or topic_id == state.topic_id:
            return
        if not state.topic_id:
            state.topic_id = topic_id
            self._mark_changed(state)
        else:
            self._discard(state)
            self.recreated_partitions.append(state.partition)

    def _discard(self, state: PartitionState) -> None:
        """Drop the state of a partition whose known offsets are no longer valid."""
        self._listener.on_lost([state.partition])
        self._remove([state.partition])
        if state.paused:
            self.channel.resume(state.partition)

    def on_topic_recreated(
        self, partition: Partition, offset: int | None, *, high_watermark: int
    ) -> None:
        """Continue a partition of `recreated_partitions` at `offset`; None means that the policy
        does not allow reading it.
        """
        if (state := self._states.get(partition)) is not None:  # It was assigned again meanwhile.
            self._discard(state)
        where = _recreated(partition)
        if offset is None:
            detail = f"{where}; the partition is not read until an offset is committed"
        else:
            state = self._states[partition] = PartitionState(
                Position(partition, offset, ""), self._loop.time()
            )
            state.topic_id, state.high_watermark = (
                self.shared.topic_ids.known(partition.topic),
                high_watermark,
            )
            self._mark_changed(state)
            detail = f"{where}; reading continues at offset {offset}"
        self.raise_alarm(AlarmKind.TOPIC_RECREATED, detail, partition)

    def on_recreated_and_assigned(self, partition: Partition) -> None:
        """A partition of `recreated_partitions` was assigned again before it was continued."""
        detail = f"{_recreated(partition)}; it was assigned again meanwhile"
        self.raise_alarm(AlarmKind.TOPIC_RECREATED, detail, partition)

    def on_offset_reset(
        self, partition: Partition, offset: int, *, sought: int | None, high_watermark: int
    ) -> None:
        """Continue at `offset`, because the log no longer has (or never had) the next record, which
        the client has `sought` (None: not known). What was read before it may be buffered.
        """
        state = self._states.get(partition)
        if state is None:
            return
        if sought is None:
            sought = state.tracker.next
        where = (
            f"the next record of {partition.topic}/{partition.partition} is not in the log;"
            f" reading continues at offset {offset}"
        )
        if offset >= sought:
            missing = max(offset - max(sought, state.tracker.next), 0)
            state.reach(offset)
            self._mark_changed(state)
            self.expired += missing
            self.raise_alarm(
                AlarmKind.EXPIRED, f"{where}, {missing} offsets are lost", partition, missing
            )
        else:  # The topic was created again, or its log was truncated.
            self._discard(state)
            # Otherwise it would begin once more when the id of the new topic is known.
            self.shared.topic_ids.forget_id(partition.topic)
            self._states[partition] = PartitionState(
                Position(partition, offset, ""), self._loop.time()
            )
            detail = (
                f"{where}, {sought - offset} offsets back, because the log was created again or"
                " truncated"
            )
            self.raise_alarm(AlarmKind.TOPIC_RECREATED, detail, partition)
        self.on_high_watermarks([(partition, high_watermark)])

    def on_partitions_revoked(self, request: RevocationRequest) -> None:
        """Complete the request as soon as the listener has none of their records in flight."""
        states = [self._states[each] for each in request.partitions if each in self._states]

        def drained() -> None:
            if request.is_open:
                request.complete(self._release(states))

        if self._closed:
            drained()
        else:
            self._listener.on_revoked(request.partitions, drained)

    def limit_drain(self, request: RevocationRequest) -> None:
        """Begin the drain deadline of this request."""
        self._loop.call_later(self.config.drain_seconds, self.on_drain_timeout, request)

    def on_drain_timeout(self, request: RevocationRequest) -> None:
        """Handle the end of the drain deadline of this request."""
        if not request.is_open or self._closed:
            return
        states = [self._states[each] for each in request.partitions if each in self._states]
        records = sum(len(state.in_flight) for state in states)
        self._listener.on_lost(request.partitions)
        # A listener that has nothing in flight may have completed the request in `on_lost`.
        if request.is_open:
            request.complete(self._release(states))
        self.raise_alarm(
            AlarmKind.DRAIN_OVERDUE,
            f"{records} records were not done when their partitions had to be given back",
            count=records,
        )

    def on_partitions_lost(self, partitions: Collection[Partition] | None) -> None:
        """Drop these partitions (None: all), which already belong to another member."""
        self._losses += 1
        gone = [
            state.partition
            for state in self._states.values()
            if partitions is None or state.partition in partitions
        ]
        if gone:
            self._listener.on_lost(gone)
            self._remove(gone)
        if partitions is None:
            self._committing = ()

    def on_commit_answered(
        self, refused: Collection[Partition] | None, *, member: bool = False
    ) -> None:
        """Handle the answer to the last commit: it is stored except for the refused partitions
        (None: all).

        `member` says that the answer proves membership. Some refusals do so too.
        """
        states, self._committing = self._committing, ()
        for state in states:
            state.on_commit_answered(stored=refused is not None and state.partition not in refused)
        if member:
            self._membership.commit_answered()
        if (
            self._membership.unconfirmed or any(state.changed for state in self._states.values())
        ) and self._commit_timer is None:
            self._schedule_commit()

    def _on_membership_change(self, unconfirmed: bool) -> None:
        self._listener.on_membership_unconfirmed(unconfirmed)
        if unconfirmed:
            detail = (
                f"the group has not confirmed for {UNCONFIRMED_SECONDS:g} s or more that this"
                " process is a member; nothing is sent until it does"
            )
            self.raise_alarm(AlarmKind.UNCONFIRMED, detail)
            if self._commit_timer is None:
                self._schedule_commit()

    def close(self) -> None:
        """Drop everything. The listener is not called again."""
        self._closed = True
        if self._commit_timer is not None:
            self._commit_timer.cancel()
        self._states.clear()
        self._membership.close()

    # Commits.

    def _mark_changed(self, state: PartitionState) -> None:
        state.changed = True
        if self._commit_timer is None:
            self._schedule_commit()

    def _schedule_commit(self) -> None:
        delay = max(
            COMMIT_INTERVAL_SECONDS, self.shared.commit_rate_limiter.reserve(self._loop.time())
        )
        self._commit_timer = self._loop.call_later(delay, self._commit)

    def _commit(self) -> None:
        """Send one commit at a time: a second one could overtake the first and set the offset
        back.
        """
        self._commit_timer = None
        now = self._loop.time()
        if self._committing:
            if now - self._committing_since > _COMMIT_ANSWER_SECONDS:
                self.on_commit_answered(None)
            return
        again = self._membership.unconfirmed or self._confirming
        self._confirming = False
        states, positions = [], []
        for state in self._states.values():
            if (state.changed or again) and (
                position := state.next_commit(now, again=again)
            ) is not None:
                states.append(state)
                positions.append(position)
        if positions:
            self._committing, self._committing_since = states, now
            self._membership.commit_sent()
            self.channel.commit(positions)

    def _release(self, states: Collection[PartitionState]) -> list[Position]:
        """Drop these states, unless their partitions were lost and may be assigned again."""
        now = self._loop.time()
        held = [state for state in states if self._states.get(state.partition) is state]
        # Without progress there may still be an id of the topic to store. A refusal of that commit
        # would be worth no alarm: the next owner of the partition stores the id.
        positions = [
            position
            for state in held
            if state.has_progress() and (position := state.next_commit(now)) is not None
        ]
        self._remove([state.partition for state in held])
        return positions

    def _remove(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            state = self._states.pop(partition, None)
            if state is not None:
                self.flow.release(*state.held())
        if not self._states:
            self._membership.confirm()


def _recreated(partition: Partition) -> str:
    return (
        f"the topic of {partition.topic}/{partition.partition} was deleted and created again, or"
        " its log was truncated"
    )
