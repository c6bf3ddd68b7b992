"""One subscription with its worker on the in-memory adapters. The test controls log, groups, sender
and clock.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.adapters.memory.feeds import MemoryFeeds
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.sender import MemorySender
from headrace.codec import delivery_state
from headrace.codec.delivery_state import DeliveryState
from headrace.domain.delivery import DeliveryPolicy
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import Backlog, FeedAlarm, FeedConfig
from headrace.domain.record import Headers, Partition, Record, StoredRecord
from headrace.domain.routing import Delays, Destination, Subscription
from headrace.runtime.metrics import Metrics
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.limits import SubscriptionLimits
from headrace_dispatcher.metrics import DispatcherMetrics
from headrace_dispatcher.retrying_log import RetryingLog
from headrace_dispatcher.subscription_worker import SubscriptionWorker
from tests.support.event_builders import record_headers

CHANNEL, RETRY, DEAD = "channel", "group.retry", "group.dead"
SUBSCRIBER, SINK, REPLY = "http://subscriber.test/", "http://sink.test/", "http://reply.test/"


class OffsetClock:
    """A clock that shows the real time plus an offset that the test sets."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return time.time() + self.ahead

    def monotonic(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic() + self.ahead


@dataclass
class RecordingFeeds(MemoryFeeds):
    """Feeds that remember what was opened."""

    opened: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Group and topics of every opened feed, in that order."""
    feeds: list[MemoryFeed] = field(default_factory=list)
    backlog_error: HeadraceError | None = None
    """Raised by `backlog` while set."""
    backlogs_failed: int = 0

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """As `Feeds.backlog`."""
        if self.backlog_error is not None:
            self.backlogs_failed += 1
            raise self.backlog_error
        return await super().backlog(groups)

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> MemoryFeed:
        """As `Feeds.open`."""
        feed = super().open(config, alarm)
        self.opened.append((config.group, config.topics))
        self.feeds.append(feed)
        return feed


@dataclass
class DispatcherHarness:
    """The adapters and the worker of a test."""

    log: MemoryLog
    feeds: RecordingFeeds
    sender: MemorySender
    clock: OffsetClock
    context: DispatcherContext
    metrics: Metrics
    workers: list[SubscriptionWorker] = field(default_factory=list)

    def start_worker(self, **changes: Any) -> SubscriptionWorker:
        """Start the worker of a subscription, with fields changed by keyword, as if its dead letter
        topic had records.
        """
        worker = SubscriptionWorker(subscription(**changes), self.context)
        worker.start()
        worker.lanes.open_dead_letters()
        self.workers.append(worker)
        return worker

    async def store(self, topic: str, *records: Record) -> None:
        """Append these records and wait until they are stored."""
        failed: list[HeadraceError | None] = []
        for record in records:
            self.log.append(topic, record, failed.append)
        while len(failed) < len(records):
            await asyncio.sleep(0)
        assert not any(failed), failed

    async def publish(self, *ids: str) -> None:
        """Store events with these ids in the channel."""
        await self.store(
            CHANNEL, *(Record(None, b"{}", record_headers(id=each.encode())) for each in ids)
        )

    def records(self, topic: str) -> list[StoredRecord]:
        """Return the records in the first partition of a topic."""
        return self.log.topics[topic][0]

    def committed(self, group: str, topic: str) -> int:
        """Return the committed offset of the first partition, 0 if there is none."""
        found = {
            partition.topic: offset
            for partition, (offset, _) in self.feeds.groups.committed.get(group, {}).items()
        }
        return found.get(topic, 0)

    def metric(self, sample: str) -> float:
        """Return the value of a sample, with its labels other than those of the subscription, on
        the metrics page as it is now; -1.0 if it does not exist.
        """
        for worker in self.workers:
            worker.update_gauges()
        name, _, labels = sample.partition("{")
        for line in self.metrics.expose()[0].decode().splitlines():
            if line.startswith((name + "{", name + " ")) and labels.rstrip("}") in line:
                return float(line.rpartition(" ")[2])
        return -1.0

    def requests(self, url: str) -> int:
        """Return how many requests were sent to this URL."""
        return sum(each.url == url for each in self.sender.sent)


def subscription(**changes: Any) -> Subscription:
    """Return a subscription of the channel, with fields changed by keyword."""
    plain = Subscription(
        uid="uid",
        generation=1,
        epoch=1,
        namespace="default",
        name="small",
        topic=CHANNEL,
        group="group",
        retry_topic=RETRY,
        dead_topic=DEAD,
        subscriber=Destination(url=SUBSCRIBER),
        delivery=DeliveryPolicy(retry=2, delay_seconds=0.001),
    )
    return replace(plain, **changes)


def retry_headers(headers: Headers | None = None, **changes: Any) -> list[tuple[str, bytes]]:
    """Return the headers of a retry record of `subscription()`, due immediately."""
    state = DeliveryState(
        subscription="uid", origin="channel/0/0", attempt=1, first_failure_ms=1, dead_topic=DEAD
    )
    return delivery_state.write(
        record_headers() if headers is None else headers, replace(state, **changes)
    )


@asynccontextmanager
async def dispatcher_harness(
    *,
    limits: SubscriptionLimits | None = None,
    drain_seconds: float = 5.0,
    delays: Delays | None = None,
) -> AsyncIterator[DispatcherHarness]:
    """A harness whose workers are stopped at the end."""
    metrics = Metrics(process=False)
    log, clock, sender = MemoryLog(), OffsetClock(), MemorySender()
    for topic in (CHANNEL, RETRY, DEAD):
        log.create(topic)
    feeds = RecordingFeeds(MemoryGroups(log), drain_seconds)
    feeds.groups.commit("group", Partition(CHANNEL, 0), offset=0)
    retrying_log = RetryingLog(log)
    context = DispatcherContext(
        retrying_log=retrying_log,
        feeds=feeds,
        sender=sender,
        clock=clock,
        jitter=lambda: 0.0,
        delays=lambda _: delays,
        limits=limits or SubscriptionLimits(),
        metrics=DispatcherMetrics(metrics),
    )
    harness = DispatcherHarness(log, feeds, sender, clock, context, metrics)
    try:
        yield harness
    finally:
        feeds.drain_seconds = 0.0
        for worker in harness.workers:
            await worker.stop()
        retrying_log.close()
        await log.stop()
