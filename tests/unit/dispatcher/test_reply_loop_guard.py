"""Replies that form a loop are slowed down, counted and shown with the members of the loop, and are
never lost.
"""

import pytest

from headrace.codec import delivery_state
from headrace.domain.delivery import Outcome
from headrace.domain.record import Record
from headrace.domain.reply_loops import extend
from headrace.domain.routing import DeliveryOrder, Reply
from headrace_dispatcher.limits import RECENT_SECONDS, SubscriptionLimits
from tests.support.event_builders import http_headers, record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import CHANNEL, DEAD, RETRY, SUBSCRIBER, dispatcher_harness

REPLIES = Outcome(status=200, headers=http_headers(), body=b"{}")
ANSWERS = "answers"


def in_chain(hops: int, *uids: str) -> Record:
    """Return an event after this number of replies, the newest of which came from these
    subscriptions.
    """
    chain = ""
    for uid in uids:
        chain = extend(chain, uid)
    return Record(
        None,
        b"{}",
        record_headers((delivery_state.HOPS, b"%d" % hops), (delivery_state.CHAIN, chain.encode())),
    )


async def test_a_reply_names_its_chain() -> None:
    """The chain has one more member, also after the event has been retried."""
    async with dispatcher_harness() as harness:
        harness.log.create(ANSWERS)
        harness.start_worker(reply=Reply(topic=ANSWERS))
        harness.sender.script(SUBSCRIBER, Outcome(status=503), REPLIES)
        await harness.store(CHANNEL, in_chain(2, "first", "second"))
        await wait_until_async(lambda: harness.records(ANSWERS), what="the reply is stored")
        found = dict(harness.records(ANSWERS)[0].headers)
        assert (b"3", b"first,second,uid") == (
            found[delivery_state.HOPS],
            found[delivery_state.CHAIN],
        )


@pytest.mark.parametrize("order", list(DeliveryOrder))
async def test_replies_of_a_loop_are_let_through_at_a_rate(order: DeliveryOrder) -> None:
    """The first replies are stored immediately, the others one after the other. Nothing is lost,
    and the loop is shown with its members.
    """
    async with dispatcher_harness(
        limits=SubscriptionLimits(loop_replies_per_second=20.0)
    ) as harness:
        harness.log.create(ANSWERS)
        worker = harness.start_worker(reply=Reply(topic=ANSWERS), order=order)
        harness.sender.script(SUBSCRIBER, REPLIES)
        await harness.store(CHANNEL, *[in_chain(8, "uid", "other") for _ in range(8)])
        started = harness.clock.monotonic()
        await wait_until_async(
            lambda: len(harness.records(ANSWERS)) == 8, what="all replies are stored"
        )
        assert harness.clock.monotonic() - started > 7 / 20 * 0.8
        assert (8, 7) == (worker.metrics.long_chains.value, worker.metrics.loop_held.value)
        assert 8 == harness.requests(SUBSCRIBER)
        assert "in a circle through other, uid" in worker.report().loop
        harness.clock.ahead += RECENT_SECONDS
        assert "" == worker.report().loop
        assert [] == harness.records(DEAD)


@pytest.mark.parametrize(
    "record",
    [in_chain(7, "uid", "other"), in_chain(20, "a", "b", "c"), in_chain(0)],
    ids=["short", "long, no circle", "from outside"],
)
async def test_other_replies_are_not_slowed_down(record: Record) -> None:
    """A chain may be long, and a subscription may occur twice in a short one."""
    async with dispatcher_harness(
        limits=SubscriptionLimits(loop_replies_per_second=0.1)
    ) as harness:
        harness.log.create(ANSWERS)
        worker = harness.start_worker(reply=Reply(topic=ANSWERS))
        harness.sender.script(SUBSCRIBER, REPLIES)
        await harness.store(CHANNEL, *[record] * 5)
        await wait_until_async(
            lambda: len(harness.records(ANSWERS)) == 5, what="all replies are stored"
        )
        assert 0 == worker.metrics.loop_held.value
        assert "" == worker.report().loop


async def test_what_would_have_to_wait_too_long_is_a_dead_letter() -> None:
    """Otherwise a loop that nobody stops would fill the delay topics."""
    async with dispatcher_harness(
        limits=SubscriptionLimits(loop_replies_per_second=1 / 3000)
    ) as harness:
        harness.log.create(ANSWERS)
        harness.start_worker(reply=Reply(topic=ANSWERS))
        harness.sender.script(SUBSCRIBER, REPLIES)
        await harness.store(CHANNEL, *[in_chain(8, "uid") for _ in range(5)])
        await wait_until_async(
            lambda: len(harness.records(DEAD)) == 3, what="three are dead letters"
        )
        assert (1, 1) == (len(harness.records(ANSWERS)), len(harness.records(RETRY)))
        assert all(
            dict(each.headers)["headrace_reason"].startswith(b"reply-loop: ")
            for each in harness.records(DEAD)
        )
