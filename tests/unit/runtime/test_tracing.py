"""When traces are recorded, and what is recorded."""

import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from structlog.testing import capture_logs

from headrace.codec.trace_context import TraceContext
from headrace.runtime.metrics import Metrics
from headrace.runtime.settings import BadSettings
from headrace.runtime.tracing import SpanKind, Tracing, tracing_from_environment
from tests.support.kafka import free_port
from tests.support.wait_until import wait_until_async

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
SAMPLED, NOT_SAMPLED = TraceContext(1, 2, sampled=True), TraceContext(1, 2, sampled=False)


def recorded() -> tuple[Tracing, InMemorySpanExporter]:
    """A tracing whose spans can be read."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider), exporter


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"},
        {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        {"OTEL_SERVICE_NAME": "shop", "OTEL_TRACES_SAMPLER": "always_on"},
    ],
    ids=["nothing", "disabled", "no exporter", "always off", "ratio 0", "no endpoint"],
)
def test_without_a_reason_nothing_is_recorded(environ: dict[str, str]) -> None:
    """No port is decorated then, so that an event costs nothing more."""
    assert tracing_from_environment(Metrics(process=False), "x", environ) is None


@pytest.mark.parametrize(
    "environ",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "console"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp"},
        {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"},
        {**ENDPOINT, "OTEL_TRACES_SAMPLER": "parentbased_always_off"},
    ],
)
async def test_an_exporter_or_an_endpoint_is_a_reason(environ: dict[str, str]) -> None:
    """Also where only the traces of senders are recorded."""
    tracing = tracing_from_environment(Metrics(process=False), "x", environ)
    assert tracing is not None
    await tracing.close()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkins", "OTEL_TRACES_EXPORTER: the exporter zipkins is not"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json'"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "otlp_proto_grpc is not installed"),
        ("OTEL_TRACES_SAMPLER", "ratio", "OTEL_TRACES_SAMPLER: 'ratio' is not one of always_off"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%", "OTEL_TRACES_SAMPLER_ARG: '10%' is not a ratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "OTEL_TRACES_SAMPLER_ARG: '2' is not a ratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "OTEL_TRACES_SAMPLER_ARG: 'nan' is not a ratio"),
    ],
)
def test_a_bad_value_names_its_variable(name: str, value: str, message: str) -> None:
    """The SDK would ignore it or continue with another."""
    environ = {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", name: value}
    with pytest.raises(BadSettings, match="OTEL_") as caught:
        tracing_from_environment(Metrics(process=False), "x", environ)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("parent", "parent_based", "samples_roots", "wanted"),
    [
        (None, True, True, True),
        (None, True, False, False),
        (SAMPLED, True, False, True),
        (NOT_SAMPLED, True, True, False),
        (NOT_SAMPLED, False, True, True),
    ],
)
def test_the_sampler_is_asked_only_where_it_can_say_yes(
    parent: TraceContext | None, parent_based: bool, samples_roots: bool, wanted: bool
) -> None:
    """Everything else costs a comparison."""
    tracing = Tracing(TracerProvider(), parent_based=parent_based, samples_roots=samples_roots)
    span = tracing.start("x", SpanKind.SERVER, parent, {})
    assert wanted is (span is not None)


async def test_a_collector_that_is_away_is_one_line_of_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason, and what to do; not the lines of the exporter about each try."""
    port = free_port()
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    metrics = Metrics(process=False)
    tracing = tracing_from_environment(metrics, "x", environ)
    assert tracing is not None
    failed = 'headrace_trace_spans_total{result="failed"}'
    with capture_logs() as logs, caplog.at_level(logging.INFO):
        for number in (1, 2):
            span = tracing.start("x", SpanKind.SERVER, None, {})
            assert span is not None
            span.end()
            await wait_until_async(
                lambda number=number: f"{failed} {number}.0" in metrics.expose()[0].decode(),  # type: ignore[misc]
                20.0,
                "an export fails",
                every=0.1,
            )
    await tracing.close()
    (line,) = logs
    assert ("traces_not_exported", 1) == (line["event"], line["spans"])
    assert str(port) in line["error"]
    assert not [each for each in caplog.records if "opentelemetry" in each.name]


def test_a_span_ends_once() -> None:
    """A request that is cancelled after its end changes nothing."""
    tracing, exporter = recorded()
    span = tracing.start("x", SpanKind.CLIENT, SAMPLED, {"a": 1}, links=[NOT_SAMPLED])
    assert span is not None
    span.end("500", "status 500")
    span.end()
    span.set("b", 2)
    (ended,) = exporter.get_finished_spans()
    assert {"a": 1, "error.type": "500"} == dict(ended.attributes or {})
    assert not ended.status.is_ok
    assert 1 == ended.context.trace_id == span.context.trace_id
    assert [2] == [each.context.span_id for each in ended.links]


def test_the_current_span_is_that_of_the_innermost_call() -> None:
    """And none outside."""
    tracing, _ = recorded()
    outer = tracing.start("x", SpanKind.CLIENT, None, {})
    inner = tracing.start("y", SpanKind.CLIENT, None, {})
    assert outer is not None
    assert inner is not None
    with tracing.active(outer):
        with tracing.active(inner):
            assert inner is tracing.current
        assert outer is tracing.current
    assert tracing.current is None


def test_the_current_position_is_that_of_a_sampled_span() -> None:
    """Nobody finds another one in a trace backend."""
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    tracing = Tracing(provider)
    sampled = tracing.start("x", SpanKind.CLIENT, SAMPLED, {})
    dropped = tracing.start("x", SpanKind.CLIENT, None, {})
    assert sampled is not None
    assert dropped is not None
    assert tracing.sampled_position() is None
    with tracing.active(sampled):
        assert sampled.context == tracing.sampled_position()
        with tracing.active(None):
            assert tracing.sampled_position() is None
    with tracing.active(dropped):
        assert tracing.sampled_position() is None


async def test_histograms_have_exemplars_where_traces_are_recorded() -> None:
    """Those of the current span."""
    metrics = Metrics(process=False)
    tracing = tracing_from_environment(metrics, "x", ENDPOINT)
    assert tracing is not None
    span = tracing.start("x", SpanKind.CLIENT, SAMPLED, {})
    with tracing.active(span):
        metrics.histogram("seconds", "Time.").labels().observe(0.2)
    assert f'trace_id="{1:032x}"'.encode() in metrics.expose(openmetrics=True)[0]
    await tracing.close()
