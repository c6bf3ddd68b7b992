"""Replies: part of the delivery of their event, to the very end."""

from headrace.domain.delivery import Outcome
from headrace.domain.routing import Reply
from tests.support.event_builders import http_headers
from tests.support.waiting import wait_until_async
from tests.unit.dispatcher.small_world import CHANNEL, REPLY, SUBSCRIBER, small_world

REPLIES = Outcome(status=200, headers=http_headers(), body=b"{}")


async def test_a_reply_that_comes_while_the_process_ends_still_goes_out() -> None:
    """The subscriber has done its work: without its reply it would have to do it again."""
    async with small_world(drain_seconds=0.5) as world:
        work = world.work(reply=Reply(url=REPLY))
        world.sender.script(SUBSCRIBER, REPLIES, delay_seconds=0.05)
        await world.publish("a")
        await wait_until_async(lambda: world.requests(SUBSCRIBER) == 1, what="the event is sent")
        await work.stop()
        assert world.requests(REPLY) == 1
        assert world.committed("group", CHANNEL) == 1
