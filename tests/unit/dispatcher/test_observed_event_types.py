"""The types of a subscription's replies are remembered if its routing record requests it."""

from headrace.domain.delivery import Outcome
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.routing import Reply
from tests.support.event_builders import http_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    SUBSCRIBER,
    DispatcherHarness,
    dispatcher_harness,
    subscription,
)

REPLIES = Outcome(status=200, headers=http_headers(), body=b"{}")


async def _deliver(harness: DispatcherHarness, count: int) -> None:
    harness.sender.script(SUBSCRIBER, REPLIES)
    await harness.publish(f"e{count}")
    await wait_until_async(
        lambda: harness.committed("group", CHANNEL) == count, what="the event is done"
    )


async def test_types_of_replies_are_remembered_where_that_is_asked_for() -> None:
    """They are remembered while the routing record requests it. The subscription stays in its
    group.
    """
    async with dispatcher_harness() as harness:
        harness.log.create("answers")
        worker = harness.start_worker(reply=Reply(topic="answers"))
        await _deliver(harness, 1)
        assert () == harness.context.observed_types.next_batch()
        worker.apply(subscription(reply=Reply(topic="answers"), event_types=True, generation=2))
        await _deliver(harness, 2)
        reply = dict(http_headers())
        expected = ObservedEventType(
            "uid", reply[b"ce-type"].decode(), reply[b"ce-source"].decode(), "", "1.0"
        )
        assert (expected,) == harness.context.observed_types.next_batch()
        worker.apply(subscription(reply=Reply(topic="answers"), generation=3))
        assert worker._subscriber_handler.types is None


async def test_a_reply_that_nobody_wants_is_not_remembered() -> None:
    """The reply is dropped, so no event of its type is available."""
    async with dispatcher_harness() as harness:
        harness.start_worker(event_types=True)
        await _deliver(harness, 1)
        assert () == harness.context.observed_types.next_batch()
