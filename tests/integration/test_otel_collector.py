"""The OpenTelemetry collector of the profile `observability`, with its own configuration. Jaeger,
to which it sends traces, is replaced by a receiver of the test: its image is not on this machine.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from headrace.runtime.metrics import Metrics
from headrace.runtime.tracing import SpanKind, tracing_from_environment
from tests.support.otel_collector import CONFIG, OtelCollector, program
from tests.support.processes import Processes
from tests.support.trace_collector import TraceCollector

pytestmark = pytest.mark.timeout(120)
CALL_SECONDS = 30.0


@pytest.fixture(name="backend", scope="module")
def _backend() -> Iterator[TraceCollector]:
    """What receives the traces in place of Jaeger."""
    with TraceCollector().running() as backend:
        yield backend


@pytest.fixture(name="collector", scope="module")
def _collector(
    tmp_path_factory: pytest.TempPathFactory, backend: TraceCollector
) -> Iterator[OtelCollector]:
    """A running collector."""
    processes = Processes(tmp_path_factory.mktemp("collector"))
    try:
        yield OtelCollector(processes, backend=backend.url)
    finally:
        processes.close()


def test_the_configuration_is_valid() -> None:
    """As the collector itself reads it."""
    command = [str(program()), "validate", f"--config={CONFIG}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=CALL_SECONDS
    )
    assert 0 == done.returncode, done.stderr


def test_a_mistake_in_the_configuration_is_found(tmp_path: Path) -> None:
    """A processor without its limit, which the collector needs."""
    wrong = tmp_path / "otel-collector.yaml"
    text = CONFIG.read_text(encoding="utf-8")
    assert "limit_mib: 256" in text
    wrong.write_text(text.replace("limit_mib: 256, ", ""), encoding="utf-8")
    command = [str(program()), "validate", f"--config={wrong}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=CALL_SECONDS
    )
    assert 0 != done.returncode
    assert "memory_limiter" in done.stderr


async def test_spans_of_a_service_pass_it(
    collector: OtelCollector, backend: TraceCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP, as services export them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_url)
    metrics = Metrics(process=False)
    tracing = tracing_from_environment(metrics, "headrace-ingress")
    assert tracing is not None
    event = {"cloudevents.event_id": "over-http"}
    span = tracing.start("accept a/b", SpanKind.SERVER, None, event)
    assert span is not None
    span.end()
    await tracing.close()
    assert b'headrace_trace_spans_total{result="exported"} 1.0' in metrics.expose()[0]
    (received,) = backend.wait_for("over-http", "accept")
    assert span.context == received.context
    assert "headrace-ingress" == received.service


def test_spans_of_others_pass_it_over_grpc(
    collector: OtelCollector, backend: TraceCollector
) -> None:
    """A subscriber that records traces may use either protocol."""
    span = Span(
        trace_id=b"\x01" * 16,
        span_id=b"\x02" * 8,
        name="handle",
        attributes=[KeyValue(key="cloudevents.event_id", value=AnyValue(string_value="over-grpc"))],
    )
    request = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]
    )
    with grpc.insecure_channel(f"127.0.0.1:{collector.grpc_port}") as channel:
        TraceServiceStub(channel).Export(request, timeout=CALL_SECONDS)  # type: ignore[no-untyped-call]
    (received,) = backend.wait_for("over-grpc", "handle")
    assert "01" * 16 == received.trace_id
