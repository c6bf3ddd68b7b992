"""The intakes: what a feed hands out, sorted into what needs an attempt and what does not."""

from collections.abc import Callable, Collection, Sequence

import structlog

from headrace.codec import delivery_state, kafka
from headrace.domain.delivery import DeadLetterReason, Failure, Outcome
from headrace.domain.event import InvalidEvent
from headrace.domain.record import Partition, StoredRecord
from headrace.runtime.failpoints import stall_point, stall_points_armed
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.failure_handler import FailureHandler
from headrace_dispatcher.lane import Lane
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.poison_tracker import DEATHS_MAX, PoisonTracker, poison_key
from headrace_dispatcher.subscriber_handler import POISON, POISON_DETAIL, mark_undeliverable

log = structlog.stdlib.get_logger("headrace_dispatcher.feed_listeners")


class PoisonGuard:
    """What an intake has to know of records that hold the event loop up."""

    __slots__ = ("clear", "mark", "poison")

    def __init__(
        self, poison_tracker: PoisonTracker, poison: Collection[tuple[int, int]] = ()
    ) -> None:
        self.mark = poison_tracker.mark
        self.clear = poison_tracker.clear
        self.poison = poison
        """Partition and offset of what must not be worked on, as they are marked."""


class LaneFeedListener:
    """What all intakes do alike: partitions that go are for their lane to give back."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Give partitions back."""
        self.lane.withdraw(partitions, drained)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Partitions are gone."""
        self.lane.abandon(partitions)

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        """Whether partitions are ours is not certain, or is again."""
        self.lane.set_suspended(unconfirmed)


class ChannelListener(LaneFeedListener):
    """Listens to the channel topic: filters, and offers to the live lane what matches."""

    def __init__(
        self,
        *,
        lane: Lane,
        compiled: CompiledSubscription,
        metrics: SubscriptionMetrics,
        guard: PoisonGuard | None = None,
        misplaced: Callable[[], None] | None = None,
    ) -> None:
        """`misplaced` is called for each record that has its type of data in a header of an
        attribute.
        """
        super().__init__(lane)
        self.compiled = compiled
        self._metrics = metrics
        self._guard = guard or PoisonGuard(PoisonTracker())
        self._on_misplaced = misplaced

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch of one or more partitions."""
        self._metrics.received.value += len(records)
        try:
            matching = self._matching(records)
        finally:
            self._guard.clear()
        if matching:
            self.lane.offer(matching)

    def _matching(self, records: Sequence[StoredRecord]) -> list[StoredRecord]:
        """Those that go to the lane; the others are done."""
        metrics, feed, matches = self._metrics, self.lane.feed, self.compiled.filter.matches
        normalise, attributes_of = kafka.normalise, kafka.attributes
        mark, number, held = self._guard.mark, self.lane.number, stall_points_armed()
        poison = self._guard.poison
        matching: list[StoredRecord] = []
        misplaced = self._on_misplaced
        for record in records:
            if poison and (record.partition, record.offset) in poison:
                record.note = POISON
                matching.append(record)
                continue
            mark(number, record.partition, record.offset)
            if held:
                _stall("", record)
            try:
                binary = normalise(record, misplaced)
                attributes = attributes_of(binary.headers)
            except InvalidEvent as error:
                matching.append(
                    mark_undeliverable(record, f"the record is not a CloudEvent: {error}")
                )
                continue
            if (
                binary is not record
            ):  # The feed knows its records by identity: what was handed out must come back.
                record.headers, record.value = binary.headers, binary.value
            if matches(attributes):
                matching.append(record)
            else:
                metrics.filtered.value += 1
                feed.done(record)
        return matching


