"""OpenTelemetry traces: what a process records, and how it is switched on.

The standard variables `OTEL_*` apply. Traces are exported when they name an exporter or an
endpoint; without them, and with a sampler that samples nothing, `tracing_from_environment` returns
None, no port is decorated, and an event costs nothing more. The SDK is imported only when it is
used: it is an extra of its own.

A span that the sampler does not want is never created where its parent already says so. Between
that, spans are created by the SDK.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import structlog

import headrace
from headrace.codec.trace_context import TraceContext
from headrace.runtime.exemplars import add_exemplars
from headrace.runtime.metrics import Metrics
from headrace.runtime.service import CloseOnStop, Service
from headrace.runtime.settings import BadSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Span as SdkSpan

logger = structlog.get_logger(__name__)

AttributeValue = str | int | float | bool
Attributes = Mapping[str, AttributeValue]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS_BY_PROTOCOL = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_SAMPLERS = frozenset({"always_on", "always_off", "traceidratio"})
_PARENT_BASED = "parentbased_"
_EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_FAILURE_LOG_SECONDS = 60.0
_REASON_CHARACTERS_MAX = 300
_INSTALL = "pip install 'headrace[tracing]'"


class SpanKind(Enum):
    """Kinds of spans, with the names of OpenTelemetry."""

    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"


class Span:
    """An operation while it runs. Used on the event loop only."""

    __slots__ = ("_span", "context")

    def __init__(self, context: TraceContext, span: "SdkSpan | None") -> None:
        self.context = context
        self._span = span
        """None if the span is not recorded."""

    @property
    def is_recording(self) -> bool:
        """Whether attributes and the end of this span are recorded."""
        return self._span is not None

    def set(self, name: str, value: AttributeValue) -> None:
        """Set an attribute."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """Give the span a name that was not known at its start."""
        if self._span is not None:
            self._span.update_name(name)

    def end(self, error: str = "", detail: str = "") -> None:
        """End the span. `error` is its `error.type`, a word of a small set or a status code; empty
        if the operation succeeded. Ends after the first one are ignored.
        """
        span, self._span = self._span, None
        if span is None:
            return
        if error:
            from opentelemetry.trace import Status, StatusCode

            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR, detail or error))
        span.end()


class Tracing:
    """Starts the spans of one process."""

    def __init__(
        self, provider: "TracerProvider", *, parent_based: bool = True, samples_roots: bool = True
    ) -> None:
        """`parent_based`: a span whose parent is not sampled is not sampled. `samples_roots`: a
        span without a parent may be sampled.
        """
        self._provider = provider
        self._tracer = provider.get_tracer("headrace", headrace.__version__)
        self._parent_based = parent_based
        self._samples_roots = samples_roots
        self.current: Span | None = None
        """The span in which the running call was made; None outside `active`."""

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext | None,
        attributes: Attributes,
        links: Sequence[TraceContext] = (),
    ) -> Span | None:
        """Start a span; None if there is nothing to record and nothing to pass on: whatever trace
        context the event has stays as it is.
        """
        if not self.wants(parent):
            return None
        from opentelemetry import trace

        context = trace.set_span_in_context(trace.INVALID_SPAN)
        if parent is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(_span_context(parent)))
        span = self._tracer.start_span(
            name,
            context=context,
            kind=trace.SpanKind[kind.value],
            attributes=attributes,
            links=[trace.Link(_span_context(each)) for each in links],
        )
        started = span.get_span_context()
        return Span(
            TraceContext(started.trace_id, started.span_id, started.trace_flags.sampled),
            span if span.is_recording() else None,
        )

    def wants(self, parent: TraceContext | None) -> bool:
        """Whether the sampler has to be asked about a span with this parent."""
        if parent is None:
            return self._samples_roots
        return parent.sampled or not self._parent_based

    def sampled_position(self) -> TraceContext | None:
        """Return the position of the current span, None if there is none or it is not sampled."""
        span = self.current
        return span.context if span is not None and span.context.sampled else None

    @contextmanager
    def active(self, span: Span | None) -> Iterator[None]:
        """Make `span` the current one for calls within; None: there is none. They must not
        await.
        """
        before, self.current = self.current, span
        try:
            yield
        finally:
            self.current = before

    async def close(self) -> None:
        """Export what is left, within the time limit of the exporter."""
        await asyncio.to_thread(self._provider.shutdown)


def add_tracing(service: Service, metrics: Metrics, name: str) -> Tracing | None:
    """Return the tracing of a process, which `service` closes last; None when it is switched off.
    `name` is the service name in traces unless `OTEL_SERVICE_NAME` is set. The histograms of
    `metrics`, which has none yet, will have exemplars. Raises `BadSettings`.
    """
    tracing = tracing_from_environment(metrics, name)
    if tracing is not None:
        service.add("tracing", CloseOnStop(tracing.close))
    return tracing


def tracing_from_environment(
    metrics: Metrics, name: str, environ: Mapping[str, str] = os.environ
) -> Tracing | None:
    """As `add_tracing`, for a caller that closes it."""
    exporter = _exporter_name(environ)
    sampler, ratio = _sampler(environ)
    parent_based = sampler.startswith(_PARENT_BASED)
    samples_roots = not sampler.endswith("always_off") and ratio > 0.0
    if exporter is None or not (samples_roots or parent_based):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise BadSettings(
            f"OTEL_* variables ask for traces, but OpenTelemetry is not installed: {_INSTALL}"
        ) from error
    attributes = {"service.version": headrace.__version__}
    if not environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = name
    provider = TracerProvider(
        resource=Resource.create(attributes), sampler=_build_sampler(sampler, ratio)
    )
    counting = _counting(_load_exporter(exporter), metrics)
    provider.add_span_processor(BatchSpanProcessor(counting))
    tracing = Tracing(provider, parent_based=parent_based, samples_roots=samples_roots)
    add_exemplars(metrics, tracing.sampled_position)
    return tracing


def _exporter_name(environ: Mapping[str, str]) -> str | None:
    """Return the entry point of the exporter, None if no traces are to be exported.

    Unlike the SDK's own configuration, nothing is exported to a default endpoint: that would log an
    error every few seconds wherever no collector runs.
    """
    chosen = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or chosen == "none":
        return None
    if not chosen and not any(environ.get(each) for each in _ENDPOINTS):
        return None
    if chosen not in ("", "otlp"):
        return chosen
    variable = next((each for each in _PROTOCOLS if environ.get(each)), _PROTOCOLS[-1])
    protocol = environ.get(variable) or "http/protobuf"
    try:
        return _EXPORTERS_BY_PROTOCOL[protocol]
    except KeyError:
        raise BadSettings(
            f"{variable}: {protocol!r} is not supported; use http/protobuf, or grpc with"
            " opentelemetry-exporter-otlp-proto-grpc installed"
        ) from None


def _load_exporter(name: str) -> "SpanExporter":
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise BadSettings(
            f"OTEL_TRACES_EXPORTER: the exporter {name} is not installed; otlp (http/protobuf) and"
            f" console come with {_INSTALL}"
        )
    try:
        exporter: SpanExporter = found[0].load()()
    except ImportError as error:
        raise BadSettings(f"OTEL_TRACES_EXPORTER: {name} cannot be loaded: {error}") from error
    except ValueError as error:
        raise BadSettings(f"the exporter of traces cannot use the OTEL_* variables: {error}") from (
            error
        )
    return exporter


def _sampler(environ: Mapping[str, str]) -> tuple[str, float]:
    """Return the name of the sampler and its ratio, 1.0 for one without."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    if name.removeprefix(_PARENT_BASED) not in _SAMPLERS:
        known = sorted(_SAMPLERS | {_PARENT_BASED + each for each in _SAMPLERS})
        raise BadSettings(f"OTEL_TRACES_SAMPLER: {name!r} is not one of {', '.join(known)}")
    if not name.endswith("traceidratio"):
        return name, 1.0
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1.0"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise BadSettings(f"OTEL_TRACES_SAMPLER_ARG: {text!r} is not a ratio between 0 and 1")
    return name, ratio


