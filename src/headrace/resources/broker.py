"""Broker (`eventing.knative.dev/v1`): validation, defaults, immutable fields and conditions."""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, immutable, invalid, missing
from headrace.resources.broker_defaults import DEFAULT_CONFIG, KAFKA_CLASS
from headrace.resources.condition_types import (
    ADDRESSABLE,
    CONFIG_MAP_UPDATED,
    DATA_PLANE_AVAILABLE,
    DEAD_LETTER_SINK_RESOLVED,
    EVENT_POLICIES_READY,
    PROBE_SUCCEEDED,
    TOPIC_READY,
)
from headrace.resources.conditions import ConditionSet
from headrace.resources.delivery_rules import (
    DELIVERY_SHAPE,
    default_delivery,
    delivery_remarks,
    validate_delivery,
)
from headrace.resources.destination import REF_SHAPE
from headrace.resources.json_shapes import ANY, Shape
from headrace.resources.kind_rules import KindRules, immutable_except
from headrace.resources.legacy_broker import validate_template
from headrace.resources.legacy_channel import OBJECT_REFERENCE_SHAPE
from headrace.resources.registry_annotations import validate_annotations
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

__all__ = ["DEFAULT_CONFIG", "KAFKA_CLASS"]

CLASS_ANNOTATION = "eventing.knative.dev/broker.class"
EXTERNAL_TOPIC_ANNOTATION = "kafka.eventing.knative.dev/external.topic"

CONFIG_PARSED = "ConfigParsed"
SYSTEM_CONFIG_VALID = "SystemConfigValid"
"""Headrace-specific informational condition: whether the ConfigMaps for all resources are valid.
Shown only if they are not.
"""

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
"""The conditions of Knative's Kafka broker, and `DeadLetterSinkResolved` of the common ones."""

SHAPE: Shape = {
    "spec": {
        "config": REF_SHAPE,
        "delivery": DELIVERY_SHAPE,
        "channelTemplate": {"provisioner": OBJECT_REFERENCE_SHAPE, "arguments": ANY},
        "channelTemplateSpec": {"apiVersion": str, "kind": str, "spec": ANY},
    },
}


def is_ours(broker: Resource) -> bool:
    """Whether this Broker has Headrace's class; another class belongs to another controller."""
    return broker.annotations.get(CLASS_ANNOTATION) == KAFKA_CLASS


def default(broker: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the class, the config reference, the delivery block and the namespaces of references."""
    annotations = dict(broker.annotations)
    broker_class = annotations.get(CLASS_ANNOTATION)
    if not broker_class:
        broker_class = annotations[CLASS_ANNOTATION] = system.broker_defaults.class_in(
            broker.namespace
        )
    said = system.broker_defaults.of(broker.namespace, broker_class)
    spec = dict(broker.spec)
    config = spec.get("config")
    if config is None and said.config is not None:
        spec["config"] = config = dict(said.config)
    if isinstance(config, Mapping) and config and not config.get("namespace"):
        spec["config"] = {**config, "namespace": broker.namespace}
    if spec.get("delivery") is None and said.delivery is not None:
        spec["delivery"] = dict(said.delivery)
    default_delivery(spec, broker.namespace)
    return Resource(
        broker.kind,
        {
            **broker.object,
            "metadata": {**broker.metadata, "annotations": annotations},
            "spec": spec,
        },
    )


def validate(broker: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted Broker."""
    errors: list[FieldError] = []
    if not broker.annotations.get(CLASS_ANNOTATION):
        errors.append(missing(CLASS_ANNOTATION))
    config = broker.spec.get("config")
    if config is not None:
        errors += _wrong_config(broker, config, system)
    errors += validate_template(broker.spec)
    errors += validate_annotations(broker)
    return errors + validate_delivery(broker.spec, "spec.delivery", system.features)


def _wrong_config(broker: Resource, config: Any, system: SystemConfig) -> list[FieldError]:
    if not isinstance(config, Mapping):
        return [invalid(type(config).__name__, "spec.config", "expected apiVersion, kind and name")]
    absent = [
        f"spec.config.{name}"
        for name in ("apiVersion", "kind", "name", "namespace")
        if not config.get(name)
    ]
    if absent:
        return [missing(*absent)]
    if is_ours(broker) and config["kind"] != "ConfigMap":
        return [invalid(config["kind"], "spec.config.kind", "the Kafka class takes a ConfigMap")]
    if config["namespace"] != broker.namespace and system.broker_defaults.own_namespace_only(
        broker.namespace
    ):
        details = (
            f'parent namespace: "{broker.namespace}" does not match ref: "{config["namespace"]}"'
        )
        return [FieldError("mismatched namespaces", ("spec.config.namespace",), details)]
    return []


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: all of the spec except `delivery` is immutable, and so is
    the class.
    """
    errors = immutable_except("v1.BrokerSpec", old, new, "delivery")
    before, after = old.annotations.get(CLASS_ANNOTATION), new.annotations.get(CLASS_ANNOTATION)
    if before != after:
        difference = f'{{string}}:\n\t-: "{before or ""}"\n\t+: "{after or ""}"\n'
        errors.append(immutable("annotations", ("annotations",), difference))
    return errors


RULES = KindRules(
    SHAPE,
    set_defaults=default,
    validate=validate,
    validate_update=validate_update,
    warnings=delivery_remarks,
)
