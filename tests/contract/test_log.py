"""The `Log` port: the memory log, the Kafka log and the JetStream log behave the same."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from structlog.testing import capture_logs

from headrace.adapters.kafka.options import KafkaOptions, LogOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.nats.admin import JetStreamTopicAdmin
from headrace.adapters.nats.log import JetStreamLog
from headrace.adapters.nats.options import JetStreamLogOptions
from headrace.domain.errors import HeadraceError, LogFull, RecordTooLarge, TopicMissing
from headrace.domain.ports import Log
from headrace.domain.record import Record
from headrace.resources.control_ports import TopicSpec
from tests.support.embedded_limits import skip_what_the_embedded_kafka_cannot
from tests.support.kafka import KafkaUnderTest
from tests.support.nats_server import NatsServer, new_topic, read_stream
from tests.support.wait_until import wait_until_async

Row = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
RECORD_BYTES_MAX = 100_000
TOPIC_BYTES_MAX = 200_000


@dataclass
class LogUnderTest:
    """A log and the means to read it from outside."""

    log: Log
    create: Callable[[], Awaitable[str]]
    read: Callable[[str, int], Awaitable[list[Row]]]
    """`read(topic, count)` waits for this many records of a one-partition topic."""
    missing: str = "no-such-topic"


@contextlib.asynccontextmanager
async def memory() -> AsyncIterator[LogUnderTest]:
    """The memory log."""
    log = MemoryLog(topic_bytes_max=TOPIC_BYTES_MAX, record_bytes_max=RECORD_BYTES_MAX)
    names = iter(f"t{number}" for number in range(10))

    async def create() -> str:
        name = next(names)
        log.create(name)
        return name

    async def read(topic: str, count: int) -> list[Row]:
        await wait_until_async(
            lambda: len(log.topics[topic][0]) >= count, what="the records are stored"
        )
        return [(record.key, record.value, list(record.headers)) for record in log.topics[topic][0]]

    yield LogUnderTest(log, create, read)
    await log.stop()


def read_topic(bootstrap_servers: str, topic: str, count: int | None = None) -> list[Row]:
    """The first records of a one-partition topic (None: all), read by a consumer without
    a group.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "none", "enable.auto.commit": False}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        rows: list[Row] = []
        count = (
            consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
            if count is None
            else count
        )
        for message in consumer.consume(count, timeout=10):
            headers: Any = message.headers() or ()
            rows.append((message.key(), message.value(), list(headers)))
        return rows
    finally:
        consumer.close()


@contextlib.asynccontextmanager
async def on_kafka(kafka: KafkaUnderTest) -> AsyncIterator[LogUnderTest]:
    """The Kafka log."""
    options = LogOptions(topic_bytes_max=TOPIC_BYTES_MAX, record_bytes_max=RECORD_BYTES_MAX)
    log = KafkaLog(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers), log=options)
    await log.start()
    await log.warm_up(10)

    async def create() -> str:
        return kafka.create_topic("log")

    async def read(topic: str, count: int) -> list[Row]:
        return await asyncio.to_thread(read_topic, kafka.bootstrap_servers, topic, count)

    yield LogUnderTest(log, create, read)
    await log.stop()


@contextlib.asynccontextmanager
async def on_jetstream(server: NatsServer) -> AsyncIterator[LogUnderTest]:
    """The JetStream log."""
    options = JetStreamLogOptions(
        topic_bytes_max=TOPIC_BYTES_MAX, record_bytes_max=RECORD_BYTES_MAX
    )
    log = JetStreamLog(server.options, log=options)
    admin = JetStreamTopicAdmin(server.options)
    await log.start()
    await log.warm_up(10)

    async def create() -> str:
        topic = new_topic("log")
        assert {} == await admin.create([TopicSpec(name=topic, partitions=1, replication=1)])
        return topic

    async def read(topic: str, count: int) -> list[Row]:
        records = await read_stream(server.options, topic, count)
        return [(record.key, record.value, list(record.headers)) for record in records]

    yield LogUnderTest(log, create, read, missing="jetstream:no-such-topic")
    await log.stop()
    await admin.close()


