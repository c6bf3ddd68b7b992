"""The embedded Kafka never discards acknowledged records that are unread: the log in front of it
refuses new records first.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import pytest

from headrace.adapters.kafka.feeds_with_backlog import FeedsWithBacklog
from headrace.adapters.kafka.local.mock_cluster import MockCluster
from headrace.adapters.kafka.local.mock_cluster_groups import MockClusterGroups
from headrace.adapters.kafka.local.mock_cluster_offsets import MockClusterOffsets
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.routing import MemoryRoutingLog, MemoryRoutingReader
from headrace.codec.routing import write
from headrace.domain.errors import HeadraceError, LogFull, WriteRefused
from headrace.domain.feed import Backlog
from headrace.domain.ports import Feeds
from headrace.domain.record import Partition, Record
from headrace.domain.routing import Destination, Subscription, route_key
from headrace.resources.control_ports import TopicSpec
from headrace_cli.embedded_kafka import EmbeddedTopicAdmin, UnreadLimitedLog

SUBSCRIPTION = Subscription(
    uid="s",
    generation=1,
    epoch=1,
    namespace="ns",
    name="s",
    topic="events",
    group="g",
    retry_topic="g.retry",
    dead_topic="g.dead",
    subscriber=Destination(url="http://x"),
)
EVENT = Record(b"k", b"x" * 1000, [])


class Readers:
    """Feeds that are used for their lag only."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}

    async def backlog(self, groups: Mapping[str, Collection[str]]) -> Backlog:
        """Return the lag that the test sets."""
        return Backlog(
            waiting={group: {Partition(group, 0): self.left[group]} for group in groups}, unknown={}
        )


async def _log(readers: Readers) -> UnreadLimitedLog:
    records, routing = MemoryLog(), MemoryRoutingLog()
    for topic in ("events", "g.dead", "other"):
        records.create(topic)
    routing.append(route_key(SUBSCRIPTION), write(SUBSCRIPTION))
    routes = MemoryRoutingReader(routing)
    await routes.start()
    return UnreadLimitedLog(records, feeds=cast("Feeds", readers), routes=routes, bytes_max=10_000)


def _fill(log: UnreadLimitedLog, topic: str) -> int:
    count = 0

    def stored(error: HeadraceError | None) -> None:
        assert error is None

    while True:
        try:
            log.append(topic, EVENT, stored)
        except LogFull:
            return count
        count += 1


async def test_a_topic_with_too_much_unread_accepts_no_more_until_it_is_read() -> None:
    """Exactly as much space is released as every group has read."""
    readers = Readers()
    log = await _log(readers)
    assert 8 == _fill(log, "events")
    readers.left["g"] = 8
    await log.update_unread()
    assert 0 == _fill(log, "events")
    readers.left["g"] = 5
    await log.update_unread()
    assert 3 == _fill(log, "events")
    readers.left["g"] = 0
    await log.update_unread()
    assert 8 == _fill(log, "events")


async def test_unread_dead_letters_are_never_discarded() -> None:
    """There is no space left; the lane that writes dead letters there stops and reports it."""
    log = await _log(Readers())
    assert 8 == _fill(log, "g.dead")
    await log.update_unread()
    assert 0 == _fill(log, "g.dead")


async def test_a_topic_without_readers_accepts_everything() -> None:
    """Records that no group reads may be discarded."""
    log = await _log(Readers())
    _fill(log, "other")
    await log.update_unread()
    assert 8 == _fill(log, "other")


@pytest.fixture
def specs() -> Sequence[TopicSpec]:
    """A topic to create."""
    return [TopicSpec(name="events", partitions=3, replication=1)]


async def test_offsets_are_those_of_the_cluster(specs: Sequence[TopicSpec]) -> None:
    """Ends and commits go to the mock cluster, where the consumers read them."""
    cluster = MockCluster()
    cluster.start()
    offsets = MockClusterOffsets(KafkaOptions(bootstrap_servers=cluster.bootstrap_servers))
    groups = MockClusterGroups()
    admin = EmbeddedTopicAdmin(cluster, offsets, groups)
    try:
        assert {} == await admin.create(specs)
        assert {"events": {0: 0, 1: 0, 2: 0}} == await admin.ends({"events": [0, 1, 2]})
        assert {"g": {}} == await admin.committed({"g": "events"})
        await admin.commit("g", "events", {0: 0, 1: 0, 2: 0})
        assert {"g": {0: 0, 1: 0, 2: 0}} == await admin.committed({"g": "events"})
        feeds = FeedsWithBacklog(KafkaOptions(bootstrap_servers=cluster.bootstrap_servers))
        assert 0 == (await feeds.backlog({groups.name("g", "events"): ["events"]})).exactly(
            groups.name("g", "events")
        )
        await feeds.close()
        with pytest.raises(WriteRefused, match="--kafka apache"):
            await admin.add_partitions("events", 5)
    finally:
        offsets.close()
        await asyncio.to_thread(cluster.stop)
