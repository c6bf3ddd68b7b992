"""One event on its way to one subscriber, and what a lane needs of the code that sends it.

A `Delivery` is created when its record may start. It ends in exactly one of four ways: delivered,
replaced (the retry or dead letter record that takes its place is stored), handed back to the feed
(revoked, lost, stopped), or unfinished when the process dies. Only the first two are reported to
the feed.
"""

from collections.abc import Callable
from typing import Final, Protocol

from headrace.domain.attempt import AttemptEvent, AttemptState, after
from headrace.domain.delivery import DeadLetterReason, Outcome
from headrace.domain.ports import Attempt
from headrace.domain.record import Partition, Record, StoredRecord
from headrace.runtime.tracing import Span
from headrace_dispatcher.attempt_result import AttemptResult
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.retrying_log import PendingAppend

# Aliases: reading a member through its enum class takes ten times as long as reading a global, and
# there is one delivery per event.
_WAITING: Final = AttemptState.WAITING
_UNREADABLE: Final = DeadLetterReason.UNREADABLE


class Delivery:
    """The state of one event in one lane. Slotted and mutable: one is created per event on the hot
    path.

    The lane alone changes `state`, `request`, `append`, `leaving` and `abandoned`; a handler
    changes what travels with the event (attempts, reply, origin).
    """

    __slots__ = (
        "abandoned",
        "append",
        "attempts",
        "compiled",
        "first_failure_ms",
        "lane_number",
        "lease",
        "leaving",
        "origin",
        "record",
        "reply",
        "reply_attempts",
        "request",
        "sent_at",
        "span",
        "state",
        "undeliverable",
        "undeliverable_reason",
        "url",
    )

    def __init__(self, lane_number: int, record: StoredRecord) -> None:
        self.lane_number = lane_number
        """As `Lane.number`."""
        self.record = record
        self.attempts = 0
        """Attempts made so far, those of earlier processes included."""
        self.compiled: CompiledSubscription | None = None
        """What the subscription was when the last request was sent: a reply to it goes where that
        says, whatever the subscription has become. None before the first request, and while the
        event waits for another one.
        """
        self.first_failure_ms = 0
        self.origin = ""
        """`topic/partition/offset` in the channel; filled when first needed."""
        self.reply: Record | None = None
        """A reply still to be delivered: the subscriber has accepted the event."""
        self.reply_attempts = 0
        """Attempts made at an earlier reply that could not be kept; the count continues with the
        next reply.
        """
        self.lease: object = None
        """Keeps the memory of a large reply reserved, as `Outcome.lease`."""
        self.request: Attempt | None = None
        """The request in flight, None without one."""
        self.append: PendingAppend | None = None
        """The record being stored in the event's place, None without one."""
        self.url = ""
        """Where the last request went; the subscription may have changed before it is answered."""
        self.sent_at = 0.0
        """Monotonic seconds at which the request was sent."""
        self.span: Span | None = None
        """Of the last attempt, where traces are recorded (`traced_delivery_handler`)."""
        self.state: AttemptState = _WAITING
        self.leaving = False
        """The partition is being revoked: what is under way ends, nothing new starts."""
        self.abandoned = False
        """Another process owns the partition: nothing that follows is reported to the feed."""

        self.undeliverable = ""
        """Why this record becomes a dead letter without an attempt, empty when it does not."""
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
        """Change the state by the table of `headrace.domain.attempt`. Raises
        `IllegalTransition`.
        """
        self.state = after(self.state, step)


class DeliveryHandler(Protocol):
    """Sends the deliveries of a lane to a subscriber or a dead letter sink, and says what follows
    from each answer. It never changes the lane.
    """

    def prepare(self, delivery: Delivery) -> float:
        """Restore, once, the state stored with the record; return the seconds until its next
        attempt is due.
        """
        ...

    def send(self, delivery: Delivery, answered: Callable[[Outcome], None]) -> AttemptResult | None:
        """Start one attempt: set `delivery.request` to a request that calls `answered` once, and
        return None; or return the result at once where no request is needed.
        """
        ...

    def conclude(self, delivery: Delivery, outcome: Outcome) -> AttemptResult:
        """The request has ended with this outcome: return what follows."""
        ...
