"""The figures of a benchmark run, as JSON and as a table."""

import json
import platform
import subprocess
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil
from tests.support.report import table

from bench.many_triggers import ManyFigures, many_table
from bench.sources.figures import SourceFigures, sources_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One measured case; what does not apply is None."""

    work: str
    """`ingress` with or without keys, `dispatcher` (of a Broker, or of a Channel), `together`, or
    `quiet` (a paced subscription alone, and beside one that drains).
    """
    triggers: int
    order: str = "-"
    events: int
    """Accepted by the ingress, or delivered by the dispatcher."""
    per_second: float
    ingress_us: float | None = None
    """CPU microseconds of the ingress per accepted event."""
    dispatcher_us: float | None = None
    """CPU microseconds of the dispatcher per delivery."""
    bare_us: float | None = None
    """The same of the bare program (`bench.bare`), measured in turn with it."""
    kafka_us: float | None = None
    """CPU microseconds of the broker per event handled in this case."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    """From send to answer for the ingress alone, from send to subscriber for both together."""
    ingress_rss_mib: float | None = None
    dispatcher_rss_mib: float | None = None
    start_seconds: float | None = None
    """From process start to the first delivery."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """CPU per event as a multiple of the bare program's; None where that was not measured."""
        own = self.ingress_us if self.dispatcher_us is None else self.dispatcher_us
        return own / self.bare_us if own and self.bare_us else None


def median_pair(pairs: Sequence[Figures]) -> Figures:
    """Return the figures whose ratio is the median, the higher one of two; the note has the lowest
    and the highest ratio. Raises ValueError if a ratio was not measured.
    """
    found = sorted((figures.ratio or 0.0, at) for at, figures in enumerate(pairs))
    if not found or not found[0][0]:
        raise ValueError("a pair has figures of both programs")
    note = f"median of {len(found)} ratios, {found[0][0]:.2f} to {found[-1][0]:.2f}"
    return replace(pairs[found[len(found) // 2][1]], note=note)


@dataclass(slots=True)
class Results:
    """All cases of a run."""

    cases: list[Figures] = field(default_factory=list)
    sources: list[SourceFigures] = field(default_factory=list)
    many: list[ManyFigures] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    def publish(self, path: Path | None) -> None:
        """Print everything as JSON and as tables; write the JSON to a file too if one is named."""
        if path:
            path.write_text(self.as_json(), encoding="utf-8")
        print(self.as_json())
        print(self.as_text())

    def as_json(self) -> str:
        """Everything, with machine and commit."""
        arguments = sysconfig.get_config_var("CONFIG_ARGS")
        machine = {
            "cpus": psutil.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
            "processor": _processor(),
            "python": platform.python_version(),
            "python_build": f"{platform.python_compiler()}, {arguments}",
        }
        values = {
            "machine": machine,
            "commit": _commit(),
            "date": time.strftime("%Y-%m-%d", time.gmtime(self.started)),
        }
        cases = [asdict(case) for case in self.cases]
        sources = [each.as_values() for each in self.sources]
        many = [asdict(each) for each in self.many]
        return json.dumps({**values, "cases": cases, "sources": sources, "many": many}, indent=2)

    def as_text(self) -> str:
        """A table of all cases, one of the sources, and one of many Triggers."""
        tables = [self._cases_table()] if self.cases else []
        tables += [sources_table(self.sources)] if self.sources else []
        tables += [many_table(self.many)] if self.many else []
        return "\n\n".join(tables)

    def _cases_table(self) -> str:
        head = (
            "work",
            "triggers",
            "order",
            "events/s",
            "ingress us",
            "dispatcher us",
            "bare us",
            "ratio",
            "kafka us",
            "p50 ms",
            "p99 ms",
            "ingress MiB",
            "dispatcher MiB",
            "start s",
            "note",
        )
        return table(head, [_row(case) for case in self.cases])


def _row(case: Figures) -> Sequence[str]:
    numbers = (
        case.ingress_us,
        case.dispatcher_us,
        case.bare_us,
        case.kafka_us,
        case.p50_ms,
        case.p99_ms,
        case.ingress_rss_mib,
        case.dispatcher_rss_mib,
    )
    start = "-" if case.start_seconds is None else f"{case.start_seconds:.1f}"
    return (
        case.work,
        str(case.triggers),
        case.order,
        f"{case.per_second:,.0f}",
        *map(_number, numbers[:3]),
        "-" if case.ratio is None else f"{case.ratio:.2f}",
        *map(_number, numbers[3:]),
        start,
        case.note,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            cwd=Path(__file__).parent,
        )
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
