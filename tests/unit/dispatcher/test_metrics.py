"""What a dispatcher shows on the metrics page: what its HTTP client counts, and the state of each
subscription.
"""

import asyncio
from dataclasses import replace

import pytest

from headrace.adapters.http.client_options import ClientCounts
from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.feed import MemoryGroups
from headrace.adapters.memory.feeds import MemoryFeeds
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.routing import MemoryRoutingLog, MemoryRoutingReader
from headrace.domain.delivery import DeliveryPolicy, Failure, Outcome
from headrace.domain.egress import EgressPolicy
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.record import Record
from headrace.domain.routing import Delays, DelayTier, Destination
from headrace.runtime.metrics import Metrics
from headrace.runtime.service import Service
from headrace.runtime.tasks import end_task
from headrace_dispatcher.app import DispatcherBackends, compose
from headrace_dispatcher.dead_letter_count import DeadLetterCount
from headrace_dispatcher.metrics import measure_client, tier_label
from headrace_dispatcher.settings import DispatcherSettings
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import DEAD, SINK, SUBSCRIBER, dispatcher_harness

NAMES = (
    "headrace_dispatcher_connections_opened_total",
    "headrace_dispatcher_connections_failed_total",
    "headrace_dispatcher_stale_connection_retries_total",
    "headrace_dispatcher_request_timeouts_total",
    "headrace_dispatcher_unexpected_responses_total",
)


def _samples(metrics: Metrics) -> list[str]:
    """The samples with these names, in their order."""
    lines = metrics.expose()[0].decode().splitlines()
    return [line for name in NAMES for line in lines if line.startswith(f"{name} ")]


def test_each_count_of_the_client_is_exported() -> None:
    """Under its own name; a second scrape shows what was counted since."""
    metrics, counts = Metrics(process=False), ClientCounts(1, 2, 3, 4, 5)
    measure_client(metrics, counts)
    assert [f"{name} {value}.0" for value, name in enumerate(NAMES, 1)] == _samples(metrics)
    counts.timeouts += 1
    values = (1, 2, 3, 5, 5)
    assert [f"{name} {value}.0" for name, value in zip(NAMES, values, strict=True)] == _samples(
        metrics
    )


async def test_a_composed_dispatcher_exports_the_counts() -> None:
    """From 0, so that the first increase is seen."""
    metrics, log = Metrics(process=False), MemoryLog()
    backends = DispatcherBackends(
        log=log,
        feeds=MemoryFeeds(MemoryGroups(log)),
        routes=MemoryRoutingReader(MemoryRoutingLog()),
        instances=MemoryInstances(MemoryClock()),
    )
    service = Service("dispatcher", drain_seconds=1.0, stop_seconds=1.0)
    compose(service, DispatcherSettings(), backends, metrics, EgressPolicy())
    assert [f"{name} 0.0" for name in NAMES] == _samples(metrics)
    await log.stop()


async def test_the_duration_of_each_attempt_is_observed() -> None:
    """Attempts that failed too, and those of the retry lane; requests to the sink are not
    attempts.
    """
    async with dispatcher_harness() as harness:
        policy = DeliveryPolicy(retry=1, delay_seconds=0.001)
        harness.start_worker(dead_letter_sink=Destination(url=SINK), delivery=policy)
        harness.sender.script(SUBSCRIBER, *[Outcome(failure=Failure.TIMEOUT)] * 2)
        await harness.publish("a")
        await wait_until_async(lambda: harness.requests(SINK) == 1, what="the sink is called")
        assert 2.0 == harness.metric("headrace_attempt_seconds_count")
        assert 2.0 == harness.metric('headrace_attempts_total{outcome="timeout"}')


