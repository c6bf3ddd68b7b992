"""The worker of one subscription: which feeds it opens and closes, and which events must not delay
others.
"""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from headrace.codec import delivery_state
from headrace.domain.delivery import DeliveryPolicy, Failure, Outcome
from headrace.domain.errors import RecordTooLarge, WriteRefused
from headrace.domain.record import Record
from headrace.domain.routing import DeliveryOrder, Destination
from headrace_dispatcher import retrying_log
from headrace_dispatcher.limits import SubscriptionLimits
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    DEAD,
    RETRY,
    SINK,
    SUBSCRIBER,
    dispatcher_harness,
    retry_headers,
    subscription,
)

TO_SINK = Destination(url=SINK)
DEAD_LETTER = Record(None, b"{}", record_headers())


async def test_dead_letters_that_no_sink_takes_do_not_hold_up_retries() -> None:
    """More dead letters than a feed may hold wait for a sink that is down. The retries of the
    subscription continue.
    """
    async with dispatcher_harness(limits=SubscriptionLimits(retry_records_max=4)) as harness:
        harness.sender.script(SINK, Outcome(status=503))
        await harness.store(DEAD, *[DEAD_LETTER] * 10)
        worker = harness.start_worker(dead_letter_sink=TO_SINK, delivery=DeliveryPolicy(retry=0))
        await wait_until_async(lambda: harness.requests(SINK) >= 4, what="the sink refuses letters")
        await harness.store(RETRY, Record(None, b"{}", retry_headers()))
        worker.on_retry_stored()
        await wait_until_async(
            lambda: harness.requests(SUBSCRIBER) == 1, timeout=3.0, what="the retry is delivered"
        )


async def test_retries_behind_a_breaker_do_not_hold_up_dead_letters() -> None:
    """More retries than a feed may hold wait for the subscriber. The sink is another service and
    still gets its dead letters.
    """
    async with dispatcher_harness(limits=SubscriptionLimits(retry_records_max=4)) as harness:
        worker = harness.start_worker(dead_letter_sink=TO_SINK)
        later = int(harness.clock.now() * 1000) + 60_000
        retries = [
            Record(None, b"{}", retry_headers(origin=f"channel/0/{number}", due_ms=later))
            for number in range(10)
        ]
        await harness.store(RETRY, *retries)
        worker.on_retry_stored()
        await wait_until_async(
            lambda: any(
                lag.oldest_ms for feed in harness.feeds.feeds for lag in feed.lag().values()
            ),
            what="they wait",
        )
        await harness.store(DEAD, DEAD_LETTER)
        await wait_until_async(
            lambda: harness.committed(RETRY, DEAD) == 1, timeout=3.0, what="the letter is delivered"
        )


async def test_retries_while_a_sink_comes_and_goes_open_each_feed_once() -> None:
    """Every parked event is reported, but only the first report opens a feed."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        worker.on_retry_stored()
        await wait_until_async(
            lambda: RETRY not in worker.lanes.unread, what="the retry feed is open"
        )
        worker.apply(subscription(generation=2, dead_letter_sink=TO_SINK))
        for _ in range(50):
            worker.on_retry_stored()
        await asyncio.sleep(0.05)
        worker.apply(subscription(generation=3))
        for _ in range(50):
            worker.on_retry_stored()
        await asyncio.sleep(0.05)
        assert [("group", (CHANNEL,)), (RETRY, (RETRY,)), (RETRY, (DEAD,))] == harness.feeds.opened


async def test_a_sink_that_is_set_again_while_its_feed_closes_is_served() -> None:
    """The last change applies, even if another change was in progress when it arrived."""
    async with dispatcher_harness(drain_seconds=0.1) as harness:
        harness.sender.script(SINK, Outcome(status=202), delay_seconds=0.05)
        worker = harness.start_worker(dead_letter_sink=TO_SINK)
        await harness.store(DEAD, DEAD_LETTER)
        await wait_until_async(lambda: harness.requests(SINK) == 1, what="a letter is on its way")
        worker.apply(subscription(generation=2))
        worker.apply(subscription(generation=3, dead_letter_sink=TO_SINK))
        await harness.store(DEAD, DEAD_LETTER)
        await wait_until_async(
            lambda: harness.committed(RETRY, DEAD) == 2, what="both letters are delivered"
        )


async def test_dead_letters_are_kept_while_there_is_no_sink() -> None:
    """They are not read, and a sink that is set later gets them."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(dead_letter_sink=TO_SINK)
        worker.apply(subscription(generation=2))
        await wait_until_async(lambda: harness.feeds.feeds[-1].leaving, what="the feed is closed")
        await harness.store(DEAD, DEAD_LETTER)
        worker.on_retry_stored()
        worker.apply(subscription(generation=3, dead_letter_sink=TO_SINK))
        await wait_until_async(lambda: harness.requests(SINK) == 1, what="the letter is delivered")


