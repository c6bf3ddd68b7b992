"""One event on its way to one subscriber, and what the lanes need of whoever sends it.

A `Delivery` is made when its turn comes and ends in exactly one of four ways: delivered, parked
(the record that takes its place is stored), handed back to the feed (revoked, lost, stopped), or
still in hand when the process dies. Only the first two are told to the feed.
"""

from typing import TYPE_CHECKING, Final, Protocol

from headrace.domain.attempt import AttemptEvent, AttemptState, after
from headrace.domain.delivery import DeadLetterReason
from headrace.domain.ports import Attempt
from headrace.domain.record import Partition, Record, StoredRecord

if TYPE_CHECKING:
    from headrace_dispatcher.lane import Lane

# Aliases: reading a member through its enum class takes ten times as long as reading a global, and
# there is one delivery per event.
_WAITING: Final = AttemptState.WAITING
_UNREADABLE: Final = DeadLetterReason.UNREADABLE


class Delivery:
    """The state of one event in one lane. Slotted and mutable: one is made per event on the hot
    path.
    """

    __slots__ = (
        "abandoned",
        "attempts",
        "first_failure_ms",
        "lane",
        "lease",
        "leaving",
        "origin",
        "record",
        "reply",
        "reply_attempts",
        "request",
        "sent_at",
        "state",
        "undeliverable",
        "undeliverable_reason",
    )

    def __init__(self, lane: "Lane", record: StoredRecord) -> None:
        self.lane = lane
        self.record = record
        self.attempts = 0
        """Attempts made so far, those of earlier lives of the process included."""
        self.first_failure_ms = 0
        self.origin = ""
        """`topic/partition/offset` in the channel; filled when first needed."""
        self.reply: Record | None = None
        """A reply still to be delivered: the subscriber has done its work."""
        self.reply_attempts = 0
        """Attempts made at an earlier reply that could not be kept: those of the next go on from
        there.
        """
        self.lease: object = None
        """Keeps the memory of a large reply reserved, as `Outcome.lease`."""
        self.request: Attempt | None = None
        """The request on its way, None while nothing is."""
        self.sent_at = 0.0
        """Monotonic seconds at which the request went out."""
        self.state: AttemptState = _WAITING
        self.leaving = False
        """The partition is being given back: what is under way ends, nothing new starts."""
        self.abandoned = False
        """The partition belongs to somebody else already: whatever happens next is not told to the
        feed.
        """

        self.undeliverable = ""
        """Why this record goes to the dead letters without an attempt, empty when it does not."""
        self.undeliverable_reason: DeadLetterReason = _UNREADABLE

    def __repr__(self) -> str:
        return (
            f"<Delivery {self.identity} attempt {self.attempts}"
            f" {self.state}{' leaving' if self.leaving else ''}>"
        )

    @property
    def identity(self) -> str:
        """The origin of the event: the same in every topic it passes through."""
        return self.origin or self.record.origin

    @property
    def partition(self) -> Partition:
        """Where its record was read."""
        return Partition(self.record.topic, self.record.partition)

    def step(self, step: AttemptEvent) -> None:
        """Move on, by the table of `headrace.domain.attempt`. Raises `IllegalTransition`."""
        self.state = after(self.state, step)


class DeliveryHandler(Protocol):
    """Where the deliveries of a lane go: a subscriber, or a dead letter sink."""

    def prepare(self, delivery: Delivery) -> float:
        """Restore what an earlier life left with the record, once; the seconds until its next
        attempt is due.
        """
        ...

    def send(self, delivery: Delivery) -> None:
        """Start one attempt; its end must reach `Lane.answered`, then one of `Lane.finish`,
        `Lane.wait` or a stored parking record.
        """
        ...
