"""Committed offsets are read and written for groups without being a member of them."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping

import pytest
import uvloop
from confluent_kafka import Consumer

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.group_offsets.connection import IN_FLIGHT_MAX
from headrace.adapters.kafka.group_offsets.group_offsets import (
    CommitOutcome,
    CommitResult,
    GroupOffsets,
)
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import LogUnavailable, NotFound, WriteRefused
from headrace.domain.record import Partition
from tests.support.kafka import KafkaUnderTest
from tests.support.kafka_proxy import kafka_proxy
from tests.support.wait_until import wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

SECONDS = 20.0
SOON = 1.0
STORED = CommitResult(CommitOutcome.STORED)


@contextlib.asynccontextmanager
async def offsets_in(
    servers: str, *, credentials: ClientCredentials | None = None
) -> AsyncIterator[GroupOffsets]:
    """Offsets in the Kafka at an address."""
    used = credentials or ClientCredentials()
    offsets = GroupOffsets(KafkaOptions(bootstrap_servers=servers, credentials=used))
    try:
        yield offsets
    finally:
        await offsets.close()


@pytest.fixture
def topic(kafka: KafkaUnderTest) -> str:
    """A topic with three partitions."""
    return kafka.create_topic("offsets", partitions=3)


def name() -> str:
    """The name of a group that never existed."""
    return f"group-{secrets.token_hex(6)}"


def positions_of(topic: str, offset: int, partitions: int = 3) -> list[Position]:
    """Positions with metadata in each partition of a topic."""
    return [
        Position(Partition(topic, number), offset + number, f"h1|{offset}·{number}")
        for number in range(partitions)
    ]


def by_partition(positions: list[Position]) -> Mapping[Partition, Position]:
    """As they are read."""
    return {each.partition: each for each in positions}


async def test_positions_are_read_as_they_were_committed(kafka: KafkaUnderTest, topic: str) -> None:
    """Offset and metadata, by another client too. What was not committed is absent."""
    group, positions = name(), positions_of(topic, 7)[:2]
    asked = [Partition(topic, number) for number in range(3)]
    missing = Partition("no-such-topic", 0)
    async with offsets_in(kafka.bootstrap_servers) as offsets:
        assert {group: {}} == await offsets.read({group: asked}, SECONDS)
        assert STORED == await offsets.commit(group, positions, SECONDS)
        found = await offsets.read({group: [*asked, missing], name(): asked, "none": []}, SECONDS)
        assert by_partition(positions) == found[group]
        assert [{}, {}] == list(found.values())[1:]
    async with offsets_in(kafka.bootstrap_servers) as other:
        assert {group: by_partition(positions)} == await other.read({group: asked}, SECONDS)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    try:
        seen = consumer.committed([each.to_client() for each in positions], timeout=SECONDS)
        assert [(each.offset, each.metadata) for each in seen] == [each[1:] for each in positions]
    finally:
        consumer.close()


async def test_what_a_member_has_committed_is_read_as_it_was(
    kafka: KafkaUnderTest, topic: str
) -> None:
    """librdkafka adds a character to metadata. The member was an earlier version."""
    group, positions = name(), positions_of(topic, 7)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
        }
    )
    try:
        await asyncio.to_thread(
            consumer.commit, offsets=[each.to_client() for each in positions], asynchronous=False
        )
    finally:
        consumer.close()
    async with offsets_in(kafka.bootstrap_servers) as offsets:
        found = await offsets.read({group: [each.partition for each in positions]}, SECONDS)
    assert {group: by_partition(positions)} == found


async def test_many_groups_are_read_and_committed_at_once(
    kafka: KafkaUnderTest, topic: str
) -> None:
    """More than are in one request, and than are in flight."""
    groups = {name(): positions_of(topic, number) for number in range(300)}
    seen: dict[str, Mapping[Partition, Position]] = {}
    async with offsets_in(kafka.bootstrap_servers) as offsets:
        results = await asyncio.gather(
            *(offsets.commit(group, positions, SECONDS) for group, positions in groups.items())
        )
        assert {CommitOutcome.STORED} == {each.outcome for each in results}
        asked = {group: [each.partition for each in groups[group]] for group in groups}
        found = await offsets.read(asked, SECONDS)
        assert {} == await offsets.read_each(asked, SECONDS, seen.__setitem__)
    assert {group: by_partition(each) for group, each in groups.items()} == found == seen


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_group_with_members_refuses(
    kafka: KafkaUnderTest, topic: str, protocol: str
) -> None:
    """Whichever protocol they use; it accepts when they have left. Reading works always."""
    group, positions = name(), positions_of(topic, 3)
    partitions = [each.partition for each in positions]
    member = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": group,
            "group.protocol": protocol,
            "enable.auto.commit": False,
        }
    )
    async with offsets_in(kafka.bootstrap_servers) as offsets:
        try:
            member.subscribe([topic])
            await wait_until_async(
                lambda: member.poll(0) is None and member.assignment(), SECONDS, "it has joined"
            )
            refused = await offsets.commit(group, positions, SECONDS)
            assert CommitOutcome.MEMBERS == refused.outcome
            assert group in refused.reason
            assert {group: {}} == await offsets.read({group: partitions}, SECONDS)
        finally:
            member.close()
        assert STORED == await offsets.commit(group, positions, SECONDS)
        assert {group: by_partition(positions)} == await offsets.read({group: partitions}, SECONDS)


async def test_a_partition_that_does_not_exist_is_refused(
    kafka: KafkaUnderTest, topic: str
) -> None:
    """And metadata that is too long; the positions of the others are stored."""
    group, good = name(), positions_of(topic, 5)[0]
    long = Position(Partition(topic, 1), 1, "x" * 5_000)
    no_partition = Position(Partition(topic, 3), 1, "")
    no_topic = Position(Partition("no-such-topic", 0), 1, "")
    async with offsets_in(kafka.bootstrap_servers) as offsets:
        result = await offsets.commit(group, [no_topic, good, no_partition, long], SECONDS)
        asked = [each.partition for each in (good, long)]
        assert {group: by_partition([good])} == await offsets.read({group: asked}, SECONDS)
    assert CommitOutcome.REFUSED == result.outcome
    kinds = {partition: type(error) for partition, error in result.refused.items()}
    assert {
        no_topic.partition: NotFound,
        no_partition.partition: NotFound,
        long.partition: WriteRefused,
    } == kinds
    assert all(group in str(each) for each in result.refused.values())


async def test_nothing_is_written_after_it_became_invalid(
    kafka: KafkaUnderTest, topic: str
) -> None:
    """The question comes after the connection was made, and no byte of the commit follows."""
    connected: list[bool] = []
    with kafka_proxy(kafka.bootstrap_servers) as proxy:
        proxy.without_commits = True

        def invalid() -> bool:
            connected.append(proxy.accepted > 0)
            return False

        async with offsets_in(proxy.address) as offsets:
            result = await offsets.commit(name(), positions_of(topic, 1), SECONDS, invalid)
            # Answered after everything that was written before.
            await offsets.read({name(): [Partition(topic, 0)]}, SECONDS)
    assert CommitOutcome.WITHDRAWN == result.outcome
    assert [True] == connected
    assert 0 == proxy.discarded


async def test_a_commit_without_an_answer_is_unknown_and_not_repeated(
    kafka: KafkaUnderTest, topic: str
) -> None:
    """Neither at its deadline nor when its connection is lost; the next one works."""
    with kafka_proxy(kafka.bootstrap_servers) as proxy:
        async with offsets_in(proxy.address) as offsets:
            proxy.without_commits = True
            late = await offsets.commit(name(), positions_of(topic, 1), SOON)
            lost = asyncio.create_task(offsets.commit(name(), positions_of(topic, 1), SECONDS))
            await wait_until_async(lambda: proxy.discarded == 2, SECONDS, "both are sent")
            proxy.cut()
            assert [CommitOutcome.UNKNOWN] * 2 == [late.outcome, (await lost).outcome]
            proxy.without_commits = False
            assert STORED == await offsets.commit(name(), positions_of(topic, 1), SECONDS)
    assert 2 == proxy.discarded


async def test_a_connection_that_does_not_answer_is_replaced(
    kafka: KafkaUnderTest, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when each of its callers has a shorter deadline."""
    monkeypatch.setattr("headrace.adapters.kafka.group_offsets.connection.ANSWER_SECONDS", 2 * SOON)
    credentials = ClientCredentials()
    with kafka_proxy(kafka.bootstrap_servers) as proxy:
        async with offsets_in(proxy.address, credentials=credentials) as offsets:
            proxy.without_commits = True
            result = await offsets.commit(name(), positions_of(topic, 1), SOON)
            assert CommitOutcome.UNKNOWN == result.outcome
            assert 1 == credentials.clients
            await wait_until_async(lambda: not credentials.clients, SECONDS, "it is closed")
            proxy.without_commits = False
            assert STORED == await offsets.commit(name(), positions_of(topic, 1), SECONDS)


