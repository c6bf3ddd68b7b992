"""What the processes report of each source, without the moment in which a source passes from one
process to another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from headrace.domain.ports import Clock, Instance
from headrace.domain.routing import EventSource, Route, source_key
from headrace.domain.source_report import SourceCondition, SourceReport, merge
from headrace.resources.condition_types import DELIVERY_HEALTHY

HANDOVER_SECONDS: Final = 10.0
"""As long as a process that has ended counts as live."""


@dataclass(slots=True)
class _Ready:
    """The newest report of a source in which every condition was True."""

    report: SourceReport
    runs: tuple[str, Mapping[str, Any]]
    """The adapter and its configuration."""
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
            route = routes.get(source_key(uid))
            if not isinstance(route, EventSource) or route.paused or route.finalizing:
                self._ready.pop(uid, None)
                continue
            runs = (route.adapter, route.config)
            if known is not None and known.runs != runs:
                # What was reported is not true of another configuration.
                known = None
                del self._ready[uid]
            if report is not None and _is_ready(report, known):
                self._ready[uid] = _Ready(report, runs)
            elif known is not None:
                if known.lost_at is None:
                    known.lost_at = now
                if _may_be_handover(known.report, report) and not _is_over(known, now):
                    reports[uid] = _kept_with(known.report, report)
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


def _of_ready(report: SourceReport) -> Mapping[str, SourceCondition]:
    """The conditions on which Ready depends."""
    return {name: each for name, each in report.conditions.items() if name != DELIVERY_HEALTHY}


def _is_ready(report: SourceReport, known: _Ready | None) -> bool:
    """Whether every condition is True that the adapter has, as far as that is known."""
    conditions = _of_ready(report)
    before = _of_ready(known.report).keys() if known is not None else set()
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
        and all(each.status is not False for each in _of_ready(now).values())
    )


def _kept_with(before: SourceReport, now: SourceReport | None) -> SourceReport:
    """What was reported before, with the fields and the other conditions that are reported now."""
    if now is None:
        return before
    return replace(
        before,
        conditions={**now.conditions, **before.conditions},
        fields={**before.fields, **now.fields},
    )


def _is_over(known: _Ready, now: float) -> bool:
    return known.lost_at is not None and now - known.lost_at >= HANDOVER_SECONDS
