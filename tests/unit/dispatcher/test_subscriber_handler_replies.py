"""Replies, which are part of the delivery of their event until they are stored or sent."""

from dataclasses import replace

import pytest

from headrace.codec import delivery_state
from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace.domain.errors import HeadraceError, RecordTooLarge, TopicMissing, WriteRefused
from headrace.domain.record import Record
from headrace.domain.routing import DeliveryOrder, Destination, Reply
from tests.support.event_builders import http_headers, record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    DEAD,
    REPLY,
    RETRY,
    SUBSCRIBER,
    dispatcher_harness,
    retry_headers,
    subscription,
)

REPLIES = Outcome(status=200, headers=http_headers(), body=b"{}")
REPLY_EVENT = b'{"specversion":"1.0","id":"r","source":"s","type":"t"}'


async def test_a_reply_that_comes_while_the_process_ends_still_goes_out() -> None:
    """The subscriber has processed the event. If the reply were lost, it would have to do so
    again.
    """
    async with dispatcher_harness(drain_seconds=0.5) as harness:
        worker = harness.start_worker(reply=Reply(url=REPLY))
        harness.sender.script(SUBSCRIBER, REPLIES, delay_seconds=0.05)
        await harness.publish("a")
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="the event is sent")
        await worker.stop()
        assert harness.requests(REPLY) == 1
        assert harness.committed("group", CHANNEL) == 1


async def test_a_reply_that_waits_for_a_url_goes_to_the_topic_that_took_its_place() -> None:
    """The destination was changed, not removed. The hop count is that of the event plus one."""
    async with dispatcher_harness() as harness:
        harness.log.create("elsewhere")
        worker = harness.start_worker(reply=Reply(topic="elsewhere"))
        headers = retry_headers(
            record_headers((delivery_state.HOPS, b"3"), ("traceparent", b"00-1-1-01")),
            reply=REPLY_EVENT,
        )
        await harness.store(RETRY, Record(None, b"{}", headers))
        worker.on_retry_stored()
        await wait_until_async(
            lambda: harness.committed(RETRY, RETRY) == 1, what="the reply is stored"
        )
        (stored,) = harness.records("elsewhere")
        found = dict(stored.headers)
        assert (b"r", b"4", b"00-1-1-01") == (
            found["ce_id"],
            found[delivery_state.HOPS],
            found["traceparent"],
        )
        assert 0 == harness.requests(SUBSCRIBER)


async def test_a_reply_goes_where_it_was_to_go_when_its_request_was_sent() -> None:
    """The destination was changed in between, to a topic and to a URL: a step that answers late
    must not skip or repeat others.
    """
    async with dispatcher_harness() as harness:
        for topic in ("first", "last"):
            harness.log.create(topic)
        worker = harness.start_worker(reply=Reply(topic="first"))
        harness.sender.script(SUBSCRIBER, REPLIES, delay_seconds=0.05)
        await harness.publish("a")
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="the event is sent")
        worker.apply(subscription(generation=2, reply=Reply(url=REPLY)))
        assert worker.report().changing
        await harness.publish("b")
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 2, what="another is sent")
        worker.apply(subscription(generation=3, reply=Reply(topic="last")))
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 2, what="both are delivered"
        )
        assert [1, 1, 0] == [
            len(harness.records("first")),
            harness.requests(REPLY),
            len(harness.records("last")),
        ]
        assert not worker.report().changing


