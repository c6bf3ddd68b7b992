"""A subscription whose worker cannot start is reported, counted, not ready and restarted, while the
others continue.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.adapters.memory.feeds import MemoryFeeds
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.sender import MemorySender
from headrace.domain.backoff import Backoff
from headrace.domain.feed import FeedAlarm, FeedConfig
from headrace.domain.record import Partition, Record
from headrace.domain.routing import DeliveryOrder, Destination
from headrace.runtime.metrics import Metrics
from headrace_dispatcher import supervisor
from headrace_dispatcher.dispatcher import Dispatcher
from headrace_dispatcher.limits import SubscriptionLimits
from headrace_dispatcher.poison_tracker import PoisonTracker
from tests.support.dispatcher_harness import OwnRoutes, SilentInstances
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    DEAD,
    RETRY,
    OffsetClock,
    retry_headers,
    subscription,
)

OTHER = "http://other.test/"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delay before a failed worker is restarted."""
    monkeypatch.setattr(supervisor, "BACKOFF", Backoff((0.02, 0.05, 0.1)))


@dataclass
class FailingFeeds(MemoryFeeds):
    """Feeds that cannot be opened for the topics in `broken`."""

    broken: set[str] = field(default_factory=set)

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> MemoryFeed:
        """Open a feed, or raise an error."""
        if self.broken.intersection(config.topics):
            raise RuntimeError("can't start new thread")
        return super().open(config, alarm)


@dataclass
class MemoryDispatcher:
    """A dispatcher on the in-memory adapters."""

    log: MemoryLog
    feeds: FailingFeeds
    sender: MemorySender
    routes: OwnRoutes
    metrics: Metrics
    clock: OffsetClock
    dispatcher: Dispatcher

    def sent(self, url: str) -> int:
        """Return the number of requests to this URL."""
        return sum(each.url == url for each in self.sender.sent)

    def failures(self, name: str) -> float:
        """Return the value of the metric."""
        labels = f'kind="",name="{name}",namespace="default"'
        line = f"headrace_subscription_failures_total{{{labels}}} "
        found = [
            each for each in self.metrics.expose()[0].decode().splitlines() if each.startswith(line)
        ]
        return float(found[0].removeprefix(line)) if found else 0.0


@asynccontextmanager
async def memory_dispatcher() -> AsyncIterator[MemoryDispatcher]:
    """A dispatcher that the test starts."""
    log, sender, routes, metrics = MemoryLog(), MemorySender(), OwnRoutes(), Metrics(process=False)
    clock = OffsetClock()
    for topic in (CHANNEL, RETRY, DEAD, "other", "other.retry", "other.dead"):
        log.create(topic)
    feeds = FailingFeeds(MemoryGroups(log), 0.5)
    for group, topic in (("group", CHANNEL), ("other", "other")):
        feeds.groups.commit(group, Partition(topic, 0), offset=0)
    dispatcher = Dispatcher(
        instance_id="test",
        log=log,
        feeds=feeds,
        sender=sender,
        routes=routes,
        instances=SilentInstances(),
        clock=clock,
        jitter=lambda: 0.0,
        limits=SubscriptionLimits(),
        metrics=metrics,
    )
    try:
        yield MemoryDispatcher(log, feeds, sender, routes, metrics, clock, dispatcher)
    finally:
        feeds.broken.clear()
        await dispatcher.stop()
        await log.stop()


OTHER_ROUTE = subscription(
    uid="other",
    name="other",
    topic="other",
    group="other",
    retry_topic="other.retry",
    dead_topic="other.dead",
    subscriber=Destination(url=OTHER),
)


async def test_a_worker_that_fails_to_start_is_reported_and_restarted_and_blocks_no_other() -> None:
    """The failure occurs at the start of the process. The other subscription is served meanwhile,
    and readiness reports why this one is not.
    """
    async with memory_dispatcher() as each:
        each.routes.put(subscription())
        each.routes.put(OTHER_ROUTE)
        each.feeds.broken.add(CHANNEL)
        each.log.append(CHANNEL, Record(None, b"{}", record_headers()), lambda _: None)
        each.log.append("other", Record(None, b"{}", record_headers()), lambda _: None)
        await each.dispatcher.start()
        await wait_until_async(lambda: each.sent(OTHER) == 1, what="the other one is served")
        await wait_until_async(lambda: each.failures("small") >= 2, what="it is tried again")
        assert "default/small (can't start new thread)" in (each.dispatcher.not_ready() or "")
        each.feeds.broken.clear()
        await wait_until_async(
            lambda: each.sent(subscription().subscriber.url) == 1, what="it is served"
        )
        await wait_until_async(
            lambda: each.dispatcher.not_ready() is None, what="the process is ready"
        )


