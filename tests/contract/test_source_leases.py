"""One suite for the leases of sources, in memory and on a real Kafka; and what only several
processes show.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
from confluent_kafka import Producer

from headrace.adapters.kafka.control.source_leases import (
    CURSOR_BYTES_MAX,
    KafkaSourceLeases,
    partition_of,
)
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.memory.source_leases import MemorySourceLeases
from headrace.domain.errors import Fenced
from headrace.domain.ports import SourceLeases
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

UIDS = [f"0b5c7e0a-0000-4000-8000-{number:012d}" for number in range(40)]
PARTITIONS = 8


class Listener:
    """Counts, and waits in `on_released` until the test lets it return."""

    def __init__(self) -> None:
        self.acquired = 0
        self.released = 0
        self.ended = asyncio.Event()
        self.ended.set()

    def on_acquired(self) -> None:
        """See the port."""
        self.acquired += 1

    async def on_released(self) -> None:
        """See the port."""
        self.released += 1
        await self.ended.wait()


Open = Callable[[], SourceLeases]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def open_leases(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Each implementation in turn: creates the leases of one more process."""
    if request.param == "memory":
        leases = MemorySourceLeases()
        yield lambda: leases
        return
    async with _on_kafka(request.getfixturevalue("kafka")) as opened:
        yield opened


class _on_kafka:
    def __init__(self, kafka: KafkaUnderTest) -> None:
        self._kafka = kafka
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Open:
        servers = self._kafka.bootstrap_servers
        options = KafkaOptions(bootstrap_servers=servers)
        topic = self._kafka.create_topic(
            "sources", partitions=PARTITIONS, config={"cleanup.policy": "compact"}
        )
        log = KafkaLog(options)
        await log.start()
        self._stack.push_async_callback(log.stop)

        def opened() -> SourceLeases:
            leases = KafkaSourceLeases(options, log, topic=topic, partitions=PARTITIONS)
            self._stack.push_async_callback(leases.stop)
            return leases

        return opened

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


def _held(leases: SourceLeases, uids: Sequence[str] = UIDS) -> set[str]:
    return {uid for uid in uids if leases.holds(uid)}


async def _hold_all(leases: SourceLeases) -> None:
    await wait_until_async(
        lambda: len(_held(leases)) == len(UIDS), 30.0, what="one process holds all leases"
    )


async def test_one_process_holds_all_and_keeps_their_cursors(open_leases: Open) -> None:
    """A cursor is read back, replaced and removed."""
    leases, listener = open_leases(), Listener()
    await leases.start(listener)
    await _hold_all(leases)
    assert listener.acquired
    assert leases.cursor(UIDS[0]) is None
    await leases.save_cursor(UIDS[0], "first")
    await leases.save_cursor(UIDS[0], "second")
    await leases.save_cursor(UIDS[1], "other")
    assert leases.cursor(UIDS[0]) == "second"
    await leases.save_cursor(UIDS[1], None)
    assert leases.cursor(UIDS[1]) is None


@pytest.mark.kafka
async def test_the_next_process_continues_where_the_last_one_was(kafka: KafkaUnderTest) -> None:
    """It knows every cursor before it holds a lease."""
    async with _on_kafka(kafka) as opened:
        first = opened()
        await first.start(Listener())
        await _hold_all(first)
        for number, uid in enumerate(UIDS):
            await first.save_cursor(uid, f"at {number}")
        await first.stop()
        assert not _held(first)
        second = opened()
        wrong: list[str] = []

        class Checks(Listener):
            def on_acquired(self) -> None:
                wrong.extend(
                    uid for uid in _held(second) if second.cursor(uid) != f"at {UIDS.index(uid)}"
                )

        await second.start(Checks())
        await _hold_all(second)
        assert wrong == []


@pytest.mark.kafka
async def test_two_processes_share_and_never_hold_the_same_one(kafka: KafkaUnderTest) -> None:
    """The first gives leases away only after its work has ended."""
    async with _on_kafka(kafka) as opened:
        first, second, listener = opened(), opened(), Listener()
        await first.start(listener)
        await _hold_all(first)
        listener.ended.clear()
        await second.start(Listener())
        await wait_until_async(lambda: listener.released > 0, 30.0, what="leases are taken away")
        # The second one waits for the work of the first.
        assert not _held(second)
        given = set(UIDS) - _held(first)
        assert given
        with pytest.raises(Fenced):
            await first.save_cursor(min(given), "too late")
        listener.ended.set()

        def shared() -> bool:
            assert not _held(first) & _held(second)
            return _held(first) | _held(second) == set(UIDS) and bool(_held(second))

        await wait_until_async(shared, 30.0, what="both hold their leases")
        await first.stop()
        await _hold_all(second)


@pytest.mark.kafka
async def test_a_cursor_has_a_limit(kafka: KafkaUnderTest) -> None:
    """The error names it."""
    async with _on_kafka(kafka) as opened:
        leases = opened()
        await leases.start(Listener())
        await _hold_all(leases)
        with pytest.raises(ValueError, match=str(CURSOR_BYTES_MAX)):
            await leases.save_cursor(UIDS[0], "x" * (CURSOR_BYTES_MAX + 1))
        assert leases.cursor(UIDS[0]) is None


@pytest.mark.kafka
def test_a_key_is_in_the_partition_that_kafka_chooses(kafka: KafkaUnderTest) -> None:
    """The leases must be looked for where the producer writes their cursors."""
    topic = kafka.create_topic(partitions=7)
    found: dict[bytes, int] = {}
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"}
    )
    keys = [b"", b"a", b"ab", b"abc", b"abcd", b"abcde", "öäü".encode(), *map(str.encode, UIDS)]
    for key in keys:
        producer.produce(
            topic,
            b"",
            key=key or b"-",
            on_delivery=lambda _, message: found.__setitem__(
                message.key() or b"", message.partition() or 0
            ),
        )
    assert producer.flush(20.0) == 0
    assert {key: partition_of(key, 7) for key in found} == found