def _build_sampler(name: str, ratio: float) -> "Sampler":
    """Not by the SDK from its variables, of which it ignores what is not valid."""
    from opentelemetry.sdk.trace.sampling import (
        ALWAYS_OFF,
        ALWAYS_ON,
        ParentBased,
        TraceIdRatioBased,
    )

    roots: dict[str, Sampler] = {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "traceidratio": TraceIdRatioBased(ratio),
    }
    root = roots[name.removeprefix(_PARENT_BASED)]
    return ParentBased(root) if name.startswith(_PARENT_BASED) else root


def _counting(exporter: "SpanExporter", metrics: Metrics) -> "SpanExporter":
    """Count what the exporter exports and what it fails to export, and log the latter."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    exported = failed = 0
    report = _FailureReport()

    class Counting(SpanExporter):
        """Called in the thread of the batch processor."""

        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
            """Export, and count."""
            nonlocal exported, failed
            result = SpanExportResult.FAILURE
            try:
                result = exporter.export(spans)
            finally:
                if result is SpanExportResult.SUCCESS:
                    exported += len(spans)
                else:
                    failed += len(spans)
                    report.add(len(spans))
            return result

        def shutdown(self) -> None:
            """Close the exporter."""
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            """Flush the exporter."""
            return exporter.force_flush(timeout_millis)

    spans = metrics.counter(
        "trace_spans",
        "Spans that were handed to the exporter of traces, by result (exported, failed).",
        ("result",),
    )
    children = spans.labels("exported"), spans.labels("failed")

    def update() -> None:
        children[0].value, children[1].value = exported, failed

    metrics.before_scrape(update)
    return Counting()


class _FailureReport(logging.Filter):
    """Logs that spans are not exported, once a minute, in place of the exporter's lines about each
    try, of which it keeps the reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reason = ""
        self._spans = 0
        self._next_at = -math.inf
        logging.getLogger(_EXPORTER_LOGGER).filters[:] = [self]

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the reason of a failed try; the line is not written."""
        text = record.getMessage()
        # The line about the last try names a reason only if there is a status.
        if record.levelno == logging.WARNING or "reason:" in text or not self._reason:
            self._reason = text[:_REASON_CHARACTERS_MAX]
        return False

    def add(self, spans: int) -> None:
        """Note that so many spans were not exported."""
        self._spans += spans
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + _FAILURE_LOG_SECONDS
        logger.warning(
            "traces_not_exported",
            spans=self._spans,
            error=self._reason,
            next_step="check the collector that OTEL_EXPORTER_OTLP_ENDPOINT names; events are"
            " delivered all the same",
        )
        self._spans = 0


def _span_context(context: TraceContext) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(
        context.trace_id,
        context.span_id,
        is_remote=True,
        trace_flags=TraceFlags(int(context.sampled)),
    )
