"""JetStream on three servers: what is replicated, and the loss of a stream's leader."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from headrace.adapters.nats.admin import JetStreamTopicAdmin
from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.feeds import JetStreamFeeds
from headrace.adapters.nats.groups import MEMBERS, POSITIONS
from headrace.adapters.nats.log import JetStreamLog
from headrace.adapters.nats.names import durable_name, stream_name
from headrace.domain.errors import HeadraceError, LogFull, LogUnavailable
from headrace.domain.feed import FeedBounds, FeedConfig
from headrace.domain.record import Record
from headrace.domain.routing import Delays, Subscription
from headrace.resources.kinds import NATS_JETSTREAM_CHANNEL, SUBSCRIPTION
from headrace_controller.backend_by_name import create_backend
from headrace_controller.reconcile.observed_state import LOST_ANNOTATION
from tests.contract.feeds import RecordingListener
from tests.support.nats_cluster import NatsCluster
from tests.support.nats_server import NatsServer, new_topic, ready
from tests.support.wait_until import wait_until_async
from tests.unit.controller.harness import ControllerHarness
from tests.unit.controller.reconcile.test_backing_channels import of, reading, route

pytestmark = pytest.mark.timeout(240)
RATE_SECONDS = 0.005
ELECTION_SECONDS = 60.0
"""Two servers that vote for themselves at the same time begin again after 4 to 9 s, and each stream
and each consumer has an election of its own: measured up to 20 s.
"""
RESOURCES = ((NATS_JETSTREAM_CHANNEL, "orders"), (SUBSCRIPTION, "billing"))


async def started(cluster: NatsCluster, connection: NatsConnection, *names: str) -> None:
    """Start some of the servers and wait until JetStream answers."""
    for name in names:
        cluster.servers[name].start()
    await ready(connection, 30)


async def installed(
    admin: JetStreamTopicAdmin, *, replicas: int
) -> tuple[ControllerHarness, Subscription, list[str]]:
    """Let a controller create a channel with so many replicas and a Subscription; the
    Subscription's record, and all topics.
    """
    harness = ControllerHarness(served=("kafka", "in-memory", "jetstream"))
    harness.backend = create_backend(harness.admin, harness.clock, jetstream=admin)
    await harness.restart()
    await harness.apply(of(NATS_JETSTREAM_CHANNEL, stream={"config": {"replicas": replicas}}))
    await harness.apply(reading(NATS_JETSTREAM_CHANNEL))
    await harness.settle()
    assert_ready(harness)
    found: Subscription = route(harness, Subscription)
    [delays] = [
        each
        for each in harness.routes().values()
        if isinstance(each, Delays) and each.backend == "jetstream"
    ]
    tiers = [each.topic for each in delays.tiers]
    return harness, found, [found.topic, found.retry_topic, found.dead_topic, *tiers]


def assert_ready(harness: ControllerHarness) -> None:
    """The channel and its Subscription are."""
    for kind, name in RESOURCES:
        assert ("True", "") == harness.condition(kind, name), harness.status(kind, name)


class Sender:
    """Appends numbered records until it is stopped, and keeps those that were acknowledged."""

    def __init__(self, log: JetStreamLog) -> None:
        self._log, self._topic = log, ""
        self._task: asyncio.Task[None] | None = None
        self._sending = True
        self.acknowledged: set[bytes] = set()
        self.refused: list[HeadraceError] = []

    def start(self, topic: str) -> None:
        """Begin."""
        self._topic = topic
        self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        number = 0
        while self._sending:
            for _ in range(20):
                number += 1
                self._append(b"%d" % number)
            await asyncio.sleep(RATE_SECONDS)

    def _append(self, value: bytes) -> None:
        def stored(error: HeadraceError | None) -> None:
            if error is None:
                self.acknowledged.add(value)
            else:
                self.refused.append(error)

        try:
            self._log.append(self._topic, Record(None, value), stored)
        except LogFull as error:
            self.refused.append(error)

    async def progress(self, count: int = 500) -> None:
        """Wait until this many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        await wait_until_async(
            lambda: len(self.acknowledged) >= wanted, ELECTION_SECONDS, "progress"
        )

    async def stop(self) -> None:
        """Send nothing more; what was sent is acknowledged or refused afterwards. Idempotent."""
        self._sending = False
        if self._task is not None:
            await self._task
        await self._log.flush(10)