async def test_a_frozen_broker_uses_up_the_deadline(private_kafka: ApacheKafka) -> None:
    """Reads fail with group and reason. What was sent is unknown, what waited for its turn is
    asked once more when the broker continues, and withdrawn.
    """
    group, valid = name(), True
    partition = Partition("t", 0)
    async with offsets_in(private_kafka.bootstrap_servers) as offsets:
        await offsets.read({group: [partition]}, SECONDS)
        private_kafka.pause()
        try:
            began_at = time.monotonic()
            with pytest.raises(LogUnavailable, match=f"group {group}.* within 1 s"):
                await offsets.read({group: [partition]}, SOON)
            result = await offsets.commit(group, [Position(partition, 1, "")], SOON)
            assert 2 * SOON <= time.monotonic() - began_at < 3 * SOON
            assert CommitOutcome.UNKNOWN == result.outcome
            waiting = [
                asyncio.create_task(
                    offsets.commit(group, [Position(partition, 1, "")], SECONDS, lambda: valid)
                )
                for _ in range(IN_FLIGHT_MAX)
            ]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            valid = False
        finally:
            private_kafka.cont()
        outcomes = [(await each).outcome for each in waiting]
    # Two places are those of the requests before, whose answers come after all.
    assert [CommitOutcome.REFUSED] * (IN_FLIGHT_MAX - 2) == outcomes[:-2]
    assert [CommitOutcome.WITHDRAWN] * 2 == outcomes[-2:]


