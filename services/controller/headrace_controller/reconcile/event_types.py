"""EventTypes: whether what they refer to exists, and those that are made out of what the data plane
has seen.
"""

from collections import Counter

from headrace.resources import event_type as rules
from headrace.resources.conditions import Condition, failed, happy, unknown
from headrace.resources.destination import Unresolved, api_version_of
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import CreateEventType, Draft
from headrace_controller.reconcile.statuses import INVALID_SPEC, set_status

AUTO_CREATED_MAX = 1_000
"""EventTypes made for one owner. Somebody who puts an id into the type of every event would fill
the store with them.
"""


def reconcile_event_type(observed: ObservedState, event_type: Resource, draft: Draft) -> None:
    """Plan this EventType's status."""
    fault = observed.validation_errors.get(event_type.uid)
    decided = {
        rules.REFERENCE_EXISTS: failed(INVALID_SPEC, fault)
        if fault
        else _reference_condition(observed, event_type)
    }
    conditions = rules.CONDITIONS.render(
        decided, before=event_type.status.get("conditions") or (), now=observed.now_text
    )
    set_status(event_type, {}, conditions, draft)


def _reference_condition(observed: ObservedState, event_type: Resource) -> Condition:
    ref = rules.reference_of(event_type)
    if ref is None:
        return happy("ReferenceNotSet", "No reference is set.")
    kind, name, namespace = (
        str(ref.get("kind")),
        str(ref.get("name")),
        str(ref.get("namespace") or event_type.namespace),
    )
    try:
        found = observed.lookup(api_version_of(ref), kind, namespace, name)
    except Unresolved as error:
        return unknown("FailedToGetReference", str(error))
    if found is None:
        return failed(
            "ResourceDoesNotExist",
            f'{kind} "{name}" of spec.reference does not exist in namespace "{namespace}"',
        )
    return happy("")


def create_observed_event_types(observed: ObservedState, draft: Draft) -> None:
    """Plan EventTypes for what was seen and has none: of every addressable's events, and of every
    subscription's replies.
    """
    if not observed.system.features.eventtype_auto_create or not any(
        instance.types for instance in observed.instances
    ):
        return
    owners = {
        each.uid: each for each in (*observed.brokers, *observed.triggers) if not each.deleting
    }
    there = {(each.namespace, each.name) for each in observed.event_types}
    made = Counter(_owner_uid(each) for each in observed.event_types)
    for seen in (seen for instance in observed.instances for seen in instance.types):
        owner = owners.get(seen.uid)
        if owner is None or made[seen.uid] >= AUTO_CREATED_MAX:
            continue
        wanted = rules.auto_created(owner, seen)
        if (wanted.namespace, wanted.name) not in there:
            there.add((wanted.namespace, wanted.name))
            made[seen.uid] += 1
            draft.add(CreateEventType(wanted))


def _owner_uid(event_type: Resource) -> str:
    owners = event_type.metadata.get("ownerReferences")
    first = owners[0] if isinstance(owners, list) and owners else None
    return str(first.get("uid")) if isinstance(first, dict) else ""
