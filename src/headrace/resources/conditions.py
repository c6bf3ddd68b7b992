"""Status conditions: the state of a resource, and `Ready`, which is derived from the others and
never set directly.

The rules are those of Knative's condition manager. Dependents have severity "" and decide `Ready`:
it is True when all of them are, with a reason only where the resource is switched off; else it
copies status, reason and message of one that is not, False before Unknown, the most recent
transition first. Other conditions have severity Info and do not affect `Ready`.
`lastTransitionTime` changes when any field of the condition changes, and only then, so that the
same input always gives the same status.
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
    """A condition as it is now, without its time."""

    status: ConditionStatus
    reason: str = ""
    message: str = ""


HAPPY = Condition(ConditionStatus.TRUE)


def happy(reason: str, message: str = "") -> Condition:
    """True, with an optional reason."""
    return Condition(ConditionStatus.TRUE, reason, message)


def failed(reason: str, message: str) -> Condition:
    """False: a user has to act, and `message` says how."""
    return Condition(ConditionStatus.FALSE, reason, message)


def unknown(reason: str = "", message: str = "") -> Condition:
    """Unknown: not decided yet."""
    return Condition(ConditionStatus.UNKNOWN, reason, message)


class ConditionSet:
    """The conditions of one kind; `Ready` depends on `dependents`, in this order if nothing else
    decides.
    """

    def __init__(self, *dependents: str) -> None:
        self.dependents = dependents

    def render(
        self,
        decided: Mapping[str, Condition],
        *,
        before: Sequence[Mapping[str, Any]],
        now: str,
        when_ready: Condition = HAPPY,
    ) -> list[dict[str, Any]]:
        """The `status.conditions` list, sorted by type.

        Dependents that are not in `decided` are Unknown. `before` is the current list (unknown
        entries in it are dropped); `now` is an RFC 3339 time; `when_ready` is `Ready` when all
        dependents are True, with a reason if that does not mean what it usually does.
        """
        # Any client with permission may have written the status.
        known = (
            {str(entry.get("type")): entry for entry in before if isinstance(entry, Mapping)}
            if isinstance(before, list | tuple)
            else {}
        )
        rendered = {
            name: _entry(name, decided.get(name, unknown()), known.get(name), now=now, severity="")
            for name in self.dependents
        }
        ready = _entry(
            READY, self._ready(rendered, when_ready), known.get(READY), now=now, severity=""
        )
        others = {
            name: _entry(name, each, known.get(name), now=now, severity="Info")
            for name, each in decided.items()
            if name not in rendered
        }
        return sorted(
            (ready, *rendered.values(), *others.values()), key=lambda entry: str(entry["type"])
        )

    def _ready(self, rendered: Mapping[str, Mapping[str, Any]], when_ready: Condition) -> Condition:
        unhappy = [entry for entry in rendered.values() if entry["status"] != ConditionStatus.TRUE]
        if not unhappy:
            return when_ready
        unhappy.sort(key=lambda entry: str(entry["lastTransitionTime"]), reverse=True)
        unhappy.sort(key=lambda entry: entry["status"] != ConditionStatus.FALSE)
        worst = unhappy[0]
        return Condition(
            ConditionStatus(worst["status"]),
            str(worst.get("reason", "")),
            str(worst.get("message", "")),
        )


def condition_of(status: Mapping[str, Any], name: str) -> Condition | None:
    """Condition `name` of a resource's status; None if it is missing or invalid."""
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
    """Whether condition `name` is True."""
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
