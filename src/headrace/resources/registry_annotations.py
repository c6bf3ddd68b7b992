"""The annotations by which a Broker or a channel takes part in the event registry: whether
EventTypes are created from its traffic, and whether data is validated against their schemas.
"""

from headrace.domain.field_errors import FieldError, invalid
from headrace.domain.routing import SchemaValidation
from headrace.resources.resource import Resource

AUTO_CREATE_ANNOTATION = "headrace.dev/eventtype-auto-create"
"""Overrides the flag `eventtype-auto-create` for one Broker or channel."""
VALIDATION_ANNOTATION = "headrace.dev/schema-validation"
_ENABLED, _DISABLED = "enabled", "disabled"


def auto_creates(*resources: Resource, default: bool) -> bool:
    """Whether EventTypes are created from the traffic of an addressable. The first of `resources`
    that has the annotation decides: a channel, then the Channel that it backs.
    """
    for each in resources:
        said = each.annotations.get(AUTO_CREATE_ANNOTATION)
        if said in (_ENABLED, _DISABLED):
            return said == _ENABLED
    return default


def schema_validation(*resources: Resource) -> SchemaValidation:
    """What happens to events that do not conform; see `auto_creates` for `resources`."""
    for each in resources:
        said = each.annotations.get(VALIDATION_ANNOTATION)
        if said in list(SchemaValidation):
            return SchemaValidation(said)
    return SchemaValidation.OFF


def validate_annotations(resource: Resource) -> list[FieldError]:
    """The errors in these annotations."""
    allowed = {
        AUTO_CREATE_ANNOTATION: (_ENABLED, _DISABLED),
        VALIDATION_ANNOTATION: tuple(map(str, SchemaValidation)),
    }
    return [
        invalid(said, f"metadata.annotations[{name}]", f"expected {', '.join(values)}")
        for name, values in allowed.items()
        if (said := resource.annotations.get(name)) is not None and said not in values
    ]
