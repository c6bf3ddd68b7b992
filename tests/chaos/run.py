"""The ledger run: warm-up until every subscription has its first event; load, first without and
then with faults; the bad subscribers recover; drain until every group has processed its topics; one
more event for every subscription; the result.

`python -m tests.chaos` runs it and the other parts of `make chaos`.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.options import GroupProtocol
from headrace.codec.delivery_state import InvalidDeliveryState
from headrace.codec.delivery_state import read as read_delivery_state
from tests.chaos.faults import Faults
from tests.chaos.observer import Observer, delay_topics
from tests.chaos.scenario import (
    BY_NAME,
    DEAD_LETTERS,
    HASTY,
    NAMESPACE,
    NARROW,
    PERSISTENT,
    PROBES,
    ROLES,
    TENANT,
    TENANTS,
    TRAP,
    WIDE,
    A,
    B,
    configure_sinks,
    foundation,
    heal,
)
from tests.support.checker import Expectation, Generation, Probe, Run, check, losses
from tests.support.event_writers import Load, Writer
from tests.support.headrace_under_test import HeadraceUnderTest, group_of, kafka_for_headrace
from tests.support.ledger import (
    ADDED,
    TYPES,
    Arrival,
    DeadLettered,
    Ledger,
    Numbered,
    Outcome,
    damage,
    numbered,
)
from tests.support.manifests import Manifest
from tests.support.nemesis import Fault, FaultKind, Fired, describe, plan, unleash
from tests.support.report import Report
from tests.support.sinks import ERRORS
from tests.support.wait_until import wait_until

RATE = 20.0
"""Events per second of each persistent writer."""
SLOW_RATE = 10.0
PACE = 0.8
"""The fraction of these rates at which the run starts."""
PACE_SECONDS, WARM_SECONDS = 40.0, 90.0
CALM_SECONDS = 6.0
HEALED_AT = 0.6
"""The fraction of the run after which bad subscribers become good: a breaker's longest pause must
pass within the run.
"""
TAIL_SECONDS = 8.0
DRAIN_SECONDS = 90.0
PROBE_SECONDS = 5.0
REST_SECONDS = 3.0


class LedgerRun:
    """One run on a started installation."""

    def __init__(
        self,
        system: HeadraceUnderTest,
        kafka: ApacheKafka,
        *,
        planned: Sequence[Fault],
        seconds: float,
    ) -> None:
        self._system = system
        self._kafka = kafka
        self._planned = planned
        self._seconds = seconds
        self._ledger = Ledger(system.directory / "ledger.jsonl")
        self._generations: list[Generation] = []
        self._groups: dict[str, list[str]] = {}
        self._dead: dict[str, str] = {}
        self._patient_until = 0.0

    async def perform(self) -> Report:
        """All phases; the report."""
        await asyncio.to_thread(self._prepare)
        observer = Observer(self._system, self._groups)
        observer.start()
        try:
            started, fired = await self._load(self._faults())
            load_ended = time.monotonic()
            await asyncio.to_thread(self._drain, observer)
            probes = await asyncio.to_thread(self._probe)
            await asyncio.to_thread(self._drain, observer)
            writes = await asyncio.to_thread(self._writes_at_rest)
            ends = await asyncio.to_thread(observer.ends)
        finally:
            observer.stop()
            self._ledger.close()
        calm_until = started + CALM_SECONDS
        return await asyncio.to_thread(
            self._check, observer, fired, probes, (started, calm_until, load_ended), (ends, writes)
        )

    def _faults(self) -> Faults:
        """Reconfiguring widens the filter of one Trigger, and makes it narrow again."""

        def narrow(filters: Sequence[Mapping[str, Any]], *, retry: int) -> Manifest:
            manifest = BY_NAME["narrow"].manifest(self._system.sinks, filters=filters)
            manifest["spec"]["delivery"] = {"retry": retry}
            return manifest

        return Faults(
            self._system,
            self._kafka,
            initial=Generation(A),
            changes=(
                (narrow(WIDE, retry=5), Generation(A | B)),
                (narrow(NARROW, retry=10), Generation(A)),
            ),
        )

    def _prepare(self) -> None:
        system = self._system
        configure_sinks(system.sinks)
        manifests = [role.manifest(system.sinks) for role in ROLES]
        system.establish(*foundation(), *manifests)
        for role, manifest in zip(ROLES, manifests, strict=True):
            group = group_of(system.get(manifest) or manifest)
            self._dead[role.name] = f"{group}.dead"
            self._groups[group] = [topic_of(role.namespace)]
            self._groups[f"{group}.retry"] = [
                f"{group}.retry",
                *([f"{group}.dead"] if role.sink else []),
            ]
        group, topics = delay_topics(system)
        self._groups[group] = topics

    async def _load(self, faults: Faults) -> tuple[float, list[Fired]]:
        system = self._system
        self._generations = faults.generations
        load = Load(system.seed, self._ledger, [*self._writers()])
        load.start()
        self._patient_until = time.monotonic() + PACE_SECONDS
        await asyncio.to_thread(
            wait_until, self._all_flow, WARM_SECONDS, "events flow at the writers' rate"
        )
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            nemesis = group.create_task(unleash(self._planned, faults.acts, started=started))
            group.create_task(self._heal(started + self._seconds * HEALED_AT))
            await asyncio.sleep(self._seconds)
            await nemesis
        # The last fault's recovery needs load to be measured.
        await asyncio.sleep(TAIL_SECONDS)
        await load.stop()
        return started, nemesis.result()

    def _writers(self) -> list[Writer]:
        def writer(name: str, namespace: str, rate: float, *, persistent: bool = True) -> Writer:
            return Writer(
                name=name,
                host="127.0.0.1",
                port=self._system.ingress_port,
                path=f"/{namespace}/default",
                rate=rate,
                persistent=persistent,
            )

        return [
            *(writer(name, NAMESPACE, RATE) for name in PERSISTENT),
            *(writer(name, NAMESPACE, SLOW_RATE, persistent=False) for name in HASTY),
            *(writer(name, TENANT, SLOW_RATE) for name in TENANTS),
        ]

    def _all_flow(self) -> bool:
        """Whether every steady subscription gets events and the writers reach their rate: a cold
        broker takes its time.

        A machine that never reaches the rate is measured by the one it reaches.
        """
        if not all(self._system.sinks.events(role.name) > 0 for role in ROLES if role.steady):
            return False
        if time.monotonic() > self._patient_until:
            return True
        before = self._ledger.totals.acknowledged
        time.sleep(1.0)
        wanted = len(PERSISTENT) * RATE + (len(HASTY) + len(TENANTS)) * SLOW_RATE
        return self._ledger.totals.acknowledged - before >= PACE * wanted

    async def _heal(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        await asyncio.to_thread(heal, self._system.sinks)

    def _drain(self, observer: Observer) -> None:
        """Wait until no group has lag; what is left after the deadline is reported by the
        checker.
        """
        deadline = time.monotonic() + DRAIN_SECONDS
        while observer.lag() and time.monotonic() < deadline:
            time.sleep(0.5)
        observer.look()

    def _probe(self) -> list[Probe]:
        """Send one more event of each type to each Broker, and record when the steady subscriptions
        receive them.
        """
        found: list[Probe] = []
        for counter in range(len(TYPES)):
            for namespace, writer in PROBES.items():
                event = numbered(self._system.seed, writer, counter)
                self._send(event, namespace)
                takers = [
                    role
                    for role in ROLES
                    if role.steady and role.namespace == namespace and event.type in role.types
                ]
                found += [self._await_probe(role.name, event, time.monotonic()) for role in takers]
        return found

    def _send(self, event: Numbered, namespace: str) -> None:
        self._ledger.sent(event, time.monotonic())
        status = self._system.send(event, f"/{namespace}/default")
        self._ledger.settled(
            event, Outcome.OK if status == 202 else Outcome.INFO, time.monotonic(), status=status
        )

    def _await_probe(self, sink: str, event: Numbered, sent_at: float) -> Probe:
        def arrived() -> list[Arrival]:
            return [
                each
                for each in self._system.sinks.arrivals()
                if each.sink == sink and each.event == event.id and each.accepted
            ]

        # On a busy machine, reading the arrivals takes longer than the event did.
        with contextlib.suppress(AssertionError):
            wait_until(arrived, PROBE_SECONDS, every=0.1)
        found = arrived()
        return Probe(sink, sent_at, found[0].end if found else None)

    def _writes_at_rest(self) -> int:
        """The controller's writes to the routing table in a converged installation."""
        before = sum(self._system.log.ends(["headrace.routing"]).values())
        time.sleep(REST_SECONDS)
        return sum(self._system.log.ends(["headrace.routing"]).values()) - before

    def _check(
        self,
        observer: Observer,
        fired: Sequence[Fired],
        probes: Sequence[Probe],
        times: tuple[float, float, float],
        rest: tuple[dict[tuple[str, str], int], int],
    ) -> Report:
        dead_lettered = [
            each for name, topic in self._dead.items() for each in self._dead_lettered(name, topic)
        ]
        ends, writes = rest
        run = Run(
            seed=self._system.seed,
            started=times[0],
            calm_until=times[1],
            load_ended=times[2],
            entries=self._ledger.entries(),
            arrivals=self._system.sinks.arrivals(),
            dead_lettered=dead_lettered,
            expectations=self._expectations(),
            faults=fired,
            committed=[*observer.committed],
            ends=ends,
            probes=probes,
            probe_seconds_max=PROBE_SECONDS,
            writes_at_rest=writes,
            peak_rss_mib=dict(observer.peak_rss_mib),
            curves=observer.memory(),
            statuses=dict(self._ledger.totals.statuses),
            unanswered=self._ledger.totals.unanswered,
        )
        lost = losses(run)
        return check(
            replace(run, places=self._search({loss.event for loss in lost}) if lost else {})
        )

    def _expectations(self) -> list[Expectation]:
        changing = self._generations
        return [
            *(role.expectation(changing if role is BY_NAME["narrow"] else ()) for role in ROLES),
            DEAD_LETTERS,
            TRAP,
        ]

    def _dead_lettered(self, name: str, topic: str) -> list[DeadLettered]:
        found: list[DeadLettered] = []
        for record in self._system.log.records(topic):
            attributes = record.attributes()
            try:
                reason = read_delivery_state(list(record.headers.items())).reason
            except InvalidDeliveryState as error:
                reason = f"unreadable: {error}"
            event = attributes.get("id", "").removeprefix("r:")
            problem = (
                damage(self._system.seed, attributes, record.value or b"", allowed=ADDED | ERRORS)
                if not attributes["id"].startswith("r:")
                else None
            )
            found.append(DeadLettered(name, event, reason, problem))
        return found

    def _search(self, events: set[str]) -> dict[str, tuple[str, ...]]:
        """The topics in which these events are stored."""
        places: dict[str, list[str]] = {event: [] for event in events}
        for topic in self._system.log.topics():
            if topic.startswith(("knative-", "headrace.delay")):
                for record in self._system.log.records(topic):
                    event = record.attributes().get("id", "")
                    if event in places and topic not in places[event]:
                        places[event].append(topic)
        return {event: tuple(topics) for event, topics in places.items()}


