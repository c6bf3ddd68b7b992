"""What waits in groups that nobody reads: few requests; one partition that does not answer hides no
other, and is not taken for empty.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final, cast

import pytest
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.protocol.coordination import FindCoordinatorResponse_v1
from aiokafka.protocol.metadata import MetadataResponse_v5
from aiokafka.protocol.offset import OffsetRequest_v3, OffsetResponse_v3

from headrace.adapters.kafka.errors import connection_error
from headrace.adapters.kafka.group_offsets import topic_offsets
from headrace.adapters.kafka.group_offsets.connection import BrokerConnections, Unanswered
from headrace.adapters.kafka.group_offsets.group_backlogs import GroupBacklogs
from headrace.adapters.kafka.group_offsets.requests import Address
from headrace.adapters.kafka.group_offsets.topic_offsets import TopicOffsets
from headrace.adapters.kafka.group_offsets.topic_requests import END, FIRST, LOG_END, Place
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import Backlog
from headrace.domain.record import Partition

LIST_OFFSETS, METADATA, OFFSET_FETCH, FIND_COORDINATOR = 2, 3, 9, 10
VERSIONS: Final = {
    LIST_OFFSETS: (1, 3),
    METADATA: (0, 5),
    OFFSET_FETCH: (1, 3),
    FIND_COORDINATOR: (0, 1),
}
UNKNOWN_TOPIC, NOT_LEADER, TOPIC_DENIED = 3, 6, 29
ANSWERS: Final = {
    LIST_OFFSETS: OffsetResponse_v3,
    METADATA: MetadataResponse_v5,
    OFFSET_FETCH: OffsetFetchResponse_v3,
    FIND_COORDINATOR: FindCoordinatorResponse_v1,
}
"""Of the highest of these versions."""
BROKERS: Final = {number: Address("kafka", number) for number in (1, 2, 3)}
NOBODY: Final = -1
A0, A1, B0, C0 = Partition("a", 0), Partition("a", 1), Partition("b", 0), Partition("c", 0)
GROUPS: Final = {"a": ("a",), "b": ("b",), "c": ("c",), "lost": ("no-such-topic",)}
COORDINATOR: Final = 3


class Cluster:
    """Three brokers, of which the third is the coordinator of all groups. Ten records are behind a
    first that has expired; topic c is empty. Stands for `BrokerConnections` as well.
    """

    def __init__(self) -> None:
        self.leaders = {A0: 1, A1: 2, B0: 2, C0: 1}
        self.ranges = {A0: (3, 10), A1: (3, 10), B0: (3, 10), C0: (3, 3)}
        self.open = 0
        """Records at the end that belong to open transactions."""
        self.committed = {("a", A0): 8}
        self.topic_errors: dict[str, int] = {}
        self.silent: set[int] = set()
        """Brokers that do not answer."""
        self.closed: set[int] = set()
        """Brokers that accept no connections."""
        self.requests: list[tuple[int, int]] = []
        """Broker and kind."""
        self.addresses: list[Address] = []

    async def connection(self, address: Address) -> "Broker":
        """As `BrokerConnections.connection`."""
        if address.port in self.closed:
            raise Unanswered(connection_error("refused"))
        return Broker(self, address.port)

    async def close(self) -> None: ...

    def sent(self, kind: int) -> Counter[int]:
        """Number of requests of a kind, by broker."""
        return Counter(broker for broker, each in self.requests if each == kind)


class Broker:
    """A connection to one broker."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._cluster, self._number = cluster, number

    def has(self, request: int, version: int) -> bool:
        """As `BrokerConnection.has`."""
        return False

    async def send(self, request: Any, *_: object) -> Any:
        """Answer as Kafka does."""
        question = request.prepare(VERSIONS)
        kind = question.API_KEY
        self._cluster.requests.append((self._number, kind))
        await asyncio.sleep(0)
        if self._number in self._cluster.silent:
            await asyncio.Event().wait()
        answers: Mapping[int, Callable[[Any], Sequence[Any]]] = {
            LIST_OFFSETS: self._list_offsets,
            METADATA: self._metadata,
            OFFSET_FETCH: self._offsets,
            FIND_COORDINATOR: lambda _: (0, 0, None, COORDINATOR, *BROKERS[COORDINATOR]),
        }
        answer = ANSWERS[kind](*answers[kind](question))
        return question.RESPONSE_TYPE.decode(BytesIO(answer.encode()))

    def _metadata(self, question: Any) -> Sequence[Any]:
        assert question.allow_auto_topic_creation is False
        cluster = self._cluster
        topics = []
        for topic in question.topics:
            own = [each for each in cluster.leaders if each.topic == topic]
            error = cluster.topic_errors.get(topic, 0 if own else UNKNOWN_TOPIC)
            leaders: list[Any] = [
                (0, each.partition, cluster.leaders[each], [], [], []) for each in own
            ]
            topics.append((error, topic, False, leaders))
        brokers = [(number, *address, None) for number, address in BROKERS.items()]
        return (0, brokers, "id", 1, topics)

    def _list_offsets(self, question: Any) -> Sequence[Any]:
        hidden = self._cluster.open if question.isolation_level == 1 else 0
        return 0, [
            (topic, [self._offset(Partition(topic, number), at, hidden) for number, at in asked])
            for topic, asked in question.topics
        ]

    def _offset(self, partition: Partition, at: int, hidden: int) -> tuple[int, int, int, int]:
        leader = self._cluster.leaders.get(partition)
        if leader != self._number:
            return partition.partition, UNKNOWN_TOPIC if leader is None else NOT_LEADER, -1, -1
        first, end = self._cluster.ranges[partition]
        return partition.partition, 0, -1, {-2: first, -1: end - hidden}[at]

    def _offsets(self, question: Any) -> Sequence[Any]:
        group = question.consumer_group
        found = [
            (
                topic,
                [
                    (n, self._cluster.committed.get((group, Partition(topic, n)), -1), "", 0)
                    for n in numbers
                ],
            )
            for topic, numbers in question.topics
        ]
        return 0, found, 0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that is used in place of connections."""
    cluster = Cluster()
    place = "headrace.adapters.kafka.group_offsets"
    monkeypatch.setattr(
        f"{place}.group_offsets.BrokerConnections", lambda options, on_lost: cluster
    )
    monkeypatch.setattr(f"{place}.topic_offsets.ANSWER_SECONDS_MAX", 0.2)
    monkeypatch.setattr(f"{place}.group_backlogs.COMMITTED_SECONDS_MAX", 0.2)
    return cluster


@pytest.fixture
async def backlogs(cluster: Cluster) -> GroupBacklogs:
    """The backlogs of this cluster."""
    return GroupBacklogs(KafkaOptions(bootstrap_servers="kafka:1,kafka:2"))


async def read(backlogs: GroupBacklogs) -> Backlog:
    """Read those of all groups."""
    return await backlogs.read(GROUPS, 10.0)


async def test_everything_is_known_when_everybody_answers(backlogs: GroupBacklogs) -> None:
    """What is committed is not counted, nor what has expired."""
    found = await read(backlogs)
    assert {"a": {A0: 2, A1: 7}, "b": {B0: 7}, "c": {C0: 0}, "lost": {}} == found.waiting
    assert {"a": 9, "b": 7, "c": 0, "lost": 0} == {group: found.exactly(group) for group in GROUPS}
    assert {} == found.unknown


async def test_requests_grow_with_brokers_not_with_topics(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """Two hundred empty topics cost one request to each of two brokers, each ten seconds, and one
    about their leaders each minute.
    """
    topics = [f"t{number}" for number in range(200)]
    cluster.leaders = {Partition(each, 0): 1 + at % 2 for at, each in enumerate(topics)}
    cluster.ranges = dict.fromkeys(cluster.leaders, (0, 0))
    for _ in range(3):
        found = await backlogs.read({each: [each] for each in topics}, 10.0)
        assert dict.fromkeys(topics, 0) == {each: found.exactly(each) for each in topics}
    assert {1: 3, 2: 3} == cluster.sent(LIST_OFFSETS)
    assert (1, 7) == (cluster.sent(METADATA).total(), len(cluster.requests))


async def test_what_does_not_change_is_not_encoded_and_decoded_again(
    cluster: Cluster, backlogs: GroupBacklogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked about every two seconds. What changes is seen at once."""
    decoded = encoded = 0
    decode, encode = OffsetResponse_v3.decode, OffsetRequest_v3.encode

    def count_decoded(data: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return decode(data)

    def count_encoded(request: Any) -> Any:
        nonlocal encoded
        encoded += 1
        return encode(request)

    monkeypatch.setattr(OffsetResponse_v3, "decode", count_decoded)
    monkeypatch.setattr(OffsetRequest_v3, "encode", count_encoded)
    b1 = Partition("b", 1)
    cluster.leaders = {B0: 1, b1: 2, C0: 2}
    cluster.ranges = dict.fromkeys(cluster.leaders, (0, 0))
    groups = {"b": ("b",), "c": ("c",)}
    for _ in range(5):
        found = await backlogs.read(groups, 10.0)
        assert {"b": {B0: 0, b1: 0}, "c": {C0: 0}} == found.waiting
    assert ((2, 2), {1: 5, 2: 5}) == ((decoded, encoded), cluster.sent(LIST_OFFSETS))
    others = {"other": ("c", "b")}
    assert others.keys() == (await backlogs.read(others, 10.0)).waiting.keys()
    cluster.ranges[C0] = (0, 2)
    assert 2 == (await backlogs.read(groups, 10.0)).exactly("c")
    cluster.committed["c", C0] = 1
    found = await backlogs.read(groups, 10.0)
    assert (1, 0) == (found.exactly("c"), found.exactly("b"))
    cluster.closed = {1}
    assert {"b": 1} == (await backlogs.read(groups, 10.0)).unknown
    cluster.closed = set()
    assert {"b": {B0: 0, b1: 0}} == (await backlogs.read({"b": ("b",)}, 10.0)).waiting


async def test_many_partitions_are_in_several_requests(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """Each keeps the event loop for a short time only."""
    topics = [f"t{number}" for number in range(700)]
    cluster.leaders = {Partition(each, 0): 1 for each in topics}
    cluster.ranges = dict.fromkeys(cluster.leaders, (0, 1))
    found = await backlogs.read({"g": topics}, 10.0)
    assert (700, {}) == (found.exactly("g"), found.unknown)
    assert ({1: 6}, 4) == (cluster.sent(LIST_OFFSETS), cluster.sent(METADATA).total())


async def test_a_silent_broker_leaves_the_partitions_of_the_others_known(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """Its own are absent and counted. It is asked once, and not waited for twice."""
    cluster.silent = {2}
    started = asyncio.get_running_loop().time()
    found = await read(backlogs)
    assert {"a": {A0: 2}, "b": {}, "c": {C0: 0}, "lost": {}} == found.waiting
    assert {"a": 1, "b": 1} == found.unknown
    assert (2, None, 0, None) == (
        found.at_least("a"),
        found.exactly("a"),
        found.at_least("b"),
        found.exactly("b"),
    )
    assert {1: 2, 2: 1} == cluster.sent(LIST_OFFSETS)
    assert asyncio.get_running_loop().time() - started < 5.0
    cluster.silent = set()
    assert {} == (await read(backlogs)).unknown


async def test_a_broker_that_is_down_hides_no_other(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """Its partitions are known again as soon as another one leads them."""
    assert {} == (await read(backlogs)).unknown
    cluster.closed = {2}
    assert {"a": 1, "b": 1} == (await read(backlogs)).unknown
    cluster.leaders |= {A1: 1, B0: 3}
    assert {} == (await read(backlogs)).unknown


async def test_a_partition_without_leader_is_not_asked(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """It is unknown until there is a leader."""
    cluster.leaders[A1] = NOBODY
    found = await read(backlogs)
    assert ({"a": 1}, {A0: 2}) == (found.unknown, found.waiting["a"])
    cluster.leaders[A1] = 3
    assert 9 == (await read(backlogs)).exactly("a")


async def test_another_leader_is_found_in_the_same_run(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """Nothing is reported as unknown because a partition has moved."""
    await backlogs.read({"a": ["a"]}, 10.0)
    cluster.leaders[A1] = 1
    assert 9 == (await backlogs.read({"a": ["a"]}, 10.0)).exactly("a")
    assert 2 == cluster.sent(METADATA).total()


async def test_topics_come_and_go(cluster: Cluster, backlogs: GroupBacklogs) -> None:
    """One that was deleted has no records, one that was created is seen at once."""
    await read(backlogs)
    del cluster.leaders[B0]
    found = await read(backlogs)
    assert ({}, {}) == (found.waiting["b"], found.unknown)
    lost = Partition("no-such-topic", 0)
    cluster.leaders[lost], cluster.ranges[lost] = 3, (0, 4)
    assert 4 == (await read(backlogs)).exactly("lost")


async def test_new_partitions_are_seen_after_a_while(
    cluster: Cluster, backlogs: GroupBacklogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topic is described again."""
    await read(backlogs)
    added = Partition("b", 1)
    cluster.leaders[added], cluster.ranges[added] = 1, (0, 5)
    assert 7 == (await read(backlogs)).exactly("b")
    monkeypatch.setattr(topic_offsets, "LEADERS_SECONDS", 0.0)
    assert 12 == (await read(backlogs)).exactly("b")


async def test_a_run_is_not_disturbed_by_another(
    cluster: Cluster, backlogs: GroupBacklogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One forgets the leaders that the other one uses."""
    await backlogs.read({"b": ["b"]}, 10.0)
    sent = len(cluster.requests)
    both = asyncio.create_task(read(backlogs))
    while len(cluster.requests) == sent:  # It asks for the other topics.
        await asyncio.sleep(0)
    monkeypatch.setattr(topic_offsets, "LEADERS_SECONDS", 0.0)
    await backlogs.read({"c": ["c"]}, 10.0)
    assert 7 == (await both).exactly("b")


async def test_a_topic_that_may_not_be_described_is_unknown(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """And not empty."""
    cluster.topic_errors["b"] = TOPIC_DENIED
    found = await read(backlogs)
    assert ({"b": 1}, 9) == (found.unknown, found.exactly("a"))


async def test_a_silent_coordinator_leaves_the_other_groups_known(
    cluster: Cluster, backlogs: GroupBacklogs
) -> None:
    """Its groups are unknown where their topics are not empty."""
    cluster.silent = {COORDINATOR}
    found = await read(backlogs)
    assert ({"a": 2, "b": 1}, 0) == (found.unknown, found.exactly("c"))


@pytest.mark.parametrize("seconds", [10.0, 0.0])
async def test_nothing_that_answers_is_an_error(
    cluster: Cluster, backlogs: GroupBacklogs, seconds: float
) -> None:
    """Whether the topics were known before or not."""
    cluster.silent = {1, 2, 3}
    with pytest.raises(LogUnavailable, match="did not answer a query about consumer groups"):
        await backlogs.read(GROUPS, seconds)
    cluster.silent = set()
    await read(backlogs)
    cluster.silent = {1, 2, 3}
    with pytest.raises(LogUnavailable, match="did not answer a query about consumer groups"):
        await backlogs.read(GROUPS, seconds)


async def test_places_of_some_partitions_are_read_with_one_request_for_each_leader(
    cluster: Cluster,
) -> None:
    """The end is also that of transactions that are open. A new leader, and a partition that was
    added, are looked for at once; what has no answer is left out.
    """
    offsets = TopicOffsets(cast(BrokerConnections, cluster), "kafka:1,kafka:2")
    cluster.open = 2

    async def read(at: Place, *partitions: Partition) -> Mapping[Partition, int]:
        return await offsets.read_at(partitions, at, asyncio.get_running_loop().time() + 10)

    assert {A0: 10, A1: 10} == await read(LOG_END, A0, A1)
    assert {A0: 8, A1: 8} == await read(END, A0, A1)
    assert {A0: 3} == await read(FIRST, A0)
    assert (1, {1: 3, 2: 2}) == (cluster.sent(METADATA).total(), cluster.sent(LIST_OFFSETS))
    added = Partition("a", 2)
    cluster.leaders |= {A1: 3, added: 1}
    cluster.ranges[added] = (0, 5)
    assert {A1: 10, added: 5} == await read(LOG_END, A1, added)
    cluster.silent = {3}
    assert {A0: 10} == await read(LOG_END, A0, A1)
