"""The loop's side of a feed: the partitions it holds, the records in hand, and when what is done is
committed.

The consumer's thread (`consumer_thread`) tells what happened by calling these methods through the
loop, in the order it happened; what it shall do is sent back as commands. Neither side ever waits
for the other here, except that a revocation waits in the thread for its ticket.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from headrace.adapters.kafka.consumer.commits import CommitBudget, Position
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.membership_monitor import (
    UNCONFIRMED_SECONDS,
    MembershipMonitor,
)
from headrace.adapters.kafka.consumer.partition_state import PartitionState
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.ports import FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord

COMMIT_INTERVAL_SECONDS = 0.1
_COMMIT_ANSWER_SECONDS = 30.0
_ALARM_INTERVAL_SECONDS = 10.0


class RevocationRequest:
    """A revocation on its way through the loop: the thread waits for it, the loop answers with what
    is done.
    """

    def __init__(self, partitions: Collection[Partition]) -> None:
        self.partitions = partitions
        self.positions: Sequence[Position] = ()
        self._completed = threading.Event()

    @property
    def is_open(self) -> bool:
        """Whether nobody has answered yet."""
        return not self._completed.is_set()

    def complete(self, positions: Sequence[Position]) -> None:
        """Give the partitions back with what is to be committed for them. Loop."""
        self.positions = positions
        self._completed.set()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the answer. Thread."""
        return self._completed.wait(timeout_seconds)


class ConsumerCommands(Protocol):
    """What the loop may ask of the consumer's thread; all return at once."""

    def commit(self, positions: Sequence[Position]) -> None: ...

    def pause(self, partition: Partition) -> None: ...

    def resume(self, partition: Partition) -> None: ...


