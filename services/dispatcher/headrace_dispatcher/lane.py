"""A lane: the records of one feed from being handed out to being done.

Records come in from a feed listener (channel, retry or dead letter); `Feed.done` calls go out. In
between, a delivery is ready, being sent, waiting in place for its next attempt, or being stored
elsewhere. A lane never holds more than its feed's bounds, because the feed stops handing out
records. It starts new attempts only while its concurrency and the subscription's gate allow.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, Protocol

from headrace.domain.attempt import AttemptEvent, AttemptState
from headrace.domain.concurrency import Concurrency
from headrace.domain.delivery import Outcome
from headrace.domain.errors import HeadraceError, Permanent
from headrace.domain.lanes import Lanes
from headrace.domain.ports import Clock, Feed
from headrace.domain.record import Partition, StoredRecord
from headrace_dispatcher.attempt_result import (
    COMPLETED,
    AttemptResult,
    Completed,
    Resend,
    Store,
    StoreReply,
    WaitInPlace,
)
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.delivery import Delivery, DeliveryHandler
from headrace_dispatcher.fair_scheduler import FairScheduler
from headrace_dispatcher.pending_revocations import PendingRevocations
from headrace_dispatcher.retrying_log import RetryingLog

# Aliases of what is read for each event: reading a member through its enum class takes ten times as
# long as reading a global.
_SEND: Final = AttemptEvent.SEND
_DELIVERED: Final = AttemptEvent.DELIVERED
_SENDING: Final = AttemptState.SENDING
_STORING: Final = AttemptState.STORING
_STUCK: Final = AttemptState.STUCK


class Gate(Protocol):
    """What, in addition to its own concurrency, decides whether a lane may start an attempt."""

    def enter(self, delivery: Delivery) -> bool:
        """Take a place for this delivery, if there is one now. After a False the lane is pumped
        again when there may be one.
        """
        ...

    def answered(self, delivery: Delivery, outcome: Outcome) -> None:
        """Give the place back after an attempt; called before the delivery changes."""
        ...

    def withdraw(self, delivery: Delivery) -> None:
        """Give the place back without an outcome: no request was made, or it was cancelled."""
        ...


def _no_alarm(topic: str, error: HeadraceError | None) -> None:
    pass


def _no_observation(seconds: float) -> None:
    pass


class Lane:
    """The deliveries of one feed. Everything here runs on the event loop.

    `lanes` decides which record may start (order, concurrency); the gate may hold back what has
    started there, and `scheduler`, shared by all lanes of the process, decides when it is sent.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        lanes: Lanes,
        handler: DeliveryHandler,
        gate: Gate,
        clock: Clock,
        retrying_log: RetryingLog,
        concurrency: Concurrency | None = None,
        scheduler: FairScheduler | None = None,
        number: int = 0,
        alarm: Callable[[str, HeadraceError | None], None] = _no_alarm,
        observe_attempt: Callable[[float], None] = _no_observation,
    ) -> None:
        """`number` is the `PoisonTracker.lane_number` of this lane. `alarm` is called with topic
        and error when a record cannot be stored and the lane stops, and with None when one that
        was stuck is stored or revoked. `observe_attempt` is called with the seconds that each
        request took, except for those of replies.
        """
        self.feed = feed
        self.number = number
        self.sending = 0
        """Requests in flight."""
        self.stopped = False
        """True when the subscription ends: nothing new starts."""
        self.stuck: set[Delivery] = set()
        """What cannot be stored: while this lane has any, nothing new starts, for it could only get
        stuck too.
        """
        self.queued = False
        """As `Schedulable.queued`."""
        self._suspended = False
        self._lanes = lanes
        self._handler = handler
        self._gate = gate
        self._clock = clock
        self._log = retrying_log
        self._alarm = alarm
        self._concurrency = concurrency
        self._observe_attempt = observe_attempt
        self._scheduler = scheduler or FairScheduler()
        self._deliveries: dict[int, Delivery] = {}
        """By identity of the record, as in `lanes`."""
        self._claims: dict[int, tuple[str, int]] = {}
        self._claimed: set[tuple[str, int]] = set()
        self._ready: deque[Delivery] = deque()
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._revocations = PendingRevocations()

    def __repr__(self) -> str:
        return (
            f"<Lane {len(self._ready)} ready, {self.sending} sending, {len(self._waiting)} waiting,"
            f" {len(self._deliveries)} held>"
        )

    # Records come in.

    def offer(self, records: Sequence[StoredRecord]) -> None:
        """Take records that are to be sent, in partition order."""
        self._make_ready(self._lanes.offer(records))
        self.pump()

    def end_unsent(self, delivery: Delivery, result: AttemptResult) -> None:
        """Take a delivery that is never sent; `result` says what becomes of it."""
        self._deliveries[id(delivery.record)] = delivery
        self._end(delivery, result)

    def claim(self, record: StoredRecord, origin: str, attempt: int) -> bool:
        """Reserve this event and attempt for a retry record before it is offered. False when
        another record of both is already here.
        """
        claim = (origin, attempt)
        if claim in self._claimed:
            return False
        self._claims[id(record)] = claim
        self._claimed.add(claim)
        return True

    # Attempts.

    @property
    def concurrency_limit(self) -> int:
        """Requests that may be in flight now; 0 if nothing limits them by latency."""
        return self._concurrency.limit if self._concurrency is not None else 0

    def pump(self) -> None:
        """Have what is ready sent, when it is this lane's turn."""
        if self._ready:
            self._scheduler.schedule(self)

    @property
    def idle(self) -> bool:
        """As `Schedulable.idle`."""
        return not self.sending

    def send(self, requests_max: int) -> int:
        """Send what is ready, as far as the gate allows; the gate pumps again when it opens."""
        ready, gate, start = self._ready, self._gate, self._start
        sent = 0
        held = self.stopped or self._suspended
        while (
            ready and sent < requests_max and not held and not self.stuck and gate.enter(ready[0])
        ):
            sent += 1
            start(ready.popleft())
        return sent

    def _start(self, delivery: Delivery) -> None:
        self.sending += 1
        delivery.sent_at = self._clock.monotonic()
        result = self._handler.send(delivery, partial(self._answered, delivery))
        if result is None and delivery.reply is None:
            delivery.step(_SEND)
            return
        if not delivery.undeliverable:
            delivery.step(AttemptEvent.SEND if delivery.reply is None else AttemptEvent.SEND_REPLY)
        if result is not None:
            self.sending -= 1
            self._gate.withdraw(delivery)
            self._end(delivery, result)

    def _answered(self, delivery: Delivery, outcome: Outcome) -> None:
        delivery.request = None
        self.sending -= 1
        self._gate.answered(delivery, outcome)
        if delivery.reply is None:
            seconds = self._clock.monotonic() - delivery.sent_at
            self._observe_attempt(seconds)
            if self._concurrency is not None and outcome.status is not None:
                self._observe_latency(self._concurrency, seconds)
        result = self._handler.conclude(delivery, outcome)
        if result is COMPLETED and delivery.state is _SENDING:
            delivery.step(_DELIVERED)
            self._finish(delivery)
        else:
            self._end(delivery, result)

    def _observe_latency(self, concurrency: Concurrency, seconds: float) -> None:
        """Allow more or fewer requests at a time, by how long the last one took."""
        if concurrency.answered(seconds):
            limit = concurrency.limit
            if concurrency.decide(queued=self._lanes.waiting > 0) != limit:
                self._make_ready(self._lanes.resize(concurrency.limit))

    def uses(self, compiled: CompiledSubscription) -> bool:
        """Whether a request that was sent under this generation of the subscription, or the reply
        to it, is still under way.
        """
        return any(each.compiled is compiled for each in self._deliveries.values())

    # Results of attempts.

    def _end(self, delivery: Delivery, result: AttemptResult) -> None:
        match result:
            case Completed():
                self._complete(delivery)
            case WaitInPlace():
                self._wait(delivery, result)
            case Store():
                self._store(delivery, result)
            case StoreReply():
                self._store_reply(delivery, result)
            case Resend():
                delivery.step(AttemptEvent.REPLIED)
                delivery.step(AttemptEvent.HOLD)
                # Another request for the same event is nothing new, even for a stopped lane.
                self._start(delivery)

    def _complete(self, delivery: Delivery) -> None:
        """The record is done, by an answer or because another record is stored in its place."""
        delivery.lease = None
        if delivery.state is AttemptState.REPLYING:
            delivery.step(AttemptEvent.REPLY_STORED)
        elif delivery.state is _SENDING:
            delivery.step(_DELIVERED)
        else:
            if delivery.state is _STUCK:
                delivery.step(AttemptEvent.RELEASE)
                self.stuck.discard(delivery)
                self._alarm("", None)
            delivery.step(AttemptEvent.STORED)
        self._finish(delivery)

    def _finish(self, delivery: Delivery) -> None:
        """Report the record as done; the next of its key may start."""
        if not delivery.abandoned:
            self._untrack(delivery.record)
            self.feed.done(delivery.record)
        self._make_ready(self._lanes.finished(delivery.record))
        if self._revocations.entries:
            self._complete_revocations()
        self.pump()

    def _wait(self, delivery: Delivery, result: WaitInPlace) -> None:
        record = delivery.record
        delivery.step(AttemptEvent.HOLD)
        if result.note is not None:
            self.feed.annotate(record, result.note)
        if delivery.leaving:
            self._untrack(record)
            self._make_ready(self._lanes.finished(record))
            self._complete_revocations()
        else:
            self._schedule(delivery, result.seconds)
            self._make_ready(self._lanes.hold(record))
        self.pump()

    def _store(self, delivery: Delivery, store: Store) -> None:
        if delivery.state not in (_STORING, _STUCK):  # a smaller record replaces a refused one
            delivery.step(AttemptEvent.STORE)
        self._append(delivery, store, partial(self._store_ended, delivery, store))

    def _store_ended(self, delivery: Delivery, store: Store, error: HeadraceError | None) -> bool:
        """As `retrying_log.OnResult`."""
        if error is None:
            store.on_stored()
            self._complete(delivery)
            return False
        if delivery.abandoned:
            self._withdraw_append(delivery)
            return False
        if not isinstance(error, Permanent):
            return True
        if (instead := store.on_refused(error)) is not None:
            self._end(delivery, instead)
            return False
        if delivery.state is not _STUCK:
            delivery.step(AttemptEvent.STORE_REFUSED)
        self.stuck.add(delivery)
        self._alarm(store.topic, error)
        return True

    def _store_reply(self, delivery: Delivery, store: StoreReply) -> None:
        if delivery.state is _SENDING:  # else it waited, and `_start` has made the step
            delivery.step(AttemptEvent.REPLIED)
        self._append(delivery, store, partial(self._store_reply_ended, delivery, store))

    def _store_reply_ended(
        self, delivery: Delivery, store: StoreReply, error: HeadraceError | None
    ) -> bool:
        """As `retrying_log.OnResult`."""
        if error is None:
            store.on_stored()
            self._complete(delivery)
            return False
        if delivery.abandoned:
            self._withdraw_append(delivery)
            return False
        if not isinstance(error, Permanent):
            return True
        self._end(delivery, store.on_refused(error))
        return False

    def _append(
        self,
        delivery: Delivery,
        store: Store | StoreReply,
        on_result: Callable[[HeadraceError | None], bool],
    ) -> None:
        delivery.append = None
        pending = self._log.store(store.topic, store.record, on_result)
        if delivery.append is None:  # else it was refused at once, and another one follows it
            delivery.append = pending

    def _withdraw_append(self, delivery: Delivery) -> None:
        """End a delivery that was abandoned while a record was being stored in its place.

        The next owner receives the event again; a record stored now would duplicate it.
        """
        delivery.lease = None
        delivery.step(AttemptEvent.WITHDRAW)
        self._finish(delivery)
        self._alarm("", None)

    # Partitions are revoked or lost.

    def withdraw(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Start nothing more of these partitions; call `drained` once nothing of them is being sent
        or stored.
        """
        revoked = frozenset(partitions)
        self._drop_waiting(revoked)
        for delivery in self._deliveries.values():
            if delivery.partition in revoked:
                delivery.leaving = True
        self._revocations.add(revoked, drained)
        self._complete_revocations()
        self.pump()

    def abandon(self, partitions: Collection[Partition]) -> None:
        """Drop everything of these partitions at once, requests in flight included."""
        lost = frozenset(partitions)
        self._drop_waiting(lost)
        for delivery in [each for each in self._deliveries.values() if each.partition in lost]:
            delivery.leaving = delivery.abandoned = True
            self.stuck.discard(delivery)
            self._untrack(delivery.record)
            if delivery.request is not None:
                delivery.request.cancel()
                delivery.request = None
                self.sending -= 1
                self._gate.withdraw(delivery)
                self._make_ready(self._lanes.finished(delivery.record))
            elif delivery.append is not None and delivery.append.cancel():
                delivery.step(AttemptEvent.WITHDRAW)
                self._make_ready(self._lanes.finished(delivery.record))
                self._alarm("", None)
        self._complete_revocations()
        self.pump()

    def set_suspended(self, suspended: bool) -> None:
        """Start nothing while the ownership of the partitions is unconfirmed."""
        self._suspended = suspended
        if not suspended:
            self.pump()

    def close(self) -> None:
        """Drop everything; the feed has stopped."""
        self.stopped = True
        self.abandon({delivery.partition for delivery in self._deliveries.values()})
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_ready(self, records: Sequence[StoredRecord]) -> None:
        """Make ready what may start; a delivery that is not due yet is held and makes room for the
        next.
        """
        deliveries = self._deliveries
        while records:
            following: list[StoredRecord] = []
            for record in records:
                delivery = deliveries.get(id(record))
                if delivery is None:
                    delivery = deliveries[id(record)] = Delivery(self.number, record)
                    seconds = self._handler.prepare(delivery)
                    if seconds > 0.0:
                        self._schedule(delivery, seconds)
                        following += self._lanes.hold(record)
                        continue
                self._ready.append(delivery)
            records = following
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

    def _drop_waiting(self, revoked: frozenset[Partition]) -> None:
        """Drop what waits of these partitions, here and in the lanes."""
        held = [delivery for delivery in self._ready if delivery.partition in revoked]
        self._ready = deque(each for each in self._ready if each.partition not in revoked)
        self._waiting = [entry for entry in self._waiting if entry[2].partition not in revoked]
        heapq.heapify(self._waiting)
        for record in self._lanes.withdraw(revoked).waiting:
            self._untrack(record)
        for delivery in held:
            self._untrack(delivery.record)
            self._make_ready(self._lanes.finished(delivery.record))

    def _complete_revocations(self) -> None:
        if self._revocations.entries:
            self._revocations.complete({each.partition for each in self._deliveries.values()})

    # Deliveries that wait for their next attempt.

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
