"""The topics and groups of the in-memory backend follow the routing table."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from headrace.adapters.memory.feed import MemoryGroups
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.adapters.memory.topics import MemoryTopics, MemoryTopicsReader
from headrace.codec.routing import write
from headrace.domain.backend_name import IN_MEMORY
from headrace.domain.record import Partition, Record
from headrace.domain.routing import Destination, Route, route_key
from tests.unit.domain.test_routing_table import BILLING, ORDERS, delays

SINK = Destination(url="http://127.0.0.1:9000/dead")


class Served:
    """What one process has of the in-memory backend."""

    def __init__(self) -> None:
        self.log = MemoryLog(stored_bytes_max=1_000_000)
        self.groups = MemoryGroups(self.log)
        self.topics = MemoryTopics(self.log, self.groups)
        self.routing = MemoryRoutingLog()
        self.writer = MemoryRoutingWriter(self.routing)
        self.reader = MemoryTopicsReader(
            MemoryRoutingReader(self.routing, [IN_MEMORY]), self.topics
        )

    async def put(self, *routes: Route) -> None:
        await self.writer.write({route_key(route): write(route) for route in routes})
        await asyncio.sleep(0)

    async def remove(self, route: Route) -> None:
        await self.writer.write({route_key(route): None})
        await asyncio.sleep(0)

    async def append(self, topic: str, count: int = 1) -> None:
        for _ in range(count):
            self.log.append(topic, Record(None, b"{}"), lambda _: None)
        assert await self.log.flush(5) == 0

    def position(self, group: str, topic: str) -> int | None:
        found = self.groups.committed.get(group, {}).get(Partition(topic, 0))
        return found[0] if found else None


@pytest.fixture
async def served() -> Served:
    served = Served()
    await served.reader.start()
    return served


async def test_topics_exist_before_a_watcher_learns_of_the_route(served: Served) -> None:
    seen: list[bool] = []
    served.reader.watch(lambda _keys: seen.append(ORDERS.topic in served.log.topics))

    await served.put(ORDERS)

    assert [True] == seen


async def test_what_is_in_the_table_at_the_start_exists_after_it() -> None:
    served = Served()
    await served.put(ORDERS, BILLING, delays(IN_MEMORY))

    await served.reader.start()

    assert {
        ORDERS.topic,
        BILLING.retry_topic,
        BILLING.dead_topic,
        "in-memory:headrace.delay.10s",
    } == set(served.log.topics)
    assert 0 == served.position("in-memory:headrace.delay", "in-memory:headrace.delay.10s")


async def test_a_subscription_gets_the_events_after_it(served: Served) -> None:
    await served.put(ORDERS, BILLING)
    await served.append(ORDERS.topic, 3)
    later = replace(BILLING, uid="later", group="in-memory:later", retry_topic="in-memory:l.retry")

    await served.put(later)

    assert 0 == served.position(BILLING.group, ORDERS.topic)
    assert 3 == served.position(later.group, ORDERS.topic)
    await served.put(replace(later, generation=2))  # A change does not move it.
    await served.append(ORDERS.topic)
    assert 3 == served.position(later.group, ORDERS.topic)


async def test_an_event_without_a_subscription_is_not_kept(served: Served) -> None:
    await served.put(ORDERS)

    await served.append(ORDERS.topic, 3)

    assert 0 == served.log.stored_bytes
    assert 3 == served.log.topics[ORDERS.topic][0].end


async def test_what_the_last_subscription_had_not_read_is_dropped(served: Served) -> None:
    """Otherwise a channel that was full would stay full."""
    await served.put(ORDERS, BILLING)
    await served.append(ORDERS.topic, 3)
    assert 3 == len(served.log.topics[ORDERS.topic][0])

    await served.remove(BILLING)

    assert 0 == len(served.log.topics[ORDERS.topic][0])
    assert 0 == served.log.stored_bytes


async def test_dead_letters_are_read_while_there_is_a_sink(served: Served) -> None:
    await served.put(ORDERS, BILLING)
    await served.append(BILLING.dead_topic, 2)
    assert served.position(BILLING.retry_topic, BILLING.dead_topic) is None
    assert BILLING.dead_topic in served.log.drops_oldest

    await served.put(replace(BILLING, dead_letter_sink=SINK, generation=2))

    assert 0 == served.position(BILLING.retry_topic, BILLING.dead_topic)  # From the oldest.
    assert BILLING.dead_topic not in served.log.drops_oldest

    await served.put(replace(BILLING, generation=3))

    assert served.position(BILLING.retry_topic, BILLING.dead_topic) is None
    assert 2 == len(served.log.topics[BILLING.dead_topic][0])


async def test_nothing_is_left_of_what_is_removed(served: Served) -> None:
    await served.put(ORDERS, BILLING)
    await served.append(ORDERS.topic)

    await served.remove(BILLING)
    await served.remove(ORDERS)

    assert {} == served.log.topics
    assert {} == served.groups.committed
    assert 0 == served.log.stored_bytes


async def test_the_end_of_the_process_says_what_is_lost(served: Served) -> None:
    await served.put(ORDERS, BILLING)
    await served.append(ORDERS.topic, 3)
    await served.append(BILLING.dead_topic, 2)

    with capture_logs() as logs:
        await served.topics.stop()

    [line] = logs
    assert ("in_memory_events_lost", 5) == (line["event"], line["count"])


async def test_nothing_is_said_when_everything_was_delivered(served: Served) -> None:
    await served.put(ORDERS, BILLING)
    await served.append(ORDERS.topic, 3)
    served.groups.commit(BILLING.group, Partition(ORDERS.topic, 0), offset=3)

    with capture_logs() as logs:
        await served.topics.stop()

    assert [] == logs
