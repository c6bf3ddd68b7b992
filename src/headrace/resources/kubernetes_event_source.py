"""KubernetesEventSource (`sources.eventing.knative.dev/v1alpha1`), the source of Knative 0.5 for
Events of a namespace: validation and conditions.
"""

from headrace.domain.field_errors import FieldError, missing
from headrace.resources.api_server_source import SUFFICIENT_PERMISSIONS
from headrace.resources.json_shapes import ANY
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

EVENT_TYPE = "dev.knative.k8s.event"
CONDITIONS = source_conditions(SUFFICIENT_PERMISSIONS)
SHAPE = shape_of({"namespace": str, "sink": ANY})


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a KubernetesEventSource. A sink was not required in 0.5."""
    errors = validate_source(source, system, sink_required=False)
    if not source.spec.get("namespace"):
        errors.append(missing("spec.namespace"))
    return errors


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=source_warnings)
