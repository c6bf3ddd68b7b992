"""Records a span for each request with events, around the handler of the ingress.

The position of the span replaces the header `traceparent` of the request, so that the records of
its events have it.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from headrace.adapters.http.server import Exchange
from headrace.codec.trace_context import parse
from headrace.runtime.traced_ports import EVENT_ATTRIBUTES
from headrace.runtime.tracing import Span, SpanKind, Tracing

_TRACEPARENT: Final = b"traceparent"
_CREATED_IN: Final = b"ce-traceparent"
_EVENT_ATTRIBUTES: Final = {
    f"ce-{name}".encode(): EVENT_ATTRIBUTES[name] for name in ("id", "source", "type")
}
"""In binary content mode, so that a span of an event that is not accepted names the event too."""
_ATTRIBUTES: Final = {"http.request.method": "POST"}


def traced(handle: Callable[[Exchange], None], tracing: Tracing) -> Callable[[Exchange], None]:
    """Return `handle` with a span for each request."""

    def handle_traced(exchange: Exchange) -> None:
        found = dict(exchange.headers)
        parent = parse(found.get(_TRACEPARENT)) or parse(found.get(_CREATED_IN))
        span = tracing.start("accept", SpanKind.SERVER, parent, _ATTRIBUTES)
        if span is None:
            handle(exchange)
            return
        exchange.headers = [
            *(header for header in exchange.headers if header[0] != _TRACEPARENT),
            (_TRACEPARENT, str(span.context).encode()),
        ]
        if span.is_recording:
            for name, value in exchange.headers:
                if (attribute := _EVENT_ATTRIBUTES.get(name)) is not None:
                    span.set(attribute, value.decode("utf-8", "replace"))
            exchange.on_answered = partial(_answered, exchange, span)
        handle(exchange)

    return handle_traced


def _answered(exchange: Exchange, span: Span, status: int) -> None:
    route = exchange.context
    if route is not None:
        addressable = route.addressable
        span.rename(f"accept {addressable.namespace}/{addressable.name}")
        span.set("messaging.destination.name", addressable.topic)
    if status == 0:
        span.end("client_disconnected", "the client disconnected before the response")
        return
    span.set("http.response.status_code", status)
    # A client's error is not one of the server (HTTP semantic conventions), but it is one of the
    # event: it was not accepted.
    span.end("" if status < 400 else str(status))
