"""The ledger run through channels and flows: what a Channel, its Subscriptions, a Sequence and a
Parallel must deliver under the faults of the ledger run.

It runs for each kind of channel that keeps what it has acknowledged.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.chaos.faults import Faults, StorageServer
from tests.chaos.scenario import ALL, POISON, poisoned
from tests.support.checker import Expectation, Generation, Run, check
from tests.support.event_writers import Load, Writer
from tests.support.headrace_under_test import HeadraceUnderTest, kafka_for_headrace
from tests.support.ledger import DeadLettered, Ledger
from tests.support.manifests import (
    ORDERED,
    Manifest,
    channel,
    delivery,
    flow,
    reference_to,
    subscription,
)
from tests.support.nats_server import NatsServer
from tests.support.nemesis import Fault, FaultKind, Fired, describe, plan, unleash
from tests.support.report import Report, Violation
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

NAMESPACE = "chaos"
RATE = 20.0
CHANNEL_WRITERS = frozenset({"c00", "c01", "c02"})
SEQUENCE_WRITERS, PARALLEL_WRITERS = frozenset({"s00"}), frozenset({"b00"})
CALM_SECONDS, TAIL_SECONDS = 3.0, 5.0
WARM_SECONDS, DRAIN_SECONDS = 60.0, 60.0
FROZEN_SECONDS = {"KafkaChannel": 8.0, "NatsJetStreamChannel": 13.0}
"""How long a dispatcher is frozen: longer than the others wait until they take over its work (6 s
in Kafka, 10 s in JetStream).
"""
LASTING = frozenset({1, 2, 3, 4, 5, 7, 15})
"""The invariants of docs/reliability.md that hold for every backend: nothing lost, nothing strange
or damaged, no cross-talk, the delivery policy, the order, and that each fault was carried out. How
many duplicates a crash makes differs, and is reported.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A sink, and what it must receive."""

    name: str
    writers: frozenset[str] = CHANNEL_WRITERS
    script: Script = field(default_factory=Script)
    ordered: bool = False
    retry: int = 10
    delay_seconds: float = 0.2
    counters: Callable[[int], bool] | None = None
    steady: bool = False

    def expectation(self) -> Expectation:
        """The expectation for the checker."""
        return Expectation(
            name=self.name,
            generations=(Generation(ALL),),
            ordered=self.ordered,
            retry=self.retry,
            delay_seconds=self.delay_seconds,
            steady=self.steady,
            writers=self.writers,
            counters=self.counters,
        )


ANSWER = Script(mode=Mode.REPLY, reply_type="answered")
RECEIVERS = (
    Receiver(name="plain", steady=True),
    Receiver(name="ordered", ordered=True, script=Script(delay_seconds=0.003)),
    Receiver(name="answering", script=ANSWER),
    Receiver(name="answers"),
    Receiver(name="storm"),
    Receiver(name="poison", script=Script(poison=POISON), retry=2, delay_seconds=0.1),
    Receiver(name="dls-poison", counters=poisoned),
    Receiver(name="step-1", writers=SEQUENCE_WRITERS, script=ANSWER),
    Receiver(name="step-2", writers=SEQUENCE_WRITERS, script=ANSWER),
    Receiver(name="step-end", writers=SEQUENCE_WRITERS),
    Receiver(name="branch-filter", writers=PARALLEL_WRITERS, script=ANSWER),
    Receiver(name="branch-a", writers=PARALLEL_WRITERS),
    Receiver(name="branch-b", writers=PARALLEL_WRITERS),
)


class ChannelRun:
    """One run on a started installation."""

    def __init__(
        self,
        system: HeadraceUnderTest,
        server: StorageServer,
        *,
        planned: Sequence[Fault],
        seconds: float,
    ) -> None:
        """`server` stores the events of the channels."""
        self._system = system
        self._server = server
        self._planned = planned
        self._seconds = seconds
        self._ledger = Ledger(system.directory / "ledger.jsonl")

    async def perform(self) -> Report:
        """All phases; the report."""
        await asyncio.to_thread(self._prepare)
        load = Load(self._system.seed, self._ledger, self._writers())
        load.start()
        await asyncio.to_thread(wait_until, self._all_flow, WARM_SECONDS, "events flow everywhere")
        started = time.monotonic()
        fired = await unleash(self._planned, self._faults().acts, started=started)
        await asyncio.sleep(max(TAIL_SECONDS, started + self._seconds - time.monotonic()))
        await load.stop()
        ended = time.monotonic()
        await asyncio.to_thread(self._drain)
        self._ledger.close()
        return await asyncio.to_thread(self._check, fired, started, ended)

    def _prepare(self) -> None:
        system, kind = self._system, self._system.channel_kind
        for each in RECEIVERS:
            system.sinks.script(each.name, each.script)
        orders = self._orders()
        answers = channel(NAMESPACE, "answers", kind=kind)
        system.establish(orders, answers)
        url = system.sinks.url
        dead_lettering = delivery(retry=2, delay="PT0.1S", sink=url("dls-poison"))
        system.establish(
            self._plain(retry=10),
            subscription(orders, "ordered", url("ordered"), annotations=ORDERED),
            subscription(orders, "answering", url("answering"), reply=reference_to(answers)),
            subscription(answers, "answers", url("answers")),
            subscription(orders, "storm", url("storm")),
            subscription(orders, "poison", url("poison"), delivery=dead_lettering),
            *self._flows(),
        )

    def _orders(self) -> Manifest:
        kind = self._system.channel_kind
        # A dispatcher that joins has to get a partition.
        spec = {"numPartitions": 10} if kind == "KafkaChannel" else None
        return channel(NAMESPACE, "orders", kind=kind, spec=spec)

    def _plain(self, *, retry: int) -> Manifest:
        """The Subscription that is reconfigured."""
        url = self._system.sinks.url("plain")
        return subscription(self._orders(), "plain", url, delivery=delivery(retry=retry))

    def _flows(self) -> Sequence[Manifest]:
        url = self._system.sinks.url
        steps = [{"uri": url("step-1")}, {"uri": url("step-2")}]
        branches: list[dict[str, Any]] = [
            {"filter": {"uri": url("branch-filter")}, "subscriber": {"uri": url("branch-a")}},
            {"subscriber": {"uri": url("branch-b")}},
        ]
        return (
            flow(NAMESPACE, "steps", "Sequence", steps, reply={"uri": url("step-end")}),
            flow(NAMESPACE, "branches", "Parallel", branches),
        )

    def _writers(self) -> list[Writer]:
        base = f"/{NAMESPACE}/{self._system.channel_kind.lower()}s"
        paths = {
            **dict.fromkeys(sorted(CHANNEL_WRITERS), f"{base}/orders"),
            **dict.fromkeys(SEQUENCE_WRITERS, f"{base}/steps-kn-sequence-0"),
            **dict.fromkeys(PARALLEL_WRITERS, f"{base}/branches-kn-parallel"),
        }
        port = self._system.ingress_port
        return [
            Writer(name=name, host="127.0.0.1", port=port, path=path, rate=RATE)
            for name, path in paths.items()
        ]

    def _all_flow(self) -> bool:
        return all(
            self._system.sinks.events(each.name) > 0 for each in RECEIVERS if each.counters is None
        )

    def _faults(self) -> Faults:
        changes = [(self._plain(retry=retry), Generation(ALL)) for retry in (5, 10)]
        return Faults(self._system, self._server, initial=Generation(ALL), changes=changes)

    def _drain(self) -> None:
        """Wait until the number of accepted events stays the same, at most for the
        deadline: what is missing then is reported as lost.
        """
        deadline, quiet_since, before = time.monotonic() + DRAIN_SECONDS, time.monotonic(), -1
        while time.monotonic() < deadline and time.monotonic() - quiet_since < 12.0:
            now = sum(self._system.sinks.events(each.name) for each in RECEIVERS)
            if now != before:
                before, quiet_since = now, time.monotonic()
            time.sleep(0.5)

    def _check(self, fired: Sequence[Fired], started: float, ended: float) -> Report:
        arrivals = self._system.sinks.arrivals()
        parked = {each.event for each in arrivals if each.sink == "dls-poison" and each.accepted}
        return check(
            Run(
                seed=self._system.seed,
                started=started,
                calm_until=started + CALM_SECONDS,
                load_ended=ended,
                entries=self._ledger.entries(),
                arrivals=arrivals,
                # Its dead letters were accepted by the sink, which every backend can show.
                dead_lettered=[
                    DeadLettered("poison", event, "accepted by the dead letter sink", None)
                    for event in parked
                ],
                expectations=[each.expectation() for each in RECEIVERS],
                faults=fired,
                traces_expected=False,
            )
        )


def lasting_violations(report: Report) -> list[Violation]:
    """The violations of what holds for every backend."""
    return [each for each in report.violations if each.invariant in LASTING]


async def run_channels(kind: str, seconds: float, seed: int, directory: Path) -> Report:
    """Start an installation with this kind of channel, perform the run, stop the installation."""
    planned = [
        replace(fault, seconds=FROZEN_SECONDS[kind])
        if fault.kind is FaultKind.FREEZE_DISPATCHER
        else fault
        for fault in plan(seed, seconds, calm_seconds=CALM_SECONDS)
    ]
    print(f"seed {seed}, {kind}, {seconds:g} s\n{describe(planned)}", flush=True)
    with kafka_for_headrace(directory) as kafka:
        nats = NatsServer(directory / "nats") if kind == "NatsJetStreamChannel" else None
        env = {}
        if nats is not None:
            nats.start()
            env["HEADRACE_NATS_SERVERS"] = nats.url
        system = HeadraceUnderTest(kafka.bootstrap_servers, directory, seed=seed, env=env)
        try:
            await asyncio.to_thread(system.start, dispatchers=2)
            await asyncio.to_thread(system.use_channels, kind)
            run = ChannelRun(system, nats or kafka, planned=planned, seconds=seconds)
            report = await run.perform()
            if lasting_violations(report):
                print(system.processes.report())
            return report
        finally:
            await asyncio.to_thread(system.close)
            if nats is not None:
                nats.kill()
