"""The faults of a run, when and for how long: a plan from a seed, printed and replayable, and the
code that carries it out.

Two tracks run in parallel. On the first, a fault ends and the system settles before the next
begins, so that its recovery can be measured; the second holds faults that must not disturb the data
path at all.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """Every kind of fault."""

    KILL_INGRESS = "kill-ingress"
    """SIGKILL; restarted after the fault's duration."""
    KILL_DISPATCHER = "kill-dispatcher"
    """SIGKILL of one dispatcher; restarted after the fault's duration."""
    KILL_CONTROLLER = "kill-controller"
    """SIGKILL; restarted after the fault's duration."""
    FREEZE_DISPATCHER = "freeze-dispatcher"
    """SIGSTOP past the session timeout, then SIGCONT: a zombie."""
    CHURN = "churn"
    """Another dispatcher joins, and leaves by SIGTERM, every 3 s."""
    STOP_KAFKA = "stop-kafka"
    """SIGTERM; restarted on the same data after the fault's duration."""
    KILL_KAFKA = "kill-kafka"
    """SIGKILL; restarted on the same data after the fault's duration."""
    STORM = "storm"
    """One sink answers every request with 503."""
    RECONFIGURE = "reconfigure"
    """A Trigger's filter and delivery policy are changed and changed back under load."""


SECONDS: Mapping[FaultKind, float] = {
    FaultKind.KILL_INGRESS: 0.5,
    FaultKind.KILL_DISPATCHER: 0.5,
    FaultKind.KILL_CONTROLLER: 1.0,
    FaultKind.FREEZE_DISPATCHER: 8.0,
    FaultKind.CHURN: 6.0,
    FaultKind.STOP_KAFKA: 2.0,
    FaultKind.KILL_KAFKA: 2.0,
    FaultKind.STORM: 5.0,
    FaultKind.RECONFIGURE: 4.0,
}
"""Duration of each."""

SETTLE_SECONDS = 4.0
"""Pause after a fault of the first track."""
RESTART_SECONDS = 5.0
"""What a Kafka needs to start, added to its fault in the plan."""

_DISTURBING = (
    FaultKind.KILL_INGRESS,
    FaultKind.KILL_DISPATCHER,
    FaultKind.FREEZE_DISPATCHER,
    FaultKind.CHURN,
    FaultKind.STOP_KAFKA,
    FaultKind.KILL_KAFKA,
    FaultKind.STORM,
)
_QUIET = (FaultKind.KILL_CONTROLLER, FaultKind.RECONFIGURE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One planned fault: `at` seconds after the load began, `seconds` long."""

    at: float
    kind: FaultKind
    seconds: float


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that was carried out, in monotonic seconds; `error` says why it failed."""

    fault: Fault
    started: float
    ended: float
    note: str = ""
    error: str | None = None


def plan(
    seed: int,
    seconds: float,
    *,
    calm_seconds: float = 6.0,
    kinds: Sequence[FaultKind] = tuple(FaultKind),
) -> tuple[Fault, ...]:
    """Plan faults of `kinds` over `seconds`: each kind at least once, shuffled, then repeated while
    there is time.

    The first `calm_seconds` have no faults: they give the normal rates. A plan may end later than
    `seconds` if one round does not fit.
    """
    rng = random.Random(seed)
    faults: list[Fault] = []
    for track in (_DISTURBING, _QUIET):
        faults += _track([kind for kind in track if kind in kinds], rng, calm_seconds, seconds)
    return tuple(sorted(faults, key=lambda fault: (fault.at, fault.kind)))


def _track(kinds: list[FaultKind], rng: random.Random, start: float, end: float) -> list[Fault]:
    faults: list[Fault] = []
    at, rounds = start, 0
    while kinds:
        rng.shuffle(kinds)
        for kind in kinds:
            length = SECONDS[kind] + (
                RESTART_SECONDS if kind in (FaultKind.STOP_KAFKA, FaultKind.KILL_KAFKA) else 0.0
            )
            if rounds and at + length > end:
                return faults
            faults.append(Fault(round(at, 1), kind, SECONDS[kind]))
            at += length + SETTLE_SECONDS + rng.uniform(0.0, 1.0)
        rounds += 1
    return faults


Act = Callable[[Fault], Awaitable[str]]
"""Carries out a fault from start to end, and describes in a few words what it did."""


async def unleash(
    faults: Sequence[Fault],
    acts: Mapping[FaultKind, Act],
    *,
    started: float,
    deadline_seconds: float = 240.0,
) -> list[Fired]:
    """Carry out all faults at their times after `started` (monotonic), each within
    `deadline_seconds`; return what happened, by start.

    A fault of the first track waits for the end of the previous one and for the system to settle,
    however long that took on this machine. A fault that fails is reported, not raised: the run
    continues and the checker rejects it.
    """
    turns = {
        kind: track
        for track in (_Track(SETTLE_SECONDS, _DISTURBING), _Track(0.0, _QUIET))
        for kind in track.kinds
    }
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                _fire(fault, acts[fault.kind], turns[fault.kind], started, deadline_seconds)
            )
            for fault in faults
        ]
    return sorted((task.result() for task in tasks), key=lambda fired: fired.started)


class _Track:
    """Carries out one fault at a time, in order."""

    def __init__(self, settle_seconds: float, kinds: Sequence[FaultKind]) -> None:
        self.kinds = kinds
        self._settle_seconds = settle_seconds
        self._lock = asyncio.Lock()
        self._free_at = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self._lock:
            await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
            try:
                yield
            finally:
                self._free_at = time.monotonic() + self._settle_seconds


async def _fire(
    fault: Fault, act: Act, track: _Track, started: float, deadline_seconds: float
) -> Fired:
    await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
    async with track.turn():
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(fault.seconds + deadline_seconds):
                note = await act(fault)
        except Exception as error:
            return Fired(
                fault, began_at, time.monotonic(), error=f"{type(error).__name__}: {error}"
            )
        return Fired(fault, began_at, time.monotonic(), note=note)


def describe(faults: Sequence[Fault]) -> str:
    """One line per fault, as printed before a run."""
    return "\n".join(
        f"  {fault.at:7.1f} s  {fault.kind.value:<18} for {fault.seconds:g} s" for fault in faults
    )