@pytest.fixture(
    params=["memory", "jetstream", "embedded", pytest.param("kafka", marks=pytest.mark.kafka)]
)
async def under_test(request: pytest.FixtureRequest) -> AsyncIterator[LogUnderTest]:
    """Each adapter in turn."""
    if request.param == "memory":
        async with memory() as made:
            yield made
    elif request.param == "jetstream":
        async with on_jetstream(request.getfixturevalue("nats_server")) as made:
            yield made
    elif request.param == "embedded":
        skip_what_the_embedded_kafka_cannot(request)
        async with on_kafka(request.getfixturevalue("embedded_kafka")) as made:
            yield made
    else:
        async with on_kafka(request.getfixturevalue("kafka")) as made:
            yield made


class Outcomes:
    """The reported results of a log's records, in order."""

    def __init__(self) -> None:
        self.outcomes: list[HeadraceError | None] = []

    def __call__(self, error: HeadraceError | None) -> None:
        self.outcomes.append(error)


async def test_records_are_stored_unchanged_and_in_order(under_test: LogUnderTest) -> None:
    """Key, value and headers are read back byte for byte, absent is not empty, repeated headers
    keep their order.
    """
    topic, results = await under_test.create(), Outcomes()
    rows: list[Row] = [
        (b"k", b"\x00\xff", [("a", b"1"), ("a", b"2"), ("b", b"")]),
        (None, None, []),
        (b"", b"", [("x", b"\xff")]),
        *((None, b"%d" % number, []) for number in range(100)),
    ]
    for key, value, headers in rows:
        under_test.log.append(topic, Record(key, value, headers), results)
    assert [] == results.outcomes, "no result is reported inside append"
    assert 0 == await under_test.log.flush(10)
    assert [None] * len(rows) == results.outcomes
    assert rows == await under_test.read(topic, len(rows))


async def test_a_missing_topic_is_reported_and_not_created(under_test: LogUnderTest) -> None:
    """The record's own callback gets `TopicMissing` every time; other topics continue."""
    topic, results, fine = await under_test.create(), Outcomes(), Outcomes()
    for _ in range(2):
        under_test.log.append(under_test.missing, Record(None, b"x"), results)
        under_test.log.append(topic, Record(None, b"x"), fine)
        await under_test.log.flush(10)
    assert [TopicMissing, TopicMissing] == [type(outcome) for outcome in results.outcomes]
    assert [None, None] == fine.outcomes


async def test_a_record_too_large_for_any_topic_is_refused_at_once(
    under_test: LogUnderTest,
) -> None:
    """append itself raises `RecordTooLarge`, which names both sizes."""
    topic, results = await under_test.create(), Outcomes()
    with pytest.raises(RecordTooLarge, match=str(RECORD_BYTES_MAX)) as raised:
        under_test.log.append(topic, Record(None, b"x" * RECORD_BYTES_MAX, [("a", b"b")]), results)
    assert RECORD_BYTES_MAX + 2 == raised.value.size
    assert 0 == await under_test.log.flush(1)
    assert [] == results.outcomes


async def test_a_topic_buffers_no_more_than_its_budget(under_test: LogUnderTest) -> None:
    """Beyond it `LogFull` is raised for this topic alone; stored records make room again."""
    topic, other, results = await under_test.create(), await under_test.create(), Outcomes()
    taken = 0
    with pytest.raises(LogFull) as raised:
        for _ in range(100):
            under_test.log.append(topic, Record(None, b"x" * 20_000), results)
            taken += 1
    assert (topic, TOPIC_BYTES_MAX) == (raised.value.topic, raised.value.bytes_max)
    assert 9 <= taken <= TOPIC_BYTES_MAX // 20_000
    under_test.log.append(other, Record(None, b"x" * 20_000), results)
    assert 0 == await under_test.log.flush(10)
    assert [None] * (taken + 1) == results.outcomes
    under_test.log.append(topic, Record(None, b"x"), results)
    assert 0 == await under_test.log.flush(10)


async def test_a_failing_callback_does_not_affect_others(
    under_test: LogUnderTest,
) -> None:
    """An exception in one callback is logged; the next one is still called."""
    topic, results = await under_test.create(), Outcomes()

    def fail(error: HeadraceError | None) -> None:
        raise RuntimeError("broken receiver")

    under_test.log.append(topic, Record(None, b"1"), fail)
    under_test.log.append(topic, Record(None, b"2"), results)
    with capture_logs() as logs:
        assert 0 == await under_test.log.flush(10)
    assert [None] == results.outcomes
    assert [("delivery_callback_failed", topic)] == [
        (each["event"], each["topic"]) for each in logs
    ]
