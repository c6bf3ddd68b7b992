"""What the annotations of the event registry say for an addressable: its own, or those of the
Channel that it backs.
"""

from headrace.domain.routing import SchemaValidation
from headrace.resources import registry_annotations
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import ObservedState


def auto_creates(observed: ObservedState, addressable: Resource) -> bool:
    """Whether EventTypes are created from its traffic, and from the replies to it."""
    default = observed.system.features.eventtype_auto_create
    return registry_annotations.auto_creates(*_with_owner(observed, addressable), default=default)


def schema_validation(observed: ObservedState, addressable: Resource) -> SchemaValidation:
    """What happens to events whose data does not conform to the schema of their EventType."""
    return registry_annotations.schema_validation(*_with_owner(observed, addressable))


def _with_owner(observed: ObservedState, addressable: Resource) -> list[Resource]:
    references = addressable.metadata.get("ownerReferences")
    uids = {
        each.get("uid")
        for each in (references if isinstance(references, list) else ())
        if isinstance(each, dict) and each.get("controller")
    }
    if not uids:
        return [addressable]
    by_uid = observed.derived(_by_uid)
    return [addressable, *(by_uid[uid] for uid in uids if uid in by_uid)]


def _by_uid(observed: ObservedState) -> dict[str, Resource]:
    return {each.uid: each for each in observed.all()}
