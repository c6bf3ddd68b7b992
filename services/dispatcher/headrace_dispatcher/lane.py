"""A lane: the records of one feed between being handed out and being done.

In come records from an intake (live, retry or dead letter); out go `Feed.done` calls. In between a
delivery is ready, being sent, waiting in place for its next attempt, or being parked. A lane never
holds more than its feed's bounds, because the feed stops handing out. It starts new attempts only
while its concurrency and the subscription's gate allow.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from headrace.domain.attempt import AttemptEvent
from headrace.domain.concurrency import Concurrency
from headrace.domain.lanes import Lanes
from headrace.domain.ports import Clock, Feed
from headrace.domain.record import Partition, StoredRecord
from headrace_dispatcher.delivery import Delivery, DeliveryHandler
from headrace_dispatcher.fair_scheduler import FairScheduler


class Gate(Protocol):
    """What beside its own concurrency decides whether a lane may start an attempt."""

    def enter(self, delivery: Delivery) -> bool:
        """Take a place for this delivery, if there is one now; whoever gets False is pumped again
        when there may be.
        """
        ...

    def leave(self, delivery: Delivery) -> None:
        """Give the place of this delivery back."""
        ...

    def withdraw(self, delivery: Delivery) -> None:
        """The attempt was given up, its end will not be known."""
        ...


class Lane:
    """The deliveries of one feed. Everything here runs on the event loop.

    Which record may start is for `lanes` to say (order, concurrency); the gate may hold back what
    has started there, and `scheduler`, shared by all lanes of the process, says when it is sent.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        lanes: Lanes,
        handler: DeliveryHandler,
        gate: Gate,
        clock: Clock,
        concurrency: Concurrency | None = None,
        scheduler: FairScheduler | None = None,
        number: int = 0,
    ) -> None:
        """`number` is what `PoisonTracker.lane_number` says of this lane."""
        self.feed = feed
        self.number = number
        self.sending = 0
        """Requests on their way."""
        self.stopped = False
        """True when the subscription ends: nothing new starts."""
        self.stuck: set[Delivery] = set()
        """What cannot be parked: as long as this lane has any, nothing new starts, for it could
        only get stuck too.
        """
        self.queued = False
        """As `Schedulable.queued`."""
        self._suspended = False
        self._lanes = lanes
        self._handler = handler
        self._gate = gate
        self._clock = clock
        self._concurrency = concurrency
        self._scheduler = scheduler or FairScheduler()
        self._deliveries: dict[int, Delivery] = {}
        """By identity of the record, as `lanes` tells them apart."""
        self._claims: dict[int, tuple[str, int]] = {}
        self._claimed: set[tuple[str, int]] = set()
        self._ready: deque[Delivery] = deque()
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._revocations: list[tuple[frozenset[Partition], Callable[[], None]]] = []

    def __repr__(self) -> str:
        return (
            f"<Lane {len(self._ready)} ready, {self.sending} sending, {len(self._waiting)} waiting,"
            f" {len(self._deliveries)} in hand>"
        )

    def offer(self, records: Sequence[StoredRecord]) -> None:
        """Take records that are to be sent, in partition order."""
        self._make_ready(self._lanes.offer(records))
        self.pump()

    def track(self, delivery: Delivery) -> None:
        """Take a delivery that needs no turn: it is being parked."""
        self._deliveries[id(delivery.record)] = delivery

    def claim(self, record: StoredRecord, origin: str, attempt: int) -> bool:
        """Before a retry record is offered: whether it is the only one of this event and attempt
        that is here.
        """
        claim = (origin, attempt)
        if claim in self._claimed:
            return False
        self._claims[id(record)] = claim
        self._claimed.add(claim)
        return True

    def pump(self) -> None:
        """Have what is ready sent, when it is this lane's turn."""
        if self._ready:
            self._scheduler.schedule(self)

    @property
    def idle(self) -> bool:
        """As `Schedulable.idle`."""
        return not self.sending

    def send(self, requests_max: int) -> int:
        """Send what is ready, as far as the gate lets through; whoever closed it pumps again."""
        ready, gate, send = self._ready, self._gate, self._handler.send
        sent = 0
        held = self.stopped or self._suspended
        while (
            ready and sent < requests_max and not held and not self.stuck and gate.enter(ready[0])
        ):
            sent += 1
            self.sending += 1
            send(ready.popleft())
        return sent

    def observe_latency(self, seconds: float) -> None:
        """An answer took this long: allow more or fewer at a time."""
        if self._concurrency is not None and self._concurrency.answered(seconds):
            limit = self._concurrency.limit
            if self._concurrency.decide(queued=self._lanes.waiting > 0) != limit:
                self._make_ready(self._lanes.resize(self._concurrency.limit))

    def answered(self, delivery: Delivery) -> None:
        """The attempt is over, whatever it brought."""
        delivery.request = None
        self.sending -= 1
        self._gate.leave(delivery)

    def finish(self, delivery: Delivery) -> None:
        """Delivered, or parked: the record is done, the next of its key may start."""
        if not delivery.abandoned:
            self._untrack(delivery.record)
            self.feed.done(delivery.record)
        self._make_ready(self._lanes.finished(delivery.record))
        if self._revocations:
            self._complete_revocations()
        self.pump()

    def finish_if_abandoned(self, delivery: Delivery) -> bool:
        """Whether this delivery went with its partition while a record was being stored for it:
        then it ends here and frees its place.

        The next owner has the event anew; a record stored for it now would double it.
        """
        if delivery.abandoned:
            delivery.step(AttemptEvent.WITHDRAW)
            self.finish(delivery)
        return delivery.abandoned

    def wait(self, delivery: Delivery, seconds: float) -> None:
        """Keep the delivery in place and try again after this time; the followers of its key wait
        with it.
        """
        record = delivery.record
        if delivery.leaving:
            self._untrack(delivery.record)
            self._make_ready(self._lanes.finished(record))
            self._complete_revocations()
        else:
            self._schedule(delivery, seconds)
            self._make_ready(self._lanes.hold(record))
        self.pump()

    def resend(self, delivery: Delivery) -> None:
        """Go on with this delivery at once: it has another request to make, and that is nothing
        new, even for a lane that has stopped.
        """
        self._gate.enter(delivery)  # lets through whatever does not go to the subscriber
        self.sending += 1
        self._handler.send(delivery)

    def withdraw(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Start nothing more of these partitions; call `drained` once nothing of them is being
        sent or parked.
        """
        gone = frozenset(partitions)
        self._drop_waiting(gone)
        for delivery in self._deliveries.values():
            if delivery.partition in gone:
                delivery.leaving = True
        self._revocations.append((gone, drained))
        self._complete_revocations()
        self.pump()

    def abandon(self, partitions: Collection[Partition]) -> None:
        """Drop everything of these partitions at once, requests on their way included."""
        gone = frozenset(partitions)
        self._drop_waiting(gone)
        for delivery in [each for each in self._deliveries.values() if each.partition in gone]:
            delivery.leaving = delivery.abandoned = True
            self.stuck.discard(delivery)
            self._untrack(delivery.record)
            if delivery.request is not None:
                delivery.request.cancel()
                self.answered(delivery)
                self._gate.withdraw(delivery)
                self._make_ready(self._lanes.finished(delivery.record))
        self._complete_revocations()
        self.pump()

    def set_suspended(self, suspended: bool) -> None:
        """Start nothing while it is doubtful whose these records are."""
        self._suspended = suspended
        if not suspended:
            self.pump()

    def close(self) -> None:
        """Drop everything in hand; the feed has stopped."""
        self.stopped = True
        self.abandon({delivery.partition for delivery in self._deliveries.values()})
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_ready(self, records: Sequence[StoredRecord]) -> None:
        """Make ready what may start; a delivery that is not due yet rests and makes room for the
        next.
        """
        queue = deque(records)
        while queue:
            record = queue.popleft()
            delivery = self._deliveries.get(id(record))
            if delivery is None:
                delivery = self._deliveries[id(record)] = Delivery(self, record)
                seconds = self._handler.prepare(delivery)
                if seconds > 0.0:
                    self._schedule(delivery, seconds)
                    queue.extend(self._lanes.hold(record))
                    continue
            self._ready.append(delivery)
        if self._lanes.pressure:
            self._apply_pressure()

    def _apply_pressure(self) -> None:
        """A key with too many followers pauses its partition: here order outranks isolation."""
        for pressure in self._lanes.pressure:
            (self.feed.pause if pressure.full else self.feed.resume)(pressure.partition)
        self._lanes.pressure.clear()

    def _untrack(self, record: StoredRecord) -> None:
        self._deliveries.pop(id(record), None)
        if self._claims and (claim := self._claims.pop(id(record), None)):
            self._claimed.discard(claim)

    def _drop_waiting(self, gone: frozenset[Partition]) -> None:
        """Drop what waits of these partitions, here and in the lanes."""
        held = [delivery for delivery in self._ready if delivery.partition in gone]
        self._ready = deque(delivery for delivery in self._ready if delivery.partition not in gone)
        self._waiting = [entry for entry in self._waiting if entry[2].partition not in gone]
        heapq.heapify(self._waiting)
        for record in self._lanes.withdraw(gone).waiting:
            self._untrack(record)
        for delivery in held:
            self._untrack(delivery.record)
            self._make_ready(self._lanes.finished(delivery.record))

    def _complete_revocations(self) -> None:
        if not self._revocations:
            return
        busy = {delivery.partition for delivery in self._deliveries.values()}
        waiting, self._revocations = self._revocations, []
        for gone, drained in waiting:
            if gone & busy:
                self._revocations.append((gone, drained))
            else:
                drained()

    def _schedule(self, delivery: Delivery, seconds: float) -> None:
        self._sequence += 1
        entry = (self._clock.monotonic() + seconds, self._sequence, delivery)
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            # Not less than a millisecond: timers that fire a little early would be armed again and
            # again until they are due.
            delay = max(0.001, self._waiting[0][0] - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._make_ready(self._lanes.release(heapq.heappop(self._waiting)[2].record))
        self._arm()
        self.pump()
