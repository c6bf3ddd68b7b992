"""InMemoryChannel (`messaging.knative.dev`): validation, defaults and conditions."""

from headrace.domain.field_errors import FieldError
from headrace.resources.broker_config import BYTES_MAX, MAX_MESSAGE_BYTES, TopicConfig
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
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

SERVICE_READY = "ServiceReady"
ENDPOINTS_READY = "EndpointsReady"
DISPATCHER_READY = "DispatcherReady"
"""Informational, as in Knative."""
CONDITIONS = ConditionSet(
    CONFIGURATION_READY,
    TOPIC_READY,
    DEAD_LETTER_SINK_RESOLVED,
    DATA_PLANE_AVAILABLE,
    SERVICE_READY,
    ENDPOINTS_READY,
    CONFIG_MAP_UPDATED,
    PROBE_SUCCEEDED,
    CHANNEL_SERVICE_READY,
    ADDRESSABLE,
    EVENT_POLICIES_READY,
)
"""The conditions of Knative's InMemoryChannel, and those of every addressable."""

SHAPE: Shape = {"spec": dict(CHANNELABLE_SHAPE)}


def default(channel: Resource, _system: SystemConfig = BUILT_IN) -> Resource:
    """Set the annotation of channels, and the namespaces of references."""
    return default_channelable(channel, dict(channel.spec))


def validate(channel: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted InMemoryChannel."""
    return validate_channelable(channel, system)


def topic_config(_channel: Resource) -> TopicConfig:
    """One partition: one process has all of it."""
    return TopicConfig(partitions=1, replication=1, settings={MAX_MESSAGE_BYTES: str(BYTES_MAX)})


RULES = KindRules(SHAPE, set_defaults=default, validate=validate, warnings=served_remarks)
