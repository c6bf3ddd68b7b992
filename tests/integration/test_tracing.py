"""OpenTelemetry traces of real processes, as a collector receives them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.codec.trace_context import parse
from tests.support.headrace_under_test import HeadraceUnderTest, headrace_in
from tests.support.manifests import Manifest, broker, delivery, subscription, trigger
from tests.support.manifests import channel as channel_manifest
from tests.support.metrics_page import ACCEPT, exemplars
from tests.support.prometheus import BINARY, UNPROVEN, Prometheus
from tests.support.sink_scripts import Mode, Script
from tests.support.trace_collector import ReceivedSpan, TraceCollector
from tests.support.wait_until import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
NAMESPACE = "traces"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENDER = f"00-{TRACE}-00f067aa0ba902b7-01"
NOT_SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"
PATH = f"/{NAMESPACE}/orders"


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    """A collector for all tests of this module."""
    with TraceCollector().running() as collector:
        yield collector


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, collector: TraceCollector
) -> Iterator[HeadraceUnderTest]:
    """An installation that exports to it, with a Broker `orders`."""
    directory = tmp_path_factory.mktemp("traces")
    with headrace_in(directory, env=collector.environment) as started:
        started.establish(broker(NAMESPACE, "orders"))
        yield started


def subscribe(
    system: HeadraceUnderTest, name: str, script: Script, policy: Manifest | None = None
) -> None:
    """Have a Trigger of that name receive the events of the type `name`."""
    system.sinks.script(name, script)
    manifest = trigger(
        NAMESPACE,
        name,
        system.sinks.url(name),
        broker="orders",
        attributes={"type": name},
        delivery=policy,
    )
    system.establish(manifest)


def post(system: HeadraceUnderTest, type_: str, event_id: str, **headers: str) -> None:
    """Send an event of that type."""
    required = {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": "test", "ce-type": type_}
    assert 202 == system.post(PATH, {**required, **headers}, b"{}")


def is_child(span: ReceivedSpan, parent: ReceivedSpan) -> bool:
    """Whether a span is a child of another one."""
    return (span.trace_id, span.parent_id) == (parent.trace_id, parent.span_id)


def test_one_trace_from_the_sender_to_the_subscriber(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """Accepted, stored and delivered, in the sender's trace; the subscriber continues it."""
    subscribe(system, "plain", Script(record=True))
    post(system, "plain", "p1", traceparent=SENDER, tracestate="vendor=1")
    accept, send, deliver = collector.wait_for("p1", "accept", "send", "deliver")
    assert (TRACE, "00f067aa0ba902b7") == (accept.trace_id, accept.parent_id)
    assert is_child(send, accept)
    assert is_child(deliver, send)
    assert ("headrace-ingress", "headrace-ingress", "headrace-dispatcher") == (
        accept.service,
        send.service,
        deliver.service,
    )
    assert ("SERVER", "PRODUCER", "CLIENT") == (accept.kind, send.kind, deliver.kind)
    assert f"accept {NAMESPACE}/orders" == accept.name
    assert f"send knative-broker-{NAMESPACE}-orders" == send.name
    assert f"deliver {NAMESPACE}/plain" == deliver.name
    assert 202 == accept.attributes["http.response.status_code"]
    assert "kafka" == send.attributes["messaging.system"]
    assert "delivered" == deliver.attributes["headrace.result"]
    assert not any(each.failed for each in (accept, send, deliver))
    (request,) = system.sinks.requests("plain")
    assert deliver.context == parse(request.headers["traceparent"].encode())
    assert "vendor=1" == request.headers["tracestate"]