async def test_the_leader_of_a_stream_is_killed_and_nothing_is_lost(
    nats_cluster: NatsCluster,
) -> None:
    """All streams of a channel with three replicas have three. The server that leads the channel's
    stream is killed under load: the others accept and deliver records, every acknowledged one is
    delivered, and those that were sent again are stored once. A feed that keeps the order does so.
    """
    options = nats_cluster.options
    connection, admin = NatsConnection(options), JetStreamTopicAdmin(options)
    log, feeds = JetStreamLog(options), JetStreamFeeds(options)
    sender = Sender(log)
    listeners = shared, ordered = [RecordingListener(finish=True) for _ in range(2)]
    try:
        await started(nats_cluster, connection, *nats_cluster.servers)
        _, subscription, topics = await installed(admin, replicas=3)
        streams = [stream_name(topic) for topic in topics]
        for each in (*streams, f"KV_{POSITIONS}", f"KV_{MEMBERS}"):
            await fully_replicated(nats_cluster, connection, each)
        in_order = new_topic("ordered")
        await admin.commit(in_order, subscription.topic, {0: 0})
        for group, listener in ((subscription.group, shared), (in_order, ordered)):
            config = FeedConfig(
                group=group,
                topics=(subscription.topic,),
                bounds=FeedBounds(records_max=1000),
                exclusive=group == in_order,
            )
            listener.feed = feeds.open(config, listener.alarms.append)
            listener.feed.start(listener)
        await log.start()
        sender.start(subscription.topic)
        await sender.progress()
        leader = await nats_cluster.leader(connection, streams[0])
        await asyncio.to_thread(leader.kill)
        killed_at = time.monotonic()
        await sender.progress()
        seconds = time.monotonic() - killed_at
        before = [len(each.records) for each in listeners]
        await wait_until_async(
            lambda: all(
                len(each.records) > count + 500
                for each, count in zip(listeners, before, strict=True)
            ),
            ELECTION_SECONDS,
            "delivery without the leader",
        )
        await sender.stop()
        for listener in listeners:
            await wait_until_async(
                lambda: sender.acknowledged <= {record.value for record in listener.records},  # noqa: B023
                ELECTION_SECONDS,
                "every acknowledged record",
            )
        print(
            f"without a leader for {seconds:.1f} s, acknowledged {len(sender.acknowledged)},"
            f" refused {len(sender.refused)}, {len(shared.records)=}, {len(ordered.lost)=}"
        )
        assert_stored_once(shared)
        assert_in_order(ordered)
        for listener in listeners:
            assert listener.feed is not None
            await listener.feed.stop()
    finally:
        await sender.stop()
        await log.stop(0.1)
        await feeds.close()
        await admin.close()
        await connection.close()


def assert_stored_once(listener: RecordingListener) -> None:
    """A record that was sent again has one offset."""
    offsets = {record.offset for record in listener.records}
    assert len(offsets) == len({record.value for record in listener.records})


def assert_in_order(listener: RecordingListener) -> None:
    """The lease may run out while its bucket has no leader: only then the feed goes back."""
    offsets = listener.offsets()
    assert sorted(set(offsets)) == list(dict.fromkeys(offsets))
    back = sum(later <= earlier for earlier, later in pairwise(offsets))
    assert back <= len(listener.lost)


async def fully_replicated(
    cluster: NatsCluster, connection: NatsConnection, stream: str, consumer: str = ""
) -> None:
    """Wait until all three servers have all of a stream, or of one of its durable consumers."""
    async with asyncio.timeout(30):
        while await cluster.replicas(connection, stream, consumer) != (3, 3):
            await asyncio.sleep(0.02)


