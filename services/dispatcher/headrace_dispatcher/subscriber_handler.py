"""Delivers events to their subscriber: builds the request, reads the answer, forwards the
reply.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from headrace.codec import delivery_state, http, json_event, kafka
from headrace.domain.delivery import DeadLetterReason, Failure, Outcome
from headrace.domain.errors import HeadraceError, RecordTooLarge
from headrace.domain.event import InvalidEvent
from headrace.domain.observed_event_types import EventTypeObserver
from headrace.domain.record import Record, StoredRecord
from headrace.domain.reply_loops import HELD_SECONDS_MAX, extend
from headrace.domain.routing import Reply
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_dispatcher.attempt_result import COMPLETED, RESEND, AttemptResult, StoreReply
from headrace_dispatcher.compiled_subscription import CompiledSubscription
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.poison_tracker import DEATHS_MAX, poison_key
from headrace_dispatcher.reply_loop_guard import ReplyLoopGuard
from headrace_dispatcher.retry_or_dead_letter import RetryOrDeadLetter

UNDELIVERABLE = "!"
"""Prefix of the note that a listener puts on a record which is no CloudEvent; the rest says why."""

ALWAYS_ACCEPTED_BYTES = 65_536
"""Every destination accepts a reply whose body is not larger; its limit need not be looked up."""
POISON = "?poison"
"""The note that a listener puts on a record which must not be processed."""
POISON_DETAIL = (
    f"the event loop stalled on this record more than {DEATHS_MAX} times; it was copied here"
    " without being read"
)

_REPLY_REASON_OF = {
    DeadLetterReason.EXHAUSTED: DeadLetterReason.REPLY_EXHAUSTED,
    DeadLetterReason.REJECTED: DeadLetterReason.REPLY_REJECTED,
}
_INVALID_REPLY = {DeadLetterReason.EXHAUSTED: DeadLetterReason.REPLY_INVALID}

# Aliases of what is read for each event: reading a member through its enum class takes ten times as
# long as reading a global.
_BEFORE_POST: Final = Failpoint.BEFORE_POST
_AFTER_POST: Final = Failpoint.AFTER_POST


class SubscriberHandler:
    """Sends the deliveries of the channel lane and the retry lane of one subscription."""

    def __init__(
        self,
        *,
        compiled: CompiledSubscription,
        failures: RetryOrDeadLetter,
        metrics: SubscriptionMetrics,
        context: DispatcherContext,
        loop_guard: ReplyLoopGuard,
    ) -> None:
        self.compiled = compiled
        self.types: EventTypeObserver | None = None
        """Records the types of replies; None when the subscription does not ask for it."""
        self._failures = failures
        self._metrics = metrics
        self._clock = context.clock
        self._loop_guard = loop_guard
        self._hops_max = context.limits.hops_max
        self._reply_limit = context.reply_limit
        poison_tracker = context.poison_tracker
        self._mark_position, self._clear_mark = poison_tracker.mark, poison_tracker.clear

    def prepare(self, delivery: Delivery) -> float:
        """As `DeliveryHandler.prepare`."""
        record = delivery.record
        if record.note is not None:
            return self._restore_note(delivery, record.note)
        if record.topic != self.compiled.subscription.topic:
            self._mark_position(delivery.lane_number, *poison_key(record))
            try:
                return self._restore_delivery_state(delivery)
            finally:
                self._clear_mark()
        return 0.0

    def _restore_note(self, delivery: Delivery, note: str) -> float:
        if note.startswith(UNDELIVERABLE):
            delivery.undeliverable = note[len(UNDELIVERABLE) :]
            return 0.0
        if note == POISON:
            delivery.undeliverable = POISON_DETAIL
            delivery.undeliverable_reason = DeadLetterReason.POISON
            return 0.0
        try:
            attempts, first_failure_ms, due_ms = (int(part) for part in note.split(":"))
        except ValueError:
            # Written by another version: the event starts its policy again.
            return 0.0
        delivery.attempts, delivery.first_failure_ms = max(attempts, 0), max(first_failure_ms, 0)
        return max(0.0, due_ms / 1000 - self._clock.now())

    def _restore_delivery_state(self, delivery: Delivery) -> float:
        try:
            state = delivery_state.read(delivery.record.headers)
        except delivery_state.InvalidDeliveryState:
            # The retry listener refuses such records: this is one of a channel topic that the
            # subscription has left.
            return 0.0
        delivery.attempts = state.attempt
        delivery.first_failure_ms = state.first_failure_ms
        delivery.origin = state.origin
        delivery.reply_attempts = state.reply_attempts
        if state.reply is not None:
            try:
                delivery.reply = self._with_chain_headers(
                    kafka.record(json_event.read(state.reply)), delivery.record
                )
            except InvalidEvent as error:
                delivery.undeliverable = f"the reply stored with it cannot be read: {error}"
                return 0.0
        return max(0.0, state.due_ms / 1000 - self._clock.now())

    def send(self, delivery: Delivery, answered: Callable[[Outcome], None]) -> AttemptResult | None:
        """As `DeliveryHandler.send`: to the subscriber, or to the reply's destination when the
        subscriber has accepted the event.
        """
        if delivery.undeliverable:
            return self._undeliverable(delivery, delivery.undeliverable)
        delivery.attempts += 1
        if delivery.reply is not None:
            return self._send_reply(delivery, delivery.reply, answered)
        delivery.compiled = compiled = self.compiled
        self._mark(delivery)
        try:
            headers, body = compiled.request(delivery.record, delivery.origin)
        except InvalidEvent as error:
            # Only a record that another program wrote into the retry topic.
            return self._undeliverable(
                delivery, f"the record cannot be sent in the subscription's format: {error}"
            )
        finally:
            self._clear_mark()
        failpoint(_BEFORE_POST)
        subscription = compiled.subscription
        delivery.url = subscription.subscriber.url
        delivery.request = compiled.target.post(
            headers, body, timeout_seconds=subscription.delivery.timeout_seconds, answered=answered
        )
        return None

    def _mark(self, delivery: Delivery) -> None:
        record = delivery.record
        if delivery.origin:
            self._mark_position(delivery.lane_number, *poison_key(record))
        else:
            self._mark_position(delivery.lane_number, record.partition, record.offset)

    def _undeliverable(self, delivery: Delivery, detail: str) -> AttemptResult:
        reason = delivery.undeliverable_reason
        url = self.compiled.subscription.subscriber.url if reason is DeadLetterReason.POISON else ""
        return self._failures.dead_letter(
            delivery, Outcome(failure=Failure.PROTOCOL), reason, url, detail
        )

    def conclude(self, delivery: Delivery, outcome: Outcome) -> AttemptResult:
        """As `DeliveryHandler.conclude`."""
        status = outcome.status
        if delivery.reply is not None:
            if status is None or not 200 <= status < 300:
                return self._failures.handle(delivery, outcome, delivery.url, _as_reply_reason)
            self._reply_delivered(delivery)
            return COMPLETED
        self._metrics.attempt(outcome)
        if status is None or not 200 <= status < 300:
            return self._failures.handle(delivery, outcome, delivery.url)
        if status != 202 and (outcome.body or _has_attributes(outcome.headers)):
            return self._handle_reply(delivery, status, outcome)
        return self._delivered(delivery)

    def _delivered(self, delivery: Delivery) -> AttemptResult:
        failpoint(_AFTER_POST)
        self._metrics.observe_delivery(self._clock.now() - delivery.record.timestamp_ms / 1000)
        return COMPLETED

    def _reply_delivered(self, delivery: Delivery) -> None:
        failpoint(Failpoint.AFTER_REPLY)
        self._metrics.replies_stored.value += 1
        self._metrics.observe_delivery(self._clock.now() - delivery.record.timestamp_ms / 1000)

    def _handle_reply(self, delivery: Delivery, status: int, outcome: Outcome) -> AttemptResult:
        """A CloudEvent in a 2xx answer other than 202 (data plane D16) is forwarded; anything else
        in it fails the delivery.
        """
        destination = self._compiled_for(delivery).subscription.reply
        if outcome.truncated and http.may_be_reply(status, outcome.headers):
            return self._reply_too_large(delivery, destination)
        self._mark(delivery)
        try:
            reply = http.read_reply(status, outcome.headers, outcome.body)
        except InvalidEvent as error:
            failed = Outcome(
                failure=Failure.PROTOCOL, detail=f"malformed reply: {error}", body=outcome.body
            )
            return self._failures.handle(
                delivery, failed, delivery.url, lambda reason: _INVALID_REPLY.get(reason, reason)
            )
        finally:
            self._clear_mark()
        if reply is None:
            return self._delivered(delivery)
        if destination is None:
            self._metrics.replies_dropped.value += 1
            return self._delivered(delivery)
        if (
            len(outcome.body) > ALWAYS_ACCEPTED_BYTES
            and reply.size > self._reply_limit(destination).event_bytes
        ):
            return self._reply_too_large(delivery, destination)
        delivery.lease = outcome.lease
        return self._forward_reply(delivery, reply, destination)

    def _compiled_for(self, delivery: Delivery) -> CompiledSubscription:
        """What applies to the reply: it ends as its request began. One that has waited goes where
        replies go now.
        """
        return delivery.compiled or self.compiled

    def _reply_too_large(self, delivery: Delivery, destination: Reply | None) -> AttemptResult:
        """No retry: the subscriber would answer the same again."""
        if destination is None:
            self._metrics.replies_dropped.value += 1
            return self._delivered(delivery)
        detail = (
            f"the reply is larger than the {self._reply_limit(destination).event_bytes} bytes that"
            " its destination accepts"
        )
        return self._failures.dead_letter(
            delivery,
            Outcome(failure=Failure.PROTOCOL, detail=detail),
            DeadLetterReason.REPLY_REJECTED,
            _address(destination),
            detail,
        )

    def _forward_reply(
        self, delivery: Delivery, reply: Record, destination: Reply
    ) -> AttemptResult:
        hops = _hops(delivery.record)
        if hops > self._hops_max:
            return self._reply_loop(
                delivery,
                destination,
                f"the reply is number {hops} in a chain of replies, {self._hops_max} are allowed:"
                " is there a loop?",
            )
        if self.types is not None:
            self.types.note(reply.headers)
        stamped = self._with_chain_headers(reply, delivery.record)
        wait_seconds = self._loop_guard.wait(hops, delivery.record.headers)
        if wait_seconds > 0.0:
            return self._delay_reply(delivery, stamped, destination, wait_seconds)
        if destination.topic is not None:
            return self._store_reply(delivery, stamped, destination.topic)
        delivery.reply, delivery.attempts = stamped, delivery.reply_attempts
        return RESEND

    def _with_chain_headers(self, reply: Record, record: StoredRecord) -> Record:
        """The reply with the headers that it inherits from the event it answers."""
        chain = extend(
            delivery_state.read_chain(record.headers), self.compiled.subscription.uid
        ).encode("ascii", "replace")
        hops = b"%d" % _hops(record)
        return Record(
            reply.key,
            reply.value,
            [
                *reply.headers,
                *_trace(reply, record),
                (delivery_state.HOPS, hops),
                (delivery_state.CHAIN, chain),
            ],
        )

    def _delay_reply(
        self, delivery: Delivery, reply: Record, destination: Reply, wait_seconds: float
    ) -> AttemptResult:
        """A reply in a loop waits with its event, in the retry topic, like one that has failed."""
        if wait_seconds > HELD_SECONDS_MAX:
            self._loop_guard.cancel_last()
            return self._reply_loop(
                delivery,
                destination,
                "the reply is part of a loop, and the replies waiting before it take longer than"
                f" {HELD_SECONDS_MAX:g} s",
            )
        delivery.reply, delivery.attempts = reply, delivery.reply_attempts
        return self._failures.defer(delivery, wait_seconds)

    def _reply_loop(self, delivery: Delivery, destination: Reply, detail: str) -> AttemptResult:
        return self._failures.dead_letter(
            delivery,
            Outcome(failure=Failure.PROTOCOL),
            DeadLetterReason.REPLY_LOOP,
            _address(destination),
            detail,
        )

    def _store_reply(self, delivery: Delivery, reply: Record, topic: str) -> AttemptResult:
        return StoreReply(
            topic,
            reply,
            partial(self._reply_delivered, delivery),
            partial(self._reply_refused, delivery, reply, topic),
        )

    def _reply_refused(
        self, delivery: Delivery, reply: Record, topic: str, error: HeadraceError
    ) -> AttemptResult:
        """A refused reply is a failed attempt of it, by the policy: a topic may be missing for a
        moment only.
        """
        refusal = Outcome(failure=Failure.PROTOCOL, detail=f"reply not stored: {error}")
        if isinstance(error, RecordTooLarge):
            return self._failures.dead_letter(
                delivery, refusal, DeadLetterReason.REPLY_REJECTED, topic, refusal.detail
            )
        if delivery.reply is None:
            # The attempts so far were the subscriber's, which has accepted the event.
            delivery.reply, delivery.attempts = reply, delivery.reply_attempts + 1
        return self._failures.handle(delivery, refusal, topic, _as_reply_reason)

    def _send_reply(
        self, delivery: Delivery, reply: Record, answered: Callable[[Outcome], None]
    ) -> AttemptResult | None:
        compiled = self._compiled_for(delivery)
        destination = compiled.subscription.reply
        if destination is not None and destination.topic is not None:
            # It was a URL when the reply began to wait.
            return self._store_reply(delivery, reply, destination.topic)
        if compiled.reply_target is None or destination is None or destination.url is None:
            # Its destination was removed while the reply waited.
            self._metrics.replies_dropped.value += 1
            self._reply_delivered(delivery)
            return COMPLETED
        delivery.url = destination.url
        delivery.request = compiled.reply_target.post(
            compiled.no_reply_headers + http.write_binary(reply.headers),
            reply.value or b"",
            timeout_seconds=compiled.subscription.delivery.timeout_seconds,
            answered=answered,
        )
        return None


def mark_undeliverable(record: StoredRecord, why: str) -> StoredRecord:
    """Mark a record that is no CloudEvent: it becomes a dead letter with this reason, its bytes and
    headers unchanged.
    """
    record.note = UNDELIVERABLE + why
    return record


def _has_attributes(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    for name, _ in headers:  # noqa: SIM110 - `any` costs a generator for each delivery
        if name.startswith(b"ce-"):
            return True
    return False


def _as_reply_reason(reason: DeadLetterReason) -> DeadLetterReason:
    return _REPLY_REASON_OF.get(reason, reason)


def _address(destination: Reply) -> str:
    return destination.url or destination.topic or ""


def _hops(record: StoredRecord) -> int:
    """The number in its chain of replies that a reply to this event has."""
    return delivery_state.read_hops(record.headers) + 1


def _trace(reply: Record, record: StoredRecord) -> list[tuple[str, bytes]]:
    """The trace context of the event, for a reply without its own."""
    if any(name == "traceparent" for name, _ in reply.headers):
        return []
    return [header for header in record.headers if header[0] in {"traceparent", "tracestate"}]
