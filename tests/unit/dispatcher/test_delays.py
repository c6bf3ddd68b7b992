"""The delay reader: records of one subscription must not delay the records of another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.record import Record
from headrace.domain.routing import Delays, DelayTier, Subscription
from headrace_dispatcher.broker_clock import SENT_MAX, BrokerClock
from headrace_dispatcher.delays import DelayReader
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    DEAD,
    RETRY,
    DispatcherHarness,
    dispatcher_harness,
    retry_headers,
    subscription,
)

DELAY, GROUP = "delay.1s", "delays"


@dataclass
class Delayed:
    """A delay topic of one second, with its reader."""

    harness: DispatcherHarness
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    moved: list[tuple[str, DelayTier | None]] = field(default_factory=list)
    """Uids, and the tiers that their records are in now."""

    def __post_init__(self) -> None:
        self.harness.log.create(DELAY)
        delays = Delays(
            generation=1, epoch=1, group=GROUP, tiers=(DelayTier(seconds=1, topic=DELAY),)
        )
        self.reader = DelayReader(
            retrying_log=self.harness.context.retrying_log,
            feeds=self.harness.feeds,
            clock=self.harness.clock,
            delays=lambda _: delays,
            all_delays=lambda: [delays],
            subscription=self.subscriptions.get,
            on_moved=lambda uid, tier: self.moved.append((uid, tier)),
        )

    def subscribe(self, **changes: Any) -> None:
        subscribed = subscription(**changes)
        self.subscriptions[subscribed.uid] = subscribed

    async def delay(self, count: int = 1, **changes: Any) -> None:
        """Store records that have waited long enough by the clock of the reader."""
        await self.harness.store(
            DELAY, *[Record(None, b"{}", retry_headers(**changes)) for _ in range(count)]
        )


@asynccontextmanager
async def delayed() -> AsyncIterator[Delayed]:
    """A delay topic whose reader is stopped at the end."""
    async with dispatcher_harness() as harness:
        harness.clock.ahead = 5.0
        delayed = Delayed(harness)
        try:
            yield delayed
        finally:
            harness.feeds.drain_seconds = 0.0
            await delayed.reader.stop()


async def test_a_retry_topic_that_is_missing_holds_up_no_other_subscription() -> None:
    """The topic starts with more of its records than the reader may hold. The record of the other
    subscription still arrives.
    """
    async with delayed() as each:
        each.subscribe()
        each.subscribe(uid="lost", retry_topic="lost.retry")
        await each.delay(300, subscription="lost")
        await each.delay(1)
        each.reader.start()
        await wait_until_async(
            lambda: each.moved.count(("uid", None)) == 1,
            timeout=3.0,
            what="the other's record is moved",
        )
        assert 1 == len(each.harness.records(RETRY))


async def test_what_could_not_be_moved_is_moved_when_its_topic_is_back() -> None:
    """A record waits for one more round in its delay topic, and is not held in memory meanwhile."""
    async with delayed() as each:
        each.subscribe()
        each.harness.log.delete(RETRY)
        await each.delay(3)
        each.reader.start()
        await wait_until_async(
            lambda: each.harness.committed(GROUP, DELAY) >= 3, what="the records are put back"
        )
        each.harness.log.create(RETRY)
        await wait_until_async(
            lambda: len(each.harness.records(RETRY)) == 3, what="the records are moved"
        )
        assert 3 == len(each.moved)


async def test_records_of_a_subscription_deleted_meanwhile_become_dead_letters() -> None:
    """Its retry topic is gone at the first attempt, and its routing record before the second."""
    async with delayed() as each:
        each.subscribe()
        each.harness.log.delete(RETRY)
        await each.delay()
        each.reader.start()
        await wait_until_async(
            lambda: each.harness.committed(GROUP, DELAY) >= 1, what="the record is put back"
        )
        each.subscriptions.clear()
        await wait_until_async(
            lambda: len(each.harness.records(DEAD)) == 1, what="the record is a dead letter"
        )


async def test_a_clock_ahead_of_the_brokers_does_not_make_the_reader_turn_without_rest() -> None:
    """A record that is appended again waits for the duration of its tier by the broker's clock,
    from its first return on.
    """
    async with delayed() as each:
        each.subscribe()
        await each.delay(due_ms=int(each.harness.clock.now() * 1000) + 60_000)
        each.reader.start()
        rounds = each.harness.records(DELAY)
        await wait_until_async(lambda: len(rounds) >= 3, what="it goes round a second time")
        assert rounds[2].timestamp_ms - rounds[1].timestamp_ms >= 990


async def test_a_clock_ahead_of_the_brokers_appends_again_once_per_tier() -> None:
    """A missing topic is tried once per round, not once per iteration of the loop."""
    async with delayed() as each:
        each.subscribe()
        each.harness.log.delete(RETRY)
        await each.delay()
        each.reader.start()
        rounds = each.harness.records(DELAY)
        await wait_until_async(lambda: len(rounds) >= 3, what="it is put back a second time")
        assert rounds[2].timestamp_ms - rounds[1].timestamp_ms >= 990


def test_the_brokers_clock_is_read_from_records_that_come_back() -> None:
    """Until a record has come back, the local clock is used. If the broker's clock is set forward,
    the estimate follows.
    """
    own = MemoryClock(now=1000.0)
    clock = BrokerClock(own)
    clock.read(900.0)
    clock.returned("never/0/0", 1, 900.0)
    assert 1000.0 == clock.now()
    clock.sent("a/0/0", 1)
    own.advance(2.0)
    clock.returned("a/0/0", 1, 400.0)
    assert (402.0, False) == (clock.now(), clock.expects)
    own.advance(10.0)
    assert 412.0 == clock.now()
    clock.read(500.0)
    assert 500.0 == clock.now()
    clock.read(5000.0)
    assert own.now() == clock.now()


def test_no_more_than_a_thousand_records_on_their_way_are_remembered() -> None:
    """The oldest record is forgotten first."""
    own = MemoryClock(now=1000.0)
    clock = BrokerClock(own)
    for number in range(SENT_MAX + 1):
        clock.sent(f"a/0/{number}", 1)
    clock.returned("a/0/0", 1, 100.0)
    assert 1000.0 == clock.now()
    clock.returned("a/0/1", 1, 100.0)
    assert 100.0 == clock.now()


@pytest.mark.parametrize(
    "headers",
    [
        (),
        retry_headers(dead_topic="", subscription="gone"),
        retry_headers(dead_topic="a\0b", subscription="gone"),
    ],
)
async def test_a_foreign_record_holds_up_nothing(headers: list[tuple[str, bytes]]) -> None:
    """No other client should write to this topic. Foreign records are skipped, with an error in the
    log.
    """
    async with delayed() as each:
        each.subscribe()
        await each.harness.store(
            DELAY, Record(None, b"garbage", headers), Record(None, b"garbage", record_headers())
        )
        await each.delay()
        each.reader.start()
        await wait_until_async(
            lambda: each.harness.committed(GROUP, DELAY) == 3, what="all three are done"
        )
        assert [("uid", None)] == each.moved
