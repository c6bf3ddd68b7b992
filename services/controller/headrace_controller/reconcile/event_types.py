"""EventType: whether the object it refers to exists; and EventTypes that are created for the event
types that the data plane has seen.
"""

from collections import Counter
from collections.abc import Iterator

from headrace.domain.routing import Addressable, Subscription
from headrace.resources import event_type as rules
from headrace.resources.conditions import Condition, failed, happy, unknown
from headrace.resources.destination import Unresolved, api_version_of
from headrace.resources.kinds import EVENT_TYPE
from headrace.resources.resource import Reference, Resource
from headrace_controller.reconcile.event_schemas import reconcile_schema, remove_unused_schemas
from headrace_controller.reconcile.event_type_receivers import receiver_fields
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import CreateObject, Draft
from headrace_controller.reconcile.references import named
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import INVALID_SPEC, set_status

AUTO_CREATED_MAX = 1_000
"""EventTypes created for one owner. A producer that puts an id into the type of every event would
fill the store with them.
"""


def decide(request: ReconcileRequest) -> None:
    """Plan an EventType's status."""
    event_type = request.resource
    fault = request.observed.validation_errors.get(event_type.uid)
    request.conditions[rules.REFERENCE_EXISTS] = (
        failed(INVALID_SPEC, fault) if fault else _reference_condition(request.observed, event_type)
    )
    request.status.update(receiver_fields(request.observed, event_type))
    reconcile_schema(request)
    set_status(request, rules.CONDITIONS)


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


def decide_all(observed: ObservedState, draft: Draft) -> None:
    """Plan what concerns all EventTypes."""
    create_observed_event_types(observed, draft)
    remove_unused_schemas(observed, draft)


def create_observed_event_types(observed: ObservedState, draft: Draft) -> None:
    """Plan EventTypes for event types that were seen and have none: of every addressable's events,
    and of every subscription's replies.
    """
    if not any(instance.types for instance in observed.instances):
        return
    asked = {
        route.uid
        for route in observed.routes.values()
        if isinstance(route, Addressable | Subscription) and route.event_types
    }
    owners = {each.uid: each for each in observed.all() if each.uid in asked and not each.deleting}
    existing = observed.of(EVENT_TYPE)
    names = {(each.namespace, each.name) for each in existing}
    created = Counter(rules.owner_uid(each) for each in existing)
    for seen in (seen for instance in observed.instances for seen in instance.types):
        owner = owners.get(seen.uid)
        if owner is None or created[seen.uid] >= AUTO_CREATED_MAX:
            continue
        wanted = rules.auto_created(owner, seen)
        if (wanted.namespace, wanted.name) not in names:
            names.add((wanted.namespace, wanted.name))
            created[seen.uid] += 1
            draft.add(CreateObject(wanted))


def _references(event_type: Resource) -> Iterator[Reference]:
    return named(event_type, rules.reference_of(event_type))


RECONCILER = KindReconciler(
    kind=EVENT_TYPE,
    rules=rules.RULES,
    references=_references,
    decide=decide,
    decide_all=decide_all,
    creates=(EVENT_TYPE,),
)
