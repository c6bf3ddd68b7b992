"""How much time and memory a run may take: bounds on recovery, on the ingress's answers and on
curves.

The figures hold on a machine of two cores that has other work too; the targets are in
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
"""How long after its end a fault may have an effect. That of a sink that answers 503 is the
breaker's longest pause and the probe after it.
"""
HONEST_STATUSES = frozenset({202, 429, 503})
"""What the ingress may answer for a valid event: stored, or try later."""


def slow_recoveries(
    faults: Sequence[Fired], figures: Sequence[FaultFigures], load_ended: float
) -> Iterator[Violation]:
    """Events flow again within the limit of each kind of fault (12); the duration of another fault
    is not counted.
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
        # Events had no time to wait that long after a fault near the end of the load.
        if waited > bound:
            recovery = "were not back" if found.recovery_seconds is None else "came back"
            yield Violation(
                12,
                found.kind,
                f"events {recovery} {waited:.1f} s after the fault at {found.at:.1f} s ended;"
                f" {bound:g} s are allowed",
            )


def wrong_answers(statuses: Mapping[int, int], unanswered: int) -> Iterator[Violation]:
    """The ingress answers in time (10), and never refuses a valid event (16)."""
    if unanswered:
        yield Violation(
            10, "ingress", f"{unanswered} posts were not answered within the ingress's deadline"
        )
    wrong = {
        status: count for status, count in sorted(statuses.items()) if status not in HONEST_STATUSES
    }
    if wrong:
        counts = ", ".join(f"{count} times {status}" for status, count in wrong.items())
        yield Violation(16, "ingress", f"valid events were answered {counts}")


def out_of_bounds(curves: Sequence[Curve]) -> Iterator[Violation]:
    """Memory (9) and latency (10) stay below their limits and do not grow steadily."""
    for curve in curves:
        for complaint in curve.complaints():
            yield Violation(curve.invariant, curve.subject, complaint)
