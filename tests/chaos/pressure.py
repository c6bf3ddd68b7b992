"""The pressure run: no faults, but subscribers that never answer or close the connection, and a
backlog for them many times larger than the limit of events in flight.

Memory must not grow, a good subscriber's latency must stay bounded, and at the end the dispatcher
must stop within its deadline: invariants 9 and 10 of docs/reliability.md, as curves over minutes.
"""

import asyncio
import time
from pathlib import Path

from bench.load import write_backlog

from headrace.adapters.kafka.options import GroupProtocol
from tests.chaos.observer import Observer
from tests.chaos.run import headrace_for, topic_of
from tests.support.checker import Expectation, Generation, Run, check, latencies, losses
from tests.support.event_writers import Load, Writer
from tests.support.headrace_under_test import HeadraceUnderTest, kafka_for_headrace
from tests.support.ledger import TYPES, Ledger
from tests.support.manifests import broker, broker_config, trigger
from tests.support.rates import latency_curve, percentile
from tests.support.report import Report
from tests.support.sink_scripts import Mode, Script
from tests.support.time_series import Curve
from tests.support.wait_until import wait_until

NAMESPACE = "pressure"
WRITERS, RATE = 8, 25.0
BACKLOG = 20_000
"""Events that wait for the bad subscribers, beside those of the writers; of one subscription 256
are in flight.
"""
CALM_SHARE, CALM_SECONDS_MIN = 0.2, 8.0
WARM_SECONDS = 40.0
WINDOW_SECONDS = 5.0
LATENCY_MS, LATENCY_TIMES = 1_000.0, 5.0
"""A window's 99th percentile may reach this many milliseconds, or this many times the one without
pressure if that is more.
"""
STOP_SECONDS = 30.0
FREE = Expectation(name="free", generations=(Generation(frozenset(TYPES)),))
BAD = {"stuck": Script(mode=Mode.HANG), "cut": Script(mode=Mode.RESET)}


async def run_pressure(
    seconds: float, seed: int, directory: Path, *, protocol: GroupProtocol = GroupProtocol.CLASSIC
) -> Report:
    """Start an installation, keep it under pressure for `seconds`, stop it; the report."""
    print(
        f"seed {seed}, {seconds:g} s under pressure, group protocol {protocol}, in {directory}",
        flush=True,
    )
    with kafka_for_headrace(directory) as kafka:
        system = headrace_for(kafka, directory, seed, protocol)
        try:
            await asyncio.to_thread(system.start, dispatchers=1)
            report = await _perform(system, seconds)
            if not report.ok:
                print(system.processes.report())
            return report
        finally:
            await asyncio.to_thread(system.close)


async def _perform(system: HeadraceUnderTest, seconds: float) -> Report:
    for name, script in BAD.items():
        system.sinks.script(name, script)
    good = trigger(
        NAMESPACE, "free", system.sinks.url("free"), filters=[{"prefix": {"type": "ledger."}}]
    )
    bad = [trigger(NAMESPACE, name, system.sinks.url(name)) for name in BAD]
    await asyncio.to_thread(
        system.establish,
        broker_config(NAMESPACE, "topics", partitions=10),
        broker(NAMESPACE, config="topics"),
        good,
    )
    ledger = Ledger(system.directory / "pressure.jsonl")
    path = f"/{NAMESPACE}/default"
    load = Load(
        system.seed,
        ledger,
        [
            Writer(
                name=f"p{number:02}",
                host="127.0.0.1",
                port=system.ingress_port,
                path=path,
                rate=RATE,
            )
            for number in range(WRITERS)
        ],
    )
    observer = Observer(system, {})
    observer.start()
    load.start()
    try:
        await asyncio.to_thread(
            wait_until,
            lambda: system.sinks.events("free") > WRITERS * RATE,
            WARM_SECONDS,
            "events flow",
        )
        started = time.monotonic()
        await asyncio.sleep(max(CALM_SECONDS_MIN, CALM_SHARE * seconds))
        calm_until = time.monotonic()
        await asyncio.to_thread(system.establish, *bad)
        await asyncio.to_thread(
            write_backlog, system.log.bootstrap_servers, topic_of(NAMESPACE), BACKLOG
        )
        await asyncio.sleep(seconds)
    finally:
        await load.stop()
        observer.stop()
        ledger.close()
    return await asyncio.to_thread(
        _check, system, ledger, observer.memory(), (started, calm_until, time.monotonic())
    )


def _check(
    system: HeadraceUnderTest,
    ledger: Ledger,
    memory: list[Curve],
    times: tuple[float, float, float],
) -> Report:
    def look(*curves: Curve) -> Run:
        return Run(
            seed=system.seed,
            started=times[0],
            calm_until=times[1],
            load_ended=times[2],
            entries=ledger.entries(),
            arrivals=[each for each in system.sinks.arrivals() if each.sink == "free"],
            dead_lettered=[],
            expectations=[FREE],
            curves=curves,
            peak_rss_mib={curve.subject: curve.peak for curve in memory},
            statuses=dict(ledger.totals.statuses),
            unanswered=ledger.totals.unanswered,
            faults_expected=False,
        )

    wait_until(lambda: not losses(look()), WARM_SECONDS, "all events are delivered", every=1.0)
    assert 0 == system.sinks.events("stuck") == system.sinks.events("cut")
    found = latencies(look(), "free")
    calm = percentile([value for at, value in found if times[0] <= at < times[1]], 0.99) or 0.0
    latency = Curve(
        invariant=10,
        subject="acknowledgement to delivery, p99",
        unit="ms",
        points=latency_curve(
            ((at, value) for at, value in found if at >= times[1]), window_seconds=WINDOW_SECONDS
        ),
        ceiling=max(LATENCY_MS, LATENCY_TIMES * calm),
        growth=max(LATENCY_MS / 4, calm),
    )
    asked = time.monotonic()
    code = system.services["dispatcher-0"].stop(2 * STOP_SECONDS)
    took = time.monotonic() - asked
    stop = Curve(
        invariant=10,
        subject=f"SIGTERM to the end (exit code {code})",
        unit="s",
        points=[(asked, took)],
        ceiling=STOP_SECONDS,
        growth=0,
    )
    return check(look(*memory, latency, stop))
