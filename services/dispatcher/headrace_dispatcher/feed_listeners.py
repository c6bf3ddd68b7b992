"""The listeners of the three feeds: they sort records into those that need an attempt and those
that do not.
"""

from collections.abc import Callable, Collection, Sequence

import structlog

from headrace.codec import delivery_state, kafka
from headrace.domain.delivery import DeadLetterReason, Failure, Outcome
from headrace.domain.event import InvalidEvent
from headrace.domain.record import Partition, StoredRecord
from headrace.runtime.failpoints import stall_point, stall_points_armed
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.lane import Lane
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.poison_tracker import DEATHS_MAX, PoisonTracker, poison_key
from headrace_dispatcher.retry_or_dead_letter import RetryOrDeadLetter
from headrace_dispatcher.subscriber_handler import POISON, POISON_DETAIL, mark_undeliverable

logger = structlog.get_logger(__name__)


class PoisonGuard:
    """What a listener needs to detect records that stall the event loop."""

    __slots__ = ("clear", "mark", "poison")

    def __init__(
        self, poison_tracker: PoisonTracker, poison: Collection[tuple[int, int]] = ()
    ) -> None:
        self.mark = poison_tracker.mark
        self.clear = poison_tracker.clear
        self.poison = poison
        """Partition and offset of what must not be processed, as they are marked."""


class LaneFeedListener:
    """What all listeners have in common: the lane returns the partitions that are revoked."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Give partitions back."""
        self.lane.withdraw(partitions, drained)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Partitions are lost."""
        self.lane.abandon(partitions)

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        """The ownership of the partitions is unconfirmed, or confirmed again."""
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
        """`misplaced` is called for each record that has a header `ce_datacontenttype`."""
        super().__init__(lane)
        self.compiled = compiled
        self._metrics = metrics
        self._guard = guard or PoisonGuard(PoisonTracker())
        self._on_misplaced = misplaced
        self._skipped = 0

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Give partitions back."""
        self._metrics.rebalances.value += 1
        super().on_revoked(partitions, drained)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Partitions are lost."""
        self._metrics.rebalances.value += 1
        super().on_lost(partitions)

    def count_skipped(self) -> None:
        """Count the events that the feed has skipped since the last call: they did not match."""
        skipped = self.lane.feed.skipped - self._skipped
        self._skipped += skipped
        self._metrics.received.value += skipped
        self._metrics.filtered.value += skipped

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
            if record.examined and not held:  # The feed has applied the filter.
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
            if binary is not record:  # The feed identifies its records by object identity.
                record.headers, record.value = binary.headers, binary.value
            if matches(attributes):
                matching.append(record)
            else:
                metrics.filtered.value += 1
                feed.done(record)
        return matching


class RetryListener(LaneFeedListener):
    """Listens to the retry topic of one subscription: its own new records go to the retry lane."""

    def __init__(
        self, lane: Lane, failures: RetryOrDeadLetter, guard: PoisonGuard | None = None
    ) -> None:
        super().__init__(lane)
        self._failures = failures
        self._guard = guard or PoisonGuard(PoisonTracker())

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch."""
        try:
            taken = [record for record in records if self._take(record)]
        finally:
            self._guard.clear()
        self.lane.offer(taken)

    def _take(self, record: StoredRecord) -> bool:
        """Take a retry record: True when it needs an attempt. A record of another subscription
        becomes a dead letter, a repetition is done.
        """
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
        except InvalidEvent as error:  # Written by another program.
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
    """Listens to the dead letter topic of one subscription, when there is a sink: every dead letter
    that is an event goes to its lane.

    What is no event stays in the topic and is done here: it could only be refused, and would use
    up the bounds that other dead letters need.
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
            dead_letters = [record for record in records if self._take(record)]
        finally:
            self._guard.clear()
        if dead_letters:
            self.lane.offer(dead_letters)

    def _take(self, record: StoredRecord) -> bool:
        """Take a dead letter: True when it can be posted. One that stalls the event loop, that the
        sink has rejected, or that is no event is done.
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
        logger.error(
            "dead_letter_not_posted",
            origin=record.origin,
            error=(
                f"the event loop stalled on this dead letter more than {DEATHS_MAX} times; it"
                " stays in its topic"
            ),
            next_step="read it with headrace dead-letters",
        )


def _stall(prefix: str, record: StoredRecord) -> None:
    """For tests only: where an event may stall the loop."""
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
