"""One suite over all topic admins: what reconciliation relies on when it reads and
changes Kafka.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

import pytest

from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.local.mock_cluster_groups import MockClusterGroups
from headrace.adapters.kafka.local.mock_cluster_offsets import MockClusterOffsets
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.adapters.nats.admin import JetStreamTopicAdmin
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import LogUnavailable, WriteRefused
from headrace.resources.control_ports import GroupState, TopicAdmin, TopicSpec
from headrace_cli.embedded_kafka import EmbeddedTopicAdmin
from tests.support.embedded_limits import skip_what_the_embedded_kafka_cannot
from tests.support.kafka import KafkaUnderTest

SEEN_SECONDS = 20.0
T = TypeVar("T")


@pytest.fixture(
    params=["memory", "jetstream", "embedded", pytest.param("kafka", marks=pytest.mark.kafka)]
)
async def admin(request: pytest.FixtureRequest) -> AsyncIterator[TopicAdmin]:
    """An admin of each kind."""
    if request.param == "memory":
        yield MemoryTopicAdmin()
        return
    if request.param == "jetstream":
        on_nats = JetStreamTopicAdmin(request.getfixturevalue("nats_server").options)
        yield on_nats
        await on_nats.close()
        return
    if request.param == "embedded":
        skip_what_the_embedded_kafka_cannot(request)
        cluster = request.getfixturevalue("embedded_kafka").embedded
        offsets = MockClusterOffsets(KafkaOptions(bootstrap_servers=cluster.bootstrap_servers))
        yield EmbeddedTopicAdmin(cluster, offsets, MockClusterGroups())
        offsets.close()
        return
    kafka: KafkaUnderTest = request.getfixturevalue("kafka")
    adapter = KafkaTopicAdmin(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    yield adapter
    await adapter.close()


@pytest.fixture
async def name(admin: TopicAdmin) -> AsyncIterator[str]:
    """A topic name of the test's own, deleted afterwards."""
    prefix = "jetstream:" if _has_one_partition(admin) else ""
    topic = f"{prefix}admin-{uuid.uuid4().hex[:10]}"
    yield topic
    await admin.delete([topic])


def _has_one_partition(admin: TopicAdmin) -> bool:
    """In JetStream a topic is a stream, which has no partitions: one is all that it can have."""
    return isinstance(admin, JetStreamTopicAdmin)


def _partitions(admin: TopicAdmin, wanted: int) -> int:
    """`wanted`, or how many a topic of this admin can have."""
    return 1 if _has_one_partition(admin) else wanted


def _spec(name: str, partitions: int = 2, **settings: str) -> TopicSpec:
    return TopicSpec(
        name=name,
        partitions=partitions,
        replication=1,
        settings={key.replace("_", "."): value for key, value in settings.items()},
    )


async def _make(admin: TopicAdmin, spec: TopicSpec) -> None:
    """Create a topic and wait until it is visible and its partitions have leaders: a broker reports
    that only some time after the create.
    """
    assert {} == await admin.create([spec])
    async with asyncio.timeout(SEEN_SECONDS):
        while not await admin.describe([spec.name]):
            await asyncio.sleep(0)
    await _answered(lambda: admin.ends({spec.name: range(spec.partitions)}))


async def _answered(ask: Callable[[], Awaitable[T]]) -> T:
    """The result of a call when the group's coordinator is available: a Kafka that has just started
    has none for a moment, and says so.
    """
    async with asyncio.timeout(SEEN_SECONDS):
        while True:
            try:
                return await ask()
            except LogUnavailable:
                await asyncio.sleep(0)


async def test_cluster_counts_its_brokers(admin: TopicAdmin) -> None:
    """A cluster has an id and at least one broker."""
    facts = await admin.cluster()
    assert facts.brokers >= 1
    assert facts.id


async def test_a_created_topic_is_described_as_requested(admin: TopicAdmin, name: str) -> None:
    """Partitions, replicas and settings come back; Kafka's id is there."""
    partitions = _partitions(admin, 3)
    await _make(admin, _spec(name, partitions, retention_ms="-1"))
    facts = (await admin.describe([name]))[name]
    assert (partitions, 1, "-1") == (
        facts.partitions,
        facts.replication,
        facts.settings["retention.ms"],
    )
    assert facts.id


async def test_a_topic_can_be_described_without_its_settings(admin: TopicAdmin, name: str) -> None:
    """The rest is the same."""
    await _make(admin, _spec(name, 1))
    full = (await admin.describe([name]))[name]
    bare = (await admin.describe([name], settings=False))[name]
    assert (full.name, 1, 1, full.id) == (bare.name, bare.partitions, bare.replication, bare.id)
    assert {} == await admin.describe([f"{name}-missing"], settings=False)


async def test_a_missing_topic_is_left_out(admin: TopicAdmin, name: str) -> None:
    """Describing a topic that does not exist gives an empty answer, not an error."""
    assert {} == await admin.describe([name])


async def test_creating_twice_counts_as_created(admin: TopicAdmin, name: str) -> None:
    """A create that is repeated after a crash is not an error."""
    await _make(admin, _spec(name, _partitions(admin, 2)))
    assert {} == await admin.create([_spec(name, _partitions(admin, 2))])


