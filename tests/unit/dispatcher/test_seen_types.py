"""Which types of replies a subscription has brought: remembered where its routing record asks for
it.
"""

from headrace.domain.delivery import Outcome
from headrace.domain.routing import Reply
from headrace.domain.seen_types import SeenType
from tests.support.event_builders import http_headers
from tests.support.waiting import wait_until_async
from tests.unit.dispatcher.small_world import (
    CHANNEL,
    SUBSCRIBER,
    SmallWorld,
    small_world,
    subscription,
)

REPLIES = Outcome(status=200, headers=http_headers(), body=b"{}")


async def _deliver(world: SmallWorld, count: int) -> None:
    world.sender.script(SUBSCRIBER, REPLIES)
    await world.publish(f"e{count}")
    await wait_until_async(
        lambda: world.committed("group", CHANNEL) == count, what="the event is done"
    )


async def test_types_of_replies_are_remembered_where_that_is_asked_for() -> None:
    """From the record that asks, until it ceases to; the subscription stays in its group."""
    async with small_world() as world:
        world.log.create("answers")
        work = world.work(reply=Reply(topic="answers"))
        await _deliver(world, 1)
        assert () == world.environment.seen.piece()
        work.apply(subscription(reply=Reply(topic="answers"), event_types=True, generation=2))
        await _deliver(world, 2)
        reply = dict(http_headers())
        expected = SeenType(
            "uid", reply[b"ce-type"].decode(), reply[b"ce-source"].decode(), "", "1.0"
        )
        assert (expected,) == world.environment.seen.piece()
        work.apply(subscription(reply=Reply(topic="answers"), generation=3))
        assert work._subscriber.types is None


async def test_a_reply_that_nobody_wants_is_not_remembered() -> None:
    """It is dropped: there is nowhere an event of its type could be had."""
    async with small_world() as world:
        world.work(event_types=True)
        await _deliver(world, 1)
        assert () == world.environment.seen.piece()
