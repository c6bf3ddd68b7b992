"""Clients with outdated credentials are replaced, and nothing that they do is lost, repeated or
interrupted (decision 0027). What this needs of Kafka is the same without TLS.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Consumer
from structlog.testing import capture_logs

from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.adapters.kafka.consumer.rebalance_listener import RebalanceListener
from headrace.adapters.kafka.consumer.topic_ids import TopicIds
from headrace.adapters.kafka.control.routing import KafkaRoutingWriter
from headrace.adapters.kafka.control.source_leases import KafkaSourceLeases
from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions, LogOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.domain.errors import LogUnavailable
from headrace.domain.record import Partition, Record
from headrace.resources.kinds import BROKER
from headrace.resources.resource import Resource
from headrace.runtime.clock import SystemClock
from headrace_controller.reconcile.kinds import RECONCILERS
from tests.contract.feeds import KafkaFeedHarness, RecordingListener
from tests.contract.test_log import Outcomes
from tests.contract.test_source_leases import PARTITIONS, UIDS, Listener
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90)]

CALL_SECONDS = 4.0
"""Of a call that fails, and of one that must connect first: a busy machine takes over a second."""
SECONDS = 20.0
OPEN_MAX = 1_000
"""Records that wait to be stored."""
UNUSABLE = {"security.protocol": "SSL"}
"""What the listener of these tests does not understand."""


@pytest.fixture
def credentials() -> ClientCredentials:
    """Those of clients that are all replaced at once."""
    return ClientCredentials(spread_seconds=0.0)


@pytest.fixture
def options(kafka: KafkaUnderTest, credentials: ClientCredentials) -> KafkaOptions:
    """Options with these credentials."""
    return KafkaOptions(bootstrap_servers=kafka.bootstrap_servers, credentials=credentials)


def harness_of(
    kafka: KafkaUnderTest, options: KafkaOptions, protocol: GroupProtocol, partitions: int = 1
) -> KafkaFeedHarness:
    """Feeds with these options."""
    harness = KafkaFeedHarness(kafka, protocol, partitions)
    harness.options = replace(options, group_protocol=protocol)
    return harness


@pytest.mark.parametrize(
    ("protocol", "instance"),
    [(GroupProtocol.CLASSIC, None), (GroupProtocol.CLASSIC, "one"), (GroupProtocol.CONSUMER, None)],
)
async def test_a_feed_repeats_and_loses_nothing(
    kafka: KafkaUnderTest, options: KafkaOptions, protocol: GroupProtocol, instance: str | None
) -> None:
    """Records in flight have the time that they need, more than at a rebalance, and commits happen
    meanwhile. Then the next consumer continues, without an alarm.
    """
    harness, listener = harness_of(kafka, options, protocol), RecordingListener(give_back=False)
    try:
        harness.feed(listener, drain_seconds=0.05, instance=instance)
        await harness.append(20)
        await listener.has(20)
        assert 1 == options.credentials.renew({})
        await wait_until_async(lambda: listener.returns, SECONDS, "the consumer is to be replaced")
        await harness.append(10)
        listener.finish(listener.records[:7])

        async def seven() -> None:
            while (await harness.committed())[0][0] != 7:
                await asyncio.sleep(0.05)

        await asyncio.wait_for(seven(), SECONDS)
        listener.finish(listener.records[7:])
        listener.returns.pop()()
        await listener.has(30)
        listener.finish(listener.records[20:])
        assert list(range(30)) == listener.offsets()
        assert not listener.lost
        assert not listener.alarms
        listener.returns = []
        await stop(harness, listener)
        assert 30 == (await harness.committed())[0][0]
        assert list(range(30)) == listener.offsets()
    finally:
        await harness.close()


async def stop(harness: KafkaFeedHarness, listener: RecordingListener) -> None:
    """Stop the feed of a listener that gives partitions back when it is asked to."""
    (feed,) = [each for each in harness._feeds if each is listener.feed]
    stopping = asyncio.create_task(feed.stop())
    await wait_until_async(lambda: listener.returns, SECONDS, "the feed is to stop")
    for each in listener.returns:
        each()
    await stopping


@pytest.mark.parametrize("protocol", GroupProtocol)
async def test_a_rebalance_meanwhile_repeats_and_loses_nothing(
    kafka: KafkaUnderTest,
    options: KafkaOptions,
    protocol: GroupProtocol,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second member gets a partition of a consumer that still has records in flight and is about
    to be replaced.
    """
    harness = harness_of(kafka, options, protocol, 2)
    first, second = RecordingListener(give_back=False), RecordingListener(finish=True)
    revoking: list[Collection[Partition]] = []
    revoke = RebalanceListener._drain_and_commit

    def noted(
        self: RebalanceListener, consumer: Consumer, partitions: Collection[Partition]
    ) -> None:
        if partitions:
            revoking.append(partitions)
        revoke(self, consumer, partitions)

    monkeypatch.setattr(RebalanceListener, "_drain_and_commit", noted)
    try:
        harness.feed(first, drain_seconds=SECONDS)
        for number in range(2):
            await harness.append(10, partition=number)
        await first.has(20)
        options.credentials.renew({})
        await wait_until_async(lambda: first.returns, SECONDS, "the consumer is to be replaced")
        harness.feed(second, drain_seconds=SECONDS)
        for number in range(2):
            await harness.append(10, partition=number)
        await wait_until_async(lambda: revoking, SECONDS, "a partition is revoked")
        (partitions,) = revoking
        assert 1 == len(partitions)
        first.finish(first.records)
        (give_back,) = first.returns
        give_back()
        await wait_until_async(
            lambda: len(first.records) + len(second.records) >= 40, SECONDS, "all records"
        )
        assert second.records
        delivered = sorted(
            (record.partition, record.offset) for record in (*first.records, *second.records)
        )
        assert [(number, offset) for number in range(2) for offset in range(20)] == delivered
        assert not [*first.lost, *second.lost]
    finally:
        await harness.close()


