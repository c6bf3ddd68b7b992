"""The course of an event to its subscriber: send, judge the answer, pass the reply on, hand
failures to the parking.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from headrace.codec import delivery_state, http, json_event, kafka
from headrace.domain.attempt import AttemptEvent
from headrace.domain.delivery import DeadLetterReason, Failure, Outcome
from headrace.domain.errors import HeadraceError, RecordTooLarge
from headrace.domain.event import InvalidEvent
from headrace.domain.observed_event_types import EventTypeObserver
from headrace.domain.ports import Clock
from headrace.domain.record import Record, StoredRecord
from headrace.domain.reply_loops import HELD_SECONDS_MAX, extend
from headrace.domain.routing import Reply
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_dispatcher.compiled_subscription import CompiledSubscription, ReplyLimit
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.failure_handler import FailureHandler
from headrace_dispatcher.gate import BreakerGate
from headrace_dispatcher.metrics import SubscriptionMetrics
from headrace_dispatcher.poison_tracker import DEATHS_MAX, PoisonTracker, poison_key
from headrace_dispatcher.reply_loop_guard import ReplyLoopGuard
from headrace_dispatcher.retrying_log import RetryingLog

UNDELIVERABLE = "!"
"""Prefix of the note that an intake puts on a record which is no CloudEvent; the rest says why."""

ALWAYS_ACCEPTED_BYTES = 65_536
"""Every destination takes a reply of so little data, and attributes, and is not asked for its
limit.
"""
POISON = "?poison"
"""The note that an intake puts on a record which must not be worked on."""
POISON_DETAIL = (
    f"the event loop stood still on this record more than {DEATHS_MAX} times; it was copied here"
    " without being read"
)

_REPLY_REASON_OF = {
    DeadLetterReason.EXHAUSTED: DeadLetterReason.REPLY_EXHAUSTED,
    DeadLetterReason.REJECTED: DeadLetterReason.REPLY_REJECTED,
}
_INVALID_REPLY = {DeadLetterReason.EXHAUSTED: DeadLetterReason.REPLY_INVALID}

# Aliases of what is read for each event: reading a member through its enum class takes ten times as
# long as reading a global.
_SEND: Final = AttemptEvent.SEND
_DELIVERED: Final = AttemptEvent.DELIVERED
_BEFORE_POST: Final = Failpoint.BEFORE_POST
_AFTER_POST: Final = Failpoint.AFTER_POST


class SubscriberHandler:
    """Sends the deliveries of the live and the retry lane of one subscription."""

    def __init__(
        self,
        *,
        compiled: CompiledSubscription,
        failures: FailureHandler,
        retrying_log: RetryingLog,
        gate: BreakerGate,
        metrics: SubscriptionMetrics,
        clock: Clock,
        loop_guard: ReplyLoopGuard,
        hops_max: int,
        reply_limit: Callable[[Reply], ReplyLimit],
        poison_tracker: PoisonTracker | None = None,
    ) -> None:
        self.compiled = compiled
        self.types: EventTypeObserver | None = None
        """Where to remember the types of replies, None when nobody wants to know them."""
        self._failures = failures
        self._log = retrying_log
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._loop_guard = loop_guard
        self._hops_max = hops_max
        self._reply_limit = reply_limit
        poison_tracker = poison_tracker or PoisonTracker()
        self._mark_position, self._clear_mark = poison_tracker.mark, poison_tracker.clear

    def prepare(self, delivery: Delivery) -> float:
        """Restore the state that travels with the record; the seconds until the next attempt is
        due.
        """
        record = delivery.record
        if record.note is not None:
            return self._restore_note(delivery, record.note)
        if record.topic != self.compiled.subscription.topic:
            self._mark_position(delivery.lane.number, *poison_key(record))
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
            delivery.undeliverable, delivery.undeliverable_reason = (
                POISON_DETAIL,
                DeadLetterReason.POISON,
            )
            return 0.0
        try:
            attempts, first_failure_ms, due_ms = (int(part) for part in note.split(":"))
        except ValueError:
            return 0.0  # written by another version: the event starts its policy anew
        delivery.attempts, delivery.first_failure_ms = max(attempts, 0), max(first_failure_ms, 0)
        return max(0.0, due_ms / 1000 - self._clock.now())

    def _restore_delivery_state(self, delivery: Delivery) -> float:
        try:
            state = delivery_state.read(delivery.record.headers)
        except delivery_state.InvalidDeliveryState:
            # The intake refuses such retry records: this is one of a channel topic that the
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
                delivery.undeliverable = f"the reply that waits with it cannot be read: {error}"
                return 0.0
        return max(0.0, state.due_ms / 1000 - self._clock.now())

    def send(self, delivery: Delivery) -> None:
        """Start one attempt: at the subscriber, or at the reply's destination when the subscriber
        has done its work.
        """
        if delivery.undeliverable:
            delivery.lane.answered(delivery)
            self._dead_letter_undeliverable(delivery)
            return
        delivery.attempts += 1
        if delivery.reply is not None:
            self._send_reply(delivery, delivery.reply)
            return
        compiled = self.compiled
        self._mark(delivery)
        try:
            headers, body = compiled.request(delivery.record, delivery.origin)
        except (
            InvalidEvent
        ) as error:  # Only a record that somebody else wrote into the retry topic.
            delivery.lane.answered(delivery)
            self._gate.withdraw(delivery)
            delivery.undeliverable = f"the record cannot be sent in the format asked for: {error}"
            self._dead_letter_undeliverable(delivery)
            return
        finally:
            self._clear_mark()
        delivery.step(_SEND)
        delivery.sent_at = self._clock.monotonic()
        failpoint(_BEFORE_POST)
        delivery.request = compiled.target.post(
            headers,
            body,
            timeout_seconds=compiled.subscription.delivery.timeout_seconds,
            # The rules may be others by the time it answers.
            answered=partial(self._answered, delivery, compiled.subscription.subscriber.url),
        )

    def _mark(self, delivery: Delivery) -> None:
        record = delivery.record
        if delivery.origin:
            self._mark_position(delivery.lane.number, *poison_key(record))
        else:
            self._mark_position(delivery.lane.number, record.partition, record.offset)

    def _dead_letter_undeliverable(self, delivery: Delivery) -> None:
        url = (
            self.compiled.subscription.subscriber.url
            if delivery.undeliverable_reason is DeadLetterReason.POISON
            else ""
        )
        self._failures.dead_letter(
            delivery,
            Outcome(failure=Failure.PROTOCOL),
            delivery.undeliverable_reason,
            url,
            delivery.undeliverable,
        )

    def _answered(self, delivery: Delivery, url: str, outcome: Outcome) -> None:
        delivery.lane.answered(delivery)
        self._gate.record(delivery, outcome)
        self._metrics.attempt(outcome)
        status = outcome.status
        if status is not None:
            delivery.lane.observe_latency(self._clock.monotonic() - delivery.sent_at)
        if status is None or not 200 <= status < 300:
            self._failures.handle(delivery, outcome, url)
        elif status != 202 and (
            outcome.body or any(name.startswith(b"ce-") for name, _ in outcome.headers)
        ):
            self._handle_reply(delivery, url, status, outcome)
        else:
            self._delivered(delivery)

    def _delivered(self, delivery: Delivery) -> None:
        failpoint(_AFTER_POST)
        self._metrics.observe_delivery(self._clock.now() - delivery.record.timestamp_ms / 1000)
        delivery.step(_DELIVERED)
        delivery.lane.finish(delivery)

    def _reply_delivered(self, delivery: Delivery) -> None:
        failpoint(Failpoint.AFTER_REPLY)
        delivery.lease = None
        self._metrics.replies_stored.value += 1
        self._metrics.observe_delivery(self._clock.now() - delivery.record.timestamp_ms / 1000)
        delivery.step(AttemptEvent.REPLY_STORED)
        delivery.lane.finish(delivery)

    def _handle_reply(self, delivery: Delivery, url: str, status: int, outcome: Outcome) -> None:
        """A CloudEvent in a 2xx answer that is not 202 (data plane D16) goes on; anything else in
        it fails the delivery.
        """
        subscription = self.compiled.subscription
        if outcome.truncated and http.may_be_reply(status, outcome.headers):
            self._too_large(delivery, outcome)
            return
        self._mark(delivery)
        try:
            reply = http.read_reply(status, outcome.headers, outcome.body)
        except InvalidEvent as error:
            failed = Outcome(
                failure=Failure.PROTOCOL, detail=f"malformed reply: {error}", body=outcome.body
            )
            self._failures.handle(
                delivery, failed, url, lambda reason: _INVALID_REPLY.get(reason, reason)
            )
            return
        finally:
            self._clear_mark()
        if reply is None:
            self._delivered(delivery)
        elif subscription.reply is None:
            self._metrics.replies_dropped.value += 1
            self._delivered(delivery)
        elif (
            len(outcome.body) > ALWAYS_ACCEPTED_BYTES
            and reply.size > self._reply_limit(subscription.reply).event_bytes
        ):
            self._too_large(delivery, outcome)
        else:
            delivery.lease = outcome.lease
            self._forward_reply(delivery, reply, subscription.reply)

    def _too_large(self, delivery: Delivery, outcome: Outcome) -> None:
        """A reply of more than its destination takes: the subscriber would answer the same
        again.
        """
        destination = self.compiled.subscription.reply
        if destination is None:
            self._metrics.replies_dropped.value += 1
            self._delivered(delivery)
            return
        detail = (
            f"the reply is larger than the {self._reply_limit(destination).event_bytes} bytes that"
            " its destination takes"
        )
        delivery.step(AttemptEvent.REPLIED)
        refusal = Outcome(failure=Failure.PROTOCOL, detail=detail)
        self._failures.dead_letter(
            delivery,
            refusal,
            DeadLetterReason.REPLY_REJECTED,
            destination.url or destination.topic or "",
            detail,
        )

    def _forward_reply(self, delivery: Delivery, reply: Record, destination: Reply) -> None:
        delivery.step(AttemptEvent.REPLIED)
        hops = _hops(delivery.record)
        if hops > self._hops_max:
            detail = (
                f"the reply is number {hops} in a chain of replies, {self._hops_max} are allowed:"
                " is there a loop?"
            )
            where = destination.url or destination.topic or ""
            self._failures.dead_letter(
                delivery,
                Outcome(failure=Failure.PROTOCOL),
                DeadLetterReason.REPLY_LOOP,
                where,
                detail,
            )
            return
        if self.types is not None:
            self.types.note(reply.headers)
        stamped = self._with_chain_headers(reply, delivery.record)
        if (wait_seconds := self._loop_guard.wait(hops, delivery.record.headers)) > 0.0:
            self._delay_reply(delivery, stamped, destination, wait_seconds)
            return
        if destination.topic is not None:
            self._store_reply(delivery, stamped, destination.topic)
            return
        delivery.step(AttemptEvent.HOLD)
        delivery.reply, delivery.attempts = stamped, delivery.reply_attempts
        delivery.lane.resend(delivery)

    def _with_chain_headers(self, reply: Record, record: StoredRecord) -> Record:
        """The reply with what it takes over from the event that it answers."""
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
    ) -> None:
        """A reply that goes in a circle waits its turn with its event, in the retry topic, like one
        that has failed.
        """
        if wait_seconds > HELD_SECONDS_MAX:
            self._loop_guard.cancel_last()
            detail = (
                "the reply goes in a circle, and as many wait before it as may go on in"
                f" {HELD_SECONDS_MAX:g} s"
            )
            where = destination.url or destination.topic or ""
            self._failures.dead_letter(
                delivery,
                Outcome(failure=Failure.PROTOCOL),
                DeadLetterReason.REPLY_LOOP,
                where,
                detail,
            )
            return
        delivery.reply, delivery.attempts = reply, delivery.reply_attempts
        self._failures.defer(delivery, wait_seconds)

    def _store_reply(self, delivery: Delivery, reply: Record, topic: str) -> None:
        def still_needed() -> bool:
            return not delivery.lane.finish_if_abandoned(delivery)

        def on_permanent_error(topic: str, error: HeadraceError) -> bool:
            if still_needed():
                self._reply_refused(delivery, reply, topic, error)
            return False

        self._log.store(
            topic, reply, partial(self._reply_delivered, delivery), on_permanent_error, still_needed
        )

    def _reply_refused(
        self, delivery: Delivery, reply: Record, topic: str, error: HeadraceError
    ) -> None:
        """A refused reply is a failed attempt of it, by the policy: a topic may be missing for a
        moment, and be back at the next.
        """
        refusal = Outcome(failure=Failure.PROTOCOL, detail=f"reply not stored: {error}")
        if isinstance(error, RecordTooLarge):
            self._failures.dead_letter(
                delivery, refusal, DeadLetterReason.REPLY_REJECTED, topic, refusal.detail
            )
            return
        if (
            delivery.reply is None
        ):  # The attempts so far were the subscriber's, which has done its work.
            delivery.reply, delivery.attempts = reply, delivery.reply_attempts + 1
        self._failures.handle(delivery, refusal, topic, _as_reply_reason)

    def _send_reply(self, delivery: Delivery, reply: Record) -> None:
        compiled = self.compiled
        destination = compiled.subscription.reply
        delivery.step(AttemptEvent.SEND_REPLY)
        if (
            destination is not None and destination.topic is not None
        ):  # It was a URL when the reply began to wait.
            delivery.lane.answered(delivery)
            self._store_reply(delivery, reply, destination.topic)
            return
        if compiled.reply_target is None or destination is None or destination.url is None:
            delivery.lane.answered(delivery)
            self._metrics.replies_dropped.value += (
                1  # its destination was removed while the reply waited
            )
            self._reply_delivered(delivery)
            return
        url = destination.url

        def answered(outcome: Outcome) -> None:
            delivery.lane.answered(delivery)
            if outcome.status is not None and 200 <= outcome.status < 300:
                self._reply_delivered(delivery)
            else:
                self._failures.handle(delivery, outcome, url, _as_reply_reason)

        delivery.request = compiled.reply_target.post(
            compiled.no_reply_headers + http.write_binary(reply.headers),
            reply.value or b"",
            timeout_seconds=compiled.subscription.delivery.timeout_seconds,
            answered=answered,
        )


def mark_undeliverable(record: StoredRecord, why: str) -> StoredRecord:
    """Mark a record that is no CloudEvent: it goes to the dead letters with this reason, raw bytes
    and headers kept.
    """
    record.note = UNDELIVERABLE + why
    return record


def _as_reply_reason(reason: DeadLetterReason) -> DeadLetterReason:
    return _REPLY_REASON_OF.get(reason, reason)


def _hops(record: StoredRecord) -> int:
    """Which reply of a chain an answer to this event is."""
    return delivery_state.read_hops(record.headers) + 1


def _trace(reply: Record, record: StoredRecord) -> list[tuple[str, bytes]]:
    """The trace context of the event, for a reply that brings none of its own."""
    if any(name == "traceparent" for name, _ in reply.headers):
        return []
    return [header for header in record.headers if header[0] in {"traceparent", "tracestate"}]
