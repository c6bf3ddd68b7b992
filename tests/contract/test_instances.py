"""One suite for live instances, in memory and on a real Kafka."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.adapters.kafka.control.instances import LIVE_SECONDS, KafkaInstances, read, write
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.log import MemoryLog
from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Instance, Instances
from headrace.runtime.clock import SystemClock
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

INGRESS = Instance(id="ingress-1", service="ingress", applied=7, seen_ms=1_000)
DISPATCHER = Instance(
    id="dispatcher-1",
    service="dispatcher",
    applied=6,
    seen_ms=1_000,
    groups={"uid-1": "breaker-open"},
)


class Adapters:
    """A reporter and a watcher; the same object in memory."""

    def __init__(
        self,
        *,
        reporter: Instances,
        watcher: Instances,
        later: Callable[[], Instances],
        clock: MemoryClock,
    ) -> None:
        self.reporter = reporter
        self.watcher = watcher
        self.later = later
        self.clock = clock


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def adapters(request: pytest.FixtureRequest) -> AsyncIterator[Adapters]:
    """Each implementation in turn."""
    clock = MemoryClock()
    if request.param == "memory":
        shared = MemoryInstances(clock)
        yield Adapters(reporter=shared, watcher=shared, later=lambda: shared, clock=clock)
        return
    kafka: KafkaUnderTest = request.getfixturevalue("kafka")
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    topic = kafka.create_topic("instances", config={"cleanup.policy": "compact"})
    log = KafkaLog(options)
    async with AsyncExitStack() as stack:
        await log.start()
        stack.push_async_callback(log.stop)
        reporter = KafkaInstances(options, log, clock, topic=topic, follow=False)
        watcher = KafkaInstances(options, log, clock, topic=topic, follow=True)
        for each in (reporter, watcher):
            await each.start()
            stack.push_async_callback(each.stop)
        yield Adapters(reporter=reporter, watcher=watcher, later=lambda: reporter, clock=clock)


def _ids(instances: Instances) -> list[str]:
    return sorted(each.id for each in instances.live())


async def test_the_newest_report_of_each_process_is_live(adapters: Adapters) -> None:
    """With all its members."""
    await adapters.reporter.report(INGRESS)
    await adapters.reporter.report(DISPATCHER)
    newer = Instance(id="ingress-1", service="ingress", applied=9, seen_ms=3_000)
    await adapters.reporter.report(newer)
    await wait_until_async(
        lambda: newer in adapters.watcher.live(), what="the newest report is live"
    )
    assert [DISPATCHER, newer] == sorted(adapters.watcher.live(), key=lambda each: each.id)


async def test_a_process_without_a_report_for_ten_seconds_is_removed(adapters: Adapters) -> None:
    """Killed ones do not report; one that keeps reporting stays."""
    await adapters.reporter.report(INGRESS)
    await adapters.reporter.report(DISPATCHER)
    await wait_until_async(lambda: 2 == len(adapters.watcher.live()), what="both are live")
    adapters.clock.advance(6)
    newer = Instance(id="ingress-1", service="ingress", applied=8, seen_ms=7_000)
    await adapters.reporter.report(newer)
    await wait_until_async(
        lambda: newer in adapters.watcher.live(), what="the ingress keeps reporting"
    )
    adapters.clock.advance(6)
    assert ["ingress-1"] == _ids(adapters.watcher)
    adapters.clock.advance(6)
    assert [] == _ids(adapters.watcher)


async def test_a_process_that_stops_is_removed_at_once(adapters: Adapters) -> None:
    """Its deregistration is a tombstone; there is no timeout to wait for."""
    await adapters.reporter.report(INGRESS)
    await wait_until_async(
        lambda: ["ingress-1"] == _ids(adapters.watcher), what="the ingress is live"
    )
    await adapters.reporter.deregister("ingress-1")
    await wait_until_async(lambda: [] == _ids(adapters.watcher), what="the ingress is removed")


@pytest.mark.kafka
async def test_a_late_watcher_knows_live_instances_and_not_dead_ones(
    kafka: KafkaUnderTest,
) -> None:
    """A report that is a minute old by Kafka's clock is dead; a recent one counts as alive until it
    expires.
    """
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    topic = kafka.create_topic("instances", config={"cleanup.policy": "compact"})
    log = KafkaLog(options)
    await log.start()
    reporter = KafkaInstances(options, log, MemoryClock(), topic=topic, follow=False)
    await reporter.report(INGRESS)
    for offset_seconds, expected in ((0.0, ["ingress-1"]), (-30.0, ["ingress-1"]), (60.0, [])):
        watcher = KafkaInstances(
            options, log, MemoryClock(time.time() + offset_seconds), topic=topic, follow=True
        )
        await watcher.start()
        assert expected == _ids(watcher)
        await watcher.stop()
    await log.stop()


@pytest.mark.kafka
async def test_nobody_is_gone_because_kafka_could_not_be_read(
    kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their reports could not arrive: they have ten seconds after the outage too."""
    answering = 0.0
    monkeypatch.setattr(CompactedTopicReader, "answering_seconds", property(lambda _: answering))
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    topic = kafka.create_topic("instances", config={"cleanup.policy": "compact"})
    log, clock = KafkaLog(options), MemoryClock()
    watcher = KafkaInstances(options, log, clock, topic=topic, follow=True)
    await log.start()
    await watcher.start()
    await watcher.report(INGRESS)
    await wait_until_async(lambda: ["ingress-1"] == _ids(watcher), what="it is live")
    clock.advance(60)
    assert ["ingress-1"] == _ids(watcher)
    answering = LIVE_SECONDS - 0.1
    assert ["ingress-1"] == _ids(watcher)
    answering = LIVE_SECONDS
    assert [] == _ids(watcher)
    await watcher.stop()
    await log.stop()


