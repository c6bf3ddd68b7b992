"""A lane: the records of one feed between being handed out and being done.

In come records from an intake (live, retry or dead letter); out go `Feed.done` calls. In between a delivery is ready, being sent,
waiting in place for its next attempt, or being parked. A lane never holds more than its feed's bounds, because the feed stops
handing out. It starts new attempts only while its concurrency and the subscription's gate allow.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from headrace.domain.lanes import Lanes

from headrace.domain.ports import Clock, Feed
from headrace.domain.record import Partition, StoredRecord
from headrace_dispatcher.delivery import Course, Delivery


class Gate(Protocol):
    """What beside its own concurrency decides whether a lane may start an attempt."""

    def enter(self, delivery: Delivery) -> bool:
        """Take a place for this delivery, if there is one now; whoever gets False is pumped again when there may be."""
        ...

    def leave(self) -> None:
        """Give the place back."""
        ...

    def withdraw(self, delivery: Delivery) -> None:
        """The attempt was given up, its end will not be known."""
        ...


class Lane:
    """The deliveries of one feed. Everything here runs on the event loop."""

    def __init__(self, *, feed: Feed, lanes: Lanes, course: Course, gate: Gate, clock: Clock, concurrency_max: int) -> None:
        self.feed = feed
        self.sending = 0
        self.stopped = False
        """True while a record cannot be parked: nothing new starts, nothing is committed past it."""
        self._lanes = lanes
        self._course = course
        self._gate = gate
        self._clock = clock
        self._concurrency_max = concurrency_max
        self._in_hand: set[Delivery] = set()
        self._parked_as: set[tuple[str, int]] = set()
        self._ready: deque[Delivery] = deque()
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returning: list[tuple[frozenset[Partition], Callable[[], None]]] = []
        self._paused: set[Partition] = set()

    def __repr__(self) -> str:
        return f"<Lane {len(self._ready)} ready, {self.sending} sending, {len(self._waiting)} waiting, {len(self._in_hand)} in hand>"

    @property
    def in_hand(self) -> int:
        """Deliveries started, waiting in place or being parked."""
        return len(self._in_hand)

    def offer(self, records: Sequence[StoredRecord]) -> None:
        """Take records that are to be sent, in partition order."""
        self._admit(self._lanes.offer(records))
        if full := self._lanes.full():
            for partition in full - self._paused:
                self._paused.add(partition)
                self.feed.pause(partition)
        self.pump()

    def _admit(self, records: Sequence[StoredRecord]) -> None:
        for record in records:
            delivery = Delivery(self, record)
            seconds = self._course.prepare(delivery)
            self.adopt(delivery)
            if seconds > 0.0:
                self._wait(delivery, seconds)
            else:
                self._ready.append(delivery)

    def adopt(self, delivery: Delivery) -> None:
        """Take a delivery that needs no turn of its own: it is being parked."""
        self._in_hand.add(delivery)
        if delivery.parked_as is not None:
            self._parked_as.add(delivery.parked_as)

    def holds(self, origin: str, attempt: int) -> bool:
        """Whether the retry record of this event and attempt is in hand."""
        return (origin, attempt) in self._parked_as

    def _release(self, delivery: Delivery) -> None:
        self._in_hand.discard(delivery)
        if delivery.parked_as is not None:
            self._parked_as.discard(delivery.parked_as)

    def pump(self) -> None:
        """Start what may start."""
        ready, gate, send = self._ready, self._gate, self._course.send
        while ready and self.sending < self._concurrency_max and not self.stopped and gate.enter(ready[0]):
            self.sending += 1
            send(ready.popleft())

    def answered(self, delivery: Delivery) -> None:
        """The attempt is over, whatever it brought: its place is free."""
        delivery.request = None
        self.sending -= 1
        self._gate.leave()

    def finish(self, delivery: Delivery) -> None:
        """Delivered, or parked: the record is done, the next of its key may start."""
        self._release(delivery)
        if not delivery.abandoned:
            self.feed.done(delivery.record)
            self._admit(self._lanes.finished(delivery.record))
            if self._paused:
                self._resume()
        if self._returning:
            self._check_returned()
        self.pump()

    def wait(self, delivery: Delivery, seconds: float) -> None:
        """Keep the delivery in place and try again after this time; its followers wait with it."""
        if delivery.leaving:
            self._release(delivery)
            self._check_returned()
        else:
            self._wait(delivery, seconds)
        self.pump()

    def again(self, delivery: Delivery) -> None:
        """Go on with this delivery before any other: it has another request to make."""
        self._ready.appendleft(delivery)
        self.pump()

    def _wait(self, delivery: Delivery, seconds: float) -> None:
        self._sequence += 1
        entry = (self._clock.monotonic() + seconds, self._sequence, delivery)
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._arm()

    def withdraw(self, partitions: Collection[Partition], returned: Callable[[], None]) -> None:
        """Start nothing more of these partitions; call `returned` once nothing of them is being sent or parked."""
        gone = frozenset(partitions)
        self._forget(gone)
        self._returning.append((gone, returned))
        self._check_returned()

    def abandon(self, partitions: Collection[Partition]) -> None:
        """Drop everything of these partitions at once, requests on their way included."""
        gone = frozenset(partitions)
        self._forget(gone)
        for delivery in [each for each in self._in_hand if each.partition in gone]:
            self._release(delivery)
            delivery.abandoned = True
            if delivery.request is not None:
                delivery.request.cancel()
                self.answered(delivery)
                self._gate.withdraw(delivery)
        self._check_returned()
        self.pump()

    def close(self) -> None:
        """Drop everything in hand; used when the feed has stopped."""
        self.abandon({delivery.partition for delivery in self._in_hand})
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self, gone: frozenset[Partition]) -> None:
        self._lanes.withdraw(gone)
        self._paused -= gone
        idle = {delivery for delivery in self._ready if delivery.partition in gone}
        idle |= {delivery for _, _, delivery in self._waiting if delivery.partition in gone}
        if idle:
            self._ready = deque(delivery for delivery in self._ready if delivery not in idle)
            self._waiting = [entry for entry in self._waiting if entry[2] not in idle]
            heapq.heapify(self._waiting)
            for delivery in idle:
                self._release(delivery)
        for delivery in self._in_hand:
            if delivery.partition in gone:
                delivery.leaving = True

    def _check_returned(self) -> None:
        if not self._returning:
            return
        busy = {delivery.partition for delivery in self._in_hand}
        waiting, self._returning = self._returning, []
        for gone, returned in waiting:
            if gone & busy:
                self._returning.append((gone, returned))
            else:
                returned()

    def _resume(self) -> None:
        for partition in self._paused - self._lanes.full():
            self._paused.discard(partition)
            self.feed.resume(partition)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            delay = max(0.0, self._waiting[0][0] - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.monotonic() + 0.001
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append(heapq.heappop(self._waiting)[2])
        self._arm()
        self.pump()
