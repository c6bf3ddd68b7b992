"""A topic's specification as the configuration of a stream, and back.

Settings that JetStream has are set. All of them are kept as JSON in the stream's description, so
that a topic is described with the settings that it was created with, whether JetStream has them or
not.

| topic | stream |
|---|---|
| `retention.ms`, -1: unlimited | `max_age` |
| `retention.bytes`, -1: unlimited | `max_bytes`, the oldest records are removed first |
| `max.message.bytes` | `max_msg_size`, larger by what encoded headers may add |
| `jetstream.retention.messages`, -1: unlimited | `max_msgs` |
| `jetstream.discard`, `old` or `new` | `discard`: what happens at a limit |
| `jetstream.storage`, `file` or `memory` | `storage`, which cannot change |
| replication | `num_replicas` |
| `message.timestamp.type` | always `LogAppendTime`: the server sets the time |
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace.adapters.nats.consumers import SECOND_NS
from headrace.adapters.nats.names import stream_name, subject
from headrace.adapters.nats.options import ENCODING_BYTES_MAX
from headrace.resources.control_ports import TopicDescription, TopicSpec
from headrace.resources.nats_jetstream_channel import DISCARD, RETENTION_MESSAGES, STORAGE

RETENTION_MS: Final = "retention.ms"
RETENTION_BYTES: Final = "retention.bytes"
MESSAGE_BYTES: Final = "max.message.bytes"
_DUPLICATES_NS: Final = 30 * SECOND_NS
"""How long a message id is remembered. A record is repeated for 5 s at most (`JetStreamLog`)."""
_MILLISECOND_NS: Final = 1_000_000
_DESCRIPTION_BYTES_MAX: Final = 4_096
"""`JSMaxDescriptionLen` of nats-server."""


@dataclass(frozen=True, slots=True)
class InvalidSettings(Exception):
    """Settings that no stream can have; the text names the setting and the limit."""

    reason: str


def stream_config(spec: TopicSpec, *, message_bytes_max: int) -> dict[str, Any]:
    """Return the configuration of a topic's stream. `message_bytes_max` is the server's
    `max_payload`. Raises `InvalidSettings`.
    """
    if spec.partitions != 1:
        raise InvalidSettings(
            f"a topic in JetStream has 1 partition, {spec.partitions} were requested"
        )
    return {
        "name": stream_name(spec.name),
        "subjects": [subject(spec.name)],
        "storage": spec.settings.get(STORAGE, "file"),
        "retention": "limits",
        "num_replicas": spec.replication,
        **_limits(spec.settings, message_bytes_max),
    }


def altered_config(
    config: Mapping[str, Any], settings: Mapping[str, str], *, message_bytes_max: int
) -> dict[str, Any]:
    """Return a stream's configuration with some settings changed. Raises `InvalidSettings`."""
    return {**config, **_limits({**_settings(config), **settings}, message_bytes_max)}


def topic_description(name: str, answer: Mapping[str, Any]) -> TopicDescription:
    """Return a topic, from the answer about its stream."""
    config: Mapping[str, Any] = answer["config"]
    return TopicDescription(
        name=name,
        partitions=1,
        replication=int(config.get("num_replicas") or 1),
        id=str(answer["created"]),
        settings=_effective(config),
    )


def _limits(settings: Mapping[str, str], message_bytes_max: int) -> dict[str, Any]:
    description = json.dumps(dict(sorted(settings.items())), separators=(",", ":"))
    if len(description) > _DESCRIPTION_BYTES_MAX:
        raise InvalidSettings(
            f"the settings have {len(description)} characters as JSON, the limit is"
            f" {_DESCRIPTION_BYTES_MAX}"
        )
    retention = _number(settings, RETENTION_MS, -1)
    max_age = 0 if retention < 0 else max(retention, 100) * _MILLISECOND_NS
    size = _number(settings, MESSAGE_BYTES, -1)
    if 0 <= message_bytes_max < size + ENCODING_BYTES_MAX and size >= 0:
        raise InvalidSettings(
            f"{MESSAGE_BYTES}={size} needs max_payload of at least {size + ENCODING_BYTES_MAX} in"
            f" the configuration of the NATS server, which has {message_bytes_max}"
        )
    return {
        "description": description,
        "max_age": max_age,
        "max_bytes": _number(settings, RETENTION_BYTES, -1),
        "max_msgs": _number(settings, RETENTION_MESSAGES, -1),
        "discard": settings.get(DISCARD, "old"),
        "max_msg_size": size + ENCODING_BYTES_MAX if size >= 0 else -1,
        "duplicate_window": min(_DUPLICATES_NS, max_age) if max_age else _DUPLICATES_NS,
    }


def _number(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise InvalidSettings(f"{name} must be a whole number, not {text}") from None


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings that a stream was created with; none if another program created it."""
    try:
        found = json.loads(config.get("description") or "{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): str(value) for name, value in found.items()}


def _effective(config: Mapping[str, Any]) -> dict[str, str]:
    """Those that JetStream has are what they are now: another program may have changed them."""
    settings = _settings(config)
    max_age, size = int(config.get("max_age") or 0), int(config.get("max_msg_size") or -1)
    retention = max_age // _MILLISECOND_NS if max_age else -1
    kept = _kept_number(settings, RETENTION_MS)
    if kept is None or not ((kept < 0 and retention < 0) or max(kept, 100) == retention):
        settings[RETENTION_MS] = str(retention)
    settings[RETENTION_BYTES] = str(int(config.get("max_bytes") or -1))
    settings[RETENTION_MESSAGES] = str(int(config.get("max_msgs") or -1))
    settings[STORAGE] = str(config.get("storage", "file"))
    settings[DISCARD] = str(config.get("discard", "old"))
    if size >= 0:
        settings[MESSAGE_BYTES] = str(max(size - ENCODING_BYTES_MAX, 0))
    else:
        settings.pop(MESSAGE_BYTES, None)
    return settings


def _kept_number(settings: Mapping[str, str], name: str) -> int | None:
    try:
        return int(settings[name])
    except (KeyError, ValueError):
        return None
