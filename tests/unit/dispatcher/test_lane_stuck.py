"""A record that cannot be parked stops its lane, but only as long as it belongs to this lane."""

import pytest

from headrace.domain.delivery import Outcome
from headrace.domain.routing import DeliveryOrder
from headrace_dispatcher import retrying_log
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    DEAD,
    SUBSCRIBER,
    DispatcherHarness,
    dispatcher_harness,
)

REJECTED = Outcome(status=400)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delay before a refused write is tried again."""
    monkeypatch.setattr(retrying_log, "PERMANENT_ERROR_SECONDS", 0.05)


async def refuse(harness: DispatcherHarness) -> None:
    """Publish an event that fails and cannot become a dead letter."""
    harness.log.delete(DEAD)
    harness.sender.script(SUBSCRIBER, REJECTED)
    await harness.publish("a")
    await wait_until_async(lambda: harness.workers[0].health.stuck, what="the lane stands still")


@pytest.mark.parametrize("order", list(DeliveryOrder))
async def test_a_lane_resumes_when_its_stuck_record_went_with_its_partition(
    order: DeliveryOrder,
) -> None:
    """The record returns with the partition and is tried again. Nothing else would allow the lane
    to continue.
    """
    async with dispatcher_harness(drain_seconds=0.05) as harness:
        worker = harness.start_worker(order=order)
        await refuse(harness)
        feed = harness.feeds.feeds[0]
        feed.revoke(feed.partitions())
        await wait_until_async(
            lambda: harness.requests(SUBSCRIBER) == 2, what="the event is tried again"
        )
        harness.log.create(DEAD)
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is parked"
        )
        await wait_until_async(lambda: not worker.health.stuck, what="the alarm is over")


async def test_a_lane_stays_stuck_until_its_last_record_is_stored() -> None:
    """Events that are sent meanwhile could only become stuck too."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        harness.log.delete(DEAD)
        harness.sender.script(SUBSCRIBER, REJECTED)
        await harness.publish("a", "b", "c")
        await wait_until_async(
            lambda: worker.metrics.store_refused.value >= 3, what="three records are stuck"
        )
        harness.sender.script(SUBSCRIBER, Outcome(status=202))
        await harness.publish("d")
        harness.log.create(DEAD)
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 4, what="all are done"
        )
        assert not worker.health.stuck
        assert 3 == len(harness.records(DEAD))


async def test_a_halted_subscription_starts_nothing_when_its_topic_is_fixed() -> None:
    """The subscription ends. A record that can be parked after all must not start new
    deliveries.
    """
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        await refuse(harness)
        worker.halt()
        harness.log.create(DEAD)
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is parked"
        )
        harness.sender.script(SUBSCRIBER, Outcome(status=202))
        await harness.publish("b")
        lag = worker.lag
        await wait_until_async(
            lambda: any(each.oldest_ms is not None for each in lag().values()),
            what="the next event was read",
        )
        assert harness.requests(SUBSCRIBER) == 1


async def test_a_fixed_topic_delivers_what_waited() -> None:
    """This is the usual case: a user creates the topic again, and nothing else has to be done."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        await refuse(harness)
        harness.sender.script(SUBSCRIBER, Outcome(status=202))
        await harness.publish("b")
        harness.log.create(DEAD)
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 2, what="both are done"
        )
        assert not worker.health.stuck
