"""Resources and topics that are created, deleted and changed under load: no old event is delivered,
no event acknowledged after Ready is lost.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from math import inf
from pathlib import Path

import psutil
import pytest
from bench.load import write_backlog

from headrace.codec.routing import read
from headrace.domain.routing import Addressable
from tests.support.checker import Expectation, Generation, Run, check, losses, without_faults
from tests.support.embedded_headrace import EmbeddedHeadrace, embedded_headrace_in
from tests.support.embedded_limits import skip_what_the_embedded_kafka_cannot
from tests.support.event_writers import Load, Writer
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    condition,
    group_of,
    headrace_in,
    stays_true,
    wait_for_events,
)
from tests.support.ledger import TYPES, Entry, Ledger, Outcome, numbered
from tests.support.log_view import write_events
from tests.support.manifests import broker, broker_config, delivery, trigger
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

pytestmark = pytest.mark.timeout(180)
NAMESPACE = "life"
BACKLOG = 100_000
BACKLOG_SECONDS = 90.0
"""The limit on a machine that runs other tests too; alone, a quarter of it is needed."""
BACKLOG_CPU_SECONDS = 20.0
"""The CPU time of the dispatcher: 200 µs per event on any machine."""
WAITING = 20_000
MEMORY_MIB = 150.0
NOISE_MS = 100.0
"""Percentiles below this are due to the machine."""
WINDOWS = 4
"""How often latencies are measured before they count as bad: other load on the machine is
temporary, interference between subscribers is not.
"""
IN_BACKOFF = 120
FAILING_EVERY = 1_009
"""Events whose number is a multiple of this fail. Other writers of this module send fewer
events.
"""
ALL = (Generation(frozenset(TYPES)),)


@pytest.fixture(
    scope="module", params=[pytest.param("apache", marks=pytest.mark.kafka), "embedded"]
)
def installation(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[HeadraceUnderTest]:
    """One installation for all tests of this module; each test has its own Broker."""
    make = headrace_in if request.param == "apache" else embedded_headrace_in
    with make(tmp_path_factory.mktemp("life")) as started:
        yield started


@pytest.fixture
def system(installation: HeadraceUnderTest, request: pytest.FixtureRequest) -> HeadraceUnderTest:
    """The installation, for tests that can be run alone."""
    if isinstance(installation, EmbeddedHeadrace):
        skip_what_the_embedded_kafka_cannot(request)
    return installation


@contextlib.asynccontextmanager
async def _load(
    system: HeadraceUnderTest, path: str, directory: Path, *, names: int = 4, rate: float = 25.0
) -> AsyncIterator[Ledger]:
    """Persistent writers that post to a path of the ingress."""
    ledger = Ledger(directory / "ledger.jsonl")
    prefix = path.rpartition("/")[2]
    writers = [
        Writer(
            name=f"{prefix}-{number}",
            host="127.0.0.1",
            port=system.ingress_port,
            path=path,
            rate=rate,
        )
        for number in range(names)
    ]
    load = Load(system.seed, ledger, writers)
    load.start()
    try:
        yield ledger
    finally:
        await load.stop()
        ledger.close()


def _run(system: HeadraceUnderTest, entries: list[Entry], *sinks: str, only: bool = False) -> Run:
    """Return the checker's result for a ledger and these sinks, without faults. `only` ignores
    arrivals of other events.
    """
    known = {entry.id for entry in entries}
    arrivals = [
        each
        for each in system.sinks.arrivals()
        if each.sink in sinks and (not only or each.event in known)
    ]
    expectations = [Expectation(name=sink, generations=ALL) for sink in sinks]
    return without_faults(system.seed, entries, arrivals, expectations)


async def _wait_acknowledged(ledger: Ledger, more: int) -> None:
    seen = ledger.totals.acknowledged
    await asyncio.to_thread(
        wait_until,
        lambda: ledger.totals.acknowledged >= seen + more,
        20.0,
        f"{more} more events are acknowledged",
    )


async def test_recreated_trigger_gets_no_old_events(
    system: HeadraceUnderTest, tmp_path: Path
) -> None:
    """A Trigger that is deleted with a backlog and created again under load gets all events sent
    after Ready, and none from before.
    """
    system.sinks.script("old", Script(status=503))
    policy = delivery(retry=10, delay="PT5S")
    await asyncio.to_thread(
        system.establish,
        broker(NAMESPACE, "again"),
        trigger(NAMESPACE, "again", system.sinks.url("old"), broker="again", delivery=policy),
    )
    async with _load(system, f"/{NAMESPACE}/again", tmp_path) as ledger:
        await _wait_acknowledged(ledger, 100)
        deleted = time.monotonic()
        await asyncio.to_thread(
            system.delete, trigger(NAMESPACE, "again", system.sinks.url("old"), broker="again")
        )
        gone = time.monotonic()
        await _wait_acknowledged(ledger, 20)
        await asyncio.to_thread(
            system.establish, trigger(NAMESPACE, "again", system.sinks.url("new"), broker="again")
        )
        ready = time.monotonic()
        await _wait_acknowledged(ledger, 100)
    owed = [entry for entry in ledger.entries() if entry.sent_at > ready]
    await asyncio.to_thread(
        wait_until,
        lambda: not losses(_run(system, owed, "new")),
        20.0,
        "all sent after Ready arrive",
        every=0.2,
    )
    arrivals = system.sinks.arrivals()
    old = {
        entry.id
        for entry in ledger.entries()
        if entry.settled_at is not None and entry.settled_at < deleted
    }
    assert old & {arrival.event for arrival in arrivals if arrival.sink == "new"} == set()
    assert [
        arrival for arrival in arrivals if arrival.sink == "old" and arrival.start > gone + 1.0
    ] == []


async def test_partitions_added_under_load(system: HeadraceUnderTest, tmp_path: Path) -> None:
    """A channel topic gets more partitions under load: what a writer sends to the new ones is
    delivered from the first event on.
    """
    manifests = [
        broker_config(NAMESPACE, "few", partitions=2),
        broker(NAMESPACE, "growing", config="few"),
        trigger(NAMESPACE, "growing", system.sinks.url("growing"), broker="growing"),
    ]
    await asyncio.to_thread(system.establish, *manifests)
    topic = f"knative-broker-{NAMESPACE}-growing"
    async with _load(system, f"/{NAMESPACE}/growing", tmp_path) as ledger:
        await _wait_acknowledged(ledger, 50)
        await asyncio.to_thread(system.log.grow, topic, 6)
        for partition in range(2, 6):
            # Not through the ingress: its producer learns of new partitions when it next refreshes
            # its metadata.
            events = [
                numbered(system.seed, f"direct-{partition}", counter) for counter in range(20)
            ]
            await asyncio.to_thread(
                write_events, system.log.bootstrap_servers, topic, events, partition=partition
            )
            for event in events:
                ledger.sent(event, time.monotonic())
                ledger.settled(event, Outcome.OK, time.monotonic(), status=202)
        await _wait_acknowledged(ledger, 100)
    entries = ledger.entries()
    await asyncio.to_thread(
        wait_until,
        lambda: not losses(_run(system, entries, "growing")),
        40.0,
        "all arrive",
        every=0.3,
    )
    assert check(_run(system, entries, "growing")).violations == []


@pytest.mark.clause("T5")
async def test_event_after_ready_survives_a_crash_before_the_first_commit(
    system: HeadraceUnderTest,
) -> None:
    """Ready is reliable: an event that is accepted right after it arrives, although the dispatcher
    is killed immediately.
    """
    for attempt in range(2):
        name = f"ready-{attempt}"
        await asyncio.to_thread(
            system.establish,
            broker(NAMESPACE, name),
            trigger(NAMESPACE, name, system.sinks.url(name), broker=name),
        )
        system.services["dispatcher-0"].kill()
        assert (
            await asyncio.to_thread(
                system.send, numbered(system.seed, name, 0), f"/{NAMESPACE}/{name}"
            )
            == 202
        )
        system.run("dispatcher-0")
        await asyncio.to_thread(wait_for_events, system, name, 1, seconds=20.0)


def test_start_on_a_backlog(system: HeadraceUnderTest) -> None:
    """A dispatcher that starts on 100,000 waiting events delivers them all, each once, within the
    limits of time and CPU.
    """
    system.establish(
        broker_config(NAMESPACE, "wide", partitions=10), broker(NAMESPACE, "backlog", config="wide")
    )
    system.establish(trigger(NAMESPACE, "backlog", system.sinks.url("backlog"), broker="backlog"))
    system.services["dispatcher-0"].stop()
    write_backlog(
        system.log.bootstrap_servers, f"knative-broker-{NAMESPACE}-backlog", BACKLOG, size=32
    )
    started = time.monotonic()
    system.run("dispatcher-0")
    wait_until(
        lambda: system.sinks.events("backlog") >= BACKLOG,
        BACKLOG_SECONDS,
        "the backlog is delivered",
        every=0.25,
    )
    times = psutil.Process(system.services["dispatcher-0"].pid).cpu_times()
    print(
        f"{BACKLOG} events in {time.monotonic() - started:.1f} s, {times.user + times.system:.1f} s"
        " of processor"
    )
    assert times.user + times.system <= BACKLOG_CPU_SECONDS
    assert system.sinks.counts("backlog")["accepted"] == BACKLOG


def test_largest_event_can_be_dead_lettered(system: HeadraceUnderTest) -> None:
    """The largest event that the ingress accepts, refused by its subscriber with a long answer, is
    complete in the dead letter topic.
    """
    system.sinks.script(
        "heavy", Script(status=400, body="x" * 4096, headers={"kne-detail": "y" * 200})
    )
    manifest = trigger(NAMESPACE, "heavy", system.sinks.url("heavy"), broker="heavy")
    system.establish(broker(NAMESPACE, "heavy"), manifest)
    routes = [
        read((each.key or b"").decode(), each.value)
        for each in system.log.records("headrace.routing")
        if each.value
    ]
    topic = f"knative-broker-{NAMESPACE}-heavy"
    limit = next(
        route.event_bytes_max
        for route in reversed(routes)
        if isinstance(route, Addressable) and route.topic == topic
    )
    path = f"/{NAMESPACE}/heavy"
    assert system.send(numbered(system.seed, "heavy", 0, size=limit + 1), path) == 413
    size = next(
        size
        for size in range(limit, limit - 4096, -64)
        if system.send(numbered(system.seed, "heavy", 1, size=size), path) == 202
    )
    dead = f"{group_of(system.get(manifest) or manifest)}.dead"
    wait_until(lambda: system.log.records(dead), 20.0, f"the event is in {dead}", every=0.2)
    (record,) = system.log.records(dead)
    assert record.value == numbered(system.seed, "heavy", 1, size=size).data
    assert limit - size < 2048


async def test_topic_deleted_externally(system: HeadraceUnderTest, tmp_path: Path) -> None:
    """A channel topic is deleted: its Broker reports it, no event for it gets a 202, and another
    Broker's events continue.
    """
    manifests = {
        name: (
            broker(NAMESPACE, name),
            trigger(NAMESPACE, name, system.sinks.url(name), broker=name),
        )
        for name in ("vanishing", "staying")
    }
    await asyncio.to_thread(
        system.establish, *(each for pair in manifests.values() for each in pair)
    )
    async with _load(system, f"/{NAMESPACE}/staying", tmp_path) as ledger:
        await _wait_acknowledged(ledger, 20)
        await asyncio.to_thread(system.log.delete, [f"knative-broker-{NAMESPACE}-vanishing"])
        await asyncio.to_thread(
            wait_until,
            lambda: (
                condition(system.get(manifests["vanishing"][0]) or {}, "Ready").get("status")
                == "False"
            ),
            60.0,
            "the Broker is not Ready",
            every=0.2,
        )
        found = condition(system.get(manifests["vanishing"][0]) or {}, "Ready")
        assert found.get("reason")
        assert "topic" in f"{found.get('reason')} {found.get('message')}".lower()
        status = await asyncio.to_thread(
            system.send, numbered(system.seed, "vanishing", 0), f"/{NAMESPACE}/vanishing"
        )
        assert status in (404, 503)
        await _wait_acknowledged(ledger, 40)
        assert condition(system.get(manifests["staying"][0]) or {}, "Ready").get("status") == "True"
    entries = ledger.entries()
    await asyncio.to_thread(
        wait_until,
        lambda: not losses(_run(system, entries, "staying")),
        20.0,
        "all arrive",
        every=0.2,
    )
    assert {name: process.running for name, process in system.services.items()} == dict.fromkeys(
        system.services, True
    )


def test_colliding_names_stay_separate(system: HeadraceUnderTest) -> None:
    """Joined with hyphens, `a`/`b-c` and `a-b`/`c` would have the same topic and group. Each gets
    only its own events, also while the other is deleted.
    """
    places = {"first": ("a", "b-c"), "second": ("a-b", "c")}
    manifests = {
        sink: (
            broker(namespace, name),
            trigger(namespace, name, system.sinks.url(sink), broker=name),
        )
        for sink, (namespace, name) in places.items()
    }
    system.establish(*(each for pair in manifests.values() for each in pair))
    for sink, (namespace, name) in places.items():
        for counter in range(5):
            assert system.send(numbered(system.seed, sink, counter), f"/{namespace}/{name}") == 202
    for sink in places:
        wait_for_events(system, sink, 5)
    assert stays_true(
        lambda: all(system.sinks.counts(sink)["requests"] == 5 for sink in places), seconds=0.5
    )
    assert {
        (each.sink, each.event.partition(".")[0])
        for each in system.sinks.arrivals()
        if each.sink in places
    } == {(sink, sink) for sink in places}
    system.delete(*reversed(manifests["first"]))
    assert system.send(numbered(system.seed, "second", 5), "/a-b/c") == 202
    wait_for_events(system, "second", 6)


def _all_arrived(system: HeadraceUnderTest, entries: list[Entry], sink: str) -> bool:
    return not losses(_run(system, entries, sink, only=True))


async def _stays_undisturbed(
    system: HeadraceUnderTest, ledger: Ledger, calm_until: float, sink: str, *, events: int
) -> None:
    """Check that in one of a few windows of this many additional events, these reach `sink` as fast
    as the events that were sent before `calm_until`.
    """
    for _ in range(WINDOWS):
        began_at = time.monotonic()
        await _wait_acknowledged(ledger, events)
        calm = await _p99_ms(system, ledger, sink, 0.0, calm_until)
        now = await _p99_ms(system, ledger, sink, began_at, inf)
        print(f"p99 of {sink} before {calm:.0f} ms, beside what fails {now:.0f} ms")
        if now <= max(2 * calm, NOISE_MS):
            return
    pytest.fail(
        f"p99 of {sink} stayed above twice the calm one and {NOISE_MS:g} ms in {WINDOWS} windows"
    )


async def _p99_ms(
    system: HeadraceUnderTest, ledger: Ledger, sink: str, begin: float, end: float
) -> float:
    """Return the latency of the acknowledged events that were sent in this time, all of which must
    arrive.
    """
    acknowledged = [
        each
        for each in ledger.entries()
        if begin <= each.sent_at < end and each.outcome is Outcome.OK
    ]
    arrived = partial(_all_arrived, system, acknowledged, sink)
    await asyncio.to_thread(wait_until, arrived, 20.0, "all arrive", every=0.2)
    report = check(_run(system, acknowledged, sink, only=True))
    assert report.violations == []
    return report.p99_ms or 0.0


async def test_hanging_subscriber_costs_only_itself(
    system: HeadraceUnderTest, tmp_path: Path
) -> None:
    """With a subscriber that never answers and 20,000 events waiting for it, the events of the
    other subscriber arrive as before and the memory stays small.
    """
    system.sinks.script("stuck", Script(mode=Mode.HANG))
    free, stuck = (
        trigger(NAMESPACE, name, system.sinks.url(name), broker="isolated")
        for name in ("free", "stuck")
    )
    await asyncio.to_thread(system.establish, broker(NAMESPACE, "isolated"), free)
    async with _load(system, f"/{NAMESPACE}/isolated", tmp_path, names=8) as ledger:
        await _wait_acknowledged(ledger, 400)
        calm_until = time.monotonic()
        await asyncio.to_thread(system.establish, stuck)
        await _stays_undisturbed(system, ledger, calm_until, "free", events=800)

    already = system.sinks.events("free")
    await asyncio.to_thread(
        write_backlog, system.log.bootstrap_servers, f"knative-broker-{NAMESPACE}-isolated", WAITING
    )
    await asyncio.to_thread(wait_for_events, system, "free", already + WAITING, seconds=40.0)
    memory = psutil.Process(system.services["dispatcher-0"].pid).memory_info().rss / (1 << 20)
    assert system.sinks.events("stuck") == 0
    assert memory < MEMORY_MIB


async def test_events_in_backoff_do_not_delay_others_of_their_trigger(
    system: HeadraceUnderTest, tmp_path: Path
) -> None:
    """With 120 events that wait for their next attempt, a thousand successful events of the same
    Trigger arrive as before.
    """
    path, policy = f"/{NAMESPACE}/mixed", delivery(retry=10, delay="PT1M")
    await asyncio.to_thread(
        system.establish,
        broker(NAMESPACE, "mixed"),
        trigger(NAMESPACE, "mixed", system.sinks.url("mixed"), broker="mixed", delivery=policy),
    )
    failing = [
        numbered(system.seed, "failing", FAILING_EVERY * number)
        for number in range(1, IN_BACKOFF + 1)
    ]
    async with _load(system, path, tmp_path, names=8) as ledger:
        await _wait_acknowledged(ledger, 400)
        calm_until = time.monotonic()
        system.sinks.script("mixed", Script(poison={f"{FAILING_EVERY}:0": 500}))
        for event in failing:
            assert await asyncio.to_thread(system.send, event, path) == 202

        def all_refused() -> bool:
            refused = {
                each.event
                for each in system.sinks.arrivals()
                if each.sink == "mixed" and each.status == 500
            }
            return refused == {event.id for event in failing}

        await asyncio.to_thread(
            wait_until, all_refused, 20.0, "each has had its first attempt", every=0.2
        )
        await _stays_undisturbed(system, ledger, calm_until, "mixed", events=1_000)
    again = [
        each
        for each in system.sinks.arrivals()
        if each.sink == "mixed" and each.event.startswith("failing.")
    ]
    assert len(again) == IN_BACKOFF
