"""How the events of a source reach its sink: by topic or by HTTP, retried, with overrides."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.sender import MemorySender
from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace.domain.errors import LogUnavailable
from headrace.domain.event import Event, InvalidEvent
from headrace.domain.routing import (
    Addressable,
    Destination,
    EventSource,
    Format,
    RoutingTable,
    SchemaValidation,
    route_key,
)
from headrace.runtime.metrics import Metrics
from headrace_sources.emitter import IN_FLIGHT_MAX, Emitter, EmitterContext
from headrace_sources.metrics import SourcesMetrics
from headrace_sources.source import NotDelivered, new_event

SINK, DEAD = "http://127.0.0.1:1/sink", "http://127.0.0.1:1/dead"
TOPIC = "knative-broker-default-default"
QUICK = DeliveryPolicy(retry=2, delay_seconds=0.0)
EVENT = new_event("com.example", "/here", b"1", id="one", content_type="text/plain")


def source(**fields: Any) -> EventSource:
    """A source with an HTTP sink."""
    given = {"sink": Destination(url=SINK), "delivery": QUICK, **fields}
    return EventSource(
        uid="s",
        generation=1,
        epoch=1,
        namespace="default",
        name="s",
        kind="K",
        adapter="a",
        **given,
    )


class Harness:
    """An emitter over memory."""

    def __init__(self) -> None:
        self.log, self.sender, self.table = MemoryLog(), MemorySender(), RoutingTable()
        self.clock = MemoryClock()
        self.holds = True

    def emitter(self, route: EventSource) -> Emitter:
        """The emitter of this source."""
        context = EmitterContext(
            log=self.log,
            sender=self.sender,
            clock=self.clock,
            table=self.table,
            jitter=lambda: 0.0,
        )
        self.metrics = SourcesMetrics(Metrics(process=False)).of(route)
        return Emitter(context, route, self.metrics, may_emit=lambda: self.holds)

    def addressable(self, **fields: Any) -> None:
        """The addressable at the sink, in the routing table."""
        route = Addressable(
            uid="b", generation=1, epoch=1, namespace="default", name="b", topic=TOPIC, **fields
        )
        self.table.apply(route_key(route), route)
        if TOPIC not in self.log.topics:
            self.log.create(TOPIC)

    def stored(self) -> list[Mapping[str, bytes]]:
        """The headers of the records in the topic."""
        return [dict(each.headers) for part in self.log.topics[TOPIC] for each in part]

    def counts(self) -> tuple[int, int, int, int]:
        """Delivered, dead-lettered, not delivered, retried."""
        found = self.metrics
        return (
            found.delivered.value,
            found.dead_lettered.value,
            found.not_delivered.value,
            found.retried.value,
        )


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    """A new one."""
    yield Harness()


async def test_an_event_is_posted_in_binary_mode_with_the_overrides(harness: Harness) -> None:
    """Overrides replace what the event has."""
    emitter = harness.emitter(source(extensions={"team": "red", "subject": "theirs"}))
    event = Event({**EVENT.attributes, "subject": "mine"}, EVENT.data)
    await emitter(event)
    [sent] = harness.sender.sent
    lines = sent.headers.decode().split("\r\n")
    assert sent.url == SINK
    assert sent.body == b"1"
    assert {
        "ce-id: one",
        "ce-specversion: 1.0",
        "ce-team: red",
        "ce-subject: theirs",
        "content-type: text/plain",
        "Kn-Namespace: default",
    } <= set(lines)
    assert harness.counts() == (1, 0, 0, 0)


async def test_an_addressable_gets_it_in_its_topic(harness: Harness) -> None:
    """With an arrival time, as by the ingress, and without a request."""
    harness.addressable()
    await harness.emitter(source(sink_topic=TOPIC))(EVENT)
    [headers] = harness.stored()
    assert (headers["ce_id"], headers["content-type"]) == (b"one", b"text/plain")
    assert headers["ce_knativearrivaltime"].endswith(b"Z")
    assert harness.sender.sent == []


@pytest.mark.parametrize(
    "fields",
    [{"validation": SchemaValidation.ENFORCE}, {"event_types": True}, {"format": Format.JSON}],
)
async def test_it_goes_through_the_ingress_if_that_has_to_look_at_it(
    harness: Harness, fields: Mapping[str, Any]
) -> None:
    """And straight into the topic as soon as that ends."""
    harness.addressable(**fields)
    emitter = harness.emitter(source(sink_topic=TOPIC))
    await emitter(EVENT)
    assert [each.url for each in harness.sender.sent] == [SINK]
    harness.addressable()
    await emitter(EVENT)
    assert (len(harness.sender.sent), len(harness.stored())) == (1, 1)


async def test_a_topic_of_no_known_addressable_is_not_written_to(harness: Harness) -> None:
    """The address is still valid."""
    harness.log.create(TOPIC)
    await harness.emitter(source(sink_topic=TOPIC))(EVENT)
    assert [each.url for each in harness.sender.sent] == [SINK]


async def test_a_failing_sink_is_tried_again_by_the_policy(harness: Harness) -> None:
    """Then the event is not delivered, and the text says why."""
    harness.sender.script(SINK, Outcome(status=503))
    emitter = harness.emitter(source())
    with pytest.raises(NotDelivered, match=r"status 503 at attempt 3, the last of 3"):
        await emitter(EVENT)
    assert len(harness.sender.sent) == 3
    assert harness.counts() == (0, 0, 1, 2)
    assert "status 503" in emitter.failure
    harness.sender.script(SINK, Outcome(status=202))
    await emitter(EVENT)
    assert emitter.failure == ""


async def test_a_rejected_event_is_not_tried_again(harness: Harness) -> None:
    """400 is never retried."""
    harness.sender.script(SINK, Outcome(status=400))
    with pytest.raises(NotDelivered, match="never retried"):
        await harness.emitter(source())(EVENT)
    assert len(harness.sender.sent) == 1


async def test_a_dead_letter_sink_gets_what_the_sink_has_not_taken(harness: Harness) -> None:
    """With the reason; that counts as delivered for the outside."""
    harness.sender.script(SINK, Outcome(status=400, body=b"no"))
    emitter = harness.emitter(source(dead_letter_sink=Destination(url=DEAD)))
    await emitter(EVENT)
    lines = harness.sender.sent[-1].headers.decode().split("\r\n")
    assert harness.sender.sent[-1].url == DEAD
    assert {f"ce-knativeerrordest: {SINK}", "ce-knativeerrorcode: 400", "ce-id: one"} <= set(lines)
    assert harness.counts() == (0, 1, 0, 0)
    harness.sender.script(DEAD, Outcome(status=500))
    with pytest.raises(NotDelivered, match="dead letter sink"):
        await emitter(EVENT)


async def test_an_event_too_large_for_its_topic_is_not_delivered(harness: Harness) -> None:
    """Not cut, and not tried again."""
    harness.addressable(event_bytes_max=1_000)
    large = Event(EVENT.attributes, b"x" * 1_001)
    with pytest.raises(NotDelivered, match="413"):
        await harness.emitter(source(sink_topic=TOPIC))(large)
    assert harness.stored() == []


async def test_a_log_that_does_not_store_is_tried_again(harness: Harness) -> None:
    """As a sink that does not answer."""
    harness.addressable()
    harness.log.refuse(TOPIC, LogUnavailable("no broker answers"))
    slow = DeliveryPolicy(retry=5, delay_seconds=0.02)
    sending = asyncio.create_task(harness.emitter(source(sink_topic=TOPIC, delivery=slow))(EVENT))
    while not harness.counts()[3]:
        await asyncio.sleep(0)
    harness.log.refuse(TOPIC, None)
    await sending
    assert len(harness.stored()) == 1
    assert harness.counts()[:3] == (1, 0, 0)


async def test_an_invalid_event_is_the_fault_of_the_adapter(harness: Harness) -> None:
    """It is sent nowhere."""
    with pytest.raises(InvalidEvent, match="type"):
        await harness.emitter(source())(new_event("", "/here"))
    assert harness.sender.sent == []


async def test_a_process_without_the_lease_sends_nothing(harness: Harness) -> None:
    """Not even a retry of what it began before."""
    harness.sender.script(SINK, Outcome(status=503))
    emitter = harness.emitter(source(delivery=DeliveryPolicy(retry=5, delay_seconds=0.05)))
    sending = asyncio.create_task(emitter(EVENT))
    while not harness.sender.sent:
        await asyncio.sleep(0)
    harness.holds = False
    with pytest.raises(NotDelivered, match="another process"):
        await sending
    assert len(harness.sender.sent) == 1


async def test_a_cancelled_event_is_given_up(harness: Harness) -> None:
    """With its request, and without a report."""
    harness.sender.script(SINK, None)
    emitter = harness.emitter(source())
    sending = asyncio.create_task(emitter(EVENT))
    while not harness.sender.sent:
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert emitter.in_flight == 0
    assert harness.sender.in_flight.get(SINK, 0) == 0
    assert harness.counts() == (0, 0, 0, 0)


async def test_a_new_sink_gets_the_next_attempt(harness: Harness) -> None:
    """An event that is being retried goes there too."""
    harness.sender.script(SINK, Outcome(status=503))
    policy = DeliveryPolicy(retry=5, delay_seconds=0.02)
    emitter = harness.emitter(source(delivery=policy))
    sending = asyncio.create_task(emitter(EVENT))
    while not harness.sender.sent:
        await asyncio.sleep(0)
    emitter.update(source(sink=Destination(url=DEAD), delivery=policy))
    await sending
    assert harness.sender.sent[-1].url == DEAD


async def test_the_number_of_events_under_way_is_bounded(harness: Harness) -> None:
    """The others wait for a place."""
    harness.sender.script(SINK, Outcome(status=202), delay_seconds=0.05)
    emitter = harness.emitter(source())
    sending = [asyncio.create_task(emitter(EVENT)) for _ in range(IN_FLIGHT_MAX + 10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert emitter.in_flight == IN_FLIGHT_MAX
    await asyncio.gather(*sending)
    assert harness.counts()[0] == IN_FLIGHT_MAX + 10


async def test_the_callback_form_reports_the_same(harness: Harness) -> None:
    """Once for each event."""
    results: list[Exception | None] = []
    emitter = harness.emitter(source())
    emitter.start(EVENT, results.append)
    harness.sender.script(SINK, Outcome(status=400))
    emitter.start(EVENT, results.append)
    while len(results) < 2:
        await asyncio.sleep(0)
    assert results[0] is None
    assert isinstance(results[1], NotDelivered)
