"""PingSource (`sources.knative.dev/v1`): validation, defaults and conditions."""

from headrace.domain.field_errors import FieldError, both_given
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.source import (
    default_source,
    shape_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

EVENT_TYPE = "dev.knative.sources.ping"
CONDITIONS = source_conditions()
SHAPE = shape_of(
    {"schedule": str, "timezone": str, "contentType": str, "data": str, "dataBase64": str}
)


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted PingSource."""
    errors = validate_source(source, system)
    if source.spec.get("data") and source.spec.get("dataBase64"):
        errors.append(both_given("spec.data", "spec.dataBase64"))
    return errors


def event_source(source: Resource) -> str:
    """The attribute `source` of its events."""
    return f"/apis/v1/namespaces/{source.namespace}/pingsources/{source.name}"


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=source_warnings)
