"""What a process of the sources service reports of a source that it runs. The controller shows it
as conditions and fields of the resource's status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MESSAGE_CHARACTERS_MAX = 800
REASON_CHARACTERS_MAX = 100
FIELDS_MAX = 20
SOURCES_MAX = 2_000
"""Sources in one report."""


@dataclass(frozen=True, slots=True)
class SourceCondition:
    """A condition as one process sees it. `status` None is Unknown."""

    status: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source in one process."""

    generation: int
    """Of the resource that the process acts on."""
    conditions: Mapping[str, SourceCondition] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the resource's status."""
    finalized: bool = False
    """The outside system has nothing left of the source."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        members: dict[str, Any] = {
            "generation": self.generation,
            "conditions": {
                name: [
                    each.status,
                    each.reason[:REASON_CHARACTERS_MAX],
                    each.message[:MESSAGE_CHARACTERS_MAX],
                ]
                for name, each in self.conditions.items()
            },
        }
        if self.fields:
            members["fields"] = dict(self.fields)
        if self.finalized:
            members["finalized"] = True
        return members


def read_sources(value: object) -> Mapping[str, SourceReport]:
    """Return the reports in JSON values that another version may have written: what is not
    understood is left out.
    """
    if not isinstance(value, dict):
        return {}
    found = {}
    for uid, members in list(value.items())[:SOURCES_MAX]:
        if isinstance(members, dict) and isinstance(members.get("generation"), int):
            fields = members.get("fields")
            found[str(uid)] = SourceReport(
                members["generation"],
                _conditions(members.get("conditions")),
                dict(list(fields.items())[:FIELDS_MAX]) if isinstance(fields, dict) else {},
                finalized=members.get("finalized") is True,
            )
    return found


def _conditions(value: object) -> Mapping[str, SourceCondition]:
    found = {}
    for name, each in value.items() if isinstance(value, dict) else ():
        match each:
            case [bool() | None as status, str() as reason, str() as message]:
                found[str(name)] = SourceCondition(
                    status, reason[:REASON_CHARACTERS_MAX], message[:MESSAGE_CHARACTERS_MAX]
                )
    return found


def merge(reports: Iterable[SourceReport]) -> SourceReport | None:
    """Return what several processes report of one source as one report; None if there is none.

    Only reports of the newest generation count. A condition is False if one process says so, else
    Unknown if one says so.
    """
    known = list(reports)
    generation = max((each.generation for each in known), default=None)
    if generation is None:
        return None
    known = [each for each in known if each.generation == generation]
    conditions: dict[str, SourceCondition] = {}
    for report in known:
        for name, each in report.conditions.items():
            before = conditions.get(name)
            if before is None or _SEVERITY[each.status] > _SEVERITY[before.status]:
                conditions[name] = each
    return SourceReport(
        generation,
        conditions,
        {name: value for each in known for name, value in each.fields.items()},
        finalized=any(each.finalized for each in known),
    )


_SEVERITY = {True: 0, None: 1, False: 2}