class Assignment:
    """What one feed holds."""

    def __init__(
        self,
        *,
        group: str,
        listener: FeedListener,
        flow: FlowControl,
        budget: CommitBudget,
        commands: ConsumerCommands,
        alarm: Callable[[FeedAlarm], None],
        topic_id: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`topic_id` tells the id of the topic that has a name now, empty when it is not known."""
        self._group = group
        self._listener = listener
        self._flow = flow
        self._budget = budget
        self._commands = commands
        self._alarm = alarm
        self._topic_id = topic_id
        self._loop = asyncio.get_running_loop()
        self._membership = MembershipMonitor(self._on_membership_change)
        self._states: dict[tuple[str, int], PartitionState] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._committing: Sequence[PartitionState] = ()
        self._committing_since = 0.0
        self._alarmed_at: dict[tuple[AlarmKind, Partition | None], float] = {}
        self._closed = False
        self.recreated_partitions: deque[Partition] = deque()
        """Partitions whose topic is another one now: the thread takes them from here and reads them
        from where the policy says.
        """
        self.expired = 0
        """Records that were gone from the log before they could be handed out."""

    # What the listener asks for.

    def done(self, record: StoredRecord) -> None:
        """As `Feed.done`."""
        state = self._states.get((record.topic, record.partition))
        if state is None or not state.finish(record):
            return
        self._flow.release(1, record.size)
        state.changed = True
        if self._timer is None:
            self._schedule_commit()

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`."""
        state = self._states.get((record.topic, record.partition))
        if (
            state is not None
            and state.in_flight.get(record.offset) is record
            and state.tracker.annotate(record.offset, note)
        ):
            self._mark_changed(state)

    def pause(self, partition: Partition) -> None:
        """As `Feed.pause`; forgotten with the ownership."""
        state = self._states.get(partition)
        if state is not None and not state.paused:
            state.paused = True
            self._commands.pause(partition)

    def resume(self, partition: Partition) -> None:
        """As `Feed.resume`."""
        state = self._states.get(partition)
        if state is not None and state.paused:
            state.paused = False
            self._commands.resume(partition)
            self._loop.call_soon(self._deliver_buffered, state)

    def verify_membership(self) -> None:
        """As `Feed.verify_membership`: what was committed is committed again, since the answer
        tells.
        """
        if self._states:
            self._membership.suspend()

    def lag(self) -> Mapping[Partition, Lag]:
        """As `Feed.lag`."""
        now = self._loop.time()
        return {state.partition: state.lag(now) for state in self._states.values()}

    # What the thread tells.

    def on_partitions_assigned(self, starts: Sequence[Position]) -> None:
        """These partitions are ours, from these positions."""
        now = self._loop.time()
        for start in starts:
            state = self._states[start.partition] = PartitionState(start, now)
            self._check_topic_id(state)

    def on_batch(
        self, records: Sequence[StoredRecord], ends: Sequence[tuple[Partition, int]]
    ) -> None:
        """Records were read, and ends of partitions reached behind them."""
        self._flow.batch_received()
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
        self._flow.release(1, record.size)
        if state is not None:
            self._mark_changed(state)

    def _deliver_buffered(self, state: PartitionState) -> None:
        if state.paused or self._states.get(state.partition) is not state or not state.buffered:
            return
        records, state.buffered = state.buffered, []
        now = self._loop.time()
        fresh: list[StoredRecord] = []
        for record in records:
            if state.take(record, now):
                fresh.append(record)
            else:
                self._skip(record, state)
        if fresh:
            self._listener.on_records(fresh)

    def on_high_watermarks(self, high_watermarks: Sequence[tuple[Partition, int]]) -> None:
        """How far these logs reach."""
        for partition, high_watermark in high_watermarks:
            state = self._states.get(partition)
            if state is not None and high_watermark > state.high_watermark:
                state.high_watermark = high_watermark
            if state is not None:
                self._check_topic_id(state)

    def _check_topic_id(self, state: PartitionState) -> None:
        """Look whether the topic of this partition is still the one in which its offsets were
        committed.
        """
        topic_id = self._topic_id(state.partition.topic)
        if not topic_id or topic_id == state.topic_id:
            return
        if not state.topic_id:
            state.topic_id = topic_id
            self._mark_changed(state)
        else:
            self._discard(state)
            self.recreated_partitions.append(state.partition)

    def _discard(self, state: PartitionState) -> None:
        """Nothing known about the offsets of this partition is worth anything any more."""
        self._listener.on_lost([state.partition])
        self._remove([state.partition])
        if state.paused:
            self._commands.resume(state.partition)

    def on_topic_recreated(
        self, partition: Partition, offset: int | None, *, high_watermark: int
    ) -> None:
        """A partition of `recreated_partitions` is read from `offset` on; None: by the policy it
        stands still.
        """
        if (state := self._states.get(partition)) is not None:  # It was taken over anew in between.
            self._discard(state)
        where = (
            f"{partition.topic}/{partition.partition} is another topic of the same name (deleted"
            " and made again)"
        )
        if offset is None:
            detail = f"{where}; the partition stands still until an offset is committed"
        else:
            state = self._states[partition] = PartitionState(
                Position(partition, offset, ""), self._loop.time()
            )
            state.topic_id, state.high_watermark = self._topic_id(partition.topic), high_watermark
            self._mark_changed(state)
            detail = f"{where}; reading goes on at offset {offset}"
        self.raise_alarm(AlarmKind.TOPIC_RECREATED, detail, partition)

    def on_offset_reset(self, partition: Partition, offset: int, *, high_watermark: int) -> None:
        """Reading goes on at `offset`, because the log no longer has (or never had) what should
        come next.
        """
        state = self._states.get(partition)
        if state is None:
            return
        missing = offset - state.tracker.next
        where = (
            f"the next record of {partition.topic}/{partition.partition} is not in the log; reading"
            f" goes on at offset {offset}"
        )
        if missing >= 0:
            state.reach(offset)
            self._mark_changed(state)
            self.expired += missing
            self.raise_alarm(
                AlarmKind.EXPIRED, f"{where}, {missing} offsets are lost", partition, missing
            )
        else:  # The log is another one, or was cut.
            self._discard(state)
            self._states[partition] = PartitionState(
                Position(partition, offset, ""), self._loop.time()
            )
            detail = f"{where}, {-missing} offsets further back, since the log starts anew"
            self.raise_alarm(AlarmKind.TOPIC_RECREATED, detail, partition)
        self.on_high_watermarks([(partition, high_watermark)])

    def on_partitions_revoked(self, request: RevocationRequest) -> None:
        """The partitions of this ticket go as soon as the listener has nothing of them in hand."""

        def returned() -> None:
            if request.is_open:
                request.complete(self._release(request.partitions))

        if self._closed:
            returned()
        else:
            self._listener.on_revoked(request.partitions, returned)

    def on_drain_timeout(self, request: RevocationRequest) -> None:
        """The time of this ticket is up."""
        if not request.is_open:
            return
        records = sum(
            len(state.in_flight)
            for partition in request.partitions
            if (state := self._states.get(partition))
        )
        self._listener.on_lost(request.partitions)
        if (
            request.is_open
        ):  # A listener that has nothing in hand any more may have answered just now.
            request.complete(self._release(request.partitions))
        self.raise_alarm(
            AlarmKind.DRAIN_OVERDUE,
            f"{records} records were not done when their partitions had to be given back",
            count=records,
        )

    def on_partitions_lost(self, partitions: Collection[Partition] | None) -> None:
        """These partitions (None: all) are somebody else's already."""
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
        """The commit that was asked for is stored, apart from these partitions (None: not at all).

        `member` says that the group answered it as that of a member, which it also does when it
        asks for patience.
        """
        states, self._committing = self._committing, ()
        for state in states:
            state.on_commit_answered(stored=refused is not None and state.partition not in refused)
        if member:
            self._membership.commit_answered()
        if (
            self._membership.unconfirmed or any(state.changed for state in self._states.values())
        ) and self._timer is None:
            self._schedule_commit()

    def _on_membership_change(self, unconfirmed: bool) -> None:
        self._listener.on_membership_unconfirmed(unconfirmed)
        if unconfirmed:
            detail = (
                f"the group has not confirmed for {UNCONFIRMED_SECONDS:g} s or more that this "
                "process is a member; nothing is sent until it does"
            )
            self.raise_alarm(AlarmKind.UNCONFIRMED, detail)
            if self._timer is None:
                self._schedule_commit()

    def raise_alarm(
        self, kind: AlarmKind, detail: str, partition: Partition | None = None, count: int = 0
    ) -> None:
        """Pass an alarm on, the same one (kind and partition) at most every 10 s unless it counts
        something.
        """
        now = self._loop.time()
        if (
            count == 0
            and now - self._alarmed_at.get((kind, partition), -_ALARM_INTERVAL_SECONDS)
            < _ALARM_INTERVAL_SECONDS
        ):
            return
        self._alarmed_at[kind, partition] = now
        self._alarm(
            FeedAlarm(kind=kind, group=self._group, detail=detail, partition=partition, count=count)
        )

    def close(self) -> None:
        """Forget everything, and tell the listener nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._states.clear()
        self._membership.close()

    # Commits.

    def _mark_changed(self, state: PartitionState) -> None:
        state.changed = True
        if self._timer is None:
            self._schedule_commit()

    def _schedule_commit(self) -> None:
        delay = max(COMMIT_INTERVAL_SECONDS, self._budget.reserve(self._loop.time()))
        self._timer = self._loop.call_later(delay, self._commit)

    def _commit(self) -> None:
        """One commit at a time: a second one could overtake the first, and then the offset would go
        back.
        """
        self._timer = None
        now = self._loop.time()
        if self._committing:
            if now - self._committing_since > _COMMIT_ANSWER_SECONDS:
                self.on_commit_answered(None)
            return
        again = self._membership.unconfirmed
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
            self._commands.commit(positions)

    def _release(self, partitions: Collection[Partition]) -> list[Position]:
        now = self._loop.time()
        held = [
            state for partition in partitions if (state := self._states.get(partition)) is not None
        ]
        positions = [position for state in held if (position := state.next_commit(now)) is not None]
        self._remove(partitions)
        return positions

    def _remove(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            state = self._states.pop(partition, None)
            if state is not None:
                self._flow.release(*state.held())
        if not self._states:
            self._membership.confirm()
