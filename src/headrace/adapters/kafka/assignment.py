"""The loop's side of a feed: the partitions it holds, the records in hand, and when what is done is
committed.

The consumer's thread (`reader`) tells what happened by calling these methods through the loop, in
the order it happened; what it shall do is sent back as commands. Neither side ever waits for the
other here, except that a revocation waits in the thread for its ticket.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from headrace.adapters.kafka.commits import CommitBudget, Position
from headrace.adapters.kafka.doubt import DOUBT_SECONDS, Doubt
from headrace.adapters.kafka.share import Share
from headrace.adapters.kafka.window import Window
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.ports import FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord

COMMIT_INTERVAL_SECONDS = 0.1
_COMMIT_ANSWER_SECONDS = 30.0
_ALARM_INTERVAL_SECONDS = 10.0


class Ticket:
    """A revocation on its way through the loop: the thread waits for it, the loop answers with what
    is done.
    """

    def __init__(self, partitions: Collection[Partition]) -> None:
        self.partitions = partitions
        self.positions: Sequence[Position] = ()
        self._answered = threading.Event()

    @property
    def open(self) -> bool:
        """Whether nobody has answered yet."""
        return not self._answered.is_set()

    def answer(self, positions: Sequence[Position]) -> None:
        """Give the partitions back with what is to be committed for them. Loop."""
        self.positions = positions
        self._answered.set()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the answer. Thread."""
        return self._answered.wait(timeout_seconds)


