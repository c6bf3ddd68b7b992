"""Spans of appended records."""

from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headrace.adapters.memory.log import MemoryLog
from headrace.codec import trace_context
from headrace.domain.errors import HeadraceError, LogUnavailable, TopicMissing
from headrace.domain.ports import OnStored
from headrace.domain.record import Record
from headrace.runtime.traced_ports import TracedLog
from headrace.runtime.tracing import Tracing
from tests.support.event_builders import record_headers

SENDER = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CREATED = b"00-11111111111111111111111111111111-2222222222222222-01"
NOT_SAMPLED = SENDER[:-1] + b"0"


class Recorded:
    """A traced log with one topic, and its spans."""

    def __init__(self) -> None:
        provider, self.exporter = TracerProvider(), InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.memory = MemoryLog()
        self.memory.create("topic")
        self.tracing = Tracing(provider)
        self.log = TracedLog(self.memory, self.tracing)
        self.errors: list[HeadraceError | None] = []

    async def append(self, *headers: tuple[str, bytes], topic: str = "topic") -> None:
        """Append an event with these headers, and wait for the report."""
        self.log.append(topic, Record(None, b"{}", record_headers(*headers)), self.errors.append)
        await self.log.flush(5.0)


async def test_a_span_ends_with_the_report_and_its_position_is_stored() -> None:
    """In place of the sender's, of which it is a child."""
    recorded = Recorded()
    await recorded.append(("traceparent", SENDER), ("tracestate", b"v=1"))
    (span,) = recorded.exporter.get_finished_spans()
    (record,) = recorded.memory.topics["topic"][0]
    position = trace_context.find(record.headers)
    assert position is not None
    assert position[:2] == (span.context.trace_id, span.context.span_id)
    assert span.parent is not None
    assert 0x00F067AA0BA902B7 == span.parent.span_id
    assert b"v=1" == dict(record.headers)["tracestate"]
    assert [None] == recorded.errors
    await recorded.memory.stop()


@pytest.mark.parametrize("error", [LogUnavailable("no broker"), None])
async def test_an_error_is_in_the_span_and_is_reported(error: HeadraceError | None) -> None:
    """One that is reported later, and one that is raised or reported for a missing topic."""
    recorded = Recorded()
    recorded.memory.fail(error)
    await recorded.append(topic="topic" if error else "missing")
    (span,) = recorded.exporter.get_finished_spans()
    (reported,) = recorded.errors
    expected = LogUnavailable if error else TopicMissing
    assert isinstance(reported, expected)
    assert expected.__name__ == (span.attributes or {})["error.type"]
    await recorded.memory.stop()


async def test_the_context_of_creation_is_a_link_if_it_is_another_trace() -> None:
    """The extension is an attribute of the event: it stays as it is."""
    recorded = Recorded()
    await recorded.append(("traceparent", SENDER), ("ce_traceparent", CREATED))
    await recorded.append(("ce_traceparent", CREATED))
    linked, child = recorded.exporter.get_finished_spans()
    assert [0x2222222222222222] == [each.context.span_id for each in linked.links]
    assert child.parent is not None
    assert 0x2222222222222222 == child.parent.span_id
    assert not child.links
    assert {CREATED} == {
        dict(each.headers)["ce_traceparent"] for each in recorded.memory.topics["topic"][0]
    }
    await recorded.memory.stop()


async def test_an_event_that_is_not_sampled_is_stored_as_it_is() -> None:
    """Without a span."""
    recorded = Recorded()
    await recorded.append(("traceparent", NOT_SAMPLED))
    assert not recorded.exporter.get_finished_spans()
    (record,) = recorded.memory.topics["topic"][0]
    assert NOT_SAMPLED == dict(record.headers)["traceparent"]
    await recorded.memory.stop()


class _ImmediateLog(MemoryLog):
    """Reports a record as stored before `append` returns."""

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        stored(None)


async def test_the_report_comes_within_the_span() -> None:
    """What it measures is part of the trace; the report of a record without one is in none."""
    recorded, memory, positions = Recorded(), _ImmediateLog(), []
    log = TracedLog(memory, recorded.tracing)

    def append(traceparent: bytes, then: Callable[[], None] = lambda: None) -> None:
        def stored(_: HeadraceError | None) -> None:
            positions.append(recorded.tracing.sampled_position())
            then()

        headers = record_headers(("traceparent", traceparent))
        log.append("topic", Record(None, b"{}", headers), stored)

    append(SENDER, then=lambda: append(NOT_SAMPLED))
    (span,) = recorded.exporter.get_finished_spans()
    first, second = positions
    assert first is not None
    assert first[:2] == (span.context.trace_id, span.context.span_id)
    assert second is None
    assert recorded.tracing.current is None
