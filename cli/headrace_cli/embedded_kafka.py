"""Wrappers of the embedded Kafka in `headrace up`: an admin that remembers its topics, and a log
that rejects events before the cluster drops unread records.

The mock cluster keeps at most 5 MiB of a partition and then drops the oldest records, whether
delivered or not. An acknowledged event must not be lost this way, so a topic with 4 MiB of unread
records accepts no more until some are read: the ingress answers 503.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import structlog

from headrace.adapters.kafka.local.mock_cluster import MockCluster
from headrace.adapters.kafka.local.mock_cluster_groups import MockClusterGroups
from headrace.adapters.kafka.local.mock_cluster_offsets import MockClusterOffsets
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.domain.errors import HeadraceError, LogFull, WriteRefused
from headrace.domain.feed import Backlog, FeedAlarm, FeedConfig
from headrace.domain.ports import Feed, Feeds, Log, OnStored, RoutingReader
from headrace.domain.record import Partition, Record
from headrace.resources.control_ports import ClusterDescription, TopicSpec
from headrace.resources.naming import DEAD_SUFFIX, DELAY_GROUP
from headrace.runtime.tasks import end_task
from headrace_dispatcher.app import kafka_feeds
from headrace_dispatcher.settings import DispatcherSettings

logger = structlog.get_logger(__name__)

UNREAD_BYTES_MAX = 4 * 1_048_576
RECORD_OVERHEAD_BYTES = 128
"""Approximate maximum size that the log format adds to a record."""
POLL_SECONDS = 0.5
FETCH_WAIT_MS = 50
"""Maximum time until an event is read."""
SESSION_TIMEOUT_MS = 2_000
"""After a member leaves its group, the group accepts another member only after this time minus one
second.
"""


class EmbeddedFeeds:
    """The dispatcher's `Feeds` on the embedded cluster. The cluster does not wake a waiting fetch:
    an event waits until the next fetch.

    Frequent fetches use CPU even when idle, so only feeds that deliver events fetch often. The
    readers of delay topics, whose shortest delay is 10 s, fetch seldom.
    """

    def __init__(
        self, settings: DispatcherSettings, options: KafkaOptions, groups: MockClusterGroups
    ) -> None:
        self._groups = groups
        options = replace(options, session_timeout_ms=SESSION_TIMEOUT_MS)
        # No static member name: the cluster ends with the process. It has one group protocol.
        settings = replace(settings, instance=None)
        self._low_latency = kafka_feeds(
            settings, options, choose_protocol=False, fetch_wait_ms=FETCH_WAIT_MS
        )
        self._default = kafka_feeds(settings, options, choose_protocol=False)

    async def prepare(self) -> None:
        """See the port."""
        await self._low_latency.prepare()

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> Feed:
        """See the port."""
        feeds = self._default if config.group == DELAY_GROUP else self._low_latency
        group = self._groups.name(config.group, config.topics[0])
        return feeds.open(replace(config, group=group), alarm)

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """See the port."""
        names = {
            self._groups.name(group, topic): (group, topic)
            for group, topics in groups.items()
            for topic in topics
        }
        found = await self._low_latency.backlog(
            {name: [topic] for name, (_, topic) in names.items()}
        )
        waiting: dict[str, dict[Partition, int]] = {group: {} for group in groups}
        unknown: dict[str, int] = {}
        for name, (group, _) in names.items():
            waiting[group] |= found.waiting.get(name, {})
            if name in found.unknown or name not in found.waiting:
                unknown[group] = unknown.get(group, 0) + found.unknown.get(name, 1)
        return Backlog(waiting=waiting, unknown=unknown)

    async def close(self) -> None:
        """Release the threads."""
        await self._low_latency.close()
        await self._default.close()


class EmbeddedTopicAdmin(MemoryTopicAdmin):
    """A `TopicAdmin` for the embedded cluster: topics and groups are kept in memory, offsets are
    read from the cluster.
    """

    def __init__(
        self, cluster: MockCluster, offsets: MockClusterOffsets, groups: MockClusterGroups
    ) -> None:
        super().__init__(brokers=1)
        self._cluster = cluster
        self._offsets = offsets
        self._groups = groups

    async def cluster(self) -> ClusterDescription:
        """As `TopicAdmin.cluster`."""
        found = await super().cluster()
        return replace(found, addresses=tuple(self._cluster.bootstrap_servers.split(",")))

    async def create(self, topics: Sequence[TopicSpec]) -> Mapping[str, str]:
        """As `TopicAdmin.create`."""
        for spec in topics:
            self._cluster.create_topic(spec.name, spec.partitions)
        return await super().create(topics)

    async def delete(self, topics: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete`."""
        for name in topics:
            self._cluster.delete_topic(name)
        return await super().delete(topics)

    async def add_partitions(self, topic: str, total: int) -> None:
        """As `TopicAdmin.add_partitions`. Raises WriteRefused: the mock cluster does not support
        it.
        """
        raise WriteRefused(
            f"topic {topic} cannot get {total} partitions: the embedded Kafka cannot add any; use"
            " --kafka apache"
        )

    async def ends(self, topics: Mapping[str, Collection[int]]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.ends`."""
        return {
            topic: await self._offsets.ends(topic, partitions)
            for topic, partitions in topics.items()
        }

    async def committed(self, groups: Mapping[str, str]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.committed`. A group that was deleted here has another name in the cluster,
        and with it no offsets.
        """
        found = {}
        for group, topic in groups.items():
            known = topic in self.topics
            partitions = range(self.topics[topic].partitions) if known else ()
            found[group] = (
                await self._offsets.committed(self._groups.name(group, topic), topic, partitions)
                if known
                else {}
            )
        return found

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """As `TopicAdmin.commit`."""
        await self._offsets.commit(self._groups.name(group, topic), topic, offsets)
        # Last: a known group is assumed to have offsets.
        await super().commit(group, topic, offsets)

    async def delete_groups(self, groups: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete_groups`."""
        self._groups.delete(groups)
        return await super().delete_groups(groups)


class EmbeddedTopicFull(LogFull):
    """A topic has more unread data than the embedded Kafka can keep."""

    def __init__(self, topic: str, bytes_max: int) -> None:
        super().__init__(
            topic,
            bytes_max,
            f"{bytes_max} bytes in topic {topic} have not been read, and the embedded Kafka keeps"
            " no more; --kafka apache does",
        )


class UnreadLimitedLog:
    """A `Log` that rejects records if the embedded cluster could drop them unread."""

    def __init__(
        self, log: Log, *, feeds: Feeds, routes: RoutingReader, bytes_max: int = UNREAD_BYTES_MAX
    ) -> None:
        self._log = log
        self._feeds = feeds
        self._routes = routes
        self._bytes_max = bytes_max
        self._sizes: dict[str, deque[int]] = {}
        self._unread: dict[str, int] = {}
        self._reported_full: set[str] = set()
        """Topics that were reported as full and have not been read since."""
        self._task: asyncio.Task[None] | None = None

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """See the port. Also raises `LogFull` if the topic has too much unread data."""
        size = record.size + RECORD_OVERHEAD_BYTES
        unread = self._unread.get(topic, 0)
        if unread + size > self._bytes_max and unread:
            raise self._full(topic)
        self._log.append(topic, record, stored)
        self._unread[topic] = unread + size
        self._sizes.setdefault(topic, deque()).append(size)

    def _full(self, topic: str) -> "EmbeddedTopicFull":
        full = EmbeddedTopicFull(topic, self._bytes_max)
        if topic not in self._reported_full:
            self._reported_full.add(topic)
            logger.warning(
                "embedded_topic_full",
                topic=topic,
                error=str(full),
                next_step="fix the subscribers that do not answer, or use --kafka apache",
            )
        return full

    async def flush(self, timeout_seconds: float) -> int:
        """See the port."""
        return await self._log.flush(timeout_seconds)

    async def start(self) -> None:
        """Start tracking which records are read."""
        self._task = asyncio.create_task(self._run(), name="unread records")

    async def stop(self) -> None:
        """Stop. Idempotent."""
        task, self._task = self._task, None
        await end_task(task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            # After an error, the records count as unread until the next success.
            with contextlib.suppress(HeadraceError):
                await self.update_unread()

    async def update_unread(self) -> None:
        """Mark the records as read that every group of their topic has read."""
        before = {topic: len(sizes) for topic, sizes in self._sizes.items()}
        if not before:
            return
        readers = {topic: groups for topic, groups in self._readers().items() if topic in before}
        topics: dict[str, list[str]] = {}
        for topic, groups in readers.items():
            for group in groups:
                topics.setdefault(group, []).append(topic)
        # The backlog of a group covers all its topics together, so the count may be too high for
        # one topic. This only keeps records counted as unread for longer.
        backlog = await self._feeds.backlog(topics) if topics else Backlog(waiting={}, unknown={})
        left = {group: count for group in topics if (count := backlog.exactly(group)) is not None}
        for topic, count in before.items():
            if topic not in readers and topic.endswith(DEAD_SUFFIX):
                # Dead letters without a reader stay unread; the topic rejects more when it is full.
                continue
            unread = max((left.get(group, count) for group in readers.get(topic, ())), default=0)
            self._mark_read(topic, count - unread)

    def _readers(self) -> dict[str, set[str]]:
        """Return the groups that read each topic. The group that reads a retry topic has the name
        of the topic.
        """
        found: dict[str, set[str]] = {}
        table = self._routes.table
        for each in table.subscriptions():
            found.setdefault(each.topic, set()).add(each.group)
            found.setdefault(each.retry_topic, set()).add(each.retry_topic)
            if each.dead_letter_sink is not None:
                found.setdefault(each.dead_topic, set()).add(each.retry_topic)
        delays = table.delays()
        if delays is not None:
            for tier in delays.tiers:
                found.setdefault(tier.topic, set()).add(delays.group)
        return found

    def _mark_read(self, topic: str, count: int) -> None:
        sizes = self._sizes[topic]
        if count > 0:
            self._reported_full.discard(topic)
        for _ in range(min(count, len(sizes))):
            self._unread[topic] -= sizes.popleft()
        if not sizes:
            del self._sizes[topic], self._unread[topic]
