"""Reads the first offsets and the ends of many topics with few requests: each is about some hundred
partitions of a broker, however many topics they belong to.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from headrace.adapters.kafka.errors import broker_error, connection_error, is_missing
from headrace.adapters.kafka.group_offsets.connection import BrokerConnections, Unanswered
from headrace.adapters.kafka.group_offsets.coordinators import bootstrap_addresses
from headrace.adapters.kafka.group_offsets.requests import Address
from headrace.adapters.kafka.group_offsets.topic_requests import (
    END,
    FIRST,
    DescribedTopic,
    ListOffsets,
    Place,
    describe_topics,
    described_topics,
)
from headrace.domain.record import Partition

ANSWER_SECONDS_MAX: Final = 3.0
"""The time limit of one request. A broker that does not answer within this time is not asked again
in the same run.
"""
LEADERS_SECONDS: Final = 60.0
"""How long the partitions of a topic and their leaders are taken for known: new partitions are seen
after this time. Another leader is looked for at once.
"""
TOPICS_MAX: Final = 200
"""Topics whose leaders are in one request."""
PARTITIONS_MAX: Final = 300
"""Partitions in one request. Encoding it and decoding its answer take 2 ms of the event loop."""
REQUESTS_MAX: Final = 20
"""Requests that are kept with their answers, which take 3 MiB together."""


ValueT = TypeVar("ValueT")
Requests = dict[tuple[Address, Place, tuple[Partition, ...]], ListOffsets]


class OffsetRange(NamedTuple):
    """The first offset of a partition, and the one after its last record."""

    first: int
    end: int


class TopicRanges(NamedTuple):
    """The answers about some topics. Topics that do not exist have no partitions."""

    known: Mapping[Partition, OffsetRange]
    unknown: Collection[Partition]
    """Partitions without an answer; the first one of a topic of which not even they are known."""


class TopicOffsets:
    """The ranges of topics in a cluster."""

    def __init__(self, connections: BrokerConnections, bootstrap_servers: str) -> None:
        self._connections = connections
        self._bootstrap = bootstrap_addresses(bootstrap_servers)
        self._topics: dict[str, tuple[float, DescribedTopic]] = {}
        """Those that exist, with the time of the answer."""
        self._requests: Requests = {}
        """The last ones, the oldest first."""
        self._turn = 0
        """Which broker describes topics; the next one after a failure."""

    async def read(self, topics: Collection[str], until: float) -> TopicRanges:
        """Return what is known until this time of the loop. Raises `Unanswered` if no broker
        answers.
        """
        run = _Run(self._connections, self._requests, until)
        leaders = await self._leaders(topics, until)
        ends = await run.list(leaders, END)
        missed = (each for each in leaders if each not in ends and run.may_ask(leaders[each]))
        if moved := {each.topic for each in missed}:
            self._forget(moved)
            with contextlib.suppress(Unanswered):
                others = {each: leaders[each] for each in leaders if each.topic not in moved}
                leaders = others | await self._leaders(moved, until)
                ends |= await run.list(
                    {each: leader for each, leader in leaders.items() if each not in ends}, END
                )
        filled = {each: leaders[each] for each, end in ends.items() if end and each in leaders}
        firsts = await run.list(filled, FIRST)
        known = {
            each: OffsetRange(firsts.get(each, 0), end)
            for each, end in ends.items()
            if each in leaders and (not end or each in firsts)
        }
        unknown = leaders.keys() - known.keys()
        self._forget({each.topic for each in unknown})
        if unknown and not known and run.failure is not None:
            raise run.failure
        return TopicRanges(known, unknown)

    async def read_at(
        self, partitions: Collection[Partition], at: Place, until: float
    ) -> Mapping[Partition, int]:
        """Return the offsets of these partitions at one place, as far as they are known until this
        time of the loop. Raises `Unanswered` if no broker answers.
        """
        run = _Run(self._connections, self._requests, until)
        leaders = await self._leaders({each.topic for each in partitions}, until)
        found = await run.list({each: leaders.get(each) for each in partitions}, at)
        # They may have another leader now, or have been added since.
        missed = [
            each
            for each in partitions
            if each not in found and (each not in leaders or run.may_ask(leaders[each]))
        ]
        if missed:
            topics = {each.topic for each in missed}
            self._forget(topics)
            leaders = await self._leaders(topics, until)
            found |= await run.list({each: leaders.get(each) for each in missed}, at)
        self._forget({each.topic for each in partitions if each not in found})
        return found

    def _forget(self, topics: Collection[str]) -> None:
        for topic in topics:
            self._topics.pop(topic, None)

    async def _leaders(
        self, topics: Collection[str], until: float
    ) -> dict[Partition, Address | None]:
        """Return the leader of each partition of those topics that exist. Raises `Unanswered`."""
        now = asyncio.get_running_loop().time()
        self._topics = {
            topic: (at, each)
            for topic, (at, each) in self._topics.items()
            if now - at < LEADERS_SECONDS
        }
        # Another run may forget some of them meanwhile: they would seem not to exist.
        found = {topic: self._topics[topic][1] for topic in topics if topic in self._topics}
        for some in _batches([each for each in topics if each not in found], TOPICS_MAX):
            described = dict(await self._describe(some, until))
            found |= described
            self._topics |= {topic: (now, each) for topic, each in described.items()}
        leaders: dict[Partition, Address | None] = {}
        for topic, each in found.items():
            leaders |= {Partition(topic, 0): None} if each.error else each.leaders
        return leaders

    async def _describe(
        self, topics: Sequence[str], until: float
    ) -> Iterable[tuple[str, DescribedTopic]]:
        """Ask one broker after the other. Raises `Unanswered` if none answers."""
        candidates = [*self._connections.addresses, *self._bootstrap]
        failure = Unanswered(connection_error("no time is left"))
        for _ in candidates:
            address = candidates[self._turn % len(candidates)]
            try:
                async with asyncio.timeout(_remaining(until)):
                    connection = await self._connections.connection(address)
                    answer = await connection.send(describe_topics(topics))
            except Unanswered as error:
                failure = error
            except TimeoutError:
                failure = Unanswered(connection_error(f"{address} does not answer"))
            else:
                return [
                    (topic, each)
                    for topic, each in described_topics(answer)
                    if not each.error or not is_missing(broker_error(each.error))
                ]
            self._turn += 1
        raise failure


class _Run:
    """The requests to the leaders in one run."""

    def __init__(self, connections: BrokerConnections, requests: Requests, until: float) -> None:
        self._connections = connections
        self._requests = requests
        self._until = until
        self._silent: set[Address] = set()
        """Brokers that have not answered in time."""
        self.failure: Unanswered | None = None
        """Why a broker has not answered."""

    def may_ask(self, leader: Address | None) -> bool:
        """Whether an answer may be expected."""
        return leader is not None and leader not in self._silent

    async def list(
        self, leaders: Mapping[Partition, Address | None], at: Place
    ) -> dict[Partition, int]:
        """Return the offsets of those partitions that have an answer. All leaders are asked at the
        same time.
        """
        by_leader: dict[Address, list[Partition]] = {}
        for partition, leader in leaders.items():
            if leader is not None and self.may_ask(leader):
                by_leader.setdefault(leader, []).append(partition)
        found: dict[Partition, int] = {}
        async with asyncio.TaskGroup() as tasks:
            for leader, partitions in by_leader.items():
                tasks.create_task(self._ask(leader, partitions, at, found))
        return found

    async def _ask(
        self,
        leader: Address,
        partitions: Sequence[Partition],
        at: Place,
        found: dict[Partition, int],
    ) -> None:
        for some in _batches(partitions, PARTITIONS_MAX):
            try:
                async with asyncio.timeout(_remaining(self._until)):
                    connection = await self._connections.connection(leader)
                    offsets = await connection.send(self._request(leader, some, at))
            except TimeoutError:
                self._silent.add(leader)
                self.failure = Unanswered(connection_error(f"{leader} does not answer"))
                return
            except Unanswered as error:
                self.failure = error
                return
            found.update(offsets)

    def _request(self, leader: Address, partitions: Sequence[Partition], at: Place) -> ListOffsets:
        """Return the request that was sent before, if there is one."""
        key = leader, at, tuple(partitions)
        request = self._requests.pop(key, None) or ListOffsets(partitions, at)
        self._requests[key] = request
        if len(self._requests) > REQUESTS_MAX:
            del self._requests[next(iter(self._requests))]
        return request


def _batches(values: Iterable[ValueT], size: int) -> Iterator[Sequence[ValueT]]:
    rest = iter(values)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _remaining(until: float) -> float:
    return min(ANSWER_SECONDS_MAX, until - asyncio.get_running_loop().time())
