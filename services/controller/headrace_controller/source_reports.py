"""What the processes report of each source, without the moment in which a source passes from one
process to another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from headrace.domain.ports import Clock, Instance
from headrace.domain.routing import EventSource, Route, source_key
from headrace.domain.source_report import SourceReport, merge

HANDOVER_SECONDS: Final = 10.0
"""As long as a process that has ended counts as live."""


@dataclass(slots=True)
class _Ready:
    """The newest report of a source in which every condition was True."""

    report: SourceReport
    lost_at: float | None = None
    """Monotonic seconds since when the processes report something else."""


class SourceReports:
    """Merges the reports of all processes, once in each look.

    When a process joins or leaves, sources pass to another one. For a moment nobody runs them, and
    then they are being started. What was reported before stays in use for that time, at most
    `HANDOVER_SECONDS`; otherwise each restart of a process would make its sources unready. A
    condition that is False is used at once, and so is any report of another generation.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: dict[str, _Ready] = {}
        """By uid, sources that are to run."""

    def merged(
        self, instances: Sequence[Instance], routes: Mapping[str, Route]
    ) -> Mapping[str, SourceReport]:
        """One report for each source that a process runs or is about to take over, by uid."""
        reports = _merge(instances)
        now = self._clock.monotonic()
        for uid in {*reports, *self._ready}:
            report, known = reports.get(uid), self._ready.get(uid)
            if not _is_to_run(routes.get(source_key(uid))):
                self._ready.pop(uid, None)
            elif report is not None and _is_ready(report, known):
                self._ready[uid] = _Ready(report)
            elif known is not None:
                if known.lost_at is None:
                    known.lost_at = now
                if _may_be_handover(known.report, report) and not _is_over(known, now):
                    reports[uid] = _with_newest_fields(known.report, report)
                else:
                    del self._ready[uid]
        return reports

    def is_due(self) -> bool:
        """Whether a handover takes too long since the last call of `merged`."""
        now = self._clock.monotonic()
        return any(_is_over(each, now) for each in self._ready.values())


def _merge(instances: Iterable[Instance]) -> dict[str, SourceReport]:
    found: dict[str, list[SourceReport]] = {}
    for instance in instances:
        for uid, report in instance.sources.items():
            found.setdefault(uid, []).append(report)
    merged = {uid: merge(reports) for uid, reports in found.items()}
    return {uid: report for uid, report in merged.items() if report is not None}


def _is_to_run(route: Route | None) -> bool:
    return isinstance(route, EventSource) and not route.paused and not route.finalizing


def _is_ready(report: SourceReport, known: _Ready | None) -> bool:
    """Whether every condition is True that the adapter has, as far as that is known."""
    conditions = report.conditions
    before = known.report.conditions.keys() if known is not None else set()
    return (
        bool(conditions)
        and before <= conditions.keys()
        and all(each.status for each in conditions.values())
    )


def _may_be_handover(before: SourceReport, now: SourceReport | None) -> bool:
    """Whether what is reported now may be that the source is passed on."""
    return now is None or (
        now.generation == before.generation
        and not now.finalized
        and all(each.status is not False for each in now.conditions.values())
    )


def _with_newest_fields(before: SourceReport, now: SourceReport | None) -> SourceReport:
    return replace(before, fields={**before.fields, **(now.fields if now is not None else {})})


def _is_over(known: _Ready, now: float) -> bool:
    return known.lost_at is not None and now - known.lost_at >= HANDOVER_SECONDS
