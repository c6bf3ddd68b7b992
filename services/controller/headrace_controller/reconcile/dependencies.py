"""The object that a Trigger's annotation names as its dependency: the Trigger is not Ready before
that object is, at its newest generation.
"""

from collections.abc import Mapping

from headrace.resources import trigger as rules
from headrace.resources.conditions import (
    READY,
    Condition,
    ConditionStatus,
    condition_of,
    failed,
    happy,
    unknown,
)
from headrace.resources.destination import Unresolved
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import ObservedState


def dependency_condition(observed: ObservedState, trigger: Resource) -> Condition:
    """The DependencyReady condition."""
    try:
        ref = rules.dependency_of(trigger)
    except ValueError as error:
        return failed(
            "ReferenceError",
            f"Unable to unmarshal objectReference from dependency annotation of trigger: {error}",
        )
    if ref is None:
        return happy("")
    try:
        found = observed.lookup(
            ref.get("apiVersion", ""),
            ref.get("kind", ""),
            ref.get("namespace") or trigger.namespace,
            ref.get("name", ""),
        )
    except Unresolved as error:
        return unknown("ReferenceError", str(error))
    if found is None:
        return failed(
            "DependencyDoesNotExist",
            f'Dependency does not exist: {ref.get("kind")} "{ref.get("name")}" not found',
        )
    return _propagated(found)


def _propagated(found: Mapping[str, object]) -> Condition:
    metadata, status = found.get("metadata"), found.get("status")
    generation = metadata.get("generation") if isinstance(metadata, Mapping) else None
    observed = status.get("observedGeneration") if isinstance(status, Mapping) else None
    if generation != observed:
        message = (
            f'The dependency\'s metadata.generation, "{generation}", is not equal to its'
            f' status.observedGeneration, "{observed or 0}".'
        )
        return unknown("GenerationNotEqual", message)
    ready = condition_of(status if isinstance(status, Mapping) else {}, READY)
    if ready is None:
        return unknown("DependencyNotConfigured", "The dependency has not yet been reconciled.")
    return happy("") if ready.status is ConditionStatus.TRUE else ready
