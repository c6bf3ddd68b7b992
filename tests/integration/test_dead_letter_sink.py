"""Dead letter sinks that reject some dead letters permanently, on a real Kafka: they do not delay
others, and stay in the topic with the reason.
"""

from dataclasses import replace

import pytest

from headrace.codec import delivery_state
from headrace.domain.record import Record
from headrace.domain.routing import Destination
from tests.support.dispatcher_harness import KafkaDispatcherHarness, kafka_dispatcher_harness
from tests.support.kafka import KafkaUnderTest
from tests.support.subscriber import Exchange, ok, serving, status
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka

GOOD = b"good"


def takes_good_events(exchange: Exchange) -> None:
    """A sink that accepts CloudEvents of one type and rejects everything else, as a Broker rejects
    what is not a CloudEvent.
    """
    (ok() if exchange.request.headers.get("ce-type") == GOOD.decode() else status(422))(exchange)


async def store(harness: KafkaDispatcherHarness, topic: str, count: int, record: Record) -> None:
    """Append this record `count` times."""
    failed: list[object] = []
    for _ in range(count):
        harness.log.append(topic, record, failed.append)
    await wait_until_async(lambda: len(failed) == count, timeout=30, what="all records are stored")
    assert not any(failed), failed


@pytest.mark.clause("D1", "D2", "E11")
async def test_records_that_are_no_events_delay_no_dead_letter(kafka: KafkaUnderTest) -> None:
    """There are more of them than a feed may hold: none is posted to the sink, all stay in the
    topic, and the event after them arrives.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(422)) as subscriber,
        serving(takes_good_events) as sink,
    ):
        subscription = harness.subscription(
            subscriber.url, dead_letter_sink=Destination(url=sink.url)
        )
        harness.routes.put(subscription)
        dispatcher = await harness.dispatcher()
        await store(harness, subscription.topic, 1100, Record(None, b"garbage"))
        await harness.publish(subscription.topic, "a", type=GOOD)
        await sink.wait_for_requests(1, timeout_seconds=20)
        assert ["a"] == [request.headers.get("ce-id") for request in sink.requests]
        metrics = dispatcher.workers[f"subscription/{subscription.uid}"].metrics
        await wait_until_async(
            lambda: metrics.not_events.value == 1100, what="what is no event is counted"
        )
        dead_letter, *_ = dead_letters = await harness.read(subscription.dead_topic, 1101)
        assert (1101, b"garbage") == (len(dead_letters), dead_letter.value)
        assert delivery_state.read(dead_letter.headers).reason.startswith("unreadable: ")
        assert "ce_knativeerrordest" not in dict(dead_letter.headers)


@pytest.mark.clause("E11")
async def test_dead_letters_that_the_sink_rejects_delay_no_other(kafka: KafkaUnderTest) -> None:
    """10,000 rejected dead letters: each is posted once and appended to the topic with the sink's
    answer; the one after them arrives.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(ok()) as subscriber,
        serving(takes_good_events) as sink,
    ):
        subscription = harness.subscription(subscriber.url)
        dead_letter = Record(
            None,
            b"{}",
            [
                ("ce_specversion", b"1.0"),
                ("ce_id", b"r"),
                ("ce_source", b"/s"),
                ("ce_type", b"refused"),
            ],
        )
        await store(harness, subscription.dead_topic, 10_000, dead_letter)
        await harness.publish(subscription.dead_topic, "a", type=GOOD)
        harness.routes.put(replace(subscription, dead_letter_sink=Destination(url=sink.url)))
        dispatcher = await harness.dispatcher()
        await sink.wait_for_requests(10_001, timeout_seconds=60)
        worker = dispatcher.workers[f"subscription/{subscription.uid}"]
        await wait_until_async(
            lambda: worker.metrics.sink_stored.value == 1,
            timeout=20,
            what="the good letter is taken",
        )
        assert (10_000, True) == (worker.metrics.sink_rejected.value, worker.report().sink_rejected)
        records = await harness.read(subscription.dead_topic, 20_001, timeout=20)
        copies = [
            dict(record.headers) for record in records if delivery_state.is_rejected(record.headers)
        ]
        assert {b"status 422 from " + sink.url.encode()} == {
            copy[delivery_state.SINK] for copy in copies
        }
        assert {f"{subscription.dead_topic}/0/{offset}".encode() for offset in range(10_000)} == {
            copy[delivery_state.COPY_OF] for copy in copies
        }
        assert 10_001 == len(sink.requests), "a rejected letter is posted once"


async def test_another_sink_gets_later_dead_letters_only(kafka: KafkaUnderTest) -> None:
    """Dead letters that the first sink rejected are not posted to the second, not even after a
    restart of the dispatcher.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(422)) as subscriber,
        serving(status(400)) as first,
        serving(ok()) as second,
    ):
        subscription = harness.subscription(
            subscriber.url, dead_letter_sink=Destination(url=first.url)
        )
        harness.routes.put(subscription)
        dispatcher = await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        dead_letters = await harness.read(subscription.dead_topic, 2)
        assert [False, True] == [
            delivery_state.is_rejected(dead_letter.headers) for dead_letter in dead_letters
        ]
        await dispatcher.drain()
        harness.dispatchers.clear()
        await dispatcher.stop()
        harness.routes.put(
            replace(subscription, generation=2, dead_letter_sink=Destination(url=second.url))
        )
        await harness.dispatcher()
        await harness.publish(subscription.topic, "b")
        await second.wait_for_requests(1)
        assert (["b"], 1) == (
            [request.headers["ce-id"] for request in second.requests],
            len(first.requests),
        )
