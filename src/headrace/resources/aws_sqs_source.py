"""AwsSqsSource of Knative 0.5 (`sources.eventing.knative.dev/v1alpha1`): validation, warnings and
conditions.
"""

from headrace.domain.field_errors import FieldError
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

EVENT_TYPE = "aws.sqs.message"
CONDITIONS = source_conditions()
SHAPE = shape_of(
    {
        "queueUrl": str,
        "awsCredsSecret": {"name": str, "key": str, "optional": bool},
        "annotations": {"*": ANY},
        "sink": ANY,
    }
)


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted AwsSqsSource."""
    return validate_source(source, system, sink_required=False)


def warnings(source: Resource) -> list[str]:
    """Warnings about a valid AwsSqsSource."""
    found = source_warnings(source)
    if source.spec.get("annotations"):
        found.append("spec.annotations is not used: the sources service runs the source")
    return found


def event_source(source: Resource) -> str:
    """The attribute `source` of its events."""
    return str(source.spec["queueUrl"])


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=warnings)
