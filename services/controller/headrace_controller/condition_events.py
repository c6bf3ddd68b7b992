"""The Kubernetes Events about a new status: the resource becomes Ready or stops being Ready, its
deliveries begin to fail or work again.

Only a change of a condition is an Event, because a status with many failures would be as many
Events. The recorder stores equal ones as one, with a count.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.resources.condition_types import DELIVERY_HEALTHY
from headrace.resources.conditions import READY, ConditionStatus, condition_of
from headrace.resources.resource import Resource

_NORMAL, _WARNING = "Normal", "Warning"


class ConditionEvent(NamedTuple):
    """What the event recorder gets besides the resource."""

    type: str
    reason: str
    message: str


def condition_events(resource: Resource, status: Mapping[str, Any]) -> list[ConditionEvent]:
    """Return the Events about a resource whose status becomes `status`."""
    found = (_readiness_event(resource, status), _delivery_event(resource, status))
    return [each for each in found if each is not None]


def _readiness_event(resource: Resource, status: Mapping[str, Any]) -> ConditionEvent | None:
    before, after = condition_of(resource.status, READY), condition_of(status, READY)
    if after is None or after == before:
        return None
    kind = resource.kind.kind
    if after.status is ConditionStatus.TRUE:
        return ConditionEvent(_NORMAL, f"{kind}Ready", f"{kind} is ready")
    if after.status is ConditionStatus.FALSE:
        return ConditionEvent(
            _WARNING, after.reason or "NotReady", after.message or f"{kind} is not ready"
        )
    return None


def _delivery_event(resource: Resource, status: Mapping[str, Any]) -> ConditionEvent | None:
    before = condition_of(resource.status, DELIVERY_HEALTHY)
    after = condition_of(status, DELIVERY_HEALTHY)
    failed_before = before is not None and before.status is ConditionStatus.FALSE
    if after is None:
        return None
    if after.status is ConditionStatus.FALSE:
        # The message alone may change often: it has percentages and counts.
        if failed_before and before is not None and before.reason == after.reason:
            return None
        return ConditionEvent(_WARNING, after.reason, after.message)
    if after.status is ConditionStatus.TRUE and failed_before:
        return ConditionEvent(_NORMAL, DELIVERY_HEALTHY, "deliveries work again")
    return None