@pytest.mark.clause("D17")
async def test_a_reply_whose_destination_was_removed_is_dropped_and_counted() -> None:
    """The subscriber has processed the event, and there is no destination for the result."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        await harness.store(RETRY, Record(None, b"{}", retry_headers(reply=REPLY_EVENT)))
        worker.on_retry_stored()
        await wait_until_async(
            lambda: harness.committed(RETRY, RETRY) == 1, what="the record is done"
        )
        assert 1 == worker.metrics.replies_dropped.value
        assert [] == harness.sender.sent


async def test_a_reply_that_its_topic_refuses_for_a_partition_that_is_gone_is_no_dead_letter() -> (
    None
):
    """The next owner delivers the event again and handles its reply itself."""
    async with dispatcher_harness(drain_seconds=0.02) as harness:
        harness.start_worker(reply=Reply(topic="missing"))
        harness.sender.script(SUBSCRIBER, REPLIES)
        await harness.publish("a")
        harness.log.hold()
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="the event is sent")
        await wait_until_async(lambda: harness.log.waiting == 1, what="the reply is being stored")
        feed = harness.feeds.feeds[0]
        feed.revoke(feed.partitions())
        await wait_until_async(
            lambda: harness.requests(SUBSCRIBER) == 2, what="the event is delivered again"
        )
        harness.log.release()
        await wait_until_async(
            lambda: harness.records(DEAD), what="the reply's attempts are used up"
        )
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is done"
        )
        assert 1 == len(harness.records(DEAD))


@pytest.mark.parametrize("order", list(DeliveryOrder))
@pytest.mark.parametrize(
    "refusal", [TopicMissing("answers"), WriteRefused("not authorized")], ids=["missing", "refused"]
)
async def test_a_reply_that_its_topic_refuses_for_a_moment_is_tried_again(
    order: DeliveryOrder, refusal: HeadraceError
) -> None:
    """The policy applies, as for any failed reply. The subscriber has processed the event and is
    not called again.
    """
    async with dispatcher_harness() as harness:
        harness.log.create("answers")
        harness.start_worker(
            order=order,
            reply=Reply(topic="answers"),
            delivery=DeliveryPolicy(retry=5, delay_seconds=0.01),
        )
        harness.sender.script(SUBSCRIBER, REPLIES)
        harness.log.refuse("answers", refusal)
        await harness.publish("a")
        await wait_until_async(
            lambda: harness.workers[0].metrics.retried.value >= 2, what="the reply has failed twice"
        )
        harness.log.refuse("answers", None)
        await wait_until_async(lambda: harness.records("answers"), what="the reply is stored")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is done"
        )
        assert (1, []) == (harness.requests(SUBSCRIBER), harness.records(DEAD))


async def test_a_reply_topic_that_stays_away_uses_the_policy_up() -> None:
    """The event then becomes a dead letter that names the topic. The subscriber was called once."""
    async with dispatcher_harness() as harness:
        harness.start_worker(
            reply=Reply(topic="missing"), delivery=DeliveryPolicy(retry=2, delay_seconds=0.001)
        )
        harness.sender.script(SUBSCRIBER, REPLIES)
        await harness.publish("a")
        await wait_until_async(lambda: harness.records(DEAD), what="the event is a dead letter")
        dead_letter = dict(harness.records(DEAD)[0].headers)
        assert b"missing" == dead_letter["ce_knativeerrordest"]
        assert dead_letter["headrace_reason"].startswith(b"reply-exhausted: ")
        assert b"at attempt 3, the last of 3" in dead_letter["headrace_reason"]
        assert 1 == harness.requests(SUBSCRIBER)


async def test_a_reply_too_large_for_its_topic_is_not_tried_again() -> None:
    """A further attempt could not succeed."""
    async with dispatcher_harness() as harness:
        harness.log.create("answers")
        harness.start_worker(reply=Reply(topic="answers"))
        harness.sender.script(SUBSCRIBER, REPLIES)
        harness.log.refuse("answers", RecordTooLarge(2, 1))
        await harness.publish("a")
        await wait_until_async(lambda: harness.records(DEAD), what="the event is a dead letter")
        assert dict(harness.records(DEAD)[0].headers)["headrace_reason"].startswith(
            b"reply-rejected: "
        )
        assert [] == harness.records(RETRY)


LARGE = replace(REPLIES, body=b"x" * 300_000)


async def test_a_reply_too_large_to_wait_beside_its_event_uses_the_policy_up() -> None:
    """The subscriber is called again, and the attempts for all of its replies are counted together.
    Otherwise it would be called forever.
    """
    async with dispatcher_harness() as harness:
        harness.log.record_bytes_max = 200_000
        worker = harness.start_worker(
            reply=Reply(url=REPLY), delivery=DeliveryPolicy(retry=2, delay_seconds=0.001)
        )
        harness.sender.script(SUBSCRIBER, LARGE)
        harness.sender.script(REPLY, Outcome(status=503))
        await harness.publish("a")
        await wait_until_async(lambda: harness.records(DEAD), what="the event is a dead letter")
        assert dict(harness.records(DEAD)[0].headers)["headrace_reason"].startswith(
            b"reply-exhausted: "
        )
        assert (3, 3) == (harness.requests(SUBSCRIBER), harness.requests(REPLY))
        assert 1 == worker.metrics.dead_letters


async def test_a_large_reply_does_not_wait_in_place() -> None:
    """Ordered delivery calls the subscriber again instead of keeping the reply in memory. The
    attempts are counted together.
    """
    async with dispatcher_harness() as harness:
        harness.start_worker(
            reply=Reply(url=REPLY),
            order=DeliveryOrder.ORDERED,
            delivery=DeliveryPolicy(retry=2, delay_seconds=0.001),
        )
        harness.sender.script(SUBSCRIBER, replace(LARGE, lease=object()))
        harness.sender.script(REPLY, Outcome(status=503))
        await harness.publish("a")
        await wait_until_async(lambda: harness.records(DEAD), what="the event is a dead letter")
        assert dict(harness.records(DEAD)[0].headers)["headrace_reason"].startswith(
            b"reply-exhausted: "
        )
        assert (3, 3) == (harness.requests(SUBSCRIBER), harness.requests(REPLY))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (replace(LARGE, truncated=True), b"reply-rejected: the reply is larger than the"),
        (
            Outcome(
                status=200,
                headers=[(b"content-type", b"text/plain")],
                body=b"x" * 65_536,
                truncated=True,
            ),
            b"reply-invalid: ",
        ),
        (
            Outcome(status=422, headers=http_headers(), body=b"x" * 65_536, truncated=True),
            b"rejected: status 422",
        ),
    ],
    ids=["event", "no event", "other status"],
)
async def test_what_was_not_read_whole_counts_as_what_it_is(answer: Outcome, reason: bytes) -> None:
    """A reply that is larger than its destination accepts is not requested again. For any other
    response, its beginning is sufficient.
    """
    async with dispatcher_harness() as harness:
        harness.start_worker(reply=Reply(url=REPLY), delivery=DeliveryPolicy(retry=0))
        harness.sender.script(SUBSCRIBER, answer)
        await harness.publish("a")
        await wait_until_async(lambda: harness.records(DEAD), what="the event is a dead letter")
        assert dict(harness.records(DEAD)[0].headers)["headrace_reason"].startswith(reason)


@pytest.mark.parametrize(
    "answer",
    [replace(LARGE, truncated=True), Outcome(status=202, body=b"x" * 65_536, truncated=True)],
)
async def test_a_large_answer_that_nobody_wants_is_no_failure(answer: Outcome) -> None:
    """Only its status is used."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        harness.sender.script(SUBSCRIBER, answer)
        await harness.publish("a")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is done"
        )
        assert (1, []) == (worker.metrics.delivered.value, harness.records(DEAD))


