"""How much time and memory a proof run may take: the judge's verdicts on recovery, on the door's
answers and on curves.

The figures hold on a machine of two cores that has other work too; what is aimed at stands in
docs/reliability.md.
"""

from collections.abc import Iterator, Mapping, Sequence

from tests.support.nemesis import FaultKind, Fired
from tests.support.report import FaultFigures, Violation
from tests.support.time_series import Curve

RECOVERY_SECONDS_MAX: Mapping[FaultKind, float] = {
    FaultKind.KILL_INGRESS: 10.0,
    FaultKind.KILL_DISPATCHER: 20.0,
    FaultKind.FREEZE_DISPATCHER: 20.0,
    FaultKind.CHURN: 20.0,
    FaultKind.STOP_KAFKA: 25.0,
    FaultKind.KILL_KAFKA: 25.0,
    FaultKind.STORM: 40.0,
}
"""How long after its end a fault may be felt. A storm's is the breaker's longest pause and the
probe after it.
"""
HONEST_STATUSES = frozenset({202, 429, 503})
"""What the door may say about an event that can be taken: stored, or later."""


def slow_recoveries(
    faults: Sequence[Fired], figures: Sequence[FaultFigures], load_ended: float
) -> Iterator[Violation]:
    """Events flow again within the bound of each fault's kind (12); the time in which another fault
    went on is not counted.
    """
    for fired, found in zip(faults, figures, strict=True):
        bound = RECOVERY_SECONDS_MAX.get(fired.fault.kind)
        if bound is None or fired.error:
            continue
        others = [
            other
            for other in faults
            if other is not fired and other.fault.kind in RECOVERY_SECONDS_MAX
        ]
        until = (
            load_ended if found.recovery_seconds is None else fired.ended + found.recovery_seconds
        )
        waited = (
            until
            - fired.ended
            - sum(
                max(0.0, min(until, other.ended) - max(fired.ended, other.started))
                for other in others
            )
        )
        if waited > bound:  # After a fault near the end of the load nothing has waited that long.
            told = "were not back" if found.recovery_seconds is None else "came back"
            yield Violation(
                12,
                found.kind,
                f"events {told} {waited:.1f} s after the fault at {found.at:.1f} s ended; {bound:g}"
                " s are allowed",
            )


def wrong_answers(statuses: Mapping[int, int], unanswered: int) -> Iterator[Violation]:
    """The ingress answers in time (10), and never says that an event cannot be taken when it can
    (16).
    """
    if unanswered:
        yield Violation(
            10, "ingress", f"{unanswered} posts were not answered within the door's deadline"
        )
    wrong = {
        status: count for status, count in sorted(statuses.items()) if status not in HONEST_STATUSES
    }
    if wrong:
        told = ", ".join(f"{count} times {status}" for status, count in wrong.items())
        yield Violation(16, "ingress", f"events that can be taken were answered {told}")


def out_of_bounds(curves: Sequence[Curve]) -> Iterator[Violation]:
    """Memory (9) and latency (10) stay below their ceilings and do not go on growing."""
    for curve in curves:
        for complaint in curve.complaints():
            yield Violation(curve.invariant, curve.subject, complaint)