async def test_retries_are_counted_by_how_long_they_wait() -> None:
    """A short wait is in the retry topic, a longer one in a delay topic."""
    delay = "delay-one-minute"
    tiers = (DelayTier(seconds=60, topic=delay),)
    delays = Delays(generation=1, epoch=1, group="delays", tiers=tiers)
    async with dispatcher_harness(delays=delays) as harness:
        harness.log.create(delay)
        harness.sender.script(SUBSCRIBER, *[Outcome(status=500)] * 2)
        worker = harness.start_worker(delivery=DeliveryPolicy(retry=3, delay_seconds=5.0))
        await harness.publish("a")
        scheduled = "headrace_retries_scheduled_total"
        await wait_until_async(
            lambda: harness.metric(scheduled + '{tier="0s"}') == 1.0, what="the short wait"
        )
        worker.apply(
            replace(worker.subscription, delivery=DeliveryPolicy(retry=3, delay_seconds=90.0))
        )
        await harness.publish("b")
        await wait_until_async(
            lambda: harness.metric(scheduled + '{tier="1m"}') == 1.0, what="the long wait"
        )
        worker.metrics.remove()
        assert "headrace_retries_scheduled_total{" not in harness.metrics.expose()[0].decode()


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(None, "0s"), (10, "10s"), (60, "1m"), (90, "90s"), (600, "10m"), (3600, "1h")],
)
def test_a_tier_is_labelled_with_its_duration(seconds: int | None, label: str) -> None:
    """In the largest unit that fits, as topics are named."""
    tier = None if seconds is None else DelayTier(seconds=seconds, topic="t")
    assert label == tier_label(tier)


async def test_partitions_and_the_rebalances_that_take_them_are_shown() -> None:
    """A revocation and a loss count; an assignment only shows in the number of partitions."""
    async with dispatcher_harness(drain_seconds=0.02) as harness:
        harness.start_worker()
        await harness.publish("a")
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) == 1, what="it is delivered")
        assert 1.0 == harness.metric("headrace_partitions_assigned")
        assert 0.0 == harness.metric("headrace_rebalances_total")
        feed = harness.feeds.feeds[0]
        feed.revoke(feed.partitions())
        await wait_until_async(
            lambda: harness.metric("headrace_rebalances_total") == 1.0, what="the revocation"
        )


async def test_the_limit_of_concurrent_requests_is_shown() -> None:
    """From the start; it grows with traffic."""
    async with dispatcher_harness() as harness:
        harness.start_worker()
        floor = harness.context.limits.concurrency_floor
        assert floor == harness.metric("headrace_concurrency_limit")


async def test_alarms_of_readers_are_counted_by_kind() -> None:
    """So that an alert does not need the log."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        alarm = FeedAlarm(kind=AlarmKind.COMMIT_FAILED, group="group", detail="refused")
        worker.health.on_feed_alarm(alarm)
        assert 1.0 == harness.metric('headrace_feed_alarms_total{alarm="commit-failed"}')


async def test_dead_letters_that_no_sink_has_taken_are_counted() -> None:
    """Those from before the process started too. An outage leaves the last count."""
    async with dispatcher_harness() as harness:
        harness.start_worker()
        await harness.store(DEAD, *[Record(None, b"{}", record_headers())] * 3)
        count = DeadLetterCount(harness.feeds, lambda: harness.workers, every_seconds=0.001)
        assert -1.0 == harness.metric("headrace_dead_letters_waiting")
        counting = asyncio.create_task(count.run())
        try:
            waiting = "headrace_dead_letters_waiting"
            await wait_until_async(lambda: harness.metric(waiting) == 3.0, what="the count")
            harness.feeds.backlog_error = LogUnavailable("no broker")
            await harness.store(DEAD, Record(None, b"{}", record_headers()))
            await wait_until_async(lambda: harness.feeds.backlogs_failed > 1, what="an outage")
            assert 3.0 == harness.metric(waiting)
            harness.feeds.backlog_error = None
            await wait_until_async(lambda: harness.metric(waiting) == 4.0, what="a new count")
        finally:
            await end_task(counting)
