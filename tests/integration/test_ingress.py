"""The ingress on a real Kafka: what a 202 guarantees, and what senders receive while Kafka is slow,
frozen or unreachable.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.control.routing import KafkaRoutingReader, KafkaRoutingWriter
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.options import KafkaOptions, LogOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.codec import routing
from headrace.domain.errors import LogUnavailable
from headrace.domain.record import Record
from headrace.domain.routing import Addressable, route_key
from headrace.runtime.metrics import Metrics
from headrace_ingress.ingress import Ingress
from headrace_ingress.settings import IngressSettings
from tests.contract.test_log import Outcomes, read_topic
from tests.support.kafka import KafkaUnderTest, free_port
from tests.support.wait_until import wait_until, wait_until_async
from tests.unit.ingress.harness import ATTRIBUTES, request, talk

pytestmark = pytest.mark.kafka


class Door:
    """An ingress on Kafka, with its own routing topic."""

    def __init__(self, bootstrap_servers: str, routing_topic: str, **settings: Any) -> None:
        self.options = KafkaOptions(bootstrap_servers=bootstrap_servers)
        made = IngressSettings(port=0, **settings)
        self.log = KafkaLog(self.options, log=made.log_options())
        self.routes = KafkaRoutingReader(self.options, topic=routing_topic, start_seconds=3600)
        self.writer = KafkaRoutingWriter(self.options, topic=routing_topic)
        self.ingress = Ingress(
            made,
            log=self.log,
            routes=self.routes,
            metrics=Metrics(process=False),
            warm_up=self.log.warm_up,
        )

    async def add(self, topic: str, *, name: str = "orders", **fields: Any) -> None:
        """Write the routing record of a Broker."""
        route = Addressable(
            uid=name,
            generation=1,
            epoch=1,
            namespace="shop",
            name=name,
            topic=topic,
            paths=(f"/shop/{name}",),
            **fields,
        )
        await self.writer.write({route_key(route): routing.write(route)})

    async def post(self, raw: bytes) -> tuple[int, dict[str, Any]]:
        """Send a request; return status and problem document."""
        answer = await talk(self.ingress.port, raw, seconds=20)
        body = answer.partition(b"\r\n\r\n")[2]
        return int(answer[9:12]), json.loads(body) if body else {}


@contextlib.asynccontextmanager
async def door(bootstrap_servers: str, routing_topic: str, **settings: Any) -> AsyncIterator[Door]:
    """An ingress that is ready, and is stopped at the end."""
    made = Door(bootstrap_servers, routing_topic, **settings)
    await made.log.start()
    try:
        await made.ingress.start()
        yield made
    finally:
        await made.ingress.stop()
        await made.log.stop(0.5)
        await made.writer.stop()


def routing_topic_of(kafka: KafkaUnderTest) -> str:
    """Return the name of a routing topic for one test."""
    return kafka.create_topic("routing", config={"cleanup.policy": "compact"})


def make_topic(apache: ApacheKafka, *names: str) -> None:
    """Create topics with one partition on a private Kafka."""
    admin = AdminClient({"bootstrap.servers": apache.bootstrap_servers})
    for future in admin.create_topics(
        [NewTopic(name, num_partitions=1, replication_factor=1) for name in names]
    ).values():
        future.result(20)


async def test_a_202_means_that_kafka_has_the_event(kafka: KafkaUnderTest) -> None:
    """The record can be read as soon as the sender has the response, with the key, headers and data
    of the event.
    """
    topic = kafka.create_topic("orders")
    async with door(kafka.bootstrap_servers, routing_topic_of(kafka)) as shop:
        await shop.add(topic)
        assert (202, {}) == await shop.post(
            request(b"\x00data", fields=(*ATTRIBUTES, (b"ce-partitionkey", b"k")))
        )
        [(key, value, headers)] = await asyncio.to_thread(
            read_topic, kafka.bootstrap_servers, topic, 1
        )
        assert (b"k", b"\x00data") == (key, value)
        assert {"ce_id": b"7", "ce_type": b"order.placed"}.items() <= dict(headers).items()


async def test_a_path_is_unknown_only_when_the_routing_topic_says_so(kafka: KafkaUnderTest) -> None:
    """A Broker that does not exist gets a 404. A Broker whose record was written just before the
    event arrived gets a 202.
    """
    topic = kafka.create_topic("orders")
    async with door(kafka.bootstrap_servers, routing_topic_of(kafka)) as shop:
        assert 404 == (await shop.post(request()))[0]
        await shop.add(topic)
        assert (202, {}) == await shop.post(request())


async def test_a_topic_that_appears_late_takes_events_at_once(kafka: KafkaUnderTest) -> None:
    """While the topic of a Broker is missing, its events are refused with 503. Soon after the topic
    is created, they are accepted.
    """
    name = kafka.create_topic("late")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    async with door(kafka.bootstrap_servers, routing_topic_of(kafka)) as shop:
        await shop.add(name)
        assert (202, {}) == await shop.post(request())
        admin.delete_topics([name])[name].result(20)
        await wait_until_post(shop, 503)
        wait_until(
            lambda: name not in admin.list_topics(timeout=5).topics, what="the topic is gone"
        )
        admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(
            20
        )
        await wait_until_post(shop, 202)


async def wait_until_post(shop: Door, status: int, seconds: float = 15.0) -> None:
    """Post until the answer has this status."""
    deadline = time.monotonic() + seconds
    while (await shop.post(request()))[0] != status:
        assert time.monotonic() < deadline, f"no {status} within {seconds} s"
        await asyncio.sleep(0.1)


async def test_what_the_topic_refuses_as_too_large_is_a_413(kafka: KafkaUnderTest) -> None:
    """If the limit of the topic is lower than the one in the routing record, the sender must not
    retry forever.
    """
    topic = kafka.create_topic("small", config={"max.message.bytes": "140000"})
    async with door(kafka.bootstrap_servers, routing_topic_of(kafka)) as shop:
        await shop.add(topic)
        assert 413 == (await shop.post(request(b"x" * 200_000)))[0]
        assert (202, {}) == await shop.post(request(b"x" * 100_000))


async def test_small_events_never_add_up_to_a_batch_that_is_too_large(
    kafka: KafkaUnderTest,
) -> None:
    """A Kafka broker applies the limit of the topic to whole batches. A burst of events that are
    far below the limit is still stored.
    """
    topic = kafka.create_topic("small", config={"max.message.bytes": "140000"})
    log = KafkaLog(
        KafkaOptions(bootstrap_servers=kafka.bootstrap_servers), log=LogOptions(linger_seconds=0.05)
    )
    await log.start()
    reported = Outcomes()
    for _ in range(1_000):
        log.append(topic, Record(None, b"x" * 1_024), reported)
    assert 0 == await log.flush(10)
    await log.stop()
    assert [None] * 1_000 == reported.outcomes


async def test_a_fatal_error_replaces_the_producer_and_loses_no_report(
    kafka: KafkaUnderTest,
) -> None:
    """Unacknowledged records get a temporary error or success, and are always reported. The new
    producer stores the next record.
    """
    topic = kafka.create_topic("fatal")
    log = KafkaLog(
        KafkaOptions(bootstrap_servers=kafka.bootstrap_servers), log=LogOptions(linger_seconds=1.0)
    )
    await log.start()
    await log.warm_up(10)
    reported = Outcomes()
    for _ in range(10):
        log.append(topic, Record(None, b"x"), reported)
    before = log._producer
    log._on_error(KafkaError(KafkaError._FATAL, "injected by the test", True))
    assert 0 == await log.flush(10)
    assert before is not log._producer
    assert [LogUnavailable] * 10 == [type(outcome) for outcome in reported.outcomes]
    log.append(topic, Record(None, b"y"), reported)
    assert 0 == await log.flush(10)
    assert reported.outcomes[-1] is None
    await log.stop()


async def test_a_stopped_log_reports_what_it_gave_up() -> None:
    """After the stop the result of every record has been reported, even if Kafka was never
    reachable.
    """
    log = KafkaLog(KafkaOptions(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    await log.start()
    reported = Outcomes()
    for _ in range(5):
        log.append("orders", Record(None, b"x"), reported)
    await log.stop(0.1)
    assert [LogUnavailable] * 5 == [type(outcome) for outcome in reported.outcomes]


async def test_an_ingress_without_kafka_answers_503_and_is_not_ready() -> None:
    """Without a reachable broker the port answers immediately, with the reason."""
    made = Door(f"127.0.0.1:{free_port()}", "routing")
    await made.log.start()
    starting = asyncio.create_task(made.ingress.start())
    try:
        await asyncio.sleep(0)
        status, document = await made.post(request())
        assert (503, "urn:headrace:problem:not-ready") == (status, document["type"])
        assert "routing table" in (made.ingress.not_ready() or "")
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await made.ingress.stop()
        await made.log.stop(0.1)
        await made.writer.stop()


async def test_a_frozen_kafka_costs_a_503_in_time_and_bounded_memory(
    private_kafka: ApacheKafka,
) -> None:
    """Every sender gets a 503, within the deadline or immediately when the budget is used up, also
    for unknown paths. Afterwards events are accepted again.
    """
    make_topic(private_kafka, "routing", "orders")
    async with door(
        private_kafka.bootstrap_servers,
        "routing",
        produce_seconds=1.5,
        topic_bytes_max=2 * 1_048_576,
    ) as shop:
        await shop.add("orders")
        assert (202, {}) == await shop.post(request())
        private_kafka.pause()
        try:
            begun = time.monotonic()
            raw = request(b"x" * 200_000)
            answers = await asyncio.gather(
                *(shop.post(raw) for _ in range(30)), shop.post(request(target=b"/shop/unknown"))
            )
            assert {503} == {status for status, _ in answers}
            assert time.monotonic() - begun < 8.0
            reasons = [document["type"].rpartition(":")[2] for _, document in answers]
            assert {"backlog-full", "not-stored", "routes-uncertain"} == set(reasons)
            assert 10 == reasons.count("not-stored"), "a budget of 2 MiB holds ten events of 200 kB"
        finally:
            private_kafka.cont()
        await wait_until_post(shop, 202, seconds=20)
        await wait_until_async(lambda: shop.log.open_bytes == 0, what="the budget is free again")


async def test_warming_up_proves_the_whole_way_with_a_tombstone(kafka: KafkaUnderTest) -> None:
    """The first record of a producer is written to one of Headrace's own topics, and compaction
    removes it completely.
    """
    topic = kafka.create_topic("warm", config={"cleanup.policy": "compact"})
    log = KafkaLog(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    await log.start()
    await log.warm_up(10, topic=topic)
    assert [(b"warm-up", None, [])] == await asyncio.to_thread(
        read_topic, kafka.bootstrap_servers, topic
    )
    await log.warm_up(10, topic="no-such-topic")
    await log.stop()
