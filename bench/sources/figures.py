"""The figures of sources, and their table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.support.report import table

BUSY_CPUS = 0.85
"""A process that used as much CPU, or more, could not have sent more events: one thread does most
of its work.
"""
HEAD = (
    "source",
    "events",
    "events/s",
    "CPU us",
    "CPU %",
    "MiB",
    "limited by",
    "other CPU us",
    "note",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """One kind of source; what does not apply is None."""

    kind: str = ""
    events: int = 0
    per_second: float | None = None
    cpu_us: float | None = None
    """CPU microseconds of the sources service per event."""
    cpus: float | None = None
    """CPUs that the sources service used while it was measured: 1.0 is one core."""
    rss_mib: float | None = None
    """Resident memory of the sources service at the end."""
    outside: str = ""
    """What limits the events per second if the source does not."""
    other_us: float | None = None
    """CPU microseconds per event of a process that the service has started for the source."""
    note: str = ""

    @property
    def limited_by(self) -> str:
        """What kept events per second from being higher."""
        if self.cpus is None or self.per_second is None:
            return ""
        return "source" if self.cpus >= BUSY_CPUS else self.outside

    def as_values(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "limited_by": self.limited_by}


def not_measured(reason: str) -> SourceFigures:
    """A kind whose outside system cannot run here."""
    return SourceFigures(note=f"not measured: {reason}")


def sources_table(sources: Sequence[SourceFigures]) -> str:
    """A row for each kind."""
    return table(HEAD, [_row(each) for each in sources])


def _row(each: SourceFigures) -> Sequence[str]:
    return (
        each.kind,
        f"{each.events:,}" if each.events else "-",
        _number(each.per_second),
        _number(each.cpu_us),
        "-" if each.cpus is None else f"{each.cpus * 100:.1f}",
        _number(each.rss_mib),
        each.limited_by or "-",
        _number(each.other_us),
        each.note,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
