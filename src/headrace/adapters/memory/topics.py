"""The topics and groups of the in-memory backend, as the routing table asks for them.

The other backends have topics before a routing record names them. These exist only in the process
that serves them, so this process creates them when it reads the record, before anything else in the
process learns of it: an event that is accepted later is behind the position of each subscription.
"""

from collections.abc import Callable, Collection

import structlog

from headrace.adapters.memory.feed import MemoryGroups
from headrace.adapters.memory.log import MemoryLog
from headrace.domain.backend_name import IN_MEMORY
from headrace.domain.ports import RoutingReader
from headrace.domain.record import Partition
from headrace.domain.routing import (
    Addressable,
    Delays,
    EventSchema,
    EventSource,
    Route,
    RoutingTable,
    Subscription,
    backend_of_route,
)

logger = structlog.get_logger(__name__)

_FIRST = 0
"""Topics have one partition: one process serves all members of a group."""


class MemoryTopics:
    """Creates and deletes topics and groups. Several readers of the routing table may share it."""

    def __init__(self, log: MemoryLog, groups: MemoryGroups) -> None:
        self._log = log
        self._groups = groups
        self._routes: dict[str, Route] = {}
        self._channels: set[str] = set()
        log.watch(self._appended)

    def apply(self, table: RoutingTable, keys: Collection[str]) -> None:
        """Create what the routes with these keys need, or delete what removed routes had."""
        for key in keys:
            route = table.get(key)
            if route is None:
                self._remove(self._routes.pop(key, None))
            elif (
                not isinstance(route, EventSchema | EventSource)
                and backend_of_route(route) == IN_MEMORY
            ):
                self._routes[key] = route
                self._create(route)

    def undelivered(self) -> int:
        """The number of events that are not delivered to every subscription, and of dead
        letters.
        """
        return sum(len(records) for topic in self._log.topics.values() for records in topic)

    async def stop(self) -> None:
        """Log what is lost with this process."""
        if lost := self.undelivered():
            logger.warning(
                "in_memory_events_lost",
                count=lost,
                next_step="none: in-memory channels keep events in the memory of this process; use"
                " another kind of channel for events that must survive it",
            )

    def _create(self, route: Route) -> None:
        match route:
            case Addressable():
                self._log.create(route.topic)
                self._channels.add(route.topic)
            case Subscription():
                for topic in (route.topic, route.retry_topic, route.dead_topic):
                    self._log.create(topic)
                self._start(route.group, route.topic, at_end=True)
                self._start(route.retry_topic, route.retry_topic)
                if route.dead_letter_sink is None:
                    self._groups.delete(route.retry_topic, route.dead_topic)
                    self._log.drops_oldest.add(route.dead_topic)
                else:
                    self._log.drops_oldest.discard(route.dead_topic)
                    self._start(route.retry_topic, route.dead_topic)
            case Delays():
                for tier in route.tiers:
                    self._log.create(tier.topic)
                    self._start(route.group, tier.topic)

    def _start(self, group: str, topic: str, *, at_end: bool = False) -> None:
        """Give a group a position in a topic, unless it has one."""
        partition = Partition(topic, _FIRST)
        if partition not in self._groups.committed.get(group, {}):
            records = self._log.topics[topic][_FIRST]
            self._groups.commit(group, partition, offset=records.end if at_end else records.start)

    def _remove(self, route: Route | None) -> None:
        match route:
            case Addressable():
                self._channels.discard(route.topic)
                self._log.delete(route.topic)
            case Subscription():
                self._groups.delete(route.group)
                self._groups.delete(route.retry_topic)
                self._appended(route.topic, _FIRST)
                for topic in (route.retry_topic, route.dead_topic):
                    self._log.delete(topic)

    def _appended(self, topic: str, number: int) -> None:
        """Drop events that no subscription wants."""
        if topic not in self._log.topics:
            return
        if topic in self._channels and not self._groups.has_reader(Partition(topic, number)):
            self._log.trim(topic, number, self._log.topics[topic][number].end)


class MemoryTopicsReader:
    """A `RoutingReader` that applies each change to the topics before it reports it."""

    def __init__(self, reader: RoutingReader, topics: MemoryTopics) -> None:
        self._reader = reader
        self._topics = topics
        reader.watch(self._apply)

    @property
    def table(self) -> RoutingTable:
        """See the port."""
        return self._reader.table

    async def start(self) -> None:
        """See the port."""
        await self._reader.start()
        self._topics.apply(self.table, list(self.table.keys()))

    async def refresh(self, timeout_seconds: float) -> bool:
        """See the port."""
        return await self._reader.refresh(timeout_seconds)

    def watch(self, changed: Callable[[Collection[str]], None]) -> None:
        """See the port."""
        self._reader.watch(changed)

    async def stop(self) -> None:
        """See the port."""
        await self._reader.stop()

    def _apply(self, keys: Collection[str]) -> None:
        self._topics.apply(self.table, keys)
