"""The intakes: what a feed hands out, sorted into what needs an attempt and what does not."""

from collections.abc import Callable, Collection, Sequence

from headrace.codec import kafka, parked
from headrace.domain.delivery import Failure, Outcome, Reason
from headrace.domain.event import InvalidEvent
from headrace.domain.record import Partition, StoredRecord
from headrace_dispatcher.counts import Counts
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.lane import Lane
from headrace_dispatcher.parking import Parking
from headrace_dispatcher.rules import Rules
from headrace_dispatcher.subscriber import mark_unfit


class Intake:
    """What all intakes do alike: partitions that go are for their lane to give back."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    def on_revoked(self, partitions: Collection[Partition], returned: Callable[[], None]) -> None:
        """Give partitions back."""
        self.lane.withdraw(partitions, returned)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Partitions are gone."""
        self.lane.abandon(partitions)

    def on_doubt(self, doubted: bool) -> None:
        """Whether partitions are ours is not certain, or is again."""
        self.lane.doubt(doubted)


class LiveIntake(Intake):
    """Listens to the channel topic: filters, and offers to the live lane what matches."""

    def __init__(self, *, lane: Lane, rules: Rules, counts: Counts) -> None:
        super().__init__(lane)
        self.rules = rules
        self._counts = counts

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch of one or more partitions."""
        counts, feed, matches = self._counts, self.lane.feed, self.rules.filter.matches
        normalise, attributes_of = kafka.normalise, kafka.attributes
        counts.received.value += len(records)
        matching: list[StoredRecord] = []
        for record in records:
            try:
                binary = normalise(record)
                attributes = attributes_of(binary.headers)
            except InvalidEvent as error:
                matching.append(mark_unfit(record, f"the record is not a CloudEvent: {error}"))
                continue
            if binary is not record:  # The feed knows its records by identity: what was handed out must come back.
                record.headers, record.value = binary.headers, binary.value
            if matches(attributes):
                matching.append(record)
            else:
                counts.filtered.value += 1
                feed.done(record)
        if matching:
            self.lane.offer(matching)


class RetryIntake(Intake):
    """Listens to the retry topic of one subscription: what is ours and new goes to the retry lane."""

    def __init__(self, lane: Lane, parking: Parking) -> None:
        super().__init__(lane)
        self._parking = parking

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch."""
        self.lane.offer([record for record in records if self._takes(record)])

    def _takes(self, record: StoredRecord) -> bool:
        """Whether a retry record is ours and new; a stranger is parked, a repetition is done."""
        lane = self.lane
        try:
            state = parked.read(record.headers)
        except parked.NotParked as error:
            self._park_stranger(record, str(error))
            return False
        if state.subscription != self._parking.subscription.uid:
            self._park_stranger(record, f"it belongs to subscription {state.subscription}, which had the same name")
            return False
        if not lane.claim(record, state.origin, state.attempt):
            lane.feed.done(record)
            return False
        return True

    def _park_stranger(self, record: StoredRecord, why: str) -> None:
        delivery = Delivery(self.lane, record)
        self.lane.adopt(delivery)
        self._parking.bury(delivery, Outcome(failure=Failure.PROTOCOL), Reason.MISDIRECTED, "", why)


class LetterIntake(Intake):
    """Listens to the dead letter topic of one subscription, when there is a sink: every letter goes to its lane."""

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take a batch."""
        self.lane.offer(records)