async def test_it_continues_after_a_restart(private_kafka: ApacheKafka) -> None:
    """Of the only broker: calls that begin meanwhile wait for it."""
    group, partition = name(), Partition("t", 0)
    async with offsets_in(private_kafka.bootstrap_servers) as offsets:
        assert {group: {}} == await offsets.read({group: [partition]}, SECONDS)
        private_kafka.kill()
        with pytest.raises(LogUnavailable, match=group):
            await offsets.read({group: [partition]}, SOON)
        down = await offsets.commit(group, [Position(partition, 1, "")], SOON)
        assert CommitOutcome.UNAVAILABLE == down.outcome
        reading = asyncio.create_task(offsets.read({group: [partition]}, 3 * SECONDS))
        committing = asyncio.create_task(
            offsets.commit(group, [Position(partition, 1, "")], 3 * SECONDS)
        )
        await asyncio.to_thread(private_kafka.start)
        assert {group: {}} == await reading
        assert CommitOutcome.REFUSED == (await committing).outcome  # There is no such topic.


async def test_connections_are_replaced_after_credentials_were_renewed(
    private_kafka: ApacheKafka,
) -> None:
    """What is in flight is answered on the old one."""
    credentials = ClientCredentials(spread_seconds=0.0)
    group, partition = name(), Partition("t", 0)
    async with offsets_in(private_kafka.bootstrap_servers, credentials=credentials) as offsets:
        await offsets.read({group: [partition]}, SECONDS)
        assert 1 == credentials.clients
        private_kafka.pause()
        try:
            in_flight = asyncio.create_task(offsets.read({group: [partition]}, SECONDS))
            await asyncio.sleep(SOON / 10)  # It is written; nothing shows that outside.
            # What the listener does not understand.
            assert 1 == credentials.renew({"security.protocol": "SSL"})
            later = await offsets.commit(group, [Position(partition, 1, "")], SOON)
        finally:
            private_kafka.cont()
        assert [{}] == list((await in_flight).values())
        assert CommitOutcome.UNAVAILABLE == later.outcome
        credentials.renew({})
        await offsets.read({name(): [partition]}, SECONDS)


