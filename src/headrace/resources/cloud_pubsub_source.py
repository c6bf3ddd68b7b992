"""CloudPubSubSource (`events.cloud.google.com/v1`): validation, defaults and conditions.

Fields, defaults and messages are those of knative-gcp (`pkg/apis/events/v1`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace.domain.field_errors import FieldError, immutable_spec, invalid, missing
from headrace.resources.durations import InvalidDuration, parse_go_duration
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

EVENT_TYPE: Final = "google.cloud.pubsub.topic.v1.messagePublished"
SUBSCRIBED: Final = "PullSubscriptionReady"
CONDITIONS = source_conditions(SUBSCRIBED)
SUBSCRIPTION_FIELDS: Final = ("projectId", "topicId", "subscriptionId")
"""Of the status: what is read, and what was created for that."""
SECRET_SHAPE: Final = {"name": str, "key": str, "optional": bool}
SHAPE = shape_of(
    {
        "topic": str,
        "project": str,
        "secret": SECRET_SHAPE,
        "ackDeadline": str,
        "retainAckedMessages": bool,
        "retentionDuration": str,
    }
)
ACK_DEADLINE: Final = "30s"
ACK_DEADLINE_SECONDS_MIN: Final = 10
"""What Pub/Sub takes; less than that is used as that."""
RETENTION: Final = "168h0m0s"
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "ackDeadline": ("0s", "10m0s"),
    "retentionDuration": ("10m0s", RETENTION),
}


def set_defaults(source: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the durations, and the namespace of the sink's reference."""
    source = default_source(source, system)
    given = {name: value for name, value in source.spec.items() if value is not None}
    spec = {"ackDeadline": ACK_DEADLINE, "retentionDuration": RETENTION, **given}
    return Resource(source.kind, {**source.object, "spec": spec})


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted CloudPubSubSource."""
    spec = source.spec
    errors = validate_source(source, system)
    if not spec.get("topic"):
        errors.append(missing("spec.topic"))
    errors += wrong_secret(spec.get("secret"), "spec.secret")
    if spec.get("secret") and spec.get("serviceAccountName"):
        message = "Can't have spec.serviceAccountName and spec.secret at the same time"
        errors.append(FieldError(message, ("spec.secret", "spec.serviceAccountName")))
    for name in _BOUNDS:
        errors += _wrong_duration(spec, name)
    return errors


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: another topic is another source."""
    before, after = (
        {name: each.spec.get(name) for name in ("project", "topic")} for each in (old, new)
    )
    return immutable_spec("v1.CloudPubSubSourceSpec", before, after)


def wrong_secret(reference: Any, path: str) -> list[FieldError]:
    """The error of a reference to a key in a Secret; without one, the environment has the
    credentials.
    """
    if not isinstance(reference, Mapping) or not any(reference.values()):
        return []
    absent = [f"{path}.{name}" for name in ("key", "name") if not reference.get(name)]
    return [missing(*absent)] if absent else []


def _wrong_duration(spec: Mapping[str, Any], name: str) -> list[FieldError]:
    text, path = spec.get(name), f"spec.{name}"
    if not text:
        return []
    try:
        seconds = parse_go_duration(str(text))
    except InvalidDuration as error:
        return [invalid(str(text)[:100], path, str(error))]
    low, high = _BOUNDS[name]
    if parse_go_duration(low) <= seconds <= parse_go_duration(high):
        return []
    return [FieldError(f"expected {low} <= {text} <= {high}", (path,))]


def warnings(source: Resource) -> list[str]:
    """Warnings about a valid source."""
    found = source_warnings(source)
    if source.spec.get("serviceAccountName"):
        found.append(
            "spec.serviceAccountName has no effect: the credentials are those of spec.secret, or of"
            " the environment of the sources service"
        )
    return found


def ack_deadline_seconds(source: Resource) -> int:
    """The deadline of a valid source, as Pub/Sub takes it."""
    seconds = parse_go_duration(str(source.spec.get("ackDeadline") or ACK_DEADLINE))
    return max(ACK_DEADLINE_SECONDS_MIN, round(seconds))


def retention_seconds(source: Resource) -> int:
    """The retention of a valid source."""
    return round(parse_go_duration(str(source.spec.get("retentionDuration") or RETENTION)))


def project_of(source: Resource) -> str:
    """The project of the topic; empty while it is not known."""
    return str(source.spec.get("project") or source.status.get("projectId") or "")


def event_types(source: Resource) -> Sequence[tuple[str, str]]:
    """Type and source of its events, once its project is known."""
    project = project_of(source)
    if not project:
        return ()
    topic = source.spec["topic"]
    return ((EVENT_TYPE, f"//pubsub.googleapis.com/projects/{project}/topics/{topic}"),)


RULES = KindRules(
    SHAPE,
    set_defaults=set_defaults,
    validate=validate,
    validate_update=validate_update,
    warnings=warnings,
)