async def test_the_log_names_the_subscription_of_a_failed_worker() -> None:
    """By kind, namespace and name, also when its record has been removed meanwhile."""
    async with memory_dispatcher() as each:
        each.feeds.broken.add(CHANNEL)
        await each.dispatcher.start()
        with capture_logs() as logs:
            each.routes.put(subscription(kind="Trigger"))
            each.routes.remove(subscription(kind="Trigger"))
            await wait_until_async(
                lambda: each.dispatcher.not_ready() is None, what="it is forgotten"
            )
    events = {entry["event"]: entry for entry in logs}
    for name in ("worker_failed", "worker_recovered"):
        found = {key: events[name][key] for key in ("kind", "namespace", "name")}
        assert {"kind": "Trigger", "namespace": "default", "name": "small"} == found


async def test_a_subscription_that_has_ended_leaves_nothing_with_the_poison_tracker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its lanes are forgotten when it has drained."""
    forgotten: list[str] = []
    monkeypatch.setattr(PoisonTracker, "forget", lambda _, uid: forgotten.append(uid))
    async with memory_dispatcher() as each:
        for route in (subscription(), OTHER_ROUTE):
            each.routes.put(route)
        await each.dispatcher.start()
        each.routes.remove(OTHER_ROUTE)
        await wait_until_async(lambda: forgotten, what="it has drained")
        assert ["other"] == forgotten


async def test_a_worker_that_fails_to_change_is_restarted_with_its_newest_record() -> None:
    """The change closes its feed, which cannot be opened again. Without the restart, nothing would
    notice this.
    """
    async with memory_dispatcher() as each:
        each.routes.put(subscription())
        await each.dispatcher.start()
        each.feeds.broken.add(CHANNEL)
        each.routes.put(subscription(generation=2, order=DeliveryOrder.ORDERED))
        await wait_until_async(
            lambda: each.dispatcher.not_ready() is not None, what="it has failed"
        )
        each.routes.put(
            subscription(
                generation=3, order=DeliveryOrder.ORDERED, subscriber=Destination(url=OTHER)
            )
        )
        each.feeds.broken.clear()
        each.log.append(CHANNEL, Record(None, b"{}", record_headers()), lambda _: None)
        await wait_until_async(
            lambda: each.sent(OTHER) == 1, what="it is served by its newest record"
        )
        await wait_until_async(
            lambda: each.dispatcher.not_ready() is None, what="the process is ready"
        )


async def test_a_retry_feed_that_cannot_be_opened_is_opened_later() -> None:
    """The error does not reach the caller that reports a stored retry record."""
    async with memory_dispatcher() as each:
        each.routes.put(subscription())
        await each.dispatcher.start()
        each.feeds.broken.add(RETRY)
        each.log.append(RETRY, Record(None, b"{}", retry_headers()), lambda _: None)
        each.dispatcher.workers["subscription/uid"].on_retry_stored()
        assert each.dispatcher.not_ready() is not None
        each.feeds.broken.clear()
        await wait_until_async(
            lambda: each.dispatcher.not_ready() is None, what="it is begun again"
        )
        each.dispatcher.workers["subscription/uid"].on_retry_stored()
        await wait_until_async(
            lambda: each.sent(subscription().subscriber.url) == 1, what="the retry is delivered"
        )


async def test_a_failed_worker_whose_record_is_removed_is_forgotten() -> None:
    """Nothing has to become ready for it any longer."""
    async with memory_dispatcher() as each:
        each.feeds.broken.add(CHANNEL)
        await each.dispatcher.start()
        each.routes.put(subscription())
        assert each.dispatcher.not_ready() is not None
        each.routes.remove(subscription())
        await wait_until_async(lambda: each.dispatcher.not_ready() is None, what="it is forgotten")
        assert {} == each.dispatcher.workers


async def test_a_start_that_fails_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for any error. A process that reports "still starting" forever would be
    useless.
    """
    monkeypatch.setattr("headrace.runtime.retry.RETRY_SECONDS", 0.01)
    async with memory_dispatcher() as each:
        failing = [RuntimeError("a mistake")]

        async def prepare() -> None:
            if failing:
                raise failing.pop()

        monkeypatch.setattr(each.feeds, "prepare", prepare)
        await each.dispatcher.start()
        assert each.dispatcher.not_ready() is None
