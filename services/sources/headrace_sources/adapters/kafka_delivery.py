"""Sends the records of one feed as events, in their order or not, and none is skipped.

With `ordered`, records with the same key are sent one after the other, in the order of their
partition; records without a key are one sequence for each partition. A record that is not delivered
is tried again, and those behind it wait. Without it, every record is sent at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from headrace.domain.backoff import Backoff
from headrace.domain.event import Event, InvalidEvent
from headrace.domain.ports import Feed
from headrace.domain.record import Partition, StoredRecord
from headrace_sources.adapters.kafka_events import RecordReader
from headrace_sources.source import Emit

BACKOFF: Final = Backoff((1.0, 2.0, 5.0, 10.0, 30.0))
"""Between the ends of the delivery policy, which has its own backoff."""


class _Work:
    """One record that was taken from the feed."""

    __slots__ = ("cancel", "ended", "failures", "lane", "partition", "record", "timer")

    def __init__(self, record: StoredRecord, partition: "_PartitionWork", lane: "_Lane | None"):
        self.record = record
        self.partition = partition
        self.lane = lane
        self.failures = 0
        self.cancel: Callable[[], None] | None = None
        """Gives up the attempt that is under way; None between two."""
        self.ended = False
        """Whether the newest attempt has ended, perhaps within the call that started it."""
        self.timer: asyncio.TimerHandle | None = None


class _Lane:
    """The records that wait behind one of the same key."""

    __slots__ = ("advancing", "busy", "key", "partition", "waiting")

    def __init__(self, partition: "_PartitionWork", key: bytes | None) -> None:
        self.partition = partition
        self.key = key
        self.waiting: deque[_Work] = deque()
        self.busy = False
        self.advancing = False


class _PartitionWork:
    """What is taken from one partition and not done."""

    __slots__ = ("lanes", "revoked", "started")

    def __init__(self) -> None:
        self.started: set[_Work] = set()
        """Being sent, or waiting for another attempt."""
        self.lanes: dict[bytes | None, _Lane] = {}
        self.revoked: Callable[[], None] | None = None
        """Called once when nothing is started."""


class Delivery:
    """Implements `headrace.domain.ports.FeedListener`."""

    def __init__(self, emit: Emit, reader: RecordReader, *, ordered: bool) -> None:
        self._emit = emit
        self._reader = reader
        self._ordered = ordered
        self._loop = asyncio.get_running_loop()
        self._partitions: dict[Partition, _PartitionWork] = {}
        self._draining: dict[Partition, _PartitionWork] = {}
        """Revoked, with events that are on their way."""
        self._held: deque[_Work] | None = None
        """What is started once the membership is confirmed again; None while it is."""
        self.feed: Feed | None = None
        """Set it before the feed starts."""

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """See the port."""
        number, topic, partition = -1, "", None
        for record in records:
            if partition is None or record.partition != number or record.topic != topic:
                number, topic = record.partition, record.topic
                partition = self._partitions.setdefault(Partition(topic, number), _PartitionWork())
            if not self._ordered:
                self._begin(_Work(record, partition, None))
                continue
            lane = partition.lanes.get(record.key)
            if lane is None:
                lane = partition.lanes[record.key] = _Lane(partition, record.key)
            lane.waiting.append(_Work(record, partition, lane))
            if not lane.busy:
                self._advance(lane)

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """See the port. What waits is left to the next owner."""
        busy = 0

        def one_drained() -> None:
            nonlocal busy
            busy -= 1
            if busy == 0:
                drained()

        for each in partitions:
            work = self._partitions.pop(each, None)
            if work is None:
                continue
            work.lanes.clear()
            for waiting in [each for each in work.started if each.cancel is None]:
                self._drop(waiting)
            if work.started:
                busy += 1
                work.revoked = one_drained
                self._draining[each] = work
        if not busy:
            drained()

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """See the port. Events that are on their way are given up."""
        for each in partitions:
            for work in (self._partitions.pop(each, None), self._draining.pop(each, None)):
                if work is not None:
                    work.lanes.clear()
                    for started in list(work.started):
                        self._drop(started)

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        """See the port."""
        if unconfirmed:
            if self._held is None:
                self._held = deque()
            return
        held, self._held = self._held, None
        for work in held or ():
            if work in work.partition.started:
                self._start(work)

    def close(self) -> None:
        """Give up everything."""
        self.on_lost([*self._partitions, *self._draining])

    # One record.

    def _advance(self, lane: _Lane) -> None:
        """Start what is next. A record that is done at once must not start the next one from within
        its start, which could repeat for a thousand of them.
        """
        if lane.advancing:
            return
        lane.advancing = True
        while lane.waiting and not lane.busy:
            lane.busy = True
            self._begin(lane.waiting.popleft())
        lane.advancing = False
        if not lane.busy and lane.partition.lanes.get(lane.key) is lane:
            del lane.partition.lanes[lane.key]

    def _begin(self, work: _Work) -> None:
        work.partition.started.add(work)
        self._start(work)

    def _start(self, work: _Work) -> None:
        work.timer = None
        work.ended = False
        if self._held is not None:
            self._held.append(work)
            return

        done = partial(self._on_done, work)
        event = self._reader.event(work.record)
        try:
            cancel = self._emit.start(event, done)
        except InvalidEvent:
            # With `ceOverrides` it has too many attributes. Its record is not lost for that.
            try:
                cancel = self._emit.start(_bare(self._reader.wrapped(work.record)), done)
            except InvalidEvent as error:
                self._on_done(work, error)
                return
        if not work.ended:
            work.cancel = cancel

    def _on_done(self, work: _Work, error: Exception | None) -> None:
        work.cancel = None
        work.ended = True
        partition = work.partition
        if work not in partition.started:
            return
        if error is not None:
            if partition.revoked is not None:
                self._drop(work)
                return
            work.failures += 1
            work.timer = self._loop.call_later(BACKOFF.seconds(work.failures), self._start, work)
            return
        partition.started.discard(work)
        if self.feed is not None:
            self.feed.done(work.record)
        if partition.revoked is not None:
            self._check_drained(partition)
        elif work.lane is not None:
            work.lane.busy = False
            self._advance(work.lane)

    def _drop(self, work: _Work) -> None:
        """Give one up. The next owner of its partition sends it."""
        work.partition.started.discard(work)
        if work.timer is not None:
            work.timer.cancel()
        if work.cancel is not None:
            work.cancel()
        self._check_drained(work.partition)

    def _check_drained(self, partition: _PartitionWork) -> None:
        if not partition.started and partition.revoked is not None:
            revoked, partition.revoked = partition.revoked, None
            revoked()


def _bare(event: Event) -> Event:
    """The event with the attributes that it must have."""
    names = ("specversion", "id", "source", "type", "subject", "time", "partitionkey")
    kept = {name: event.attributes[name] for name in names if name in event.attributes}
    return Event(kept, event.data)