@pytest.mark.kafka
async def test_nobody_is_gone_while_kafka_is_frozen(
    private_kafka: ApacheKafka,
) -> None:
    """When Kafka answers nothing for longer than a process may be silent, nobody is gone, then and
    afterwards. The same silence of a process alone means that it is gone.
    """
    options = KafkaOptions(bootstrap_servers=private_kafka.bootstrap_servers)
    admin = AdminClient({"bootstrap.servers": private_kafka.bootstrap_servers})
    compacted = NewTopic("instances", 1, 1, config={"cleanup.policy": "compact"})
    admin.create_topics([compacted])["instances"].result(20)
    log = KafkaLog(options)
    watcher = KafkaInstances(options, log, SystemClock(), topic="instances", follow=True)

    async def report() -> None:
        while True:
            with contextlib.suppress(HeadraceError, TimeoutError):
                async with asyncio.timeout(2):
                    await watcher.report(INGRESS)
            await asyncio.sleep(1)

    await log.start()
    await watcher.start()
    reporter = asyncio.create_task(report())
    await wait_until_async(lambda: ["ingress-1"] == _ids(watcher), what="it is live")
    seen: list[list[str]] = []

    async def look(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seen.append(_ids(watcher))
            await asyncio.sleep(0.1)

    private_kafka.pause()
    try:
        await look(LIVE_SECONDS + 3)
    finally:
        private_kafka.cont()
    await look(5)
    assert [["ingress-1"]] == [each for n, each in enumerate(seen) if each not in seen[:n]]
    reporter.cancel()
    await wait_until_async(lambda: [] == _ids(watcher), 2 * LIVE_SECONDS, what="it is gone")
    await watcher.stop()
    await log.stop()


async def test_reporting_needs_the_log_to_store_it() -> None:
    """A report is produced to the log's topic with the process's id as key."""
    log = MemoryLog()
    log.create("headrace.instances")
    reporter = KafkaInstances(
        KafkaOptions(bootstrap_servers="unused:1"), log, MemoryClock(), follow=False
    )
    await reporter.report(INGRESS)
    stored = log.topics["headrace.instances"][0][0]
    assert (b"ingress-1", INGRESS) == (stored.key, read(stored.value or b""))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b'{"v":2}',
        b'{"v":1,"id":"x"}',
        b'{"v":1,"id":"x","service":"y","applied":"z","seenMs":0}',
        b"[" * 99_999,
    ],
)
def test_an_invalid_report_is_ignored(value: bytes) -> None:
    """Damaged records and those of newer formats change no instance."""
    assert read(value) is None


def test_members_of_a_newer_version_are_ignored() -> None:
    """Missing ones have their defaults."""
    assert DISPATCHER == read(write(DISPATCHER).replace(b'{"v":1', b'{"v":1,"future":1'))
    assert INGRESS == read(
        b'{"v":1,"id":"ingress-1","service":"ingress","applied":7,"seenMs":1000}'
    )
