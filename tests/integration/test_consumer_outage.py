"""The Kafka feed with a broker that stops and restarts."""

import asyncio
from dataclasses import replace

import pytest

from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.options import GroupProtocol
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition
from tests.contract.feeds import KafkaFeedHarness, RecordingListener
from tests.contract.test_feed import committed_is
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.kafka_proxy import kafka_proxy
from tests.support.wait_until import wait_until_async


@pytest.mark.kafka
async def test_broker_killed_and_started_again(private_kafka: ApacheKafka) -> None:
    """Reading continues when the broker is back, and nothing is lost.

    The session has expired, so records that were done but not committed are returned again: at most
    those that were in flight.
    """
    harness = KafkaFeedHarness(
        KafkaUnderTest(private_kafka.bootstrap_servers, Kind.APACHE, private_kafka),
        GroupProtocol.CLASSIC,
        1,
    )
    listener = RecordingListener()
    feed = harness.feed(listener, instance="stays")
    try:
        await harness.append(10)
        await listener.has(10, 30)
        await asyncio.to_thread(private_kafka.kill)
        listener.finish(listener.records)
        await wait_until_async(lambda: listener.alarms, 30, "an alarm about the broker")
        await asyncio.to_thread(private_kafka.start)
        await harness.append(5)
        await wait_until_async(
            lambda: set(listener.offsets()) == set(range(15)), 60, "the new records"
        )
        listener.finish(listener.records)
        await feed.stop()
        await committed_is(harness, {0: 15})
    finally:
        await harness.close()


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_an_isolated_member_suspends_before_its_successor_starts(
    kafka: KafkaUnderTest,
) -> None:
    """The group reassigns the partition when the session expires, and the member does not notice it
    before then. Therefore it starts nothing after half of the session timeout without an answer to
    its commits.
    """
    harness, cut, other = (
        KafkaFeedHarness(kafka, GroupProtocol.CLASSIC, 2),
        RecordingListener(),
        RecordingListener(finish=True),
    )
    straight = harness.options
    with kafka_proxy(kafka.bootstrap_servers) as proxy:
        try:
            harness.options = replace(straight, bootstrap_servers=proxy.address)
            harness.feed(cut)
            for number in (0, 1):
                await harness.append(1, partition=number)
            await cut.has(2)
            harness.options = straight
            harness.feed(other)
            await wait_until_async(lambda: other.records, 60, "the other one has its part")
            (kept,) = {0, 1} - {record.partition for record in other.records}
            proxy.close()
            cut.finish(cut.records)
            await wait_until_async(lambda: cut.unconfirmed_calls, 15, "an unconfirmed membership")
            assert Partition(harness.topic, kept) not in cut.lost
            assert not other.offsets(kept)
            assert [AlarmKind.UNCONFIRMED] == [
                each.kind for each in cut.alarms if each.kind is AlarmKind.UNCONFIRMED
            ]
            await wait_until_async(lambda: other.offsets(kept), 30, "the other one has all")
            assert cut.unconfirmed_calls == [True, False]
        finally:
            await harness.close()
