"""KafkaChannel (`messaging.knative.dev`): validation, defaults, immutable fields and conditions."""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, invalid
from headrace.resources.broker_config import (
    BYTES_MAX,
    MAX_MESSAGE_BYTES,
    MIN_INSYNC_REPLICAS,
    REPLICATION,
    TopicConfig,
)
from headrace.resources.channelable import (
    CHANNELABLE_SHAPE,
    default_channelable,
    served_remarks,
    validate_channelable,
)
from headrace.resources.condition_types import (
    ADDRESSABLE,
    CHANNEL_SERVICE_READY,
    CONFIG_MAP_UPDATED,
    CONFIGURATION_READY,
    DATA_PLANE_AVAILABLE,
    DEAD_LETTER_SINK_RESOLVED,
    EVENT_POLICIES_READY,
    PROBE_SUCCEEDED,
    TOPIC_READY,
)
from headrace.resources.conditions import ConditionSet
from headrace.resources.durations import InvalidDuration, parse_duration
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules, immutable_except
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

CONDITIONS = ConditionSet(
    CONFIGURATION_READY,
    TOPIC_READY,
    DEAD_LETTER_SINK_RESOLVED,
    DATA_PLANE_AVAILABLE,
    CONFIG_MAP_UPDATED,
    PROBE_SUCCEEDED,
    CHANNEL_SERVICE_READY,
    ADDRESSABLE,
    EVENT_POLICIES_READY,
)
"""The conditions of Knative's KafkaChannel, and those of every addressable."""

SHAPE: Shape = {
    "spec": {
        "numPartitions": int,
        "replicationFactor": int,
        "retentionDuration": str,
        **CHANNELABLE_SHAPE,
    }
}
_DEFAULTS: Mapping[str, Any] = {
    "numPartitions": 1,
    "replicationFactor": 1,
    "retentionDuration": "PT168H",
}
REPLICATION_MAX = 32_767
_RETENTION_SECONDS_MIN = 1.0
"""Kafka takes milliseconds; 0 would delete events at once."""


def default(channel: Resource, _system: SystemConfig = BUILT_IN) -> Resource:
    """Set the settings of the topic, the annotation of channels, and the namespaces of
    references.
    """
    given = {key: value for key, value in channel.spec.items() if value not in (None, "")}
    return default_channelable(channel, {**_DEFAULTS, **given})


def validate(channel: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted KafkaChannel."""
    spec = channel.spec
    errors = [
        invalid(spec[name], f"spec.{name}", "expected a number above zero")
        for name in ("numPartitions", "replicationFactor")
        if spec[name] <= 0
    ]
    if spec["replicationFactor"] > REPLICATION_MAX:
        details = f"expected at most {REPLICATION_MAX}"
        errors.append(invalid(spec["replicationFactor"], "spec.replicationFactor", details))
    try:
        if parse_duration(spec["retentionDuration"]) < _RETENTION_SECONDS_MIN:
            raise InvalidDuration("expected at least a second")
    except InvalidDuration as error:
        errors.append(invalid(spec["retentionDuration"], "spec.retentionDuration", str(error)))
    return errors + validate_channelable(channel, system)


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: the settings of the topic are immutable. A retention may be set
    once in an object that was stored without one.
    """
    return immutable_except(
        "v1beta1.KafkaChannelSpec",
        old,
        new,
        "subscribers",
        "delivery",
        set_once="retentionDuration",
    )


def topic_config(channel: Resource) -> TopicConfig:
    """The settings of a valid channel's topic."""
    retention_ms = int(parse_duration(channel.spec["retentionDuration"]) * 1000)
    settings = {MAX_MESSAGE_BYTES: str(BYTES_MAX), "retention.ms": str(retention_ms)}
    replication = channel.spec["replicationFactor"]
    if replication >= REPLICATION:
        settings[MIN_INSYNC_REPLICAS] = "2"
    return TopicConfig(
        partitions=channel.spec["numPartitions"], replication=replication, settings=settings
    )


RULES = KindRules(
    SHAPE,
    set_defaults=default,
    validate=validate,
    validate_update=validate_update,
    warnings=served_remarks,
)
