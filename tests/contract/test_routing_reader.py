"""One suite for readers and writers of the routing table, in memory and over real Kafka."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from headrace.adapters.kafka.control.routing import KafkaRoutingReader, KafkaRoutingWriter
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.codec.routing import write
from headrace.domain.errors import LogUnavailable
from headrace.domain.ports import RoutingReader, RoutingWriter
from headrace.domain.routing import Addressable, RemovedRoute, route_key
from tests.support.kafka import KafkaUnderTest, Kind, free_port
from tests.support.wait_until import wait_until_async

COMPACTED = {"cleanup.policy": "compact"}


def addressable(uid: str, *, generation: int = 1, epoch: int = 1) -> Addressable:
    """An addressable with this identity."""
    return Addressable(
        uid=uid,
        generation=generation,
        epoch=epoch,
        namespace="ns",
        name=uid,
        topic=f"topic-{uid}",
        paths=(f"/ns/{uid}",),
    )


class Adapters:
    """Creates readers and the writer of one routing log, and stops them at the end."""

    def __init__(self, options: KafkaOptions | None, topic: str) -> None:
        self._options = options
        self._topic = topic
        self._memory = MemoryRoutingLog()
        self.stack = AsyncExitStack()

    def follower(self) -> RoutingReader:
        """A reader, not started."""
        made: RoutingReader
        if self._options is None:
            made = MemoryRoutingReader(self._memory)
        else:
            made = KafkaRoutingReader(self._options, topic=self._topic)
        self.stack.push_async_callback(made.stop)
        return made

    def writer(self) -> RoutingWriter:
        """The writer."""
        if self._options is None:
            return MemoryRoutingWriter(self._memory)
        made = KafkaRoutingWriter(self._options, topic=self._topic)
        self.stack.push_async_callback(made.stop)
        return made


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def adapters(request: pytest.FixtureRequest) -> AsyncIterator[Adapters]:
    """Each implementation in turn."""
    options, topic = None, ""
    if request.param == "kafka":
        kafka: KafkaUnderTest = request.getfixturevalue("kafka")
        options, topic = (
            KafkaOptions(bootstrap_servers=kafka.bootstrap_servers),
            kafka.create_topic("routing", config=COMPACTED),
        )
    made = Adapters(options, topic)
    async with made.stack:
        yield made


def record(uid: str, *, generation: int = 1, epoch: int = 1) -> dict[str, bytes | None]:
    """A record of an addressable."""
    route = addressable(uid, generation=generation, epoch=epoch)
    return {route_key(route): write(route)}


async def test_a_started_reader_has_everything(adapters: Adapters) -> None:
    """Without replaced and removed records; the position is that of the last record."""
    writer = adapters.writer()
    await writer.write({**record("a"), **record("b"), **record("c")})
    await writer.write(record("a", generation=2))
    position = await writer.write({"addressable/b": None})
    follower = adapters.follower()
    await follower.start()
    assert {"a": 2, "c": 1} == {each.uid: each.generation for each in follower.table.addressables()}
    assert position == follower.table.position
    found = follower.table.addressable("/ns/a", "")
    assert found is not None
    assert "topic-a" == found.topic


async def test_an_empty_log_is_read_to_its_end(adapters: Adapters) -> None:
    """A new installation is ready with an empty table."""
    follower = adapters.follower()
    await follower.start()
    assert [] == list(follower.table.addressables())
    assert await follower.refresh(5)


async def test_refresh_returns_when_earlier_writes_are_applied(adapters: Adapters) -> None:
    """A 404 after a refresh is reliable."""
    writer, follower = adapters.writer(), adapters.follower()
    await follower.start()
    for number in range(5):
        position = await writer.write(record(f"u{number}"))
        assert await follower.refresh(5)
        assert follower.table.position >= position
        assert follower.table.get(f"addressable/u{number}") is not None


async def test_concurrent_refreshes_are_all_answered(adapters: Adapters) -> None:
    """A thousand requests for an unknown path share one refresh."""
    follower = adapters.follower()
    await follower.start()
    assert [True] * 1000 == await asyncio.gather(*(follower.refresh(10) for _ in range(1000)))


async def test_watchers_receive_changes(adapters: Adapters) -> None:
    """Once per key found at start without what was removed before, then each change; a late watcher
    receives all that exists.
    """
    writer, follower = adapters.writer(), adapters.follower()
    await writer.write({**record("a"), **record("b")})
    await writer.write({"addressable/b": None})
    heard: list[set[str]] = []
    late: list[set[str]] = []

    def changed(keys: Collection[str]) -> None:
        heard.append(set(keys))

    follower.watch(changed)
    await follower.start()
    # What was removed before may be reported, but only in the same call: it never exists at any
    # moment.
    assert 1 == len(heard)
    assert "addressable/a" in heard[0]
    heard.clear()
    await writer.write(record("c"))
    await wait_until_async(lambda: heard, what="the watcher hears of c")
    assert [{"addressable/c"}] == heard
    follower.watch(lambda keys: late.append(set(keys)))
    assert [] == late
    await wait_until_async(lambda: late, what="the late watcher hears of all")
    assert [{"addressable/a", "addressable/c"}] == late


async def test_records_of_an_older_controller_change_nothing(adapters: Adapters) -> None:
    """Watchers are not notified, the position still advances."""
    writer, follower = adapters.writer(), adapters.follower()
    await follower.start()
    await writer.write(record("a", generation=3, epoch=2))
    heard: list[Collection[str]] = []
    assert await follower.refresh(5)
    follower.watch(heard.append)
    await wait_until_async(lambda: heard, what="the watcher hears of a")
    heard.clear()
    position = await writer.write({**record("a", generation=9, epoch=1), "addressable/x": b"{"})
    assert await follower.refresh(5)
    assert ([], position) == (heard, follower.table.position)
    assert addressable("a", generation=3, epoch=2) == follower.table.get("addressable/a")


async def test_a_removal_of_an_older_controller_removes_nothing(adapters: Adapters) -> None:
    """Watchers are not notified; its successor's removal is applied, and reported until a tombstone
    has followed.
    """
    writer, follower = adapters.writer(), adapters.follower()
    await follower.start()
    await writer.write(record("a", epoch=2))
    assert await follower.refresh(5)
    heard: list[Collection[str]] = []
    follower.watch(heard.append)
    await wait_until_async(lambda: heard, what="the watcher hears of a")
    heard.clear()
    await writer.write({"addressable/a": write(RemovedRoute(epoch=1))})
    assert await follower.refresh(5)
    assert ([], addressable("a", epoch=2)) == (heard, follower.table.get("addressable/a"))
    await writer.write({"addressable/a": write(RemovedRoute(epoch=2))})
    assert await follower.refresh(5)
    assert (["addressable/a"], None) == (
        [key for keys in heard for key in keys],
        follower.table.get("addressable/a"),
    )
    assert {"addressable/a": 2} == follower.table.removed_routes
    await writer.write({"addressable/a": None})
    assert await follower.refresh(5)
    assert ({}, 1) == (follower.table.removed_routes, len(heard))


async def test_a_stopped_reader_refreshes_no_longer(adapters: Adapters) -> None:
    """False at once, not after the deadline; stopping twice is allowed."""
    follower = adapters.follower()
    await follower.start()
    await follower.stop()
    await follower.stop()
    async with asyncio.timeout(2):
        assert not await follower.refresh(30)


async def test_writing_nothing_is_no_position(adapters: Adapters) -> None:
    """-1, which every reader has applied."""
    assert -1 == await adapters.writer().write({})


@pytest.mark.kafka
async def test_many_records_are_written_and_read(kafka: KafkaUnderTest) -> None:
    """Five thousand, in more than one batch; the last offset is returned."""
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    topic = kafka.create_topic("routing", config=COMPACTED)
    writer, follower = (
        KafkaRoutingWriter(options, topic=topic),
        KafkaRoutingReader(options, topic=topic),
    )
    records: dict[str, bytes | None] = {}
    for number in range(5000):
        records |= record(f"u{number}")
    assert 4999 == await writer.write(records)
    await follower.start()
    assert 5000 == len(list(follower.table.addressables()))
    await follower.stop()
    await writer.stop()


async def test_without_kafka_the_start_fails_with_a_reason() -> None:
    """Within its deadline, naming topic and address; it can be tried again."""
    servers = f"127.0.0.1:{free_port()}"
    follower = KafkaRoutingReader(KafkaOptions(bootstrap_servers=servers), start_seconds=0.2)
    for _ in range(2):
        with pytest.raises(
            LogUnavailable, match=f"topic headrace.routing at {servers} could not be read"
        ):
            await follower.start()
    assert follower.problem is not None
    await follower.stop()


@pytest.mark.kafka
async def test_a_topic_that_is_created_later_is_found(kafka: KafkaUnderTest) -> None:
    """A data plane that starts before its controller waits, and is ready soon afterwards."""
    topic = kafka.create_topic("routing", config=COMPACTED)
    later = f"{topic}-later"
    follower = KafkaRoutingReader(
        KafkaOptions(bootstrap_servers=kafka.bootstrap_servers), topic=later, start_seconds=0.5
    )
    with pytest.raises(LogUnavailable, match="does not exist"):
        await follower.start()
    kafka.create_topic(name=later, config=COMPACTED)
    async with asyncio.timeout(15):
        while follower.problem is not None:
            with contextlib.suppress(LogUnavailable):
                await follower.start()
    await follower.stop()


@pytest.mark.kafka
@pytest.mark.timeout(90)
async def test_the_last_table_stays_while_the_broker_is_unavailable(
    private_kafka: ApacheKafka,
) -> None:
    """Without Kafka a refresh fails in time and the table stays; afterwards the reader continues by
    itself.
    """
    options = KafkaOptions(bootstrap_servers=private_kafka.bootstrap_servers)
    given = KafkaUnderTest(private_kafka.bootstrap_servers, Kind.APACHE, private_kafka)
    topic = given.create_topic("routing", config=COMPACTED)
    writer, follower = (
        KafkaRoutingWriter(options, topic=topic),
        KafkaRoutingReader(options, topic=topic),
    )
    await writer.write(record("a"))
    await follower.start()
    await asyncio.to_thread(private_kafka.kill)
    assert not await follower.refresh(0.5)
    assert follower.table.get("addressable/a") is not None
    assert follower.problem is None
    await asyncio.to_thread(private_kafka.start)
    await writer.write(record("b"))
    await wait_until_async(lambda: follower.table.get("addressable/b"), 30, "the reader continues")
    assert await follower.refresh(10)
    await follower.stop()
    await writer.stop()


@pytest.mark.kafka
@pytest.mark.timeout(90)
async def test_a_recreated_topic_is_read_from_its_start(kafka: KafkaUnderTest) -> None:
    """The topic was deleted; what the controller writes again is seen, from the first record."""
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    topic = kafka.create_topic("routing", config=COMPACTED)
    writer, follower = (
        KafkaRoutingWriter(options, topic=topic),
        KafkaRoutingReader(options, topic=topic),
    )
    for number in range(5):
        await writer.write(record(f"u{number}"))
    await follower.start()
    kafka.delete_topics([topic])
    kafka.create_topic(name=topic, config=COMPACTED)
    again = KafkaRoutingWriter(options, topic=topic)
    await again.write(record("first"))
    await again.write(record("second"))
    await wait_until_async(
        lambda: follower.table.get("addressable/second"),
        30,
        "the second record of the new topic is seen",
    )
    assert follower.table.get("addressable/first") is not None
    assert 1 == follower.table.position
    for each in (follower, writer, again):
        await each.stop()


@pytest.mark.kafka
async def test_an_ignored_record_is_logged_with_the_resource(kafka: KafkaUnderTest) -> None:
    """By namespace and name, where an earlier record of the key is known: an operator does not
    know the uid.
    """
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    topic = kafka.create_topic("routing", config=COMPACTED)
    writer, follower = (
        KafkaRoutingWriter(options, topic=topic),
        KafkaRoutingReader(options, topic=topic),
    )
    await writer.write(record("u"))
    await follower.start()
    with capture_logs() as logs:
        end = await writer.write({"addressable/u": b"{", "addressable/other": b"{"})
        await wait_until_async(lambda: follower.table.position >= end, 30, "both are read")
    for each in (follower, writer):
        await each.stop()
    found = {each["key"]: each for each in logs if each["event"] == "routing_record_ignored"}
    assert ("ns", "u") == (
        found["addressable/u"]["namespace"],
        found["addressable/u"]["name"],
    )
    assert "namespace" not in found["addressable/other"]