async def test_a_change_that_cannot_be_served_changes_nothing() -> None:
    """The old configuration remains in use completely, and the record counts as not applied."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        before = worker.subscription
        with pytest.raises(ValueError, match="user information"):
            worker.apply(
                subscription(
                    generation=2,
                    subscriber=Destination(url="http://user@nowhere.test/"),
                    order=DeliveryOrder.ORDERED,
                )
            )
        assert before == worker.subscription
        await harness.publish("a")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is delivered"
        )
        assert 1 == harness.requests(SUBSCRIBER)


async def test_events_for_a_url_that_can_never_be_called_are_dead_letters_at_once() -> None:
    """There is no retry and no request. The dead letter names the URL, the scheme and the reason. A
    retry record from before ends in the same way.
    """
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(
            subscriber=Destination(url="bad://uri"),
            delivery=DeliveryPolicy(retry=10, delay_seconds=60.0),
        )
        await harness.store(RETRY, Record(None, b"{}", retry_headers()))
        worker.on_retry_stored()
        await harness.publish("a")
        await wait_until_async(
            lambda: len(harness.records(DEAD)) == 2, timeout=3.0, what="both are dead letters"
        )
        for dead_letter in harness.records(DEAD):
            assert b"bad://uri" == dict(dead_letter.headers)["ce_knativeerrordest"]
            assert "ce_knativeerrorcode" not in dict(dead_letter.headers)
            reason = delivery_state.read(dead_letter.headers).reason
            assert reason.startswith("unsupported-scheme: ") and "not bad:" in reason
        assert not harness.sender.sent


async def test_dead_letters_for_a_sink_that_can_never_be_called_stay() -> None:
    """They are not read until the sink is changed to one that can be called."""
    async with dispatcher_harness() as harness:
        await harness.store(DEAD, DEAD_LETTER)
        worker = harness.start_worker(dead_letter_sink=Destination(url="bad://sink"))
        assert ("group.retry", (DEAD,)) not in harness.feeds.opened
        worker.apply(subscription(generation=2, dead_letter_sink=TO_SINK))
        await wait_until_async(lambda: harness.requests(SINK) == 1, what="the letter is delivered")


async def test_the_order_changes_while_requests_are_on_their_way() -> None:
    """The live feed is closed and opened again. Nothing is lost or repeated."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        harness.sender.script(SUBSCRIBER, Outcome(status=202), delay_seconds=0.02)
        await harness.publish(*(str(number) for number in range(50)))
        await wait_until_async(
            lambda: harness.requests(SUBSCRIBER) > 0, what="deliveries have begun"
        )
        worker.apply(subscription(generation=2, order=DeliveryOrder.ORDERED))
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 50, what="all are delivered"
        )
        assert 50 == harness.requests(SUBSCRIBER)


async def test_a_stop_during_a_change_opens_nothing() -> None:
    """The change notices that the worker is stopping."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        harness.sender.script(SUBSCRIBER, Outcome(status=202), delay_seconds=0.05)
        await harness.publish("a")
        await wait_until_async(
            lambda: harness.requests(SUBSCRIBER) == 1, what="the event is on its way"
        )
        worker.apply(subscription(generation=2, order=DeliveryOrder.ORDERED))
        await asyncio.sleep(0.01)
        await worker.stop()
        assert 1 == len(harness.feeds.opened)
        assert 1 == harness.committed("group", CHANNEL)


async def test_dead_letters_are_reported_for_ten_minutes() -> None:
    """The controller shows that there are dead letters; the metrics show their number."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(delivery=DeliveryPolicy(retry=0))
        assert not worker.report().dead_letters
        harness.sender.script(SUBSCRIBER, Outcome(status=500))
        await harness.publish("a")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 1, what="the event is a dead letter"
        )
        assert worker.report().dead_letters
        harness.clock.ahead += 590.0
        assert worker.report().dead_letters
        harness.clock.ahead += 11.0
        assert not worker.report().dead_letters


async def test_what_an_event_holds_is_in_no_log() -> None:
    """An error that contains a value is logged without it, with the expression."""
    with capture_logs() as lines:
        async with dispatcher_harness() as harness:
            harness.start_worker(filters=({"cesql": "type + 1 = 2"},))
            await harness.publish("a")
            await wait_until_async(
                lambda: harness.committed("group", CHANNEL) == 1, what="the event does not pass"
            )
    assert [("cast", "a value is no Integer, in type + 1 = 2")] == [
        (line["error_kind"], line["error"]) for line in lines if line["event"] == "filter_failed"
    ]


