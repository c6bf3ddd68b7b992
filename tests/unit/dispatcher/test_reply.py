"""Replies: part of the delivery of their event, to the very end."""

from headrace.codec import parked
from headrace.domain.delivery import Outcome
from headrace.domain.record import Record
from headrace.domain.routing import Reply
from tests.support.event_builders import http_headers, record_headers
from tests.support.waiting import wait_until_async
from tests.unit.dispatcher.small_world import CHANNEL, DEAD, REPLY, RETRY, SUBSCRIBER, parked_headers, small_world

REPLIES = Outcome(status=200, headers=http_headers(), body=b"{}")
REPLY_EVENT = b'{"specversion":"1.0","id":"r","source":"s","type":"t"}'


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


async def test_a_reply_that_waits_for_a_url_goes_to_the_topic_that_took_its_place() -> None:
    """The destination was changed, not removed; the hop count is that of the event and one more."""
    async with small_world() as world:
        world.log.create("elsewhere")
        work = world.work(reply=Reply(topic="elsewhere"))
        headers = parked_headers(record_headers((parked.HOPS, b"3"), ("traceparent", b"00-1-1-01")), reply=REPLY_EVENT)
        await world.store(RETRY, Record(None, b"{}", headers))
        work.parked()
        await wait_until_async(lambda: world.committed(RETRY, RETRY) == 1, what="the reply is stored")
        (stored,) = world.records("elsewhere")
        found = dict(stored.headers)
        assert (b"r", b"4", b"00-1-1-01") == (found["ce_id"], found[parked.HOPS], found["traceparent"])
        assert 0 == world.requests(SUBSCRIBER)


async def test_a_reply_whose_destination_was_removed_is_dropped_and_counted() -> None:
    """The subscriber has done its work, and nobody wants what came of it."""
    async with small_world() as world:
        work = world.work()
        await world.store(RETRY, Record(None, b"{}", parked_headers(reply=REPLY_EVENT)))
        work.parked()
        await wait_until_async(lambda: world.committed(RETRY, RETRY) == 1, what="the record is done")
        assert 1 == work.counts.replies_dropped.value
        assert [] == world.sender.sent


async def test_a_reply_that_its_topic_refuses_for_a_partition_that_is_gone_is_no_dead_letter() -> None:
    """The next owner delivers the event again and sees to its reply itself."""
    async with small_world(drain_seconds=0.02) as world:
        world.work(reply=Reply(topic="missing"))
        world.sender.script(SUBSCRIBER, REPLIES)
        await world.publish("a")
        world.log.hold()
        await wait_until_async(lambda: world.requests(SUBSCRIBER) == 1, what="the event is sent")
        await wait_until_async(lambda: world.log.waiting == 1, what="the reply is being stored")
        feed = world.feeds.feeds[0]
        feed.revoke(feed.partitions())
        await wait_until_async(lambda: world.requests(SUBSCRIBER) == 2, what="the event is delivered again")
        world.log.release()
        await wait_until_async(lambda: world.committed("group", CHANNEL) == 1, what="the event is done")
        assert 1 == len(world.records(DEAD))
