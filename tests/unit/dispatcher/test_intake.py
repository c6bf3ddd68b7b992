"""What a feed hands out reaches its lane or its end, whatever it is."""

from headrace.domain.record import Record
from tests.support.waiting import wait_until_async
from tests.unit.dispatcher.small_world import CHANNEL, small_world

STRUCTURED = [("content-type", b"application/cloudevents+json")]
EVENT = b'{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":{}}'


async def test_a_structured_record_of_another_producer_is_done_when_it_is_delivered() -> None:
    """It is read into another form on the way; its offset is committed all the same."""
    async with small_world() as world:
        world.work()
        await world.store(CHANNEL, *(Record(None, EVENT % number, STRUCTURED) for number in range(3)))
        await wait_until_async(lambda: world.committed("group", CHANNEL) == 3, what="three events are committed")


async def test_a_structured_record_that_a_filter_refuses_is_done() -> None:
    """The same for what nobody wants."""
    async with small_world() as world:
        world.work(filters=({"exact": {"type": "another"}},))
        await world.store(CHANNEL, Record(None, EVENT % 1, STRUCTURED))
        await wait_until_async(lambda: world.committed("group", CHANNEL) == 1, what="the event is committed")
        assert [] == world.sender.sent
