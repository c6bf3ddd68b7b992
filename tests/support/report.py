"""The result of a run, as values, as JSON and as a table."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan

from tests.support.time_series import Curve

SHOWN = 5
"""How many of a kind are printed; the JSON has all."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant: its number (those of docs/reliability.md), the subscription or part
    that it concerns, and what was observed.
    """

    invariant: int
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Loss:
    """An acknowledged event that is neither delivered to its subscriber nor in its dead letter
    topic.
    """

    subscription: str
    event: str
    position: str
    """`prefix` (before the writer's first delivered event), `postfix` (after its last: perhaps only
    late) or `middle`.
    """
    found: tuple[str, ...] = ()
    """Topics in which it is stored; empty if in none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionFigures:
    """The totals of one subscription."""

    name: str
    required: int
    delivered: int
    dead_lettered: int
    lost: int
    attempts: int
    duplicates: int
    """Deliveries accepted (2xx) beyond the first of each event, without those of events posted more
    than once.
    """
    repeated: int
    """Extra deliveries of events that their writer posted more than once."""
    order_violations: int = 0
    overlaps: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultFigures:
    """The effect of one fault."""

    kind: str
    at: float
    seconds: float
    trace: str | None
    """The trace it left in the data; None if it left none."""
    recovery_seconds: float | None
    """From its end to the normal rates; None if they did not return within the run, nan if the data
    path is not concerned.
    """
    silence_seconds: float
    """The longest time that one key was silent around it."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole result of a run."""

    seed: int
    seconds: float
    attempted: int
    events: int
    acknowledged: int
    refused: int
    indeterminate: int
    delivered: int
    dead_lettered: int
    duplicates: int
    repeated: int
    order_violations: int
    calm_p50_ms: float | None
    calm_p99_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    subscriptions: Sequence[SubscriptionFigures] = ()
    faults: Sequence[FaultFigures] = ()
    losses: Sequence[Loss] = ()
    violations: Sequence[Violation] = ()
    peak_rss_mib: Mapping[str, float] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    statuses: Mapping[int, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every invariant holds and was tested."""
        return not self.violations

    @property
    def lost(self) -> int:
        """Lost acknowledged events, over all subscriptions."""
        return len(self.losses)

    @property
    def duplicates_ratio(self) -> float:
        """Duplicates per delivered event."""
        return self.duplicates / self.delivered if self.delivered else 0.0

    def as_json(self) -> str:
        """The whole report; `ok`, `lost` and `duplicates_ratio` are written out too."""
        faults = [
            {name: None if value != value else value for name, value in asdict(fault).items()}
            for fault in self.faults
        ]
        result = {"ok": self.ok, "lost": self.lost, "duplicates_ratio": self.duplicates_ratio}
        return json.dumps({**result, **asdict(self), "faults": faults}, indent=2, allow_nan=False)

    def as_text(self) -> str:
        """Tables for a terminal, at most 100 columns wide, the result last."""
        parts = [
            f"seed {self.seed}, {self.seconds:.0f} s",
            table(("figure", "value"), self._figures()),
            table(
                (
                    "subscription",
                    "required",
                    "delivered",
                    "dead letters",
                    "lost",
                    "dup",
                    "rep",
                    "order",
                    "p50",
                    "p99 ms",
                ),
                map(_row, self.subscriptions),
            ),
            table(
                ("fault", "at s", "for s", "recovery s", "silence s", "seen by"),
                map(_fault_row, self.faults),
            ),
            table(
                ("process", "peak RSS MiB"),
                ((name, f"{value:.0f}") for name, value in sorted(self.peak_rss_mib.items())),
            ),
            table(
                ("curve", "unit", "peak", "allowed", "rise at the end", "allowed"),
                map(_curve_row, self.curves),
            ),
        ]
        parts += [
            f"LOST {loss.event} for {loss.subscription}: {loss.position}, found in"
            f" {', '.join(loss.found) or 'nowhere'}"
            for loss in self.losses[:SHOWN]
        ]
        parts += _violations(self.violations)
        parts.append("every invariant holds" if self.ok else f"{len(self.violations)} violations")
        return "\n\n".join(part for part in parts if part)

    def _figures(self) -> list[tuple[str, str]]:
        return [
            ("attempted (posts)", str(self.attempted)),
            ("events", str(self.events)),
            ("acknowledged", str(self.acknowledged)),
            ("refused", str(self.refused)),
            ("indeterminate", str(self.indeterminate)),
            ("delivered", str(self.delivered)),
            ("dead-lettered", str(self.dead_lettered)),
            ("lost", str(self.lost)),
            (
                "duplicates",
                (
                    f"{self.duplicates} ({self.duplicates_ratio:.2%}), and {self.repeated} of"
                    " events posted twice"
                ),
            ),
            ("order violations", str(self.order_violations)),
            (
                "statuses of the ingress",
                ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
                or "-",
            ),
            (
                "ack to delivery, no faults, p50 / p99",
                f"{_ms(self.calm_p50_ms)} / {_ms(self.calm_p99_ms)} ms",
            ),
            (
                "ack to delivery, whole run, p50 / p99",
                f"{_ms(self.p50_ms)} / {_ms(self.p99_ms)} ms",
            ),
        ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, the first to the left and the others to the right; empty without rows."""
    body = list(rows)
    if not body:
        return ""
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *body]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else "-" if isnan(value) else f"{value:.1f}"


def _violations(violations: Sequence[Violation]) -> Iterator[str]:
    """The first few of each invariant and subject, and how many there are."""
    groups: dict[tuple[int, str], list[str]] = {}
    for each in violations:
        groups.setdefault((each.invariant, each.subject), []).append(each.detail)
    for (invariant, subject), details in groups.items():
        more = f" (and {len(details) - SHOWN} more)" if len(details) > SHOWN else ""
        yield f"VIOLATED {invariant} by {subject}: " + "; ".join(details[:SHOWN]) + more


def _row(each: SubscriptionFigures) -> tuple[str, ...]:
    numbers = (
        each.required,
        each.delivered,
        each.dead_lettered,
        each.lost,
        each.duplicates,
        each.repeated,
        each.order_violations + each.overlaps,
    )
    return (each.name, *map(str, numbers), _ms(each.p50_ms), _ms(each.p99_ms))


def _curve_row(each: Curve) -> tuple[str, ...]:
    rise = "-" if each.rise is None else f"{each.rise:+.1f}"
    return (
        each.subject,
        each.unit,
        f"{each.peak:.0f}",
        f"{each.ceiling:.0f}",
        rise,
        f"{each.growth:.0f}",
    )


def _fault_row(each: FaultFigures) -> tuple[str, ...]:
    return (
        each.kind,
        f"{each.at:.1f}",
        f"{each.seconds:.1f}",
        _seconds(each.recovery_seconds),
        f"{each.silence_seconds:.1f}",
        each.trace or "NOTHING",
    )
