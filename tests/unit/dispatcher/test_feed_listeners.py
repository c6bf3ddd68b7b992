"""Every record that a feed hands out reaches its lane or is finished, even if it is invalid."""

import pytest
from structlog.testing import capture_logs

from headrace.codec import delivery_state
from headrace.domain.delivery import DeadLetterReason, Outcome
from headrace.domain.offsets import OffsetTracker
from headrace.domain.record import Headers, Partition, Record
from headrace.domain.routing import DeliveryOrder, Destination, Format, Reply
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    DEAD,
    REPLY,
    RETRY,
    SINK,
    SUBSCRIBER,
    DispatcherHarness,
    dispatcher_harness,
    retry_headers,
)

STRUCTURED = [("content-type", b"application/cloudevents+json")]
EVENT = b'{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":{}}'


async def test_a_structured_record_of_another_producer_is_done_when_it_is_delivered() -> None:
    """It is converted to another form, and its offset is still committed."""
    async with dispatcher_harness() as harness:
        harness.start_worker()
        await harness.store(
            CHANNEL, *(Record(None, EVENT % number, STRUCTURED) for number in range(3))
        )
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 3, what="three events are committed"
        )


async def test_a_structured_record_that_a_filter_refuses_is_done() -> None:
    """Its offset is also committed."""
    async with dispatcher_harness() as harness:
        harness.start_worker(filters=({"exact": {"type": "another"}},))
        await harness.store(CHANNEL, Record(None, EVENT % 1, STRUCTURED))
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is committed"
        )
        assert [] == harness.sender.sent


async def test_a_retry_record_with_a_reply_that_cannot_be_read_becomes_a_dead_letter() -> None:
    """It does not delay others: the retries next to it are delivered."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(reply=Reply(url=REPLY))
        bad = Record(None, b"{}", retry_headers(reply=b"garbage", origin="channel/0/1"))
        good = Record(None, b"{}", retry_headers(origin="channel/0/2"))
        await harness.store(RETRY, bad, good)
        worker.on_retry_stored()
        await wait_until_async(lambda: harness.committed(RETRY, RETRY) == 2, what="both are done")
        assert 1 == harness.requests(SUBSCRIBER)
        assert [DeadLetterReason.UNREADABLE] == reasons(harness)


async def test_a_retry_record_that_cannot_be_sent_as_json_becomes_a_dead_letter() -> None:
    """Another client wrote to the retry topic. Neither the lane nor the breaker waits for the
    answer to a request that was never sent.
    """
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(format=Format.JSON)
        bad = Record(
            None,
            b"{}",
            retry_headers(record_headers(("content-type", b"\xff")), origin="channel/0/1"),
        )
        good = Record(None, b"{}", retry_headers(origin="channel/0/2"))
        await harness.store(RETRY, bad, good)
        worker.on_retry_stored()
        await wait_until_async(lambda: harness.committed(RETRY, RETRY) == 2, what="both are done")
        assert 1 == harness.requests(SUBSCRIBER)
        assert 0 == worker.lanes.in_flight()
        assert [DeadLetterReason.UNREADABLE] == reasons(harness)


@pytest.mark.parametrize(
    "headers",
    [(), [("headrace_attempt", b"x")], [("ce_id", b"\xff"), ("headrace_subscription", b"\xff")]],
)
async def test_garbage_in_the_retry_topic_is_kept_and_blocks_nothing(headers: Headers) -> None:
    """Each record becomes a dead letter with the reason, and the retry after it is delivered."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        await harness.store(
            RETRY, Record(b"key", b"garbage", headers), Record(None, b"{}", retry_headers())
        )
        worker.on_retry_stored()
        await wait_until_async(lambda: harness.committed(RETRY, RETRY) == 2, what="both are done")
        assert 1 == harness.requests(SUBSCRIBER)
        assert [DeadLetterReason.MISDIRECTED] == reasons(harness)
        assert b"garbage" == harness.records(DEAD)[0].value


async def test_only_dead_letters_that_are_events_go_to_the_sink() -> None:
    """Any other record in the dead letter topic is done without a request, and counted."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(dead_letter_sink=Destination(url=SINK))
        await harness.store(
            DEAD,
            Record(None, None, ()),
            Record(None, b"x", [("ce_id", b"\xff"), ("content-type", b"a\r\nb: c")]),
            Record(None, b"garbage", retry_headers(())),
            Record(None, EVENT % 7, STRUCTURED),
        )
        await wait_until_async(
            lambda: harness.committed(RETRY, DEAD) == 4, what="all letters are done"
        )
        assert 1 == harness.requests(SINK)
        assert b"ce-id: 7\r\n" in harness.sender.sent[-1].headers
        assert (1, 3) == (worker.metrics.sink_stored.value, worker.metrics.not_events.value)


async def test_a_retry_record_that_is_no_event_is_not_posted() -> None:
    """Its private headers are valid, although another client wrote it. The subscriber gets only
    events.
    """
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        await harness.store(RETRY, Record(None, b"garbage", retry_headers(())))
        worker.on_retry_stored()
        await wait_until_async(
            lambda: harness.committed(RETRY, RETRY) == 1, what="the record is done"
        )
        assert 0 == harness.requests(SUBSCRIBER)
        assert [DeadLetterReason.UNREADABLE] == reasons(harness)
        assert "ce_knativeerrordest" not in dict(harness.records(DEAD)[0].headers)


async def test_a_misplaced_content_type_is_logged_once_for_a_topic() -> None:
    """The number of records and of subscriptions does not matter. Each record is counted."""
    async with dispatcher_harness() as harness:
        headers = record_headers(("content-type", b"a/b"), ("ce_datacontenttype", b"c/d"))
        with capture_logs() as lines:
            harness.feeds.groups.commit("other-group", Partition(CHANNEL, 0), offset=0)
            workers = [
                harness.start_worker(),
                harness.start_worker(name="other", group="other-group"),
            ]
            await harness.store(CHANNEL, *[Record(None, b"x", headers)] * 3)
            await wait_until_async(
                lambda: harness.requests(SUBSCRIBER) == 6, what="both are delivered"
            )
        assert [CHANNEL] == [
            line["topic"] for line in lines if line["event"] == "content_type_misplaced"
        ]
        assert [3, 3] == [worker.metrics.misplaced.value for worker in workers]
        assert all(
            b"content-type: a/b" in each.headers and b"c/d" not in each.headers
            for each in harness.sender.sent
        )


async def test_a_note_that_makes_no_sense_restarts_the_policy() -> None:
    """Any tool can change commit metadata. An attempt is made nevertheless."""
    async with dispatcher_harness() as harness:
        tracker = OffsetTracker(0)
        tracker.take(0)
        tracker.annotate(0, "-7:-7:-7")
        harness.feeds.groups.commit(
            "group", Partition(CHANNEL, 0), offset=0, metadata=tracker.metadata()
        )
        harness.sender.script(SUBSCRIBER, Outcome(status=503), Outcome(status=202))
        harness.start_worker(order=DeliveryOrder.ORDERED)
        await harness.publish("a")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is delivered"
        )
        assert 2 == harness.requests(SUBSCRIBER)


def reasons(harness: DispatcherHarness) -> list[str]:
    """Return the reason of each dead letter."""
    return [
        delivery_state.read(record.headers).reason.partition(":")[0]
        for record in harness.records(DEAD)
    ]