def test_an_event_without_a_trace_begins_one(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """In the ingress."""
    subscribe(system, "root", Script())
    post(system, "root", "r1")
    accept, send, deliver = collector.wait_for("r1", "accept", "send", "deliver")
    assert "" == accept.parent_id
    assert is_child(send, accept)
    assert is_child(deliver, send)


def test_the_extension_of_an_event_is_its_parent_and_stays_as_it_is(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """Where the request has no trace of its own (CloudEvents extension for distributed tracing)."""
    subscribe(system, "extension", Script(record=True))
    post(system, "extension", "x1", **{"ce-traceparent": SENDER})
    accept, *_ = collector.wait_for("x1", "accept", "send", "deliver")
    assert (TRACE, "00f067aa0ba902b7") == (accept.trace_id, accept.parent_id)
    (request,) = system.sinks.requests("extension")
    assert SENDER == request.headers["ce-traceparent"]


def test_attempts_are_in_the_trace_of_the_event_and_linked(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """The first fails, its retry record is stored, and the second attempt is linked to it."""
    subscribe(
        system,
        "flaky",
        Script(failures=1),
        delivery(retry=3, backoff="linear", delay="PT0.1S"),
    )
    post(system, "flaky", "f1", traceparent=SENDER)
    wait_until(
        lambda: len([each for each in collector.of("f1") if each.operation == "deliver"]) == 2,
        30.0,
        "two attempts",
    )
    spans = collector.of("f1")
    first, second = (each for each in spans if each.operation == "deliver")
    send = next(each for each in spans if each.operation == "send")
    retries = [each for each in spans if each.operation == "retry"]
    assert first.failed
    assert ("500", "500", "retry") == (
        str(first.attributes["http.response.status_code"]),
        first.attributes["error.type"],
        first.attributes["headrace.result"],
    )
    assert (1, 2) == (first.attributes["headrace.attempt"], second.attributes["headrace.attempt"])
    assert is_child(first, send)
    assert is_child(second, send)
    assert is_child(retries[0], first)
    assert ((retries[-1].trace_id, retries[-1].span_id),) == second.links
    assert not second.failed
    assert {TRACE} == {each.trace_id for each in spans}


def test_a_dead_letter_and_its_delivery_to_the_sink(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """Both are in the trace of the event."""
    system.sinks.script("sink", Script(record=True))
    subscribe(
        system,
        "broken",
        Script(status=400),
        delivery(retry=0, sink=system.sinks.url("sink")),
    )
    post(system, "broken", "b1", traceparent=SENDER)
    _, send, deliver, dead, last = collector.wait_for(
        "b1", "accept", "send", "deliver", "dead_letter", "deliver_dead_letter"
    )
    assert "dead_letter" == deliver.attributes["headrace.result"]
    assert is_child(dead, deliver)
    assert is_child(last, send)
    assert ((dead.trace_id, dead.span_id),) == last.links
    (request,) = system.sinks.requests("sink")
    assert last.context == parse(request.headers["traceparent"].encode())


def test_a_reply_continues_the_trace(system: HeadraceUnderTest, collector: TraceCollector) -> None:
    """From the attempt that it answers, into the channel and to the next subscriber."""
    subscribe(system, "asks", Script(mode=Mode.REPLY, status=200, reply_type="answers"))
    subscribe(system, "answers", Script(record=True))
    post(system, "asks", "a1", traceparent=SENDER)
    wait_until(lambda: system.sinks.requests("answers"), 30.0, "the reply arrives")
    (request,) = system.sinks.requests("answers")
    position = parse(request.headers["traceparent"].encode())
    assert position is not None
    assert TRACE == f"{position.trace_id:032x}"
    arrived = collector.span(f"{position.span_id:016x}")
    stored = collector.span(arrived.parent_id)
    asked = collector.span(stored.parent_id)
    assert ("deliver", "send", "deliver") == (
        arrived.operation,
        stored.operation,
        asked.operation,
    )
    assert "reply" == asked.attributes["headrace.result"]


def test_a_reply_that_is_posted_continues_the_trace(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """To a URL, with a span of its own."""
    target = channel_manifest(NAMESPACE, "questions", kind="KafkaChannel")
    system.sinks.script("posted", Script(mode=Mode.REPLY, status=200))
    system.sinks.script("receiver", Script(record=True))
    reader = subscription(
        target, "reader", system.sinks.url("posted"), reply={"uri": system.sinks.url("receiver")}
    )
    system.establish(target, reader)
    headers = {"ce-specversion": "1.0", "ce-id": "q1", "ce-source": "t", "ce-type": "q"}
    path = f"/{NAMESPACE}/kafkachannels/questions"
    assert 202 == system.post(path, {**headers, "traceparent": SENDER}, b"{}")
    wait_until(lambda: system.sinks.requests("receiver"), 30.0, "the reply arrives")
    (request,) = system.sinks.requests("receiver")
    position = parse(request.headers["traceparent"].encode())
    assert position is not None
    reply = collector.span(f"{position.span_id:016x}")
    assert "reply" == reply.operation
    assert "deliver" == collector.span(reply.parent_id).operation


def test_the_histograms_lead_to_the_trace(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """The span is the one that was measured: storing the event, or the attempt."""
    subscribe(system, "measured", Script())
    post(system, "measured", "m1")
    _, send, deliver = collector.wait_for("m1", "accept", "send", "deliver")
    for service, histogram, name, span in (
        ("ingress", "headrace_ingress_stored_seconds", "orders", send),
        ("dispatcher-0", "headrace_attempt_seconds", "measured", deliver),
        ("dispatcher-0", "headrace_delivery_seconds", "measured", deliver),
    ):
        labels = {"trace_id": span.trace_id, "span_id": span.span_id}
        page = system.metrics(service, accept=ACCEPT)
        found = exemplars(page, histogram, name=name).values()
        assert labels in [each.labels for each in found], (histogram, found)
        assert "trace_id" not in system.metrics(service)


@pytest.mark.skipif(BINARY is None, reason=UNPROVEN)
def test_prometheus_stores_the_exemplars(
    system: HeadraceUnderTest, collector: TraceCollector, tmp_path: Path
) -> None:
    """It asks for OpenMetrics itself."""
    targets = {
        name: system.management_url(name).removeprefix("http://")
        for name in ("ingress", "dispatcher-0")
    }
    prometheus = Prometheus(
        system.processes, tmp_path, targets=targets, features=["exemplar-storage"]
    )
    subscribe(system, "stored", Script())
    post(system, "stored", "s1")
    trace_id = collector.wait_for("s1", "accept", "send", "deliver")[0].trace_id

    def stored() -> bool:
        return all(
            trace_id in [each["labels"]["trace_id"] for each in prometheus.exemplars(histogram)]
            for histogram in (
                "headrace_ingress_stored_seconds_bucket",
                'headrace_delivery_seconds_bucket{name="stored"}',
            )
        )

    wait_until(stored, 30.0, "Prometheus has the trace of the event")


def test_what_the_sender_does_not_sample_is_not_recorded(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """And its header stays as it is."""
    subscribe(system, "unsampled", Script(record=True))
    post(system, "unsampled", "u1", traceparent=NOT_SAMPLED)
    wait_until(lambda: system.sinks.requests("unsampled"), 30.0, "the event arrives")
    (request,) = system.sinks.requests("unsampled")
    assert NOT_SAMPLED == request.headers["traceparent"]
    post(system, "unsampled", "u2", traceparent=SENDER)
    collector.wait_for("u2", "accept", "send", "deliver")
    assert not collector.of("u1")


def test_a_refused_event_has_a_span_that_says_so(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """With the status of the answer."""
    headers = {"ce-specversion": "1.0", "ce-id": "n1", "ce-source": "", "ce-type": "n"}
    assert 400 == system.post(PATH, headers, b"{}")
    (accept,) = collector.wait_for("n1", "accept")
    assert accept.failed
    assert "400" == accept.attributes["error.type"]


def test_a_collector_that_refuses_costs_no_event(
    system: HeadraceUnderTest, collector: TraceCollector
) -> None:
    """Spans are lost then, which a metric counts."""
    subscribe(system, "uncollected", Script())
    collector.refuses = True
    try:
        for number in range(20):
            post(system, "uncollected", f"c{number}")
        wait_until(
            lambda: system.sinks.events("uncollected") == 20, 30.0, "the events are delivered"
        )
        for name in ("ingress", "dispatcher-0"):
            wait_until(
                lambda name=name: _count(system.metrics(name), "failed"),  # type: ignore[misc]
                30.0,
                f"{name} counts what it could not export",
                every=0.2,
            )
    finally:
        collector.refuses = False
    assert _count(system.metrics("ingress"), "exported")


def test_with_a_ratio_of_zero_only_the_traces_of_senders_are_recorded(
    tmp_path: Path, collector: TraceCollector
) -> None:
    """`parentbased_traceidratio`: no event begins a trace."""
    environment = {
        **collector.environment,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0",
        "OTEL_SERVICE_NAME": "shop",
    }
    with headrace_in(tmp_path, env=environment) as system:
        system.establish(broker(NAMESPACE, "orders"))
        subscribe(system, "quiet", Script(record=True))
        post(system, "quiet", "z1")
        post(system, "quiet", "z2", traceparent=SENDER)
        spans = collector.wait_for("z2", "accept", "send", "deliver")
        assert {"shop"} == {each.service for each in spans}
        wait_until(lambda: len(system.sinks.requests("quiet")) == 2, 30.0, "both arrive")
        first = next(
            each for each in system.sinks.requests("quiet") if each.headers["ce-id"] == "z1"
        )
        assert "traceparent" not in first.headers
        assert not collector.of("z1")


def _count(metrics: str, result: str) -> float:
    line = f'headrace_trace_spans_total{{result="{result}"}} '
    return next(
        (float(each.removeprefix(line)) for each in metrics.splitlines() if each.startswith(line)),
        0.0,
    )
