"""Clients that are not answered any longer and never recover are replaced (decision 0011).

Most tests have a broker that lists no brokers for a moment: the clients then forget all brokers
permanently. With `metadata.recovery.strategy=none` this happens every time, with the default
setting to a few clients in a hundred.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.channel_reader.catch_up import CatchUp
from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm
from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions, LogOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.record import Partition, Record
from headrace.resources.kinds import BROKER
from headrace.resources.resource import NotLeader, Resource
from headrace.runtime.clock import SystemClock
from headrace_controller.reconcile.kinds import RECONCILERS
from tests.contract.feeds import KafkaFeedHarness, RecordingListener, RetryReaderHarness
from tests.contract.test_log import Outcomes
from tests.integration.test_channel_reader import ReaderProcess
from tests.support.kafka import KafkaUnderTest
from tests.support.kafka_proxy import KafkaProxy, kafka_proxy
from tests.support.wait_until import wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90)]

SECONDS = 40.0
RESPONSES = 5
"""Responses without brokers, after which each of several clients has probably received one."""


@pytest.fixture
def proxy(kafka: KafkaUnderTest) -> Iterator[KafkaProxy]:
    """A proxy in front of the shared Kafka."""
    with kafka_proxy(kafka.bootstrap_servers) as proxy:
        yield proxy


@pytest.fixture
def options(proxy: KafkaProxy) -> KafkaOptions:
    """Options for clients that use the proxy, are checked often, and forget their brokers every
    time.
    """
    return KafkaOptions(
        bootstrap_servers=proxy.address,
        health_check_seconds=0.5,
        credentials=ClientCredentials(
            {
                "metadata.recovery.strategy": "none",
                "topic.metadata.refresh.interval.ms": "1000",
            }
        ),
    )


async def forget(
    proxy: KafkaProxy,
    ask: Callable[[], Awaitable[object]] | None = None,
    *,
    responses: int = 1,
) -> None:
    """Make the client refresh its metadata and receive no broker; `ask` makes it do so sooner."""
    proxy.brokerless = True
    proxy.cut()
    enough = proxy.hidden + responses
    async with asyncio.timeout(SECONDS):
        while proxy.hidden < enough:
            await (ask() if ask is not None else asyncio.sleep(0.05))
    proxy.brokerless = False


async def has_all(listener: RecordingListener, count: int) -> None:
    """Wait until it has received the first `count` records, some of them twice perhaps."""
    await wait_until_async(
        lambda: set(range(count)) == set(listener.offsets()), SECONDS + 10, "the next record"
    )


async def works(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Repeat until it succeeds, within the deadline."""
    async with asyncio.timeout(SECONDS):
        while not await attempt():
            await asyncio.sleep(0.2)


async def repeat(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Repeat until cancelled."""
    while True:
        await attempt()
        await asyncio.sleep(0.05)


def rebuilt(listener: RecordingListener) -> list[FeedAlarm]:
    """The alarms for a consumer that was replaced."""
    return [each for each in listener.alarms if each.kind is AlarmKind.REBUILT]


@pytest.mark.parametrize("protocol", GroupProtocol)
async def test_a_feed_recovers(
    kafka: KafkaUnderTest, proxy: KafkaProxy, options: KafkaOptions, protocol: GroupProtocol
) -> None:
    """The consumer of the feed is replaced with an alarm, and records stored meanwhile are
    delivered.
    """
    system, listener = KafkaFeedHarness(kafka, protocol, 1), RecordingListener(finish=True)
    system.options = replace(options, group_protocol=protocol)
    try:
        system.feed(listener)
        await system.append(1)
        await listener.has(1, SECONDS)
        stored = 1
        while not (alarms := rebuilt(listener)):
            # A client that was in the middle of a new bootstrap keeps its brokers.
            await forget(proxy)
            await system.append(1)
            stored += 1
            await has_all(listener, stored)
        (alarm,) = alarms
        assert "another client did" in alarm.detail
    finally:
        await system.close()


async def test_retries_recover(
    kafka: KafkaUnderTest, proxy: KafkaProxy, options: KafkaOptions
) -> None:
    """The consumer of the retry and dead letter topics of a channel is replaced as well, with an
    alarm of their feeds.
    """
    system = RetryReaderHarness(kafka, GroupProtocol.CLASSIC, 1)
    system.options, listener = options, RecordingListener(finish=True)
    try:
        system.feed(listener)
        await system.append(1)
        await listener.has(1, SECONDS)
        stored = 1
        while not rebuilt(listener):
            await forget(proxy, responses=RESPONSES)
            await system.append(1)
            stored += 1
            await has_all(listener, stored)
    finally:
        await system.close()


async def test_a_feed_that_is_behind_recovers(
    kafka: KafkaUnderTest,
    proxy: KafkaProxy,
    options: KafkaOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The consumer that reads for it is replaced, as that of the channel."""
    failures, on_error = list[AlarmKind](), CatchUp.on_error

    def recorded(self: CatchUp, partition: Partition | None, alarm: ConsumerAlarm) -> None:
        failures.append(alarm.kind)
        on_error(self, partition, alarm)

    monkeypatch.setattr(CatchUp, "on_error", recorded)
    process = ReaderProcess(kafka, options)
    slow, other = RecordingListener(finish=True), RecordingListener(finish=True)
    try:
        process.open(await process.group(), slow, records_max=16)
        process.open(await process.group(), other)
        await process.append(["a"] * 200)
        stored = 200
        await has_all(slow, stored)
        while AlarmKind.REBUILT not in failures:
            await forget(proxy, responses=RESPONSES)
            await process.append(["a"] * 200)
            stored += 200
            await has_all(slow, stored)
    finally:
        await process.close()


@pytest.mark.parametrize("protocol", GroupProtocol)
async def test_a_feed_whose_commits_are_not_answered_recovers(
    kafka: KafkaUnderTest, proxy: KafkaProxy, options: KafkaOptions, protocol: GroupProtocol
) -> None:
    """Although records and heartbeats are answered. Its successor is given what was not
    committed.
    """
    system, listener = KafkaFeedHarness(kafka, protocol, 1), RecordingListener(finish=True)
    system.options = replace(options, group_protocol=protocol)
    try:
        system.feed(listener)
        await system.append(1)
        await listener.has(1, SECONDS)
        proxy.without_commits = True
        await system.append(1)
        await wait_until_async(lambda: rebuilt(listener), SECONDS, "a new consumer")
        assert proxy.discarded
        proxy.without_commits = False
        await system.append(1)
        await wait_until_async(lambda: 2 in listener.offsets(), SECONDS, "the next record")
        (alarm,) = rebuilt(listener)
        assert "no answer to a commit" in alarm.detail
    finally:
        await system.close()


async def test_a_topic_reader_continues_at_its_offset(
    kafka: KafkaUnderTest, proxy: KafkaProxy, options: KafkaOptions
) -> None:
    """Records that were read before are not applied a second time."""
    topic, heard = kafka.create_topic("followed"), list[int]()
    straight, reports = (
        KafkaLog(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)),
        Outcomes(),
    )
    reader = CompactedTopicReader(
        options, topic, lambda records: heard.extend(each.offset for each in records)
    )
    await straight.start()
    try:
        straight.append(topic, Record(None, b"a", []), reports)
        await straight.flush(SECONDS)
        await reader.start()
        await forget(proxy, lambda: reader.refresh(0.2))
        straight.append(topic, Record(None, b"b", []), reports)
        await wait_until_async(lambda: len(heard) >= 2, SECONDS, "the next record")
        assert [0, 1] == heard
    finally:
        await reader.stop()
        await straight.stop()