async def test_a_cluster_that_becomes_complete_later_has_three_replicas(
    nats_cluster: NatsCluster,
) -> None:
    """A controller that starts before the third server creates its buckets and streams with one
    replica, and replicates them, and what it creates from then on, once there are three servers:
    records, positions and readers stay as they are. The channel's own stream has the replicas that
    its user has asked for.
    """
    connection = NatsConnection(nats_cluster.options)
    admin = JetStreamTopicAdmin(nats_cluster.options)
    log, feeds = JetStreamLog(nats_cluster.options), JetStreamFeeds(nats_cluster.options)
    listener = RecordingListener(finish=True)
    sender = Sender(log)
    try:
        await started(nats_cluster, connection, "n0", "n1")
        assert 1 == (await admin.cluster()).brokers
        harness, subscription, topics = await installed(admin, replicas=1)
        channel, *own = topics
        group, retry_topic = subscription.retry_topic, subscription.retry_topic
        await admin.commit(group, retry_topic, {0: 0})
        config = FeedConfig(group=group, topics=(retry_topic,), bounds=FeedBounds(records_max=1000))
        listener.feed = feeds.open(config, listener.alarms.append)
        listener.feed.start(listener)
        await log.start()
        sender.start(retry_topic)
        await sender.progress()
        await started(nats_cluster, connection, "n2")
        async with asyncio.timeout(30):
            while {3} != await replicas_of(admin, own):
                await harness.resync()
        for each in (*map(stream_name, own), f"KV_{POSITIONS}", f"KV_{MEMBERS}"):
            await fully_replicated(nats_cluster, connection, each)
        assert {1} == await replicas_of(admin, [channel])
        await fully_replicated(
            nats_cluster, connection, stream_name(retry_topic), durable_name(group)
        )
        await sender.progress()
        await sender.stop()
        await wait_until_async(
            lambda: sender.acknowledged <= {record.value for record in listener.records},
            40,
            "every acknowledged record",
        )
        assert_stored_once(listener)
        assert_ready(harness)
        await listener.feed.stop()
    finally:
        await sender.stop()
        await log.stop(0.1)
        await feeds.close()
        await admin.close()
        await connection.close()


async def test_a_server_that_ran_alone_brings_no_stream_into_a_cluster(
    nats_cluster: NatsCluster, private_nats: NatsServer
) -> None:
    """nats-server has the files and does not serve them. The channel and its Subscription say so,
    and continue with new streams, of three replicas, when their owner accepts it.
    """
    alone = JetStreamTopicAdmin(private_nats.options)
    admin, connection = (
        JetStreamTopicAdmin(nats_cluster.options),
        NatsConnection(nats_cluster.options),
    )
    try:
        harness, _, (_, *own) = await installed(alone, replicas=1)
        await asyncio.to_thread(private_nats.stop)
        shutil.move(private_nats.directory / "data", nats_cluster.servers["n0"].directory)
        await started(nats_cluster, connection, *nats_cluster.servers)
        await in_cluster(admin)
        harness.backend = create_backend(harness.admin, harness.clock, jetstream=admin)
        await harness.restart()
        await harness.settle()
        for kind, name in RESOURCES:
            assert ("False", "TopicLost") == harness.condition(kind, name), harness.status(
                kind, name
            )
            lost = harness.find(kind, name)
            assert lost is not None
            await harness.apply(lost.with_metadata(annotations={LOST_ANNOTATION: "recreate"}))
            await harness.settle()
        assert_ready(harness)
        assert {3} == await replicas_of(admin, own)
    finally:
        await alone.close()
        await admin.close()
        await connection.close()


async def in_cluster(admin: JetStreamTopicAdmin) -> None:
    """Wait until three servers can hold a stream."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(LogUnavailable):
                if (await admin.cluster()).brokers == 3:
                    return
            await asyncio.sleep(0.05)


async def replicas_of(admin: JetStreamTopicAdmin, topics: Sequence[str]) -> set[int]:
    """How many replicas these topics are to have."""
    return {each.replication for each in (await admin.describe(topics)).values()}