class Commander(Protocol):
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
        window: Window,
        budget: CommitBudget,
        commander: Commander,
        alarm: Callable[[FeedAlarm], None],
        topic_id: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`topic_id` tells the id of the topic that has a name now, empty when it is not known."""
        self._group = group
        self._listener = listener
        self._window = window
        self._budget = budget
        self._commander = commander
        self._alarm = alarm
        self._topic_id = topic_id
        self._loop = asyncio.get_running_loop()
        self._doubt = Doubt(self._doubted)
        self._shares: dict[tuple[str, int], Share] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._committing: Sequence[Share] = ()
        self._committing_since = 0.0
        self._alarmed: dict[tuple[AlarmKind, Partition | None], float] = {}
        self._closed = False
        self.begun_anew: deque[Partition] = deque()
        """Partitions whose topic is another one now: the thread takes them from here and reads them
        from where the policy says.
        """
        self.expired = 0
        """Records that were gone from the log before they could be handed out."""

    # What the listener asks for.

    def done(self, record: StoredRecord) -> None:
        """As `Feed.done`."""
        share = self._shares.get((record.topic, record.partition))
        if share is None or not share.finish(record):
            return
        self._window.settle(1, record.size)
        share.changed = True
        if self._timer is None:
            self._schedule_commit()

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`."""
        share = self._shares.get((record.topic, record.partition))
        if (
            share is not None
            and share.in_hand.get(record.offset) is record
            and share.tracker.annotate(record.offset, note)
        ):
            self._mark(share)

    def pause(self, partition: Partition) -> None:
        """As `Feed.pause`; forgotten with the ownership."""
        share = self._shares.get(partition)
        if share is not None and not share.paused:
            share.paused = True
            self._commander.pause(partition)

    def resume(self, partition: Partition) -> None:
        """As `Feed.resume`."""
        share = self._shares.get(partition)
        if share is not None and share.paused:
            share.paused = False
            self._commander.resume(partition)
            self._loop.call_soon(self._hand_out_kept_back, share)

    def doubt(self) -> None:
        """As `Feed.doubt`: what was committed is committed again, since the answer tells."""
        if self._shares:
            self._doubt.begin()

    def lag(self) -> Mapping[Partition, Lag]:
        """As `Feed.lag`."""
        now = self._loop.time()
        return {share.partition: share.lag(now) for share in self._shares.values()}

    # What the thread tells.

    def assigned(self, starts: Sequence[Position]) -> None:
        """These partitions are ours, from these positions."""
        now = self._loop.time()
        for start in starts:
            share = self._shares[start.partition] = Share(start, now)
            self._compare(share)

    def received(
        self, records: Sequence[StoredRecord], ends: Sequence[tuple[Partition, int]]
    ) -> None:
        """Records were read, and ends of partitions reached behind them."""
        self._window.take()
        now = self._loop.time()
        fresh: list[StoredRecord] = []
        number, topic, share = -1, "", None
        for record in records:
            if record.partition != number or record.topic != topic:
                number, topic = record.partition, record.topic
                share = self._shares.get((topic, number))
            if share is not None and (share.paused or share.kept_back):
                share.kept_back.append(record)
            elif share is not None and share.take(record, now):
                fresh.append(record)
            else:
                self._pass_over(record, share)
        for partition, offset in ends:
            ended = self._shares.get(partition)
            if ended is not None:
                ended.reach(offset)
                if ended.changed:
                    self._mark(ended)
        if fresh:
            self._listener.on_records(fresh)

    def _pass_over(self, record: StoredRecord, share: Share | None) -> None:
        self._window.settle(1, record.size)
        if share is not None:
            self._mark(share)

    def _hand_out_kept_back(self, share: Share) -> None:
        if share.paused or self._shares.get(share.partition) is not share or not share.kept_back:
            return
        records, share.kept_back = share.kept_back, []
        now = self._loop.time()
        fresh: list[StoredRecord] = []
        for record in records:
            if share.take(record, now):
                fresh.append(record)
            else:
                self._pass_over(record, share)
        if fresh:
            self._listener.on_records(fresh)

    def heard(self, highs: Sequence[tuple[Partition, int]]) -> None:
        """How far these logs reach."""
        for partition, high in highs:
            share = self._shares.get(partition)
            if share is not None and high > share.high:
                share.high = high
            if share is not None:
                self._compare(share)

    def _compare(self, share: Share) -> None:
        """Look whether the topic of this partition is still the one in which its offsets were
        committed.
        """
        topic_id = self._topic_id(share.partition.topic)
        if not topic_id or topic_id == share.topic_id:
            return
        if not share.topic_id:
            share.topic_id = topic_id
            self._mark(share)
        else:
            self._drop(share)
            self.begun_anew.append(share.partition)

    def _drop(self, share: Share) -> None:
        """Nothing known about the offsets of this partition is worth anything any more."""
        self._listener.on_lost([share.partition])
        self._forget([share.partition])
        if share.paused:
            self._commander.resume(share.partition)

    def anew(self, partition: Partition, offset: int | None, *, high: int) -> None:
        """A partition of `begun_anew` is read from `offset` on; None: by the policy it stands
        still.
        """
        if (share := self._shares.get(partition)) is not None:  # It was taken over anew in between.
            self._drop(share)
        where = (
            f"{partition.topic}/{partition.partition} is another topic of the same name (deleted"
            " and made again)"
        )
        if offset is None:
            detail = f"{where}; the partition stands still until an offset is committed"
        else:
            share = self._shares[partition] = Share(
                Position(partition, offset, ""), self._loop.time()
            )
            share.topic_id, share.high = self._topic_id(partition.topic), high
            self._mark(share)
            detail = f"{where}; reading goes on at offset {offset}"
        self.alarmed(AlarmKind.TOPIC_RECREATED, detail, partition)

    def moved(self, partition: Partition, offset: int, *, high: int) -> None:
        """Reading goes on at `offset`, because the log no longer has (or never had) what should
        come next.
        """
        share = self._shares.get(partition)
        if share is None:
            return
        missing = offset - share.tracker.next
        where = (
            f"the next record of {partition.topic}/{partition.partition} is not in the log; reading"
            f" goes on at offset {offset}"
        )
        if missing >= 0:
            share.reach(offset)
            self._mark(share)
            self.expired += missing
            self.alarmed(
                AlarmKind.EXPIRED, f"{where}, {missing} offsets are lost", partition, missing
            )
        else:  # The log is another one, or was cut.
            self._drop(share)
            self._shares[partition] = Share(Position(partition, offset, ""), self._loop.time())
            detail = f"{where}, {-missing} offsets further back, since the log starts anew"
            self.alarmed(AlarmKind.TOPIC_RECREATED, detail, partition)
        self.heard([(partition, high)])

    def revoking(self, ticket: Ticket) -> None:
        """The partitions of this ticket go as soon as the listener has nothing of them in hand."""

        def returned() -> None:
            if ticket.open:
                ticket.answer(self._release(ticket.partitions))

        if self._closed:
            returned()
        else:
            self._listener.on_revoked(ticket.partitions, returned)

    def overdue(self, ticket: Ticket) -> None:
        """The time of this ticket is up."""
        if not ticket.open:
            return
        records = sum(
            len(share.in_hand)
            for partition in ticket.partitions
            if (share := self._shares.get(partition))
        )
        self._listener.on_lost(ticket.partitions)
        if ticket.open:  # A listener that has nothing in hand any more may have answered just now.
            ticket.answer(self._release(ticket.partitions))
        self.alarmed(
            AlarmKind.DRAIN_OVERDUE,
            f"{records} records were not done when their partitions had to be given back",
            count=records,
        )

    def lost(self, partitions: Collection[Partition] | None) -> None:
        """These partitions (None: all) are somebody else's already."""
        gone = [
            share.partition
            for share in self._shares.values()
            if partitions is None or share.partition in partitions
        ]
        if gone:
            self._listener.on_lost(gone)
            self._forget(gone)
        if partitions is None:
            self._committing = ()

    def committed(self, refused: Collection[Partition] | None, *, member: bool = False) -> None:
        """The commit that was asked for is stored, apart from these partitions (None: not at all).

        `member` says that the group answered it as that of a member, which it also does when it
        asks for patience.
        """
        shares, self._committing = self._committing, ()
        for share in shares:
            share.committed(stored=refused is not None and share.partition not in refused)
        if member:
            self._doubt.answered()
        if (
            self._doubt.cast or any(share.changed for share in self._shares.values())
        ) and self._timer is None:
            self._schedule_commit()

    def _doubted(self, doubted: bool) -> None:
        self._listener.on_doubt(doubted)
        if doubted:
            detail = (
                f"the group has not confirmed for {DOUBT_SECONDS:g} s or more that it counts this"
                " process in; nothing is sent until it does"
            )
            self.alarmed(AlarmKind.UNCONFIRMED, detail)
            if self._timer is None:
                self._schedule_commit()

    def alarmed(
        self, kind: AlarmKind, detail: str, partition: Partition | None = None, count: int = 0
    ) -> None:
        """Pass an alarm on, the same one (kind and partition) at most every 10 s unless it counts
        something.
        """
        now = self._loop.time()
        if (
            count == 0
            and now - self._alarmed.get((kind, partition), -_ALARM_INTERVAL_SECONDS)
            < _ALARM_INTERVAL_SECONDS
        ):
            return
        self._alarmed[kind, partition] = now
        self._alarm(
            FeedAlarm(kind=kind, group=self._group, detail=detail, partition=partition, count=count)
        )

    def close(self) -> None:
        """Forget everything, and tell the listener nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._shares.clear()
        self._doubt.close()

    # Commits.

    def _mark(self, share: Share) -> None:
        share.changed = True
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
                self.committed(None)
            return
        again = self._doubt.cast
        shares, positions = [], []
        for share in self._shares.values():
            if (share.changed or again) and (
                position := share.next_commit(now, again=again)
            ) is not None:
                shares.append(share)
                positions.append(position)
        if positions:
            self._committing, self._committing_since = shares, now
            self._doubt.asked()
            self._commander.commit(positions)

    def _release(self, partitions: Collection[Partition]) -> list[Position]:
        now = self._loop.time()
        held = [
            share for partition in partitions if (share := self._shares.get(partition)) is not None
        ]
        positions = [position for share in held if (position := share.next_commit(now)) is not None]
        self._forget(partitions)
        return positions

    def _forget(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            share = self._shares.pop(partition, None)
            if share is not None:
                self._window.settle(*share.held())
        if not self._shares:
            self._doubt.end()