def topic_of(namespace: str) -> str:
    """The topic of the Broker `default` of a namespace."""
    return f"knative-broker-{namespace}-default"


def headrace_for(
    kafka: ApacheKafka, directory: Path, seed: int, protocol: GroupProtocol
) -> HeadraceUnderTest:
    """The installation of a run under one group protocol.

    Under KIP-848 the dispatchers use no static membership: a static member that rejoins gets a
    fatal error there.
    """
    env = {"HEADRACE_KAFKA_GROUP_PROTOCOL": protocol.value}
    return HeadraceUnderTest(
        kafka.bootstrap_servers,
        directory,
        seed=seed,
        env=env,
        static_members=protocol is GroupProtocol.CLASSIC,
    )


async def run(
    seconds: float,
    seed: int,
    directory: Path,
    *,
    protocol: GroupProtocol = GroupProtocol.CLASSIC,
    kinds: Sequence[FaultKind] = tuple(FaultKind),
) -> Report:
    """Start an installation, perform the run, stop the installation."""
    planned = plan(seed, seconds, calm_seconds=CALM_SECONDS, kinds=kinds)
    print(
        f"seed {seed}, {seconds:g} s, group protocol {protocol}, in"
        f" {directory}\n{describe(planned)}",
        flush=True,
    )
    with kafka_for_headrace(directory) as kafka:
        system = headrace_for(kafka, directory, seed, protocol)
        try:
            await asyncio.to_thread(system.start, dispatchers=2)
            report = await LedgerRun(system, kafka, planned=planned, seconds=seconds).perform()
            if not report.ok:
                print(system.processes.report())
            return report
        finally:
            await asyncio.to_thread(system.close)