@pytest.mark.parametrize(
    "answer",
    [
        Outcome(status=500),
        Outcome(status=200, body=b"no event", headers=[(b"content-type", b"text/plain")]),
    ],
)
async def test_a_failure_names_the_url_that_failed(answer: Outcome) -> None:
    """It is not the URL that the subscription has when the response arrives."""
    async with dispatcher_harness() as harness:
        policy = DeliveryPolicy(retry=0)
        worker = harness.start_worker(delivery=policy)
        harness.sender.script(SUBSCRIBER, answer, delay_seconds=0.05)
        await harness.publish("a")
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="the event is sent")
        worker.apply(
            subscription(
                generation=2, delivery=policy, subscriber=Destination(url="http://new.test/")
            )
        )
        await wait_until_async(lambda: harness.records(DEAD), what="the event is a dead letter")
        assert SUBSCRIBER.encode() == dict(harness.records(DEAD)[0].headers)["ce_knativeerrordest"]


async def test_a_restart_while_a_reply_waits_in_place_asks_the_subscriber_again() -> None:
    """An ordered reply is held in memory. Its success is not stored, but its due time is, and no
    attempt of the subscriber is used up.
    """
    async with dispatcher_harness() as harness:
        policy = DeliveryPolicy(retry=1, delay_seconds=0.3)
        harness.sender.script(SUBSCRIBER, REPLIES, Outcome(status=500), REPLIES)
        harness.sender.script(REPLY, Outcome(status=500), Outcome(status=202))
        worker = harness.start_worker(
            order=DeliveryOrder.ORDERED, reply=Reply(url=REPLY), delivery=policy
        )
        await harness.publish("a")
        await wait_until_async(lambda: harness.requests(REPLY) == 1, what="the reply has failed")
        due = harness.clock.now() + 0.3
        await worker.stop()
        again = harness.start_worker(
            order=DeliveryOrder.ORDERED, reply=Reply(url=REPLY), delivery=policy
        )
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is done"
        )
        assert (3, 2) == (harness.requests(SUBSCRIBER), harness.requests(REPLY))
        assert harness.clock.now() > due - 0.05
        assert (1, []) == (again.metrics.delivered.value, harness.records(DEAD))