async def test_a_log_recovers(
    kafka: KafkaUnderTest,
    proxy: KafkaProxy,
    options: KafkaOptions,
) -> None:
    """Meanwhile records fail with a temporary error; soon another producer stores them."""
    topic = kafka.create_topic("written")
    log = KafkaLog(options, log=LogOptions(delivery_seconds=1.0))
    await log.start()

    async def stored() -> bool:
        reports = Outcomes()
        log.append(topic, Record(None, b"v", []), reports)
        await log.flush(SECONDS)
        assert all(error is None or isinstance(error, LogUnavailable) for error in reports.outcomes)
        return reports.outcomes == [None]

    try:
        await works(stored)
        with capture_logs() as logs:
            await forget(proxy, stored)
            await works(stored)
        assert "kafka_producer_replaced" in {each["event"] for each in logs}
    finally:
        await log.stop()


async def test_the_admin_client_recovers(
    kafka: KafkaUnderTest, proxy: KafkaProxy, options: KafkaOptions
) -> None:
    """A client is not used again after a call that reached no broker."""
    topic = kafka.create_topic("described")
    admin = KafkaTopicAdmin(options, timeout_seconds=2.0)

    async def described() -> bool:
        with contextlib.suppress(LogUnavailable):
            return topic in await admin.describe([topic])
        return False

    try:
        await works(described)
        proxy.brokerless = True
        proxy.cut()
        assert not await described()
        proxy.brokerless = False
        await works(described)
    finally:
        await admin.close()


async def test_the_resources_can_be_written_again(
    kafka: KafkaUnderTest, proxy: KafkaProxy, options: KafkaOptions
) -> None:
    """The same controller writes again with a new writer and a new reader, as soon as the checks
    have shown that the old ones know no broker.
    """
    topic = kafka.create_topic("resources", config={"cleanup.policy": "compact"})
    store = KafkaResourceStore(
        options, kinds=RECONCILERS.stored_kinds, clock=SystemClock(), holder="one", topic=topic
    )
    names = (f"b{number}" for number in itertools.count())

    async def written() -> bool:
        metadata = {"name": next(names), "namespace": "ns"}
        with contextlib.suppress(LogUnavailable, NotLeader):
            await store.create(
                Resource(
                    BROKER,
                    {
                        "apiVersion": BROKER.api_version,
                        "kind": "Broker",
                        "metadata": metadata,
                        "spec": {},
                    },
                )
            )
            return True
        return False

    await store.start()
    try:
        await works(written)
        proxy.brokerless = True
        proxy.cut()
        writing = asyncio.create_task(repeat(written))
        with capture_logs() as logs:
            await wait_until_async(
                lambda: "write_outcome_unknown" in {each["event"] for each in logs},
                SECONDS,
                "the writer forgets its brokers",
            )
        proxy.brokerless = False
        writing.cancel()
        (unknown,) = [each for each in logs if each["event"] == "write_outcome_unknown"]
        assert "the client has forgotten every broker" in unknown["error"]
        await works(written)
    finally:
        await store.stop()
