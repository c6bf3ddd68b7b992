"""Broker (`eventing.knative.dev/v1`): what may be written, what is filled in, what must not change, and what it waits for."""

from collections.abc import Mapping
from typing import Any

from headrace.domain import delivery
from headrace.domain.conditions import ConditionSet
from headrace.domain.destination import default as default_destination
from headrace.domain.destination import validate as validate_destination
from headrace.domain.field_errors import FieldError, immutable, invalid, missing
from headrace.domain.resources import Resource
from headrace.domain.shapes import ANY, METADATA, Shape

CLASS_ANNOTATION = "eventing.knative.dev/broker.class"
KAFKA_CLASS = "Kafka"
EXTERNAL_TOPIC_ANNOTATION = "kafka.eventing.knative.dev/external.topic"

DEFAULT_CONFIG: Mapping[str, str] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "name": "kafka-broker-config",
    "namespace": "knative-eventing",
}
"""The ConfigMap of a Broker that names none. It need not exist: then the installation's own defaults apply."""

ADDRESSABLE = "Addressable"
CONFIG_MAP_UPDATED = "ConfigMapUpdated"
CONFIG_PARSED = "ConfigParsed"
DATA_PLANE_AVAILABLE = "DataPlaneAvailable"
DEAD_LETTER_SINK_RESOLVED = "DeadLetterSinkResolved"
EVENT_POLICIES_READY = "EventPoliciesReady"
PROBE_SUCCEEDED = "ProbeSucceeded"
TOPIC_READY = "TopicReady"

CONDITIONS = ConditionSet(
    CONFIG_PARSED,
    TOPIC_READY,
    DEAD_LETTER_SINK_RESOLVED,
    DATA_PLANE_AVAILABLE,
    CONFIG_MAP_UPDATED,
    PROBE_SUCCEEDED,
    ADDRESSABLE,
    EVENT_POLICIES_READY,
)
"""The Kafka class's set, and `DeadLetterSinkResolved` of the common one."""

DELIVERY_SHAPE: Shape = {
    "deadLetterSink": ANY,
    "retry": ANY,
    "timeout": ANY,
    "backoffPolicy": ANY,
    "backoffDelay": ANY,
    "backoffMax": ANY,
    "retryAfterMax": ANY,
    "format": ANY,
}
REF_SHAPE: Shape = {"apiVersion": str, "kind": str, "name": str, "namespace": str, "address": str, "group": str}

SHAPE: Shape = {
    "apiVersion": str,
    "kind": str,
    "metadata": METADATA,
    "spec": {"config": REF_SHAPE, "delivery": DELIVERY_SHAPE},
    "status": ANY,
}


def is_ours(broker: Resource) -> bool:
    """Whether this Broker is of our class; another class belongs to another controller."""
    return broker.annotations.get(CLASS_ANNOTATION) == KAFKA_CLASS


def default(broker: Resource) -> Resource:
    """Fill in the class, the config reference and the namespaces of references."""
    annotations = dict(broker.annotations)
    annotations.setdefault(CLASS_ANNOTATION, KAFKA_CLASS)
    spec = dict(broker.spec)
    config = spec.get("config")
    if config is None:
        spec["config"] = dict(DEFAULT_CONFIG)
    elif isinstance(config, Mapping) and config and not config.get("namespace"):
        spec["config"] = {**config, "namespace": broker.namespace}
    default_delivery(spec, broker.namespace)
    return Resource(broker.kind, {**broker.object, "metadata": {**broker.metadata, "annotations": annotations}, "spec": spec})


def default_delivery(spec: dict[str, Any], namespace: str) -> None:
    """Fill in the namespace of a dead letter sink's reference, in place."""
    block = spec.get("delivery")
    if isinstance(block, Mapping) and isinstance(block.get("deadLetterSink"), Mapping):
        spec["delivery"] = {**block, "deadLetterSink": default_destination(block["deadLetterSink"], namespace)}


def validate(broker: Resource) -> list[FieldError]:
    """What is wrong with a defaulted Broker."""
    errors: list[FieldError] = []
    if not broker.annotations.get(CLASS_ANNOTATION):
        errors.append(missing(CLASS_ANNOTATION))
    config = broker.spec.get("config")
    if config is not None:
        absent = [f"spec.config.{name}" for name in ("apiVersion", "kind", "name", "namespace") if not config.get(name)]
        if absent:
            errors.append(missing(*absent))
        elif is_ours(broker) and config["kind"] != "ConfigMap":
            errors.append(invalid(config["kind"], "spec.config.kind", "the Kafka class takes a ConfigMap"))
    return errors + validate_delivery(broker.spec, "spec.delivery")


def validate_delivery(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is wrong with the `delivery` block of a spec, its dead letter sink included."""
    block = spec.get("delivery")
    if not isinstance(block, Mapping):
        return []
    _, errors = delivery.parse(block, path)
    if isinstance(block.get("deadLetterSink"), Mapping):
        errors += validate_destination(block["deadLetterSink"], f"{path}.deadLetterSink")
    return errors


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """What must not change: all of the spec except delivery, and the class."""
    errors: list[FieldError] = []
    changed = differences("v1.BrokerSpec", _kept(old), _kept(new))
    if changed:
        errors.append(immutable("fields", ("spec",), changed))
    before, after = old.annotations.get(CLASS_ANNOTATION), new.annotations.get(CLASS_ANNOTATION)
    if before != after:
        difference = f'{{string}}:\n\t-: "{before or ""}"\n\t+: "{after or ""}"\n'
        errors.append(immutable("annotations", ("annotations",), difference))
    return errors


def _kept(broker: Resource) -> Mapping[str, Any]:
    return {key: value for key, value in broker.spec.items() if key != "delivery"}


def differences(type_name: str, old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str:
    """Old and new values of changed leaves, in the form of Knative's comparison (`{v1.BrokerSpec}.Config.Name:` and two lines)."""
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after, where = old.get(name), new.get(name), f"{path}.{name[:1].upper()}{name[1:]}"
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines.append(differences(type_name, before, after, where))
        else:
            lines.append(f"{{{type_name}}}{where}:\n\t-: {_quoted(before)}\n\t+: {_quoted(after)}\n")
    return "".join(lines)


def _quoted(value: Any) -> str:
    return f'"{value or ""}"' if value is None or isinstance(value, str) else str(value)
