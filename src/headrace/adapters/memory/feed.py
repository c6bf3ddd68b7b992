"""The in-memory feed: consumer groups over `MemoryLog`. Partitions are shared between members,
revoked and committed as in Kafka.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from headrace.adapters.memory.log import MemoryLog, MemoryPartition
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds, InitialOffset
from headrace.domain.filters import Filter
from headrace.domain.offsets import OffsetTracker
from headrace.domain.ports import FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord

_BATCH_RECORDS_MAX = 128
_COMMIT_INTERVAL_SECONDS = 0.02


class MemoryGroups:
    """The state that a broker has of groups: members, assigned partitions and committed offsets."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.committed: dict[str, dict[Partition, tuple[int, str]]] = {}
        """Offset and metadata by group and partition."""
        self._positions: dict[Partition, dict[str, int]] = {}
        """The committed offset of each group that has one, by partition."""
        self._members: dict[str, list[MemoryFeed]] = {}
        log.watch(self._appended)

    def commit(self, group: str, partition: Partition, *, offset: int, metadata: str = "") -> None:
        """Commit an offset, as a member or a controller does."""
        self.committed.setdefault(group, {})[partition] = (offset, metadata)
        self._positions.setdefault(partition, {})[group] = offset
        self._trim(partition)

    def backlog(self, group: str, topics: Collection[str]) -> Mapping[Partition, int]:
        """Return how many records of these topics the group has not committed."""
        offsets = self.committed.get(group, {})
        found: dict[Partition, int] = {}
        for partition in self._partitions(topics):
            records = self.log.topics[partition.topic][partition.partition]
            start = offsets[partition][0] if partition in offsets else records.start
            found[partition] = max(records.end - max(start, records.start), 0)
        return found

    def has_reader(self, partition: Partition) -> bool:
        """Whether any group has an offset in this partition."""
        return bool(self._positions.get(partition))

    def delete(self, group: str, topic: str | None = None) -> None:
        """Delete the committed offsets of a group, in one topic or in all."""
        offsets = self.committed.get(group, {})
        gone = [each for each in offsets if topic in (None, each.topic)]
        for partition in gone:
            del offsets[partition], self._positions[partition][group]
        if not offsets:
            self.committed.pop(group, None)
        for partition in gone:
            self._trim(partition)

    def _trim(self, partition: Partition) -> None:
        """Remove what every group with an offset in this partition has committed, if the log is
        bounded. A topic without a group keeps its records: a group may be created for them.
        """
        positions = self._positions.get(partition)
        if positions and self.log.stored_bytes_max is not None:
            self.log.trim(*partition, min(positions.values()))

    def join(self, group: str, member: "MemoryFeed") -> None:
        """Add a member and rebalance."""
        self._members.setdefault(group, []).append(member)
        self.rebalance(group)

    def leave(self, group: str, member: "MemoryFeed") -> None:
        """Remove a member and rebalance."""
        members = self._members.get(group, [])
        if member in members:
            members.remove(member)
            self.rebalance(group)

    def rebalance(self, group: str) -> None:
        """Assign partitions to all members. Partitions stay with their owner if the distribution is
        fair; those that move are assigned after their owner has released them.
        """
        all_members = self._members.get(group, [])
        members = [member for member in all_members if not member.leaving]
        partitions = sorted(
            {each for member in members for each in self._partitions(member.topics)}
        )
        if not members:
            return
        most = -(-len(partitions) // len(members))
        owners = {partition: member for member in all_members for partition in member.partitions()}
        load = Counter({id(member): 0 for member in members})
        unfilled: list[Partition] = []
        for partition in partitions:
            owner = owners.get(partition)
            if owner is not None and not owner.leaving and load[id(owner)] < most:
                load[id(owner)] += 1
            else:
                unfilled.append(partition)
        for partition in unfilled:
            owner = owners.get(partition)
            if owner is not None:
                owner.revoke([partition])
            else:
                new_owner = min(
                    (member for member in members if partition.topic in member.topics),
                    key=lambda member: load[id(member)],
                )
                load[id(new_owner)] += 1
                known = self.committed.get(group, {})
                new_owner.assign(
                    partition,
                    known.get(partition),
                    new=any(each.topic == partition.topic for each in known),
                )

    def _partitions(self, topics: Collection[str]) -> list[Partition]:
        return [
            Partition(topic, number)
            for topic in topics
            for number in range(len(self.log.topics.get(topic, ())))
        ]

    def _appended(self, topic: str, number: int) -> None:
        partition = Partition(topic, number)
        for group, members in self._members.items():
            interested = [member for member in members if topic in member.topics]
            if interested and not any(partition in member.partitions() for member in interested):
                self.rebalance(group)
            for member in interested:
                member.schedule()


class _PartitionState:
    """The state of one partition assigned to a member."""

    def __init__(self, partition: Partition, start: int, metadata: str, now: float) -> None:
        self.partition = partition
        self.tracker = OffsetTracker(start, metadata)
        self.in_flight: dict[int, StoredRecord] = {}
        self.log: MemoryPartition | None = None
        """The list that was last read, to detect that the topic was deleted and recreated."""
        self.paused = False
        self.is_revoking = False
        self.progress = (start, now)

    def lag(self, high: int, now: float) -> Lag:
        records = max(high - self.tracker.next, 0) + self.tracker.unfinished
        if records == 0 or self.progress[0] != self.tracker.committable:
            self.progress = (self.tracker.committable, now)
        oldest = self.in_flight.get(self.tracker.committable)
        return Lag(records, oldest.timestamp_ms if oldest else None, now - self.progress[1])


class MemoryFeed:
    """One member of a group in `MemoryGroups`; implements `headrace.domain.ports.Feed`."""

    def __init__(
        self,
        groups: MemoryGroups,
        *,
        group: str,
        topics: Collection[str],
        bounds: FeedBounds | None = None,
        drain_seconds: float = 5.0,
        alarm: Callable[[FeedAlarm], None] = lambda _: None,
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
    ) -> None:
        self.topics = topics
        self._groups = groups
        self._group = group
        self._bounds = bounds or FeedBounds()
        self._drain_seconds = drain_seconds
        self._alarm = alarm
        self._initial_offset = initial_offset
        self._states: dict[tuple[str, int], _PartitionState] = {}
        self._listener: FeedListener | None = None
        self._records = 0
        self._bytes = 0
        self._scheduled = False
        self._commit_timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self.leaving = False
        """Whether the member accepts no more partitions."""

    # Methods of the port.

    def start(self, listener: FeedListener) -> None:
        """As `Feed.start`."""
        self._listener = listener
        asyncio.get_running_loop().call_soon(self._groups.join, self._group, self)

    def done(self, record: StoredRecord) -> None:
        """As `Feed.done`."""
        state = self._states.get((record.topic, record.partition))
        if state is None or state.in_flight.get(record.offset) is not record:
            return
        del state.in_flight[record.offset]
        state.tracker.finish(record.offset)
        self._records -= 1
        self._bytes -= record.size
        self._schedule_commit()
        self.schedule()

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`."""
        state = self._states.get((record.topic, record.partition))
        if state is not None and state.in_flight.get(record.offset) is record:
            state.tracker.annotate(record.offset, note)
            self._schedule_commit()

    def pause(self, partition: Partition) -> None:
        """As `Feed.pause`. The pause ends when the partition is revoked."""
        if partition in self._states:
            self._states[partition].paused = True

    def resume(self, partition: Partition) -> None:
        """As `Feed.resume`."""
        if partition in self._states:
            self._states[partition].paused = False
            self.schedule()

    def change_filter(self, filter: Filter) -> None:
        """As `Feed.change_filter`: every record is handed out, matching or not."""

    @property
    def skipped(self) -> int:
        """As `Feed.skipped`."""
        return 0

    def verify_membership(self) -> None:
        """As `Feed.verify_membership`. The group is in this process and answers immediately."""
        if self._listener is not None and self._states:
            self._listener.on_membership_unconfirmed(True)
            asyncio.get_running_loop().call_soon(self._confirm)

    def _confirm(self) -> None:
        if self._listener is not None:
            self._listener.on_membership_unconfirmed(False)

    def lag(self) -> Mapping[Partition, Lag]:
        """As `Feed.lag`."""
        now = asyncio.get_running_loop().time()
        return {
            state.partition: state.lag(self._log(state).end, now) for state in self._states.values()
        }

    async def stop(self, *, leave: bool = False) -> None:
        """As `Feed.stop`. Members are never static here, so they leave in both cases."""
        if self.leaving:
            return
        self.leaving = True
        if self._states:
            self.revoke(list(self.partitions()))
            await self._emptied.wait()
        self._groups.leave(self._group, self)

    def abandon(self) -> None:
        """Stop as in a crash: without draining or committing."""
        self.leaving = True
        self._listener = None
        self._states.clear()
        if self._commit_timer is not None:
            self._commit_timer.cancel()
        self._groups.leave(self._group, self)

    # Methods that the group calls.

    def partitions(self) -> Collection[Partition]:
        """Return the partitions of this member."""
        return [state.partition for state in self._states.values()]

    def assign(self, partition: Partition, committed: tuple[int, str] | None, *, new: bool) -> None:
        """Start reading a partition at its committed offset, None if there is none. `new` means
        that the group has committed offsets for other partitions of the topic.
        """
        start, metadata = committed or (0, "")
        self._states[partition] = _PartitionState(
            partition, start, metadata, asyncio.get_running_loop().time()
        )
        if committed is None and not new and self._initial_offset is InitialOffset.COMMITTED:
            detail = (
                f"no offset is committed in {partition.topic}; reading begins at the oldest record"
            )
            self._raise_alarm(AlarmKind.OFFSET_MISSING, detail, partition=partition)
        self.schedule()

    def revoke(self, partitions: Collection[Partition]) -> None:
        """Drain, commit and release the partitions, within the drain deadline."""
        going = [partition for partition in partitions if not self._states[partition].is_revoking]
        if not going or self._listener is None:
            return
        for partition in going:
            self._states[partition].is_revoking = True
        loop = asyncio.get_running_loop()
        overdue = loop.call_later(self._drain_seconds, self._on_drain_timeout, going)

        def returned() -> None:
            if not overdue.cancelled():
                overdue.cancel()
                self._release(going)

        loop.call_soon(self._listener.on_revoked, going, returned)

    def _on_drain_timeout(self, partitions: Collection[Partition]) -> None:
        if self._listener is not None:
            self._listener.on_lost(partitions)
        count = sum(
            len(self._states[partition].in_flight)
            for partition in partitions
            if partition in self._states
        )
        self._raise_alarm(
            AlarmKind.DRAIN_OVERDUE,
            f"{count} records were not done when their partitions had to be given back",
            count,
        )
        self._release(partitions)

    def _release(self, partitions: Collection[Partition]) -> None:
        self._commit()
        self._remove(partitions)
        if not self._states:
            self._emptied.set()
        if not self.leaving:
            self._groups.rebalance(self._group)

    def _remove(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            state = self._states.pop(partition, None)
            for record in state.in_flight.values() if state is not None else ():
                self._records -= 1
                self._bytes -= record.size

    # Reading and committing.

    def schedule(self) -> None:
        """Schedule a delivery of as many records as the bounds allow."""
        if not self._scheduled and self._states:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        batch: list[StoredRecord] = []
        for state in list(self._states.values()):
            if not state.paused and not state.is_revoking:
                self._read(state, batch)
        if batch and self._listener is not None:
            if len(batch) == _BATCH_RECORDS_MAX:
                self.schedule()
            self._listener.on_records(batch)

    def _read(self, state: _PartitionState, batch: list[StoredRecord]) -> None:
        log = self._log(state)
        if state.log is None:
            state.log = log
        elif state.log is not log or state.tracker.next > log.end:
            state = self._restart(state, log)
        while (
            len(batch) < _BATCH_RECORDS_MAX
            and self._records < self._bounds.records_max
            and self._bytes < self._bounds.bytes_max
        ):
            offset = max(state.tracker.next, log.start)
            if offset >= log.end:
                return
            record = replace(log.at(offset), note=state.tracker.note(offset))
            if not state.tracker.take(offset):
                continue
            state.in_flight[offset] = record
            self._records += 1
            self._bytes += record.size
            batch.append(record)

    def _restart(self, state: _PartitionState, log: MemoryPartition) -> _PartitionState:
        """Handle a topic that was recreated or is shorter than what was read: its known offsets are
        invalid.
        """
        if self._listener is not None:
            self._listener.on_lost([state.partition])
        self._remove([state.partition])
        detail = (
            f"{state.partition.topic}/{state.partition.partition} was recreated; reading"
            " continues at its beginning"
        )
        self._raise_alarm(AlarmKind.TOPIC_RECREATED, detail, partition=state.partition)
        fresh = self._states[state.partition] = _PartitionState(
            state.partition, 0, "", asyncio.get_running_loop().time()
        )
        fresh.log = log
        return fresh

    def _log(self, state: _PartitionState) -> MemoryPartition:
        partitions = self._groups.log.topics.get(state.partition.topic, ())
        return (
            partitions[state.partition.partition]
            if state.partition.partition < len(partitions)
            else MemoryPartition()
        )

    def _schedule_commit(self) -> None:
        if self._commit_timer is None:
            self._commit_timer = asyncio.get_running_loop().call_later(
                _COMMIT_INTERVAL_SECONDS, self._commit
            )

    def _commit(self) -> None:
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        for state in self._states.values():
            tracker = state.tracker
            self._groups.commit(
                self._group,
                state.partition,
                offset=tracker.committable,
                metadata=tracker.metadata(),
            )

    def _raise_alarm(
        self, kind: AlarmKind, detail: str, count: int = 0, *, partition: Partition | None = None
    ) -> None:
        self._alarm(
            FeedAlarm(kind=kind, group=self._group, detail=detail, partition=partition, count=count)
        )
