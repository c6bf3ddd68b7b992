"""GcpPubSubSource of Knative 0.5 (`sources.eventing.knative.dev/v1alpha1`): validation and
conditions, with the fields and messages of 0.5.
"""

from collections.abc import Sequence
from typing import Final

from headrace.domain.field_errors import FieldError, immutable_spec, missing
from headrace.resources.cloud_pubsub_source import SECRET_SHAPE, wrong_secret
from headrace.resources.json_shapes import ANY
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.source import (
    shape_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

EVENT_TYPE: Final = "google.pubsub.topic.publish"
SUBSCRIBED: Final = "Subscribed"
CONDITIONS = source_conditions(SUBSCRIBED)
SHAPE = shape_of(
    {
        "topic": str,
        "googleCloudProject": str,
        "gcpCredsSecret": SECRET_SHAPE,
        "sink": ANY,
        "transformer": ANY,
    }
)


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a GcpPubSubSource. Its sink may be missing, which a condition says."""
    errors = validate_source(source, system, sink_required=False)
    names = ("googleCloudProject", "topic")
    absent = [f"spec.{name}" for name in names if not source.spec.get(name)]
    if absent:
        errors.append(missing(*absent))
    return [*errors, *wrong_secret(source.spec.get("gcpCredsSecret"), "spec.gcpCredsSecret")]


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: nothing of the spec may change, as in 0.5."""
    return immutable_spec("v1alpha1.GcpPubSubSourceSpec", old.spec, new.spec)


def warnings(source: Resource) -> list[str]:
    """Warnings about a valid source."""
    found = source_warnings(source)
    if source.spec.get("transformer"):
        found.append("spec.transformer has no effect: the events are not transformed")
    return found


def event_types(source: Resource) -> Sequence[tuple[str, str]]:
    """Type and source of its events. An attribute of a message may give another type."""
    spec = source.spec
    origin = f"//pubsub.googleapis.com/{spec['googleCloudProject']}/topics/{spec['topic']}"
    return ((EVENT_TYPE, origin),)


RULES = KindRules(SHAPE, validate=validate, validate_update=validate_update, warnings=warnings)
