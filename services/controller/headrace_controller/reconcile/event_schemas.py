"""Which schemas apply at an addressable, their records in the routing table, and what the statuses
say of them.

Only addressables with the annotation `headrace.dev/schema-validation` have such records. A schema
that cannot be used leaves the last valid record in effect.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headrace.domain.event_schemas import SCHEMAS_MAX
from headrace.domain.routing import EventSchema, SchemaValidation, route_key
from headrace.resources import event_type as rules
from headrace.resources.conditions import Condition, failed, happy, unknown
from headrace.resources.event_schema import PENDING, SchemaSource, schema_source_of
from headrace.resources.kinds import EVENT_TYPE, SUBSCRIPTION, TRIGGER
from headrace.resources.resource import Resource
from headrace_controller.reconcile.event_type_receivers import addressable_of
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import Draft, PutRoute, RemoveRoute
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.registry_settings import schema_validation

_NAMED_MAX = 3
"""EventTypes named in one message."""


class _AppliedSchema(NamedTuple):
    """An EventType whose schema is to be applied, and where."""

    event_type: Resource
    source: SchemaSource
    addressable: Resource
    validation: SchemaValidation


def wanted_schemas(observed: ObservedState) -> Sequence[SchemaSource]:
    """The schemas that must be read."""
    return [each.source for each in observed.derived(_applied_schemas).values()]


def reconcile_schema(request: ReconcileRequest) -> None:
    """Plan the record of an EventType's schema, and its condition and field in the status."""
    observed, event_type = request.observed, request.resource
    if place := rules.schema_place(event_type):
        request.status["schema"] = place
    applied = observed.derived(_applied_schemas).get(event_type.uid)
    if applied is None:
        if schema_source_of(event_type) is not None:
            request.status["validation"] = str(SchemaValidation.OFF)
        return
    request.status["validation"] = str(applied.validation)
    result = observed.event_schemas.get(event_type.uid, PENDING)
    if result.reason:
        message = f"{applied.source.place}: {result.message}"
        request.conditions[rules.SCHEMA_IN_EFFECT] = failed(result.reason, message)
        return
    if not result.schema:
        request.conditions[rules.SCHEMA_IN_EFFECT] = unknown(
            "SchemaNotRead", f"{applied.source.place} is being read"
        )
        return
    route = EventSchema(
        uid=event_type.uid,
        generation=event_type.generation,
        epoch=observed.epoch,
        namespace=event_type.namespace,
        name=event_type.name,
        addressable=applied.addressable.uid,
        type=rules.described(event_type, "type"),
        source=rules.described(event_type, "source"),
        dataschema=rules.described(event_type, "schemadata"),
        schema=result.schema,
    )
    key = route_key(route)
    if observed.routes.get(key) != route:
        request.draft.add(PutRoute(route))
    elif observed.applied(key):
        request.conditions[rules.SCHEMA_IN_EFFECT] = happy("")
        return
    request.draft.wait(f"all processes to read {key}")
    request.conditions[rules.SCHEMA_IN_EFFECT] = unknown(
        "RoutingRecordNotApplied", "not every live process has read the routing record yet"
    )


def remove_unused_schemas(observed: ObservedState, draft: Draft) -> None:
    """Remove the records of schemas that apply nowhere."""
    applied = observed.derived(_applied_schemas)
    for key, route in observed.routes.items():
        if (
            isinstance(route, EventSchema)
            and route.uid not in applied
            and observed.installation.serves(route.namespace)
        ):
            draft.add(RemoveRoute(key))


def validation_condition(observed: ObservedState, addressable: Resource) -> Condition | None:
    """The condition SchemaValidation of an addressable; None if it does not ask for checks."""
    validation = schema_validation(observed, addressable)
    if validation is SchemaValidation.OFF:
        return None
    own = observed.derived(_by_addressable).get(addressable.uid, ())
    invalid = [
        f"EventType {each.event_type.name}: {each.source.place}: {result.message}"
        for each in own
        if (result := observed.event_schemas.get(each.event_type.uid, PENDING)).reason
    ]
    if invalid:
        more = f"; and {len(invalid) - _NAMED_MAX} more" if len(invalid) > _NAMED_MAX else ""
        return failed("SchemaNotUsable", "; ".join(invalid[:_NAMED_MAX]) + more)
    faults = sorted(
        fault
        for instance in observed.instances
        if (fault := instance.schema_faults.get(addressable.uid))
    )
    if faults and validation is SchemaValidation.WARN:
        return failed("NonconformingData", f"accepted with a warning: {faults[0]}")
    return happy(
        "Enforced" if validation is SchemaValidation.ENFORCE else "Warned",
        f"{len(own)} EventTypes of this {addressable.kind.kind} have a schema",
    )


def _applied_schemas(observed: ObservedState) -> Mapping[str, _AppliedSchema]:
    """The schemas that are to be applied, by uid of the EventType."""
    found: dict[str, _AppliedSchema] = {}
    counts: dict[str, int] = defaultdict(int)
    for event_type in observed.of(EVENT_TYPE):
        if event_type.deleting or event_type.uid in observed.validation_errors:
            continue
        source = schema_source_of(event_type)
        addressable = _checked_addressable(observed, event_type) if source else None
        if source is None or addressable is None:
            continue
        validation = schema_validation(observed, addressable)
        if validation is SchemaValidation.OFF or counts[addressable.uid] >= SCHEMAS_MAX:
            continue
        counts[addressable.uid] += 1
        found[event_type.uid] = _AppliedSchema(event_type, source, addressable, validation)
    return found


def _checked_addressable(observed: ObservedState, event_type: Resource) -> Resource | None:
    """Replies are appended to the log and do not pass the ingress, so an EventType of replies is
    not checked.
    """
    reference = rules.reference_of(event_type)
    if reference is None or reference.get("kind") in (TRIGGER.kind, SUBSCRIPTION.kind):
        return None
    found = addressable_of(observed, event_type)
    return None if found is None or found.deleting else found


def _by_addressable(observed: ObservedState) -> Mapping[str, Sequence[_AppliedSchema]]:
    found: dict[str, list[_AppliedSchema]] = defaultdict(list)
    for each in observed.derived(_applied_schemas).values():
        found[each.addressable.uid].append(each)
    return found
