"""A dispatcher on a real Kafka for tests: topics, start offsets, its own routing table, and no
controller.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.adapters.http.client import HttpSender
from headrace.adapters.kafka.feeds_with_backlog import FeedsWithBacklog
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.domain.delivery import DeliveryPolicy
from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Instance
from headrace.domain.record import Record, StoredRecord
from headrace.domain.routing import (
    Delays,
    DelayTier,
    Destination,
    Route,
    RoutingTable,
    Subscription,
    route_key,
)
from headrace.runtime.metrics import Metrics
from headrace_dispatcher.dispatcher import Dispatcher
from headrace_dispatcher.limits import SubscriptionLimits
from tests.support.event_builders import record_headers
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until, wait_until_async


class WallClock:
    """The system clock."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()


@dataclass
class OwnRoutes:
    """A routing table reader that the test itself writes to."""

    table: RoutingTable = field(default_factory=RoutingTable)
    watchers: list[Callable[[Collection[str]], None]] = field(default_factory=list)

    async def start(self) -> None:
        """Does nothing."""

    async def stop(self) -> None:
        """Does nothing."""

    async def refresh(self, timeout_seconds: float) -> bool:
        """Always current."""
        return True

    def watch(self, changed: Callable[[Collection[str]], None]) -> None:
        """See the port."""
        self.watchers.append(changed)

    def put(self, route: Route) -> None:
        """Write a routing record."""
        self._apply(route_key(route), route)

    def remove(self, route: Route) -> None:
        """Write a tombstone."""
        self._apply(route_key(route), None)

    def _apply(self, key: str, route: Route | None) -> None:
        self.table.position += 1
        self.table.apply(key, route)
        for changed in self.watchers:
            changed([key])


class SilentInstances:
    """Reports are not published; the last one is kept."""

    def __init__(self) -> None:
        self.last: Instance | None = None

    async def report(self, instance: Instance) -> None:
        """See the port."""
        self.last = instance

    async def deregister(self, instance_id: str) -> None:
        """See the port."""

    def live(self) -> Sequence[Instance]:
        """See the port."""
        return [self.last] if self.last else []


