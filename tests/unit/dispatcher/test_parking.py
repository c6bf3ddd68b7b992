"""Parking when the log is away: one record takes an event's place, whoever owns the event in the
end.
"""

from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace.domain.errors import LogUnavailable
from tests.support.waiting import wait_until_async
from tests.unit.dispatcher.small_world import CHANNEL, RETRY, SUBSCRIBER, small_world


async def test_an_event_given_up_with_its_partition_is_not_parked_any_more() -> None:
    """Its next owner delivers it and parks it if need be: two retry records would double it."""
    async with small_world(drain_seconds=0.02) as world:
        world.work(delivery=DeliveryPolicy(retry=3, delay_seconds=60.0))
        world.sender.script(SUBSCRIBER, Outcome(status=500))
        await world.publish("a")
        world.log.fail(LogUnavailable("no broker"))
        await wait_until_async(lambda: world.requests(SUBSCRIBER) == 1, what="the event is sent")
        feed = world.feeds.feeds[0]
        feed.revoke(feed.partitions())
        await wait_until_async(
            lambda: world.requests(SUBSCRIBER) == 2, what="the event is delivered again"
        )
        world.log.fail(None)
        await wait_until_async(
            lambda: world.committed("group", CHANNEL) == 1, what="the event is parked"
        )
        await wait_until_async(
            lambda: not world.environment.appends.waiting, what="nothing is tried again"
        )
        assert 1 == len(world.records(RETRY))


async def test_an_outage_of_the_log_is_waited_out() -> None:
    """Nothing is done before its record is stored, however long that takes."""
    async with small_world() as world:
        work = world.work(delivery=DeliveryPolicy(retry=3, delay_seconds=60.0))
        world.sender.script(SUBSCRIBER, Outcome(status=500))
        await world.publish("a", "b")
        world.log.fail(LogUnavailable("no broker"))
        await wait_until_async(
            lambda: world.environment.appends.waiting == 2, what="both wait to be parked"
        )
        assert 0 == world.committed("group", CHANNEL)
        world.log.fail(None)
        await wait_until_async(
            lambda: world.committed("group", CHANNEL) == 2, what="both are parked"
        )
        assert 2 == len(world.records(RETRY))
        assert not work.stuck
