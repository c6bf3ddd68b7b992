"""Retry records and dead letters while the log is unavailable: one record replaces an event,
regardless of which process owns the event in the end.
"""

from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace.domain.errors import LogUnavailable
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import CHANNEL, RETRY, SUBSCRIBER, dispatcher_harness


async def test_an_event_lost_with_its_partition_is_not_stored_for_retry() -> None:
    """The next owner delivers the event and parks it if necessary. Two retry records would
    duplicate it.
    """
    async with dispatcher_harness(drain_seconds=0.02) as harness:
        harness.start_worker(delivery=DeliveryPolicy(retry=3, delay_seconds=60.0))
        harness.sender.script(SUBSCRIBER, Outcome(status=500))
        await harness.publish("a")
        harness.log.fail(LogUnavailable("no broker"))
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="the event is sent")
        feed = harness.feeds.feeds[0]
        feed.revoke(feed.partitions())
        await wait_until_async(
            lambda: harness.requests(SUBSCRIBER) == 2, what="the event is delivered again"
        )
        harness.log.fail(None)
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is parked"
        )
        await wait_until_async(
            lambda: not harness.context.retrying_log.waiting, what="nothing is tried again"
        )
        assert 1 == len(harness.records(RETRY))


async def test_an_outage_of_the_log_is_waited_out() -> None:
    """An event is not done before its record is stored, however long that takes."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(delivery=DeliveryPolicy(retry=3, delay_seconds=60.0))
        harness.sender.script(SUBSCRIBER, Outcome(status=500))
        await harness.publish("a", "b")
        harness.log.fail(LogUnavailable("no broker"))
        await wait_until_async(
            lambda: harness.context.retrying_log.waiting == 2, what="both wait to be parked"
        )
        assert 0 == harness.committed("group", CHANNEL)
        harness.log.fail(None)
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 2, what="both are parked"
        )
        assert 2 == len(harness.records(RETRY))
        assert not worker.health.stuck
