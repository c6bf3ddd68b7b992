"""Status conditions: what a resource waits for, and `Ready`, which is derived from the rest and
never set by hand.

The rules are Knative's condition manager's. Dependents carry severity "" and decide `Ready`: True
when all of them are; else it copies status, reason and message of an unhappy one, False before
Unknown, the most recent transition first. Other conditions are of severity Info and decide nothing.
`lastTransitionTime` moves when anything of a condition changes, and only then, so that a status
computed twice from one world is the same status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

READY = "Ready"


class ConditionStatus(StrEnum):
    """The three values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, as decided now and without its time."""

    status: ConditionStatus
    reason: str = ""
    message: str = ""


HAPPY = Condition(ConditionStatus.TRUE)


def happy(reason: str, message: str = "") -> Condition:
    """True, with a reason worth showing."""
    return Condition(ConditionStatus.TRUE, reason, message)


def failed(reason: str, message: str) -> Condition:
    """False: something has to be done, and `message` says what."""
    return Condition(ConditionStatus.FALSE, reason, message)


def unknown(reason: str = "", message: str = "") -> Condition:
    """Not decided yet."""
    return Condition(ConditionStatus.UNKNOWN, reason, message)


class ConditionSet:
    """The conditions one kind has; `Ready` depends on `dependents`, in this order where nothing
    else decides.
    """

    def __init__(self, *dependents: str) -> None:
        self.dependents = dependents

    def render(
        self, decided: Mapping[str, Condition], *, before: Sequence[Mapping[str, Any]], now: str
    ) -> list[dict[str, Any]]:
        """The `status.conditions` list, sorted by type.

        Dependents not in `decided` are Unknown. `before` is the list as it stands (foreign entries
        in it are dropped); `now` is an RFC 3339 time.
        """
        # A status may have been written by anybody who may write it.
        known = (
            {str(entry.get("type")): entry for entry in before if isinstance(entry, Mapping)}
            if isinstance(before, list | tuple)
            else {}
        )
        rendered = {
            name: _entry(name, decided.get(name, unknown()), known.get(name), now=now, severity="")
            for name in self.dependents
        }
        ready = _entry(READY, self._ready(rendered), known.get(READY), now=now, severity="")
        others = {
            name: _entry(name, each, known.get(name), now=now, severity="Info")
            for name, each in decided.items()
            if name not in rendered
        }
        return sorted(
            (ready, *rendered.values(), *others.values()), key=lambda entry: str(entry["type"])
        )

    def _ready(self, rendered: Mapping[str, Mapping[str, Any]]) -> Condition:
        unhappy = [entry for entry in rendered.values() if entry["status"] != ConditionStatus.TRUE]
        if not unhappy:
            return HAPPY
        unhappy.sort(key=lambda entry: str(entry["lastTransitionTime"]), reverse=True)
        unhappy.sort(key=lambda entry: entry["status"] != ConditionStatus.FALSE)
        worst = unhappy[0]
        return Condition(
            ConditionStatus(worst["status"]),
            str(worst.get("reason", "")),
            str(worst.get("message", "")),
        )


def condition_of(status: Mapping[str, Any], name: str) -> Condition | None:
    """Read condition `name` out of a resource's status; None when it is not there or makes no
    sense.
    """
    conditions = status.get("conditions")
    for entry in conditions if isinstance(conditions, list) else ():
        if (
            isinstance(entry, Mapping)
            and entry.get("type") == name
            and entry.get("status") in list(ConditionStatus)
        ):
            return Condition(
                ConditionStatus(entry["status"]),
                str(entry.get("reason", "")),
                str(entry.get("message", "")),
            )
    return None


def is_true(status: Mapping[str, Any], name: str) -> bool:
    """Whether condition `name` stands at True."""
    found = condition_of(status, name)
    return found is not None and found.status is ConditionStatus.TRUE


def _entry(
    name: str, decided: Condition, before: Mapping[str, Any] | None, *, now: str, severity: str
) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": name, "status": str(decided.status)}
    if severity:
        entry["severity"] = severity
    if decided.reason:
        entry["reason"] = decided.reason
    if decided.message:
        entry["message"] = decided.message
    unchanged = (
        before is not None
        and {key: value for key, value in before.items() if key != "lastTransitionTime"} == entry
    )
    entry["lastTransitionTime"] = (
        before["lastTransitionTime"]
        if unchanged and before and "lastTransitionTime" in before
        else now
    )
    return entry
