"""The in-memory backend of one process: log, groups and topics, with one limit for its memory."""

from collections import Counter
from collections.abc import Mapping

import structlog

from headrace.adapters.memory.feed import MemoryGroups
from headrace.adapters.memory.feeds import MemoryFeeds
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.topics import MemoryTopics, MemoryTopicsReader
from headrace.domain.ports import RoutingReader

logger = structlog.get_logger(__name__)

BYTES_MAX = 256 * 1024 * 1024
"""Memory for events that are not delivered yet, and for dead letters, by default."""


class MemoryBackend:
    """What a process needs to serve in-memory channels. It ends with the process."""

    def __init__(self, *, bytes_max: int = BYTES_MAX, drain_seconds: float = 5.0) -> None:
        """`bytes_max` limits the stored events and their overhead."""
        self.bytes_max = bytes_max
        self.lost: Counter[str] = Counter()
        """Records that were dropped for lack of room, by topic."""
        self.log = MemoryLog(stored_bytes_max=bytes_max, lost=self._on_lost)
        groups = MemoryGroups(self.log)
        self.feeds = MemoryFeeds(groups, drain_seconds)
        self.topics = MemoryTopics(self.log, groups)

    def reader(self, routes: RoutingReader) -> RoutingReader:
        """Return a reader of the routing table that creates topics before it reports routes."""
        return MemoryTopicsReader(routes, self.topics)

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Log what is lost with the process, and reject what is not stored yet."""
        await self.topics.stop()
        await self.log.stop()

    def stored_bytes(self) -> Mapping[str, int]:
        """Return the bytes stored in each topic."""
        return {
            topic: sum(each.stored_bytes for each in partitions)
            for topic, partitions in self.log.topics.items()
        }

    def _on_lost(self, topic: str, count: int) -> None:
        if topic not in self.lost:
            logger.warning(
                "in_memory_events_lost",
                topic=topic,
                count=count,
                error="the oldest dead letters are dropped, because the topic has no room",
                next_step="set a dead letter sink, or use another kind of channel; further losses"
                " are counted in headrace_in_memory_lost_events_total",
            )
        self.lost[topic] += count
