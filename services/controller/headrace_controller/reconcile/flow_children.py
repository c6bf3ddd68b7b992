"""The children of a flow as its status shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.resources.conditions import READY, Condition, ConditionStatus
from headrace.resources.kinds import SUBSCRIPTION
from headrace.resources.resource import Reference, Resource, ResourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child as the status shows it."""

    kind: ResourceKind
    name: str
    object: Resource | None
    """None while it does not exist."""
    condition: Condition
    """Whether it is ready, at its newest generation."""

    def entry(self, field: str, namespace: str) -> dict[str, Any]:
        """Its entry in a list of the status: a reference in `field`, and its Ready condition."""
        conditions = self.object.status.get("conditions") if self.object is not None else None
        ready = next(
            (
                dict(each)
                for each in (conditions if isinstance(conditions, list) else ())
                if isinstance(each, Mapping) and each.get("type") == READY
            ),
            None,
        )
        return {
            field: Reference(self.kind.api_version, self.kind.kind, namespace, self.name).fields,
            "ready": ready or _no_ready(self.kind, self.condition),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowChildren:
    """The children that a flow wants, by name."""

    channels: Mapping[str, Child]
    links: Mapping[str, Child]


def _no_ready(kind: ResourceKind, condition: Condition) -> dict[str, Any]:
    what = "Subscription" if kind is SUBSCRIPTION else "Channel"
    return {
        "type": READY,
        "status": str(ConditionStatus.UNKNOWN),
        "reason": condition.reason or "NoReady",
        "message": condition.message or f"{what} does not have Ready condition",
    }
