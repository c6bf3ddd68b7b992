"""Committed offsets in a cluster of two brokers, each the coordinator of some groups."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.group_offsets.group_backlogs import GroupBacklogs
from headrace.adapters.kafka.group_offsets.topic_offsets import ANSWER_SECONDS_MAX
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.record import Partition
from tests.integration.test_group_offsets import STORED, name, offsets_in
from tests.support.kafka_pair import KafkaPair, kafka_pair
from tests.support.wait_until import wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

SECONDS = 20.0
SOON = 1.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaPair]:
    """A cluster in which the topic of the offsets exists."""
    with kafka_pair(tmp_path_factory.mktemp("pair")) as started:
        asyncio.run(_create_offsets_topic(started))
        yield started


async def test_the_coordinator_of_a_group_moves(pair: KafkaPair) -> None:
    """When it stops, and when it gets its groups back while the other one answers."""
    (group,), partition = pair.groups_of(2, 1, name()), Partition("moving", 0)
    pair.create_topic(partition.topic)
    position = Position(partition, 1, "")
    asked: list[float] = []

    def valid() -> bool:
        asked.append(time.monotonic())
        return True

    async with offsets_in(pair.bootstrap_servers) as offsets:
        assert {group: {}} == await offsets.read({group: [partition]}, SECONDS)
        await asyncio.to_thread(pair.second.stop)
        assert {group: {}} == await offsets.read({group: [partition]}, 2 * SECONDS)
        await asyncio.to_thread(pair.second.start)
        await asyncio.to_thread(pair.give_back, group)
        # The first one answers that it is not the coordinator any longer.
        assert STORED == await offsets.commit(group, [position], SECONDS, valid)
        assert len(asked) >= 2
        assert {group: {partition: position}} == await offsets.read({group: [partition]}, SECONDS)


async def test_a_frozen_broker_does_not_delay_the_groups_of_another(
    pair: KafkaPair,
) -> None:
    """They are read first; and the others when their coordinator has moved."""
    partition = Partition("t", 0)
    slow = {each: [partition] for each in pair.groups_of(2, 20, name())}
    quick = {each: [partition] for each in pair.groups_of(1, 20, name())}
    read_after: dict[str, float] = {}
    async with offsets_in(pair.bootstrap_servers) as offsets:
        await offsets.read({**slow, **quick}, SECONDS)
        pair.second.pause()
        try:
            began_at = time.monotonic()
            await offsets.read_each(
                {**slow, **quick},
                2 * SECONDS,
                lambda group, _: read_after.update({group: time.monotonic() - began_at}),
            )
        finally:
            pair.second.cont()
    assert max(read_after[each] for each in quick) < SOON
    assert min(read_after[each] for each in slow) > SOON


async def test_a_frozen_broker_does_not_hide_what_waits_on_another(pair: KafkaPair) -> None:
    """Its partitions are unknown within seconds, and known again when another one leads them."""
    # Which broker leads a topic is left to chance.
    topics = [f"backlog-{number}" for number in range(20)]
    groups = dict(
        zip(pair.groups_of(1, len(topics), name()), ([each] for each in topics), strict=True)
    )
    for each in topics:
        pair.create_topic(each)
    producer = Producer({"bootstrap.servers": pair.bootstrap_servers})
    for each in topics:
        producer.produce(each, b"x")
    assert 0 == await asyncio.to_thread(producer.flush, SECONDS)
    backlogs = GroupBacklogs(KafkaOptions(bootstrap_servers=pair.bootstrap_servers))
    try:
        assert {} == (await backlogs.read(groups, SECONDS)).unknown
        pair.second.pause()
        try:
            began_at = time.monotonic()
            found = await backlogs.read(groups, SECONDS)
            assert time.monotonic() - began_at < 3 * ANSWER_SECONDS_MAX + SOON
            assert 0 < len(found.unknown) < len(groups)
            assert {0, 1} == {found.at_least(each) for each in groups}
            async with asyncio.timeout(2 * SECONDS):
                while found.unknown:
                    found = await backlogs.read(groups, SECONDS)
            assert dict.fromkeys(groups, 1) == {each: found.exactly(each) for each in groups}
        finally:
            pair.second.cont()
    finally:
        await backlogs.close()


async def _create_offsets_topic(pair: KafkaPair) -> None:
    async with offsets_in(pair.bootstrap_servers) as offsets:
        await offsets.read({"any": [Partition("t", 0)]}, 2 * SECONDS)
    await wait_until_async(
        lambda: {1, 2} == {pair.coordinator_of(str(number)) for number in range(20)},
        SECONDS,
        "each broker leads some partitions",
    )