async def test_a_refused_topic_is_reported_with_the_reason(admin: TopicAdmin, name: str) -> None:
    """More replicas than brokers is refused for that topic alone."""
    refused = await admin.create([TopicSpec(name=name, partitions=1, replication=99)])
    assert [name] == list(refused)
    assert "replication factor" in refused[name].lower()


async def test_a_recreated_topic_has_another_id(admin: TopicAdmin, name: str) -> None:
    """Deleting and creating a topic changes its id."""
    await _make(admin, _spec(name, _partitions(admin, 2)))
    before = (await admin.describe([name]))[name].id
    await admin.delete([name])
    while await admin.describe([name]):
        pass
    await _make(admin, _spec(name, _partitions(admin, 2)))
    assert before != (await admin.describe([name]))[name].id


async def test_partitions_can_be_added(admin: TopicAdmin, name: str) -> None:
    """The number passed is the total; where a topic has one, more are refused with the reason, also
    when it is created.
    """
    await _make(admin, _spec(name, 1))
    if _has_one_partition(admin):
        with pytest.raises(WriteRefused, match="has 1 partition, 4 were requested"):
            await admin.add_partitions(name, 4)
        refused = await admin.create([_spec(f"{name}-2", 4)])
        assert "has 1 partition, 4 were requested" in refused[f"{name}-2"]
        assert 1 == (await admin.describe([name]))[name].partitions
        return
    await admin.add_partitions(name, 4)
    assert 4 == (await admin.describe([name]))[name].partitions


async def test_replicas_that_the_servers_cannot_hold_are_refused(
    admin: TopicAdmin, name: str
) -> None:
    """The error names the topic's number; the topic stays as it is. One that has them is left."""
    await _make(admin, _spec(name, 1))
    with pytest.raises(WriteRefused, match="99 replicas"):
        await admin.add_replicas(name, 99)
    assert 1 == (await admin.describe([name]))[name].replication


async def test_altered_settings_leave_the_others(admin: TopicAdmin, name: str) -> None:
    """One setting changes, another stays."""
    await _make(admin, _spec(name, 1, retention_ms="5000", max_message_bytes="2000000"))
    await admin.alter(name, {"retention.ms": "-1"})
    settings = (await admin.describe([name]))[name].settings
    assert ("-1", "2000000") == (settings["retention.ms"], settings["max.message.bytes"])


async def test_start_offsets_are_committed_for_a_group_without_members(
    admin: TopicAdmin, name: str
) -> None:
    """A commit creates the group, empty, with these offsets; other partitions stay unknown."""
    group = f"{name}-group"
    count = _partitions(admin, 2)
    last = count - 1
    await _make(admin, _spec(name, count))
    assert {group: {}} == await _answered(lambda: admin.committed({group: name}))
    ends = await admin.ends({name: range(count)})
    assert {name: dict.fromkeys(range(count), 0)} == ends
    await _answered(lambda: admin.commit(group, name, {last: 0}))
    assert {group: {last: 0}} == await admin.committed({group: name})
    assert {group: GroupState.EMPTY} == await admin.groups([group])
    assert {} == await admin.delete_groups([group])
    assert {group: GroupState.ABSENT} == await admin.groups([group])


async def test_the_offsets_of_many_groups_are_read_together(admin: TopicAdmin, name: str) -> None:
    """Also of those that have none, and in a topic that does not exist."""
    groups = [f"{name}-group-{number}" for number in range(12)]
    await _make(admin, _spec(name, 1))
    for group in groups[:4]:
        await _answered(partial(admin.commit, group, name, {0: 0}))
    found = await _answered(
        lambda: admin.committed({**dict.fromkeys(groups, name), f"{name}-x": f"{name}-missing"})
    )
    expected = {group: {0: 0} if group in groups[:4] else {} for group in groups}
    assert {**expected, f"{name}-x": {}} == found
    assert {} == await admin.delete_groups(groups[:4])


async def test_deleting_a_missing_topic_counts_as_deleted(admin: TopicAdmin, name: str) -> None:
    """Deletes can be repeated after a crash."""
    assert {} == await admin.delete([name])
    assert {} == await admin.delete_groups([f"{name}-group"])


async def test_an_unreachable_jetstream_is_an_error_within_the_deadline() -> None:
    """The error names NATS and the time."""
    adapter = JetStreamTopicAdmin(NatsOptions(servers=("nats://127.0.0.1:1",), timeout_seconds=0.5))
    try:
        with pytest.raises(LogUnavailable, match=r"NATS did not answer within 0\.5 s"):
            await adapter.cluster()
    finally:
        await adapter.close()


async def test_an_unreachable_kafka_is_an_error_within_the_deadline() -> None:
    """The error names what was requested."""
    adapter = KafkaTopicAdmin(KafkaOptions(bootstrap_servers="127.0.0.1:1"), timeout_seconds=0.5)
    try:
        with pytest.raises(LogUnavailable, match="the cluster"):
            await adapter.cluster()
    finally:
        await adapter.close()
