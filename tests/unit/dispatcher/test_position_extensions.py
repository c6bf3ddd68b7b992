"""`knativekafkapartition` and `knativekafkaoffset`: the position of the event in the topic of the
Broker, as in Knative's Kafka broker.
"""

import json

import pytest

from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace.domain.record import Record
from headrace.domain.routing import Destination, Format, Reply
from tests.support.event_builders import http_headers, record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    DEAD,
    RETRY,
    SINK,
    SUBSCRIBER,
    DispatcherHarness,
    dispatcher_harness,
    retry_headers,
)

NAMES = ("knativekafkapartition", "knativekafkaoffset")


def lines(harness: DispatcherHarness, number: int) -> list[bytes]:
    """Return the header lines of a request that contain the position."""
    return [
        line
        for line in harness.sender.sent[number].headers.split(b"\r\n")
        if line.startswith(b"ce-knativekafka")
    ]


def at(partition: int, offset: int) -> list[bytes]:
    """Return the header lines for this position."""
    return [b"ce-knativekafkapartition: %d" % partition, b"ce-knativekafkaoffset: %d" % offset]


async def test_a_delivery_names_its_place_in_place_of_what_the_event_brought() -> None:
    """Each name occurs once, even if the record already has the extensions of another broker."""
    async with dispatcher_harness() as harness:
        harness.start_worker()
        brought = record_headers(
            ("ce_knativekafkapartition", b"77"), ("ce_knativekafkaoffset", b"88")
        )
        await harness.publish("a")
        await harness.store("channel", Record(None, b"{}", brought))
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 2, what="both are delivered")
        assert sorted([at(0, 0), at(0, 1)]) == sorted([lines(harness, 0), lines(harness, 1)])


async def test_a_structured_delivery_names_its_place() -> None:
    """The position is in members of the JSON event, as strings: an offset may be larger than a
    CloudEvents integer.
    """
    async with dispatcher_harness() as harness:
        harness.start_worker(format=Format.JSON)
        await harness.publish("a")
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="it is delivered")
        assert ["0", "0"] == [json.loads(harness.sender.sent[0].body)[name] for name in NAMES]


@pytest.mark.parametrize(
    ("origin", "expected"), [("channel/3/41", at(3, 41)), ("elsewhere", []), ("a/x/y", [])]
)
async def test_a_retry_and_a_dead_letter_name_the_place_of_the_event_itself(
    origin: str, expected: list[bytes]
) -> None:
    """It is not the position of the record in the retry or dead letter topic. A record that another
    client wrote there has no position.
    """
    async with dispatcher_harness() as harness:
        harness.sender.script(SUBSCRIBER, Outcome(status=500))
        worker = harness.start_worker(
            delivery=DeliveryPolicy(retry=1), dead_letter_sink=Destination(url=SINK)
        )
        await harness.store(RETRY, Record(None, b"{}", retry_headers(origin=origin)))
        worker.on_retry_stored()
        await wait_until_async(lambda: harness.requests(SINK) == 1, what="the letter is delivered")
        assert [expected, expected] == [lines(harness, 0), lines(harness, 1)]
        assert [] == [name for name, _ in harness.records(DEAD)[0].headers if name[3:] in NAMES]


async def test_a_reply_does_not_carry_them_on() -> None:
    """A subscriber that answers with the headers that it received would give the position of
    another event.
    """
    async with dispatcher_harness() as harness:
        harness.log.create("replies")
        echoed = [(b"ce-" + name.encode(), b"1") for name in NAMES]
        harness.sender.script(
            SUBSCRIBER, Outcome(status=200, headers=[*http_headers(), *echoed], body=b"{}")
        )
        harness.start_worker(reply=Reply(topic="replies"))
        await harness.publish("a")
        await wait_until_async(
            lambda: len(harness.records("replies")) == 1, what="the reply is stored"
        )
        assert [] == [
            name for name, _ in harness.records("replies")[0].headers if name[3:] in NAMES
        ]
