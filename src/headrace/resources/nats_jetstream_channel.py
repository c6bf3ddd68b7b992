"""NatsJetStreamChannel (`messaging.knative.dev/v1alpha1`): validation, defaults, immutable fields
and conditions.

The fields are those of Knative's kind. Some of them would break the promises of a channel (events
that are dropped although they are not delivered, or kept for one Subscription only), or are chosen
by Headrace: they are accepted, have no effect, and a warning says so.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, differences, immutable, invalid
from headrace.resources.broker_config import MAX_MESSAGE_BYTES, OVERHEAD_BYTES, TopicConfig
from headrace.resources.channelable import (
    CHANNELABLE_SHAPE,
    default_channelable,
    served_remarks,
    validate_channelable,
)
from headrace.resources.durations import InvalidDuration, parse_go_duration
from headrace.resources.json_shapes import ANY, Shape
from headrace.resources.kafka_channel import CONDITIONS
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

__all__ = ["CONDITIONS", "RULES", "SHAPE", "is_in_one_memory", "stream_name", "topic_config"]

BYTES_MAX = 1_048_576 - 2 * OVERHEAD_BYTES - OVERHEAD_BYTES
"""The largest record by default. A NATS server accepts messages of 1 MiB by default: room is left
for headers that have to be encoded (128 KiB), and for what a retry adds to a record (64 KiB).
"""
STORAGE = "jetstream.storage"
DISCARD = "jetstream.discard"
RETENTION_MESSAGES = "jetstream.retention.messages"
"""Settings of a topic that only JetStream has."""

SHAPE: Shape = {
    "spec": {
        "stream": {"overrideName": str, "config": ANY},
        "consumerConfigTemplate": ANY,
        **CHANNELABLE_SHAPE,
    }
}
_RETENTION_SECONDS = 168 * 3600.0
_RETENTION_SECONDS_MIN = 1.0
_USED = ("maxMsgs", "maxBytes", "discard", "maxAge", "maxMsgSize", "storage", "replicas")
_TYPE = "v1alpha1.NatsJetStreamChannelSpec"
_IMMUTABLE = {"storage": "File", "replicas": 0}
"""With their defaults."""
_UNLIMITED = -1


def default(channel: Resource, _system: SystemConfig = BUILT_IN) -> Resource:
    """Set the annotation of channels, and the namespaces of references."""
    return default_channelable(channel, dict(channel.spec))


def validate(channel: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted NatsJetStreamChannel."""
    config, errors = _config(channel), []
    if config.get("maxAge"):
        path = "spec.stream.config.maxAge"
        try:
            seconds = parse_go_duration(str(config["maxAge"]))
        except InvalidDuration as error:
            errors.append(invalid(config["maxAge"], path, str(error)))
        else:
            if 0 < seconds < _RETENTION_SECONDS_MIN:
                errors.append(invalid(config["maxAge"], path, "expected at least a second"))
    return errors + validate_channelable(channel, system)


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: name, storage and replicas of the stream are immutable."""
    changed = [
        f"spec.stream.config.{name}"
        for name, default in _IMMUTABLE.items()
        if (_config(new).get(name) or default) != (_config(old).get(name) or default)
    ]
    if stream_name(new) != stream_name(old):
        changed.append("spec.stream.overrideName")
    if not changed:
        return []
    before, after = ({"stream": each.spec.get("stream")} for each in (old, new))
    return [immutable("fields", changed, differences(_TYPE, before, after))]


def warnings(channel: Resource) -> list[str]:
    """What in the spec has no effect."""
    return [*served_remarks(channel), *_unused(channel)]


def stream_name(channel: Resource) -> str:
    """The name that the spec asks for; empty if it asks for none."""
    stream = channel.spec.get("stream")
    return str(stream.get("overrideName") or "") if isinstance(stream, Mapping) else ""


def topic_config(channel: Resource) -> TopicConfig:
    """The settings of a valid channel's stream, with the names of Kafka where it has them."""
    config = _config(channel)
    age = parse_go_duration(str(config["maxAge"])) if config.get("maxAge") else _RETENTION_SECONDS
    settings = {
        MAX_MESSAGE_BYTES: str(config.get("maxMsgSize") or BYTES_MAX),
        "retention.ms": str(int(age * 1000) or _UNLIMITED),
        "retention.bytes": str(config.get("maxBytes") or _UNLIMITED),
        RETENTION_MESSAGES: str(config.get("maxMsgs") or _UNLIMITED),
        STORAGE: str(config.get("storage") or "File").lower(),
        DISCARD: str(config.get("discard") or "New").lower(),
    }
    return TopicConfig(
        partitions=1, replication=int(config.get("replicas") or 1), settings=settings
    )


def is_in_one_memory(channel: Resource) -> bool:
    """Whether the stream of a valid channel is lost when the one server that has it ends."""
    config = topic_config(channel)
    return config.settings[STORAGE] == "memory" and config.replication == 1


def _config(channel: Resource) -> Mapping[str, Any]:
    stream = channel.spec.get("stream")
    config = stream.get("config") if isinstance(stream, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def _unused(channel: Resource) -> Iterator[str]:
    for name in _config(channel):
        if name not in _USED:
            yield f"spec.stream.config.{name} has no effect: Headrace chooses it"
    if channel.spec.get("consumerConfigTemplate"):
        yield "spec.consumerConfigTemplate has no effect: see spec.delivery"


RULES = KindRules(
    SHAPE,
    set_defaults=default,
    validate=validate,
    validate_update=validate_update,
    warnings=warnings,
)