async def test_settings_that_it_cannot_honour_are_refused(kafka: KafkaUnderTest) -> None:
    """They are about security, so that they are not left out."""
    unknown = ClientCredentials({"ssl.crl.location": "/crl.pem"})
    async with offsets_in(kafka.bootstrap_servers, credentials=unknown) as offsets:
        with pytest.raises(WriteRefused, match=r"ssl\.crl\.location"):
            await offsets.read({name(): [Partition("t", 0)]}, SECONDS)


async def test_the_first_of_several_bootstrap_servers_may_be_down(
    kafka: KafkaUnderTest, topic: str
) -> None:
    """Another one is asked."""
    async with offsets_in(f"127.0.0.1:1,{kafka.bootstrap_servers}") as offsets:
        assert STORED == await offsets.commit(name(), positions_of(topic, 1), SECONDS)


async def test_calls_fail_when_it_is_closed(kafka: KafkaUnderTest, topic: str) -> None:
    """Those in progress, and later ones."""
    with kafka_proxy(kafka.bootstrap_servers) as proxy:
        async with offsets_in(proxy.address) as offsets:
            proxy.without_commits = True
            sent = asyncio.create_task(offsets.commit(name(), positions_of(topic, 1), SECONDS))
            await wait_until_async(lambda: proxy.discarded == 1, SECONDS, "it is sent")
            await offsets.close()
            assert CommitOutcome.UNKNOWN == (await sent).outcome
            later = await offsets.commit(name(), positions_of(topic, 1), SECONDS)
            assert CommitOutcome.UNAVAILABLE == later.outcome
            with pytest.raises(LogUnavailable, match="closed"):
                await offsets.read({name(): [Partition(topic, 0)]}, SECONDS)


def test_it_works_on_uvloop(kafka: KafkaUnderTest, topic: str) -> None:
    """The event loop of the services."""

    async def store() -> CommitResult:
        async with offsets_in(kafka.bootstrap_servers) as offsets:
            return await offsets.commit(name(), positions_of(topic, 1), SECONDS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert STORED == runner.run(store())


async def test_the_embedded_kafka_answers_one_group_per_request(
    embedded_kafka: KafkaUnderTest,
) -> None:
    """It has older versions of the requests."""
    topic = embedded_kafka.create_topic("offsets", partitions=3)
    groups = {name(): positions_of(topic, number) for number in range(20)}
    async with offsets_in(embedded_kafka.bootstrap_servers) as offsets:
        for group, positions in groups.items():
            assert STORED == await offsets.commit(group, positions, SECONDS)
        asked = {group: [each.partition for each in groups[group]] for group in groups}
        found = await offsets.read(asked, SECONDS)
    assert {group: by_partition(each) for group, each in groups.items()} == found


def test_nothing_of_the_client_library_is_logged() -> None:
    """Its lines contain passwords."""
    logger = logging.getLogger("aiokafka.conn")
    assert not logger.isEnabledFor(logging.CRITICAL)
