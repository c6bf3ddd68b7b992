"""KafkaSource, today's and that of Knative 0.5: validation, defaults and conditions."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.field_errors import FieldError, missing
from headrace.resources.delivery_rules import (
    DELIVERY_SHAPE,
    default_delivery,
    delivery_remarks,
    validate_delivery,
)
from headrace.resources.json_shapes import ANY, Shape
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

CONNECTION_ESTABLISHED = "ConnectionEstablished"
KEY_TYPE_CORRECT = "KeyTypeCorrect"
CONDITIONS = source_conditions(
    CONNECTION_ESTABLISHED, "InitialOffsetsCommitted", KEY_TYPE_CORRECT, "Scheduled"
)
EVENT_TYPE = "dev.knative.kafka.event"
"""Of the records that are no CloudEvents themselves."""
KEY_TYPE_LABEL = "kafkasources.sources.knative.dev/key-type"
KEY_TYPES = ("string", "int", "float", "byte-array")
SASL_SECRETS = ("user", "password", "type")
TLS_SECRETS = ("cert", "key", "caCert")
_SECRET_SHAPE: Shape = {"secretKeyRef": {"name": str, "key": str, "optional": bool}}
_NET_SHAPE: Shape = {
    "sasl": {"enable": bool, **dict.fromkeys(SASL_SECRETS, _SECRET_SHAPE)},
    "tls": {"enable": bool, **dict.fromkeys(TLS_SECRETS, _SECRET_SHAPE)},
}
SHAPE = shape_of(
    {
        "bootstrapServers": list,
        "topics": list,
        "consumerGroup": str,
        "consumers": int,
        "initialOffset": str,
        "ordering": str,
        "delivery": DELIVERY_SHAPE,
        "net": _NET_SHAPE,
    }
)
LEGACY_SHAPE = shape_of(
    {"bootstrapServers": str, "topics": str, "consumerGroup": str, "net": _NET_SHAPE, "sink": ANY}
)


def default(source: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the namespaces of the sink's and the dead letter sink's references."""
    defaulted = default_source(source, system)
    spec = dict(defaulted.spec)
    default_delivery(spec, source.namespace)
    return Resource(source.kind, {**defaulted.object, "spec": spec})


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted KafkaSource."""
    errors = validate_source(source, system)
    errors += validate_delivery(source.spec, "spec.delivery", system.features)
    return errors + _validate_lists(source)


def validate_legacy(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a KafkaSource of Knative 0.5."""
    errors = validate_source(source, system) + _validate_lists(source)
    if not source.spec.get("consumerGroup"):
        errors.append(missing("spec.consumerGroup"))
    return errors


def _validate_lists(source: Resource) -> list[FieldError]:
    errors = []
    if not bootstrap_servers(source):
        errors.append(missing("spec.bootstrapServers"))
    if not topics(source):
        errors.append(missing("spec.topics"))
    return errors


def warnings(source: Resource) -> list[str]:
    """Warnings about a valid KafkaSource."""
    return source_warnings(source) + delivery_remarks(source)


def bootstrap_servers(source: Resource) -> Sequence[str]:
    """`spec.bootstrapServers`; in Knative 0.5 it was one text with commas."""
    return _entries(source.spec.get("bootstrapServers"))


def topics(source: Resource) -> Sequence[str]:
    """`spec.topics`, likewise."""
    return _entries(source.spec.get("topics"))


def _entries(value: Any) -> Sequence[str]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else ()
    entries = (entry.strip() for text in texts for entry in str(text).split(","))
    return tuple(dict.fromkeys(filter(None, entries)))


def consumer_group(source: Resource) -> str:
    """The group that it reads as. Without a name, one that it keeps as long as it exists."""
    return source.spec.get("consumerGroup") or f"knative-kafka-source-{source.uid}"


def consumers(source: Resource) -> int:
    """How many consumers read; 0 switches the source off."""
    found = source.spec.get("consumers")
    return 1 if found is None else int(found)


def key_type(source: Resource) -> str:
    """What the keys of the records are, which may be none of `KEY_TYPES`."""
    labels: Mapping[str, str] = source.metadata.get("labels") or {}
    return labels.get(KEY_TYPE_LABEL) or KEY_TYPES[0]


def event_source(source: Resource) -> str:
    """The attribute `source` of its events, without `#` and the topic."""
    return f"/apis/v1/namespaces/{source.namespace}/kafkasources/{source.name}"


def event_types(source: Resource) -> Sequence[tuple[str, str]]:
    """Type and source of its events, for each topic."""
    return tuple((EVENT_TYPE, f"{event_source(source)}#{topic}") for topic in topics(source))


RULES = KindRules(SHAPE, set_defaults=default, validate=validate, warnings=warnings)
LEGACY_RULES = KindRules(
    LEGACY_SHAPE, set_defaults=default_source, validate=validate_legacy, warnings=source_warnings
)