async def test_a_feed_that_stops_meanwhile_does_not_wait_longer_than_usual(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """For records in flight, it waits for its drain deadline and no longer."""
    harness = harness_of(kafka, options, GroupProtocol.CLASSIC)
    listener = RecordingListener(give_back=False)
    try:
        feed = harness.feed(listener, drain_seconds=0.1)
        await harness.append(1)
        await listener.has(1)
        options.credentials.renew({})
        await wait_until_async(lambda: listener.returns, SECONDS, "the consumer is to be replaced")
        async with asyncio.timeout(SECONDS):
            await feed.stop()
        assert listener.lost
    finally:
        await harness.close()


async def test_a_topic_reader_continues_at_its_offset(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """Records that were read before are not applied a second time."""
    topic, heard = kafka.create_topic("followed"), list[int]()
    log = KafkaLog(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    reader = CompactedTopicReader(
        options, topic, lambda records: heard.extend(each.offset for each in records)
    )
    await log.start()
    try:
        log.append(topic, Record(None, b"a", []), Outcomes())
        await log.flush(SECONDS)
        await reader.start()
        with capture_logs() as logs:
            assert 1 == options.credentials.renew({})
            await wait_until_async(
                lambda: "follower_renewed" in names(logs), SECONDS, "a new client"
            )
            log.append(topic, Record(None, b"b", []), Outcomes())
            await wait_until_async(lambda: len(heard) >= 2, SECONDS, "the next record")
        assert [0, 1] == heard
        assert reader.last_error is None
    finally:
        await reader.stop()
        await log.stop()


def names(logs: Sequence[Mapping[str, Any]]) -> set[str]:
    """The events that were logged."""
    return {each["event"] for each in logs}


async def test_a_log_stores_each_record_once(kafka: KafkaUnderTest, options: KafkaOptions) -> None:
    """While the producer is replaced twice: no record fails, and none is stored twice."""
    topic, reports = kafka.create_topic("written"), Outcomes()
    log = KafkaLog(options, log=LogOptions(linger_seconds=0.005))
    await log.start()
    appended = 0

    def append(count: int) -> None:
        nonlocal appended
        for _ in range(count):
            log.append(topic, Record(None, b"%d" % appended, []), reports)
            appended += 1

    try:
        for _ in range(2):
            with capture_logs() as logs:
                assert 1 == options.credentials.renew({})
                while "producer_renewed" not in names(logs):
                    # No more than Kafka stores: there is an end to what may wait.
                    append(10 if appended - len(reports.outcomes) < OPEN_MAX else 0)
                    await asyncio.sleep(0.001)
                append(10)
            await wait_until_async(lambda: not log._retired, SECONDS, "the old one is closed")
        assert 0 == await log.flush(SECONDS)
        assert [None] * appended == reports.outcomes
        ends = KafkaTopicAdmin(options)
        assert {topic: {0: appended}} == await ends.ends({topic: [0]})
        await ends.close()
    finally:
        await log.stop()


async def test_a_log_keeps_a_producer_that_works(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """A new producer that reaches no broker does not replace it."""
    topic = kafka.create_topic("written")
    log = KafkaLog(options)
    await log.start()
    try:
        with capture_logs() as logs:
            options.credentials.renew(UNUSABLE)
            await wait_until_async(
                lambda: "producer_not_renewed" in names(logs), SECONDS, "the attempt"
            )
        reports = Outcomes()
        log.append(topic, Record(None, b"v", []), reports)
        assert 0 == await log.flush(SECONDS)
        assert [None] == reports.outcomes
    finally:
        await log.stop()


async def test_calls_use_the_present_credentials(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """The admin client and the routing writer are replaced at the next call."""
    topic = kafka.create_topic("routing", config={"cleanup.policy": "compact"})
    admin = KafkaTopicAdmin(options, timeout_seconds=CALL_SECONDS)
    writer = KafkaRoutingWriter(options, topic=topic, write_seconds=CALL_SECONDS)
    try:
        assert topic in await admin.describe([topic])
        assert 0 == await writer.write({"a": b"1"})
        assert 2 == options.credentials.renew(UNUSABLE)
        with pytest.raises(LogUnavailable):
            await admin.describe([topic])
        with pytest.raises(LogUnavailable):
            await writer.write({"b": b"1"})
        options.credentials.renew({})
        assert topic in await admin.describe([topic])
        assert 1 == await writer.write({"b": b"1"})
    finally:
        await admin.close()
        await writer.stop()


async def test_topic_ids_are_queried_by_a_new_client(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """As soon as the credentials are renewed."""
    topic = kafka.create_topic("identified")
    ids = TopicIds(options, every_seconds=0.05)
    try:
        options.credentials.renew(UNUSABLE)
        ids.watch([topic])
        await wait_until_async(lambda: options.credentials.clients, SECONDS, "the first query")
        options.credentials.renew({})
        await wait_until_async(lambda: ids.known(topic), SECONDS, "an answer")
    finally:
        await asyncio.to_thread(ids.close)


async def test_the_controller_remains_the_leader(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """Resources are written in the same term, before and after the writer was replaced."""
    topic = kafka.create_topic("resources", config={"cleanup.policy": "compact"})
    store = KafkaResourceStore(
        options, kinds=RECONCILERS.stored_kinds, clock=SystemClock(), holder="one", topic=topic
    )
    await store.start()
    try:
        await wait_until_async(lambda: store.epoch, SECONDS, "the leadership")
        epoch, written = store.epoch, 0
        with capture_logs() as logs:
            assert 2 == options.credentials.renew({})
            while not {"resource_writer_renewed", "follower_renewed"} <= names(logs):
                await store.create(broker_named(f"b{written}"))
                written += 1
        await store.create(broker_named(f"b{written}"))
        assert epoch == store.epoch
        assert written + 1 == len(store.list(BROKER, "ns"))
    finally:
        await store.stop()


def broker_named(name: str) -> Resource:
    """A resource."""
    metadata = {"name": name, "namespace": "ns"}
    return Resource(
        BROKER,
        {"apiVersion": BROKER.api_version, "kind": "Broker", "metadata": metadata, "spec": {}},
    )


async def test_a_controller_that_was_replaced_does_not_fence_the_leader(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """It learns that another one leads before it would open its log again."""
    topic = kafka.create_topic("resources", config={"cleanup.policy": "compact"})

    def store_of(holder: str, own: KafkaOptions) -> KafkaResourceStore:
        return KafkaResourceStore(
            own, kinds=RECONCILERS.stored_kinds, clock=SystemClock(), holder=holder, topic=topic
        )

    first = store_of("one", options)
    second = store_of("one", KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    await first.start()
    try:
        await wait_until_async(lambda: first.epoch, SECONDS, "the first term")
        await second.start()  # With the name of the first one it takes over at once.
        await wait_until_async(lambda: second.epoch, SECONDS, "the second term")
        options.credentials.renew({})
        await wait_until_async(lambda: first.epoch is None, SECONDS, "the end of the first term")
        await second.create(broker_named("b"))
        assert second.epoch is not None
    finally:
        await first.stop()
        await second.stop()


async def test_leases_are_given_back_and_taken_again(
    kafka: KafkaUnderTest, options: KafkaOptions
) -> None:
    """The work that they protect ends before, and its cursor is there afterwards."""
    topic = kafka.create_topic(
        "sources", partitions=PARTITIONS, config={"cleanup.policy": "compact"}
    )
    log = KafkaLog(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    leases = KafkaSourceLeases(options, log, topic=topic, partitions=PARTITIONS)
    listener, uid = Listener(), UIDS[0]
    await log.start()
    try:
        await leases.start(listener)
        await wait_until_async(lambda: leases.holds(uid), SECONDS, "the lease")
        await leases.save_cursor(uid, "7")
        listener.ended.clear()
        assert 1 == options.credentials.renew({})
        await wait_until_async(lambda: listener.released, SECONDS, "the work is to end")
        assert not leases.holds(uid)
        listener.ended.set()
        await wait_until_async(lambda: leases.holds(uid), SECONDS, "the lease again")
        assert "7" == leases.cursor(uid)
    finally:
        await leases.stop()
        await log.stop()
