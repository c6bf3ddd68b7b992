"""The Kafka feed over a broker that goes away and comes back."""

import asyncio

import pytest

from headrace.adapters.kafka.apache import ApacheKafka
from headrace.adapters.kafka.options import GroupProtocol
from tests.contract.feeds import Desk, KafkaWorld
from tests.contract.test_feed import committed_is
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.waiting import wait_until_async


@pytest.mark.kafka
async def test_broker_killed_and_started_again(private_kafka: ApacheKafka) -> None:
    """Reading goes on when the broker is back, and nothing is lost.

    The session ended meanwhile, so what was done but not committed comes again: at most what was in hand.
    """
    world = KafkaWorld(KafkaUnderTest(private_kafka.bootstrap_servers, Kind.APACHE, private_kafka), GroupProtocol.CLASSIC, 1)
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