async def test_errors_of_filters_are_logged_once_a_kind() -> None:
    """A function that does not exist fails for every event. It is logged once, until the
    subscription changes.
    """
    broken = ({"cesql": "UPPR(type) = 'X'"},)
    with capture_logs() as lines:
        async with dispatcher_harness() as harness:
            worker = harness.start_worker(filters=broken)
            await harness.publish("a", "b", "c")
            await wait_until_async(
                lambda: harness.committed("group", CHANNEL) == 3, what="no event passes"
            )
            (line,) = [line for line in lines if line["event"] == "filter_failed"]
            assert "missingFunction" == line["error_kind"]
            assert "UPPR" in line["error"]
            worker.apply(subscription(generation=2, filters=broken))
            await harness.publish("d")
            await wait_until_async(
                lambda: harness.committed("group", CHANNEL) == 4, what="neither does this one"
            )
            assert ["missingFunction"] * 2 == [
                line["error_kind"] for line in lines if line["event"] == "filter_failed"
            ]
        assert 0 == harness.requests(SUBSCRIBER)


async def test_a_filter_over_its_budget_is_logged_and_counted_and_blocks_nothing() -> None:
    """A filter of 5 kB that is within all limits is applied to an event with one long attribute.
    The result is no match, one count and one log line.
    """
    hostile = ({"cesql": " OR ".join(["subject LIKE '%a_b%'"] * 230)},)
    with capture_logs() as lines:
        async with dispatcher_harness() as harness:
            worker = harness.start_worker(filters=hostile)
            long = [
                Record(None, b"{}", record_headers(id=b"%d" % number, subject=b"a" * 8_192))
                for number in range(20)
            ]
            begun = time.thread_time()
            await harness.store(CHANNEL, *long)
            await harness.publish("short")
            await wait_until_async(
                lambda: harness.committed("group", CHANNEL) == 21, what="no event passes"
            )
            assert 1.0 > time.thread_time() - begun
            assert 21 == worker.metrics.filtered.value
            assert (
                20
                == harness.context.metrics.events.filter_errors.labels(
                    "", "default", "small", "budget"
                ).value
            )
        (line,) = [
            line
            for line in lines
            if line["event"] == "filter_failed" and line["error_kind"] == "budget"
        ]
        assert "4000000 steps" in line["error"]
        assert 0 == harness.requests(SUBSCRIBER)


async def test_a_rejected_dead_letter_without_room_for_the_answer_is_done() -> None:
    """It remains in its topic and is counted. The dead letter after it is posted."""
    async with dispatcher_harness(limits=SubscriptionLimits(retry_records_max=1)) as harness:
        harness.sender.script(SINK, Outcome(status=400), Outcome(status=202))
        await harness.store(DEAD, DEAD_LETTER, DEAD_LETTER)
        harness.log.refuse(DEAD, RecordTooLarge(2, 1))
        worker = harness.start_worker(dead_letter_sink=TO_SINK)
        await wait_until_async(
            lambda: harness.committed(RETRY, DEAD) == 2, timeout=3.0, what="both letters are done"
        )
        assert (1, 1, 2) == (
            worker.metrics.sink_rejected.value,
            worker.metrics.sink_stored.value,
            len(harness.records(DEAD)),
        )


async def test_a_rejection_that_cannot_be_stored_is_stored_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dead letter is not done before that, and is not posted again."""
    monkeypatch.setattr(retrying_log, "PERMANENT_ERROR_SECONDS", 0.05)
    async with dispatcher_harness() as harness:
        harness.sender.script(SINK, Outcome(status=400))
        await harness.store(DEAD, DEAD_LETTER)
        harness.log.refuse(DEAD, WriteRefused("not authorized"))
        worker = harness.start_worker(dead_letter_sink=TO_SINK)
        await wait_until_async(
            lambda: bool(worker.health.stuck), what="the rejection cannot be stored"
        )
        assert 0 == harness.committed(RETRY, DEAD)
        harness.log.refuse(DEAD, None)
        await wait_until_async(
            lambda: harness.committed(RETRY, DEAD) == 2,
            timeout=3.0,
            what="letter and copy are done",
        )
        assert [False, True] == [
            delivery_state.is_rejected(record.headers) for record in harness.records(DEAD)
        ]
        assert 1 == harness.requests(SINK)


async def test_dead_letters_wait_while_the_egress_policy_denies_the_sink() -> None:
    """The denial says nothing about the dead letter, so it is neither done nor stored again."""
    async with dispatcher_harness() as harness:
        harness.sender.script(SINK, Outcome(failure=Failure.REFUSED))
        await harness.store(DEAD, DEAD_LETTER)
        worker = harness.start_worker(dead_letter_sink=TO_SINK)
        await wait_until_async(
            lambda: worker.metrics.sink_failed.value == 1, what="an attempt is made"
        )
        assert (0, 1) == (harness.committed(RETRY, DEAD), len(harness.records(DEAD)))