@dataclass
class KafkaDispatcherHarness:
    """What a test works with."""

    kafka: KafkaUnderTest
    log: KafkaLog
    routes: OwnRoutes
    instances: SilentInstances
    limits: SubscriptionLimits
    protocol: GroupProtocol
    dispatchers: list[Dispatcher] = field(default_factory=list)
    feeds: list[FeedsWithBacklog] = field(default_factory=list)
    metrics: list[Metrics] = field(default_factory=list)

    async def dispatcher(self, *, instance: str | None = None) -> Dispatcher:
        """Start another dispatcher."""
        options = KafkaOptions(
            bootstrap_servers=self.kafka.bootstrap_servers, group_protocol=self.protocol
        )
        metrics = Metrics(process=False)
        feeds = FeedsWithBacklog(options, instance=instance, fetch_wait_ms=50)
        self.feeds.append(feeds)
        dispatcher = Dispatcher(
            instance_id=f"test-{uuid.uuid4().hex[:6]}",
            log=self.log,
            feeds=feeds,
            sender=HttpSender(),
            routes=self.routes,
            instances=self.instances,
            clock=WallClock(),
            jitter=lambda: 0.0,
            limits=self.limits,
            metrics=metrics,
        )
        await dispatcher.start()
        self.dispatchers.append(dispatcher)
        self.metrics.append(metrics)
        return dispatcher

    def subscription(
        self, url: str, *, topic: str | None = None, partitions: int = 1, **changes: Any
    ) -> Subscription:
        """Create a subscription's topics and start offsets; `routes.put` writes it to the routing
        table.
        """
        topic = topic or self.kafka.create_topic("channel", partitions=partitions)
        uid = uuid.uuid4().hex[:12]
        subscription = Subscription(
            **{
                "uid": uid,
                "generation": 1,
                "epoch": 1,
                "namespace": "default",
                "name": f"t-{uid}",
                "topic": topic,
                "group": f"group-{uid}",
                "retry_topic": self.kafka.create_topic(f"{uid}.retry"),
                "dead_topic": self.kafka.create_topic(f"{uid}.dead"),
                "subscriber": Destination(url=url),
                "delivery": DeliveryPolicy(retry=3, delay_seconds=0.05, timeout_seconds=5.0),
                **changes,
            }
        )
        self._commit_start(subscription, partitions)
        return subscription

    def _commit_start(self, subscription: Subscription, partitions: int) -> None:
        consumer = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": subscription.group}
        )
        starts = [TopicPartition(subscription.topic, number, 0) for number in range(partitions)]

        def commit() -> bool:
            try:
                consumer.commit(offsets=starts, asynchronous=False)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.COORDINATOR_LOAD_IN_PROGRESS:
                    raise
                return False
            return True

        wait_until(commit, 15.0, "the coordinator of a Kafka that has just started")
        consumer.close()

    def delays(self, *seconds: int) -> Delays:
        """Create delay tiers of these lengths, with their topics."""
        config = {"message.timestamp.type": "LogAppendTime"}
        tiers = tuple(
            DelayTier(
                seconds=each,
                topic=self.kafka.create_topic(f"delay-{each}", partitions=2, config=config),
            )
            for each in seconds
        )
        return Delays(generation=1, epoch=1, group=f"delays-{uuid.uuid4().hex[:8]}", tiers=tiers)

    async def publish(
        self,
        topic: str,
        *ids: str,
        key: bytes | None = None,
        value: bytes = b"{}",
        **attributes: bytes,
    ) -> None:
        """Store events with these ids."""
        open_records = len(ids)
        failed: list[HeadraceError] = []

        def stored(error: HeadraceError | None) -> None:
            nonlocal open_records
            open_records -= 1
            if error:
                failed.append(error)

        for each in ids:
            self.log.append(
                topic, Record(key, value, record_headers(id=each.encode(), **attributes)), stored
            )
        await wait_until_async(lambda: not open_records, what=f"{len(ids)} events are stored")
        assert not failed, failed

    async def read(self, topic: str, count: int, *, timeout: float = 10.0) -> list[StoredRecord]:
        """The first records of a topic with one partition."""
        return await asyncio.get_running_loop().run_in_executor(
            None, self._read, topic, count, timeout
        )

    def _read(self, topic: str, count: int, timeout: float) -> list[StoredRecord]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka.bootstrap_servers,
                "group.id": "reader",
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[StoredRecord] = []
        deadline = time.monotonic() + timeout
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                headers: Any = message.headers() or []
                found.append(
                    StoredRecord(
                        topic,
                        0,
                        message.offset() or 0,
                        message.timestamp()[1],
                        message.key(),
                        message.value(),
                        headers,
                    )
                )
        consumer.close()
        return found

    def delete_records(self, topic: str, *, before: int) -> None:
        """Delete the records of partition 0 below this offset, as retention does."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers, "log_level": 0})
        (future,) = admin.delete_records([TopicPartition(topic, 0, before)]).values()
        future.result(10)

    def committed(self, subscription: Subscription, *, partitions: int = 1) -> list[int]:
        """Committed offsets of the live group."""
        consumer = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": subscription.group}
        )
        found = consumer.committed(
            [TopicPartition(subscription.topic, number) for number in range(partitions)], timeout=10
        )
        consumer.close()
        return [each.offset for each in found]


@asynccontextmanager
async def kafka_dispatcher_harness(
    kafka: KafkaUnderTest,
    *,
    limits: SubscriptionLimits | None = None,
    protocol: GroupProtocol = GroupProtocol.CLASSIC,
) -> AsyncIterator[KafkaDispatcherHarness]:
    """A `KafkaDispatcherHarness` whose dispatchers are stopped at the end."""
    log = KafkaLog(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    await log.start()
    system = KafkaDispatcherHarness(
        kafka, log, OwnRoutes(), SilentInstances(), limits or SubscriptionLimits(), protocol
    )
    try:
        yield system
    finally:
        for dispatcher in system.dispatchers:
            await dispatcher.stop()
        for feeds in system.feeds:
            await feeds.close()
        await log.stop()
