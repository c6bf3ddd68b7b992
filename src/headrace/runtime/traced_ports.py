"""The ports `Log` and `Sender` with a span for what goes through them.

They decorate the adapters of a process that records traces. Without tracing they are not used.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from headrace.codec import delivery_state, trace_context
from headrace.codec.trace_context import (
    TRACEPARENT,
    TRACEPARENT_EXTENSION,
    TraceContext,
    parse,
)
from headrace.domain.backend_name import KAFKA, backend_of, without_backend
from headrace.domain.delivery import Outcome
from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Attempt, Log, OnStored, Sender, Target
from headrace.domain.record import Headers, Record
from headrace.runtime.tracing import AttributeValue, Span, SpanKind, Tracing

_SYSTEMS: Final = {KAFKA: "kafka"}
EVENT_ATTRIBUTES: Final = {
    "id": "cloudevents.event_id",
    "source": "cloudevents.event_source",
    "type": "cloudevents.event_type",
    "specversion": "cloudevents.event_spec_version",
    "subject": "cloudevents.event_subject",
}
"""Attributes of spans by the attribute of the event (semantic conventions of CloudEvents)."""
_BY_RECORD_HEADER: Final = {f"ce_{name}": each for name, each in EVENT_ATTRIBUTES.items()}


def traced_log(log: Log, tracing: Tracing | None) -> Log:
    """Return the log of a process, which records spans if the process records traces."""
    return log if tracing is None else TracedLog(log, tracing)


class TracedLog:
    """A log that records a span for each append, from the call to the acknowledgement, and stores
    the position of that span in the record: what is done with the record later is part of the
    trace.

    A retry record or dead letter keeps the position of the event, and has that of its span in a
    private header (`delivery_state.TRACE`).
    """

    def __init__(self, log: Log, tracing: Tracing) -> None:
        self._log = log
        self._tracing = tracing

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """As `Log.append`."""
        headers = record.headers
        found = dict(headers)
        failed = parse(found.get(delivery_state.TRACE))
        parent = failed or parse(found.get(TRACEPARENT))
        created = parse(found.get(TRACEPARENT_EXTENSION))
        if parent is None:
            parent, created = created, None
        if not self._tracing.wants(parent):
            self._append_without_span(topic, record, stored)
            return
        operation = _operation(topic, headers)
        span = self._tracing.start(
            f"{operation} {without_backend(topic)}",
            SpanKind.PRODUCER,
            parent,
            {
                "messaging.system": _system(topic),
                "messaging.operation.name": operation,
                "messaging.operation.type": "send",
                "messaging.destination.name": without_backend(topic),
                **event_attributes(headers),
            },
            links=_other_trace(created, parent),
        )
        if span is None:
            self._append_without_span(topic, record, stored)
            return
        name = delivery_state.TRACE if failed is not None else TRACEPARENT
        headers = trace_context.replace(headers, span.context, name)
        try:
            self._log.append(
                topic,
                Record(record.key, record.value, headers),
                partial(self._stored, span, stored),
            )
        except HeadraceError as error:
            span.end(type(error).__name__, str(error))
            raise

    def _append_without_span(self, topic: str, record: Record, stored: OnStored) -> None:
        if self._tracing.current is None:
            self._log.append(topic, record, stored)
            return
        # A log may call `stored` at once: what it observes belongs to no span.
        with self._tracing.active(None):
            self._log.append(topic, record, stored)

    def _stored(self, span: Span, stored: OnStored, error: HeadraceError | None) -> None:
        if error is None:
            span.end()
        else:
            span.end(type(error).__name__, str(error))
        with self._tracing.active(span):
            stored(error)

    async def flush(self, timeout_seconds: float) -> int:
        """As `Log.flush`."""
        return await self._log.flush(timeout_seconds)


class TracedSender:
    """A sender whose requests have the position of the current span in `traceparent`."""

    def __init__(self, sender: Sender, tracing: Tracing) -> None:
        self._sender = sender
        self._tracing = tracing

    def target(
        self,
        url: str,
        *,
        connections_max: int,
        ca_certs: str | None = None,
        reply_bytes_max: Callable[[], int] | None = None,
    ) -> Target:
        """As `Sender.target`."""
        return _TracedTarget(
            self._sender.target(
                url,
                connections_max=connections_max,
                ca_certs=ca_certs,
                reply_bytes_max=reply_bytes_max,
            ),
            self._tracing,
        )


class _TracedTarget:
    def __init__(self, target: Target, tracing: Tracing) -> None:
        self._target = target
        self._tracing = tracing

    @property
    def denied(self) -> str:
        """As `Target.denied`."""
        return self._target.denied

    def post(
        self,
        headers: bytes,
        body: bytes,
        *,
        timeout_seconds: float,
        answered: Callable[[Outcome], None],
    ) -> Attempt:
        """As `Target.post`."""
        span = self._tracing.current
        if span is None:
            return self._target.post(
                headers, body, timeout_seconds=timeout_seconds, answered=answered
            )
        attempt = self._target.post(
            trace_context.replace_line(headers, span.context),
            body,
            timeout_seconds=timeout_seconds,
            answered=answered,
        )
        return _TracedAttempt(attempt, span)

    def close(self) -> None:
        """As `Target.close`."""
        self._target.close()


class _TracedAttempt:
    """A request whose span ends when it is cancelled: its outcome is not reported then."""

    __slots__ = ("_attempt", "_span")

    def __init__(self, attempt: Attempt, span: Span) -> None:
        self._attempt = attempt
        self._span = span

    def cancel(self) -> None:
        """As `Attempt.cancel`."""
        self._attempt.cancel()
        self._span.end("cancelled", "the partition was given to another process")


def event_attributes(headers: Headers) -> dict[str, AttributeValue]:
    """Return the attributes of a span about the event in this record."""
    return {
        name: value.decode("utf-8", "replace")
        for header, value in headers
        if (name := _BY_RECORD_HEADER.get(header)) is not None
    }


def _operation(topic: str, headers: Headers) -> str:
    """Return `retry` or `dead_letter` for a record that takes the place of an event, else
    `send`.
    """
    dead_topic = next((value for name, value in headers if name == delivery_state.DEAD_TOPIC), None)
    if dead_topic is None:
        return "send"
    return "dead_letter" if dead_topic == topic.encode() else "retry"


def _system(topic: str) -> str:
    backend = backend_of(topic)
    return _SYSTEMS.get(backend, backend)


def _other_trace(
    created: TraceContext | None, parent: TraceContext | None
) -> tuple[TraceContext, ...]:
    """The context in which the event was created, if that is another trace."""
    if created is None or parent is None or created.trace_id == parent.trace_id:
        return ()
    return (created,)
