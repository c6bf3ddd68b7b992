"""The Kafka feed over a broker that goes away and comes back."""

import asyncio
from dataclasses import replace

import pytest

from headrace.adapters.kafka.apache import ApacheKafka
from headrace.adapters.kafka.options import GroupProtocol
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition
from tests.contract.feeds import Desk, KafkaWorld
from tests.contract.test_feed import committed_is
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.kafka_proxy import kafka_proxy
from tests.support.waiting import wait_until_async


@pytest.mark.kafka
async def test_broker_killed_and_started_again(private_kafka: ApacheKafka) -> None:
    """Reading goes on when the broker is back, and nothing is lost.

    The session ended meanwhile, so what was done but not committed comes again: at most what was in
    hand.
    """
    world = KafkaWorld(
        KafkaUnderTest(private_kafka.bootstrap_servers, Kind.APACHE, private_kafka),
        GroupProtocol.CLASSIC,
        1,
    )
    desk = Desk()
    feed = world.feed(desk, instance="stays")
    try:
        await world.append(10)
        await desk.has(10, 30)
        await asyncio.to_thread(private_kafka.kill)
        desk.finish(desk.records)
        await wait_until_async(lambda: desk.alarms, 30, "an alarm about the broker")
        await asyncio.to_thread(private_kafka.start)
        await world.append(5)
        await wait_until_async(lambda: set(desk.offsets()) == set(range(15)), 60, "the new records")
        desk.finish(desk.records)
        await feed.stop()
        await committed_is(world, {0: 15})
    finally:
        await world.close()


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_a_member_that_is_cut_off_doubts_before_another_one_begins(
    kafka: KafkaUnderTest,
) -> None:
    """Its group gives its partition away after the session, which it learns at that very time and
    not before; so it begins nothing once its commits have gone without an answer for half of that.
    """
    world, cut, other = KafkaWorld(kafka, GroupProtocol.CLASSIC, 2), Desk(), Desk(finish=True)
    straight = world.options
    with kafka_proxy(kafka.bootstrap_servers) as proxy:
        try:
            world.options = replace(straight, bootstrap_servers=proxy.address)
            world.feed(cut)
            for number in (0, 1):
                await world.append(1, partition=number)
            await cut.has(2)
            world.options = straight
            world.feed(other)
            await wait_until_async(lambda: other.records, 60, "the other one has its part")
            (kept,) = {0, 1} - {record.partition for record in other.records}
            proxy.close()
            cut.finish(cut.records)
            await wait_until_async(lambda: cut.doubts, 15, "doubt")
            assert Partition(world.topic, kept) not in cut.lost
            assert not other.offsets(kept)
            assert [AlarmKind.UNCONFIRMED] == [
                each.kind for each in cut.alarms if each.kind is AlarmKind.UNCONFIRMED
            ]
            await wait_until_async(lambda: other.offsets(kept), 30, "the other one has all")
            assert cut.doubts == [True, False]
        finally:
            await world.close()
