"""Spans of deliveries that end in other ways than by an answer, and of attempts in place."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headrace.codec import trace_context
from headrace.domain.delivery import Outcome
from headrace.domain.record import Record
from headrace.domain.routing import DeliveryOrder, Reply
from headrace.runtime.exemplars import add_exemplars
from headrace.runtime.metrics import Metrics
from headrace.runtime.traced_ports import TracedLog, TracedSender
from headrace.runtime.tracing import Tracing
from headrace_dispatcher.metrics import DispatcherMetrics
from headrace_dispatcher.retrying_log import RetryingLog
from tests.support.event_builders import record_headers
from tests.support.metrics_page import exemplars
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    DEAD,
    SUBSCRIBER,
    DispatcherHarness,
    dispatcher_harness,
)

SENDER = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = SENDER[:-1] + b"0"


@asynccontextmanager
async def traced_harness() -> AsyncIterator[tuple[DispatcherHarness, InMemorySpanExporter]]:
    """A harness whose worker records spans."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    async with dispatcher_harness(drain_seconds=0.02) as harness:
        harness.metrics = Metrics(process=False)
        add_exemplars(harness.metrics, tracing.sampled_position)
        harness.context = replace(
            harness.context,
            tracing=tracing,
            metrics=DispatcherMetrics(harness.metrics),
            sender=TracedSender(harness.sender, tracing),
            retrying_log=RetryingLog(TracedLog(harness.log, tracing)),
        )
        yield harness, exporter


async def publish(harness: DispatcherHarness) -> None:
    """Store an event with a position in a trace."""
    await harness.store(CHANNEL, Record(None, b"{}", record_headers(("traceparent", SENDER))))


def named(exporter: InMemorySpanExporter, operation: str) -> Sequence[ReadableSpan]:
    """The spans of this operation that have ended."""
    return [each for each in exporter.get_finished_spans() if each.name.startswith(operation + " ")]


def position(span: ReadableSpan) -> dict[str, str]:
    """The labels of an exemplar that leads to a span."""
    context = span.context
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


async def test_an_attempt_that_is_cancelled_has_a_span() -> None:
    """Its partition was taken away while it was under way."""
    async with traced_harness() as (harness, exporter):
        harness.start_worker()
        harness.sender.script(SUBSCRIBER, Outcome(status=202), delay_seconds=60.0)
        await publish(harness)
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="the event is sent")
        feed = harness.feeds.feeds[0]
        feed.revoke(feed.partitions())
        await wait_until_async(lambda: named(exporter, "deliver"), what="its span ends")
        (span,) = named(exporter, "deliver")
        assert "cancelled" == (span.attributes or {})["error.type"]


async def test_an_attempt_in_place_is_linked_to_the_one_before() -> None:
    """An ordered subscription stores no retry record."""
    async with traced_harness() as (harness, exporter):
        harness.start_worker(order=DeliveryOrder.ORDERED)
        harness.sender.script(SUBSCRIBER, Outcome(status=503), Outcome(status=202))
        await publish(harness)
        await wait_until_async(lambda: len(named(exporter, "deliver")) == 2, what="two attempts")
        first, second = named(exporter, "deliver")
        assert "retry" == (first.attributes or {})["headrace.result"]
        assert [first.context.span_id] == [each.context.span_id for each in second.links]
        parents = {each.parent.span_id for each in (first, second) if each.parent}
        assert {0x00F067AA0BA902B7} == parents


async def test_a_record_that_cannot_be_sent_has_a_span() -> None:
    """It becomes a dead letter without a request, and the dead letter is in its trace."""
    async with traced_harness() as (harness, exporter):
        harness.start_worker()
        await harness.store(CHANNEL, Record(None, b"no event", [("traceparent", SENDER)]))
        await wait_until_async(lambda: named(exporter, "dead_letter"), what="a dead letter")
        (attempt,) = named(exporter, "deliver")
        (stored,) = named(exporter, "dead_letter")
        assert "unreadable" == (attempt.attributes or {})["error.type"]
        assert stored.parent is not None
        assert attempt.context.span_id == stored.parent.span_id
        (record,) = harness.records(DEAD)
        assert SENDER == dict(record.headers)["traceparent"]


async def test_every_attempt_sends_its_own_position() -> None:
    """The subscriber's spans are children of the attempt."""
    async with traced_harness() as (harness, exporter):
        harness.start_worker()
        await publish(harness)
        await wait_until_async(lambda: named(exporter, "deliver"), what="the attempt ends")
        (span,) = named(exporter, "deliver")
        (request,) = harness.sender.sent
        line = next(
            each for each in request.headers.split(b"\r\n") if each.startswith(b"traceparent: ")
        )
        position = trace_context.parse(line.removeprefix(b"traceparent: "))
        assert position is not None
        assert (span.context.trace_id, span.context.span_id) == position[:2]


async def test_what_is_measured_of_an_attempt_has_its_trace() -> None:
    """Its duration, and the time to the delivery; an event that is sent because of its end has
    none.
    """
    async with traced_harness() as (harness, exporter):
        harness.start_worker(order=DeliveryOrder.ORDERED)
        await harness.store(
            CHANNEL,
            *(
                Record(None, b"{}", record_headers(("traceparent", traceparent)))
                for traceparent in (NOT_SAMPLED, SENDER, NOT_SAMPLED)
            ),
        )
        await wait_until_async(
            lambda: harness.metric("headrace_delivered_total") == 3.0, what="all are delivered"
        )
        (span,) = named(exporter, "deliver")
        page = harness.metrics.expose(openmetrics=True)[0].decode()
        for histogram in ("headrace_attempt_seconds", "headrace_delivery_seconds"):
            assert [position(span)] == [each.labels for each in exemplars(page, histogram).values()]
        sent = [b"traceparent: " + NOT_SAMPLED in each.headers for each in harness.sender.sent]
        assert [True, False, True] == sent


async def test_a_stored_reply_is_measured_in_the_trace_of_its_event() -> None:
    """Also when the subscriber has set another trace in the reply."""
    own = b"00-11111111111111111111111111111111-2222222222222222-01"
    async with traced_harness() as (harness, exporter):
        harness.log.create("replies")
        harness.start_worker(reply=Reply(topic="replies"))
        required = (b"id", b"source", b"type"), (b"r", b"/r", b"t")
        headers = [(b"ce-" + name, value) for name, value in zip(*required, strict=True)]
        headers += [(b"ce-specversion", b"1.0"), (b"traceparent", own)]
        harness.sender.script(SUBSCRIBER, Outcome(status=200, headers=headers, body=b"{}"))
        await publish(harness)
        await wait_until_async(
            lambda: harness.metric("headrace_delivered_total") == 1.0, what="the reply is stored"
        )
        (span,) = named(exporter, "deliver")
        (stored,) = named(exporter, "send")
        assert 0x11111111111111111111111111111111 == stored.context.trace_id
        page = harness.metrics.expose(openmetrics=True)[0].decode()
        (found,) = exemplars(page, "headrace_delivery_seconds").values()
        assert position(span) == found.labels
