"""Fault plans are functions of their seed, and faults that could not be carried out are
reported.
"""

import itertools
import time

from tests.support.nemesis import (
    RESTART_SECONDS,
    SECONDS,
    Fault,
    FaultKind,
    describe,
    plan,
    unleash,
)


def test_plan_is_a_function_of_its_seed() -> None:
    """The same seed gives the same plan, another seed another one."""
    assert plan(3, 60.0) == plan(3, 60.0)
    assert plan(3, 60.0) != plan(4, 60.0)


def test_every_kind_is_planned_and_long_runs_repeat_them() -> None:
    """A short plan has each kind once, a long one several times, and it ends in time."""
    assert {fault.kind for fault in plan(1, 60.0)} == set(FaultKind)
    long = plan(1, 300.0)
    assert {kind for kind in FaultKind if sum(fault.kind is kind for fault in long) < 3} == set()
    assert all(fault.at + fault.seconds <= 300.0 for fault in long)


def test_disturbing_faults_leave_time_to_recover() -> None:
    """Two faults that disturb the data path never overlap, the start of a restarted Kafka
    included.
    """
    quiet = {FaultKind.KILL_CONTROLLER, FaultKind.RECONFIGURE}
    loud = [fault for fault in plan(9, 300.0) if fault.kind not in quiet]
    for earlier, later in itertools.pairwise(loud):
        kafka = earlier.kind in (FaultKind.STOP_KAFKA, FaultKind.KILL_KAFKA)
        assert later.at - earlier.at >= SECONDS[earlier.kind] + (RESTART_SECONDS if kafka else 0.0)


async def test_failed_fault_is_reported_and_others_continue() -> None:
    """A fault that raises, or does not end in time, is reported as an error of that fault."""

    async def refuse(fault: Fault) -> str:
        raise ProcessLookupError("no such process")

    async def work(fault: Fault) -> str:
        return "done"

    faults = (Fault(0.0, FaultKind.STORM, 0.0), Fault(0.01, FaultKind.CHURN, 0.0))
    fired = await unleash(
        faults, {FaultKind.STORM: refuse, FaultKind.CHURN: work}, started=time.monotonic()
    )
    assert [each.error for each in fired] == ["ProcessLookupError: no such process", None]
    assert [each.note for each in fired] == ["", "done"]


def test_plan_can_be_printed() -> None:
    """One line per fault."""
    assert len(describe(plan(1, 60.0)).splitlines()) == len(plan(1, 60.0))
