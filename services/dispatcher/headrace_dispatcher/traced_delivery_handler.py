"""Records a span for each attempt of a delivery, around the handler that makes it.

An attempt is a child of the position in `traceparent` that is stored with the event, and is linked
to the attempt before it. A retry record, dead letter or reply that follows from an attempt has the
position of its span, so that what is done with it belongs to the same trace.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from headrace.codec import delivery_state, trace_context
from headrace.codec.trace_context import (
    TRACEPARENT,
    TRACEPARENT_EXTENSION,
    TraceContext,
    parse,
)
from headrace.domain.delivery import Outcome
from headrace.domain.record import Headers, Record
from headrace.domain.routing import Subscription
from headrace.runtime.traced_ports import event_attributes
from headrace.runtime.tracing import AttributeValue, Span, SpanKind, Tracing
from headrace_dispatcher.attempt_result import (
    AttemptResult,
    Completed,
    Resend,
    Store,
    StoreReply,
    WaitInPlace,
)
from headrace_dispatcher.delivery import Delivery, DeliveryHandler

Result = TypeVar("Result", bound=AttemptResult | None)


class TracedDeliveryHandler:
    """A `DeliveryHandler` that records what another one does."""

    def __init__(
        self,
        handler: DeliveryHandler,
        tracing: Tracing,
        subscription: Callable[[], Subscription],
        operation: str,
    ) -> None:
        """`operation` is the first word of the names of its spans; attempts to deliver a reply have
        `reply` instead.
        """
        self._handler = handler
        self._tracing = tracing
        self._subscription = subscription
        self._operation = operation

    def prepare(self, delivery: Delivery) -> float:
        """As `DeliveryHandler.prepare`."""
        return self._handler.prepare(delivery)

    def send(self, delivery: Delivery, answered: Callable[[Outcome], None]) -> AttemptResult | None:
        """As `DeliveryHandler.send`."""
        span = delivery.span = self._start(delivery)
        if span is None:
            if self._tracing.current is None:
                return self._measured(self._handler.send(delivery, answered), None)
            # Sent because another attempt has ended, within its span.
            with self._tracing.active(None):
                return self._measured(self._handler.send(delivery, answered), None)
        with self._tracing.active(span):
            result = self._handler.send(delivery, partial(self._answered, span, answered))
        span.set("headrace.attempt", delivery.attempts)
        if result is None:
            return None
        # No request was made: the record cannot be sent, or its reply is stored.
        result = self._measured(result, span)
        span.set("headrace.result", _name(result))
        span.end(delivery.undeliverable_reason if delivery.undeliverable else "")
        return _with_position(result, delivery.record.headers, span.context)

    def conclude(self, delivery: Delivery, outcome: Outcome) -> AttemptResult:
        """As `DeliveryHandler.conclude`."""
        span = delivery.span
        result = self._measured(self._handler.conclude(delivery, outcome), span)
        if span is None:
            return result
        if outcome.status is not None:
            span.set("http.response.status_code", outcome.status)
        span.set("headrace.result", _name(result))
        span.end(_error_type(outcome), outcome.detail)
        return _with_position(result, delivery.record.headers, span.context)

    def _answered(self, span: Span, answered: Callable[[Outcome], None], outcome: Outcome) -> None:
        """What is measured of an attempt belongs to its span."""
        with self._tracing.active(span):
            answered(outcome)

    def _measured(self, result: Result, span: Span | None) -> Result:
        """Let the delivery that ends with a stored reply belong to the attempt: the reply may be in
        a trace of its own.
        """
        if not isinstance(result, StoreReply):
            return result

        def on_stored() -> None:
            with self._tracing.active(span):
                result.on_stored()

        return replace(result, on_stored=on_stored)

    def _start(self, delivery: Delivery) -> Span | None:
        headers = delivery.record.headers
        parent, links = _position(delivery)
        if not self._tracing.wants(parent):
            return None
        subscription = self._subscription()
        name = f"{subscription.namespace}/{subscription.name}"
        operation = self._operation if delivery.reply is None else "reply"
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "headrace",
            "messaging.operation.name": operation,
            "messaging.operation.type": "process",
            "messaging.destination.name": delivery.record.topic,
            "messaging.destination.partition.id": str(delivery.record.partition),
            "messaging.destination.subscription.name": name,
            "messaging.kafka.offset": delivery.record.offset,
            "messaging.consumer.group.name": subscription.group,
            **event_attributes(headers),
        }
        return self._tracing.start(
            f"{operation} {name}", SpanKind.CLIENT, parent, attributes, links
        )


def _position(delivery: Delivery) -> tuple[TraceContext | None, tuple[TraceContext, ...]]:
    """Return the parent of the next attempt, and the attempt that it is linked to."""
    headers = dict(delivery.record.headers)
    event = parse(headers.get(TRACEPARENT)) or parse(headers.get(TRACEPARENT_EXTENSION))
    before = (
        delivery.span.context
        if delivery.span is not None
        else parse(headers.get(delivery_state.TRACE))
    )
    if delivery.reply is not None:
        # Of its own only if the subscriber has set one; else the handler has copied the event's.
        own = trace_context.find(delivery.reply.headers)
        if own is not None and own != event:
            return own, (before,) if before is not None else ()
        return before or event, ()
    if event is None or before is None:
        return event or before, ()
    return event, (before,)


def _with_position(result: AttemptResult, event: Headers, context: TraceContext) -> AttemptResult:
    match result:
        case Store(record=record):
            return replace(result, record=_at(record, context, delivery_state.TRACE))
        case StoreReply(record=record):
            own = trace_context.find(record.headers)
            if own is None or own == trace_context.find(event):
                return replace(result, record=_at(record, context, TRACEPARENT))
    return result


def _at(record: Record, context: TraceContext, name: str) -> Record:
    return Record(record.key, record.value, trace_context.replace(record.headers, context, name))


def _name(result: AttemptResult) -> str:
    match result:
        case Completed():
            return "delivered"
        case WaitInPlace():
            return "retry"
        case Resend() | StoreReply():
            return "reply"
        case Store():
            dead = dict(result.record.headers).get(delivery_state.DEAD_TOPIC, b"").decode()
            return "dead_letter" if dead == result.topic else "retry"


def _error_type(outcome: Outcome) -> str:
    if outcome.status is not None and 200 <= outcome.status < 300:
        return ""
    if outcome.status is not None:
        return str(outcome.status)
    return outcome.failure.value if outcome.failure is not None else "unknown"
