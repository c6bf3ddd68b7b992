"""An OTLP receiver for tests: takes spans over HTTP, as a collector of OpenTelemetry does."""

import gzip
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from headrace.codec.trace_context import TraceContext
from tests.support.wait_until import wait_until

SECONDS = 30.0
_ENVIRONMENT = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it was received; ids are in hexadecimal."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, object]
    failed: bool

    @property
    def operation(self) -> str:
        """The first word of the name."""
        return self.name.partition(" ")[0]

    @property
    def context(self) -> TraceContext:
        """Its position."""
        return TraceContext(int(self.trace_id, 16), int(self.span_id, 16), sampled=True)


class TraceCollector:
    """Listens on the loopback interface; `environment` makes a process export to it."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.refuses = False
        """While True, exports are answered with 400, which exporters do not repeat."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if collector.refuses:
                    self.send_error(400)
                    return
                collector._take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, **_ENVIRONMENT}

    @contextmanager
    def running(self) -> Iterator["TraceCollector"]:
        """Receive until the end of the block."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def of(self, event_id: str) -> list[ReceivedSpan]:
        """The spans about the event with this id, in the order in which they ended."""
        return [
            each for each in self.spans if each.attributes.get("cloudevents.event_id") == event_id
        ]

    def wait_for(self, event_id: str, *operations: str) -> list[ReceivedSpan]:
        """Wait for the spans of an event with exactly these operations, in any order; return them
        in that order.
        """
        wait_until(
            lambda: len(self.of(event_id)) >= len(operations),
            SECONDS,
            f"{operations} of {event_id}",
        )
        found = self.of(event_id)
        assert sorted(operations) == sorted(each.operation for each in found), found
        ordered = []
        for operation in operations:
            span = next(each for each in found if each.operation == operation)
            found.remove(span)
            ordered.append(span)
        return ordered

    def span(self, span_id: str) -> ReceivedSpan:
        """Wait for the span with this id."""
        wait_until(
            lambda: any(each.span_id == span_id for each in self.spans), SECONDS, f"span {span_id}"
        )
        return next(each for each in self.spans if each.span_id == span_id)

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = str(_values(resource.resource.attributes).get("service.name", ""))
            for scope in resource.scope_spans:
                self.spans += [_received(service, span) for span in scope.spans]


def _received(service: str, span: OtlpSpan) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        kind=OtlpSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_values(span.attributes),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
    )


def _values(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> object:
    field = value.WhichOneof("value")
    return getattr(value, field) if field else None
