"""KafkaSink (`eventing.knative.dev`): validation, immutable fields, conditions and topic."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing
from headrace.domain.routing import Format
from headrace.resources.broker_config import MIN_INSYNC_REPLICAS, REPLICATION, TopicConfig
from headrace.resources.condition_types import (
    ADDRESSABLE,
    CONFIG_MAP_UPDATED,
    DATA_PLANE_AVAILABLE,
    EVENT_POLICIES_READY,
    PROBE_SUCCEEDED,
    TOPIC_READY,
)
from headrace.resources.conditions import ConditionSet
from headrace.resources.json_shapes import Shape
from headrace.resources.kafka_channel import REPLICATION_MAX
from headrace.resources.kind_rules import KindRules
from headrace.resources.naming import NAME_MAX
from headrace.resources.registry_annotations import validate_annotations
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

CONDITIONS = ConditionSet(
    TOPIC_READY,
    DATA_PLANE_AVAILABLE,
    CONFIG_MAP_UPDATED,
    PROBE_SUCCEEDED,
    ADDRESSABLE,
    EVENT_POLICIES_READY,
)
"""The conditions of Knative's KafkaSink."""
SHAPE: Shape = {
    "spec": {
        "topic": str,
        "bootstrapServers": list,
        "numPartitions": int,
        "replicationFactor": int,
        "contentMode": str,
        "auth": {"secret": {"ref": {"name": str}}},
    }
}
_FORMATS: Mapping[str, Format] = {"binary": Format.BINARY, "structured": Format.JSON}
_LEGAL_TOPIC = re.compile(rf"(?!\.{{1,2}}\Z)[A-Za-z0-9._-]{{1,{NAME_MAX}}}\Z")
_IMMUTABLE = ("topic", "numPartitions", "replicationFactor")


def validate(sink: Resource, _system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a KafkaSink."""
    spec, errors = sink.spec, validate_annotations(sink)
    topic = spec.get("topic")
    if not topic:
        errors.append(missing("spec.topic"))
    elif not _LEGAL_TOPIC.match(topic):
        details = f"expected at most {NAME_MAX} letters, digits, '.', '_' and '-'"
        errors.append(invalid(topic[: NAME_MAX + 1], "spec.topic", details))
    for name, maximum in (("numPartitions", None), ("replicationFactor", REPLICATION_MAX)):
        value = spec.get(name)
        if value is not None and not 0 < value <= (maximum or value):
            errors.append(invalid(value, f"spec.{name}", "expected a number above zero"))
    if spec.get("contentMode") not in (None, *_FORMATS):
        mode = str(spec["contentMode"])[:100]
        errors.append(invalid(mode, "spec.contentMode", f"expected {' or '.join(_FORMATS)}"))
    return errors


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update, with Knative's message: the topic stays the same."""
    return [
        FieldError("Immutable field updated", (f"spec.{name}",))
        for name in _IMMUTABLE
        if new.spec.get(name) != old.spec.get(name)
    ]


def warnings(sink: Resource) -> list[str]:
    """Warnings about fields of a valid KafkaSink that have no effect."""
    found = []
    if sink.spec.get("auth"):
        found.append(
            "spec.auth has no effect: Headrace connects to Kafka with the credentials of its"
            " services (HEADRACE_KAFKA_*)"
        )
    given = [name for name in ("numPartitions", "replicationFactor") if sink.spec.get(name)]
    if len(given) == 1:
        found.append(
            f"spec.{given[0]} has no effect: a topic is created only with numPartitions and"
            " replicationFactor"
        )
    return found


def creates_topic(sink: Resource) -> bool:
    """Whether the topic is created for it; otherwise it has to exist."""
    return bool(sink.spec.get("numPartitions") and sink.spec.get("replicationFactor"))


def topic_config(sink: Resource) -> TopicConfig:
    """The settings of the topic, if it is created: Kafka's own, except for what an accepted event
    relies on.
    """
    replication: int = sink.spec.get("replicationFactor") or 1
    settings = {MIN_INSYNC_REPLICAS: "2"} if replication >= REPLICATION else {}
    partitions = sink.spec.get("numPartitions") or 1
    return TopicConfig(partitions=partitions, replication=replication, settings=settings)


def format_of(sink: Resource) -> Format:
    """How events are written: `spec.contentMode`."""
    return _FORMATS[sink.spec.get("contentMode") or "binary"]


def bootstrap_servers(sink: Resource) -> Sequence[str]:
    """`spec.bootstrapServers`; an entry may have several, separated by commas."""
    entries: Sequence[Any] = sink.spec.get("bootstrapServers") or ()
    return [each.strip() for entry in entries for each in str(entry).split(",") if each.strip()]


RULES = KindRules(SHAPE, validate=validate, validate_update=validate_update, warnings=warnings)