class RetryListener(LaneFeedListener):
    """Listens to the retry topic of one subscription: what is ours and new goes to the
    retry lane.
    """

    def __init__(
        self, lane: Lane, failures: FailureHandler, guard: PoisonGuard | None = None
    ) -> None:
        super().__init__(lane)
        self._failures = failures
        self._guard = guard or PoisonGuard(PoisonTracker())

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch."""
        try:
            taken = [record for record in records if self._accepts(record)]
        finally:
            self._guard.clear()
        self.lane.offer(taken)

    def _accepts(self, record: StoredRecord) -> bool:
        """Whether a retry record is ours and new; a stranger is parked, a repetition is done."""
        lane = self.lane
        key = poison_key(record)
        if key in self._guard.poison:
            self._dead_letter(
                record,
                DeadLetterReason.POISON,
                self._failures.subscription.subscriber.url,
                POISON_DETAIL,
            )
            return False
        self._guard.mark(lane.number, *key)
        if stall_points_armed():
            _stall("retry ", record)
        try:
            state = delivery_state.read(record.headers)
        except delivery_state.InvalidDeliveryState as error:
            self._dead_letter(record, DeadLetterReason.MISDIRECTED, "", str(error))
            return False
        if state.subscription != self._failures.subscription.uid:
            why = f"it belongs to subscription {state.subscription}, which had the same name"
            self._dead_letter(record, DeadLetterReason.MISDIRECTED, "", why)
            return False
        if not lane.claim(record, state.origin, state.attempt):
            lane.feed.done(record)
            return False
        try:
            _make_binary(record)
        except InvalidEvent as error:  # Somebody else wrote it: we park events only.
            mark_undeliverable(record, f"the record is not a CloudEvent: {error}")
        return True

    def _dead_letter(
        self, record: StoredRecord, reason: DeadLetterReason, url: str, why: str
    ) -> None:
        delivery = Delivery(self.lane.number, record)
        self.lane.end_unsent(
            delivery,
            self._failures.dead_letter(
                delivery, Outcome(failure=Failure.PROTOCOL), reason, url, why
            ),
        )


class DeadLetterListener(LaneFeedListener):
    """Listens to the dead letter topic of one subscription, when there is a sink: every letter that
    is an event goes to its lane.

    What is no event stays in the topic and is done here: it could only be refused, and would take
    the room of letters that are taken.
    """

    def __init__(
        self, lane: Lane, metrics: SubscriptionMetrics, guard: PoisonGuard | None = None
    ) -> None:
        super().__init__(lane)
        self._metrics = metrics
        self._guard = guard or PoisonGuard(PoisonTracker())

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch."""
        try:
            dead_letters = [record for record in records if self._accepts(record)]
        finally:
            self._guard.clear()
        if dead_letters:
            self.lane.offer(dead_letters)

    def _accepts(self, record: StoredRecord) -> bool:
        """Whether a letter can be posted: not one that stalls the event loop, that the sink has
        rejected, or that is no event.
        """
        key = poison_key(record)
        if key in self._guard.poison:
            self._log_poison(record)
        else:
            self._guard.mark(self.lane.number, *key)
            if stall_points_armed():
                _stall("letter ", record)
            if not delivery_state.is_rejected(record.headers):
                try:
                    _make_binary(record)
                except InvalidEvent:
                    self._metrics.not_events.value += 1
                else:
                    return True
        self.lane.feed.done(record)
        return False

    def _log_poison(self, record: StoredRecord) -> None:
        log.error(
            "dead_letter_not_posted",
            record=record.origin,
            reason=(
                f"the event loop stood still on this dead letter more than {DEATHS_MAX} times; it"
                " stays in its topic"
            ),
            next_step="read it with headrace dead-letters",
        )


def _stall(prefix: str, record: StoredRecord) -> None:
    """For tests only: the place at which an event may hold the loop up."""
    for name, value in record.headers:
        if name == "ce_id":
            stall_point(prefix + value.decode("utf-8", "replace"))


def _make_binary(record: StoredRecord) -> None:
    """Bring a record into binary mode in place, for the feed knows its records by identity. Raises
    `InvalidEvent`.
    """
    binary = kafka.normalise(record)
    kafka.attributes(binary.headers)
    if binary is not record:
        record.headers, record.value = binary.headers, binary.value
