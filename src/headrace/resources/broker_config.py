"""The settings of a Broker's topic, from the ConfigMap that its `spec.config` names.

The keys are those of Knative's `kafka-broker-config`:

    default.topic.partitions          number of partitions; 10 by default
    default.topic.replication.factor  number of replicas; 3 by default, or the number of brokers if
                                      there are fewer
    default.topic.config.<setting>    any topic setting, passed on unchanged
    bootstrap.servers                 accepted and ignored: a controller serves one Kafka cluster
    auth.secret.ref.name              not used: Headrace connects with its own credentials

Unused and unknown keys are reported, except `bootstrap.servers`, which every installation of
Knative sets.

An explicitly requested value is never adjusted: more replicas than brokers is an error, which
Kafka itself reports.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PARTITIONS_KEY = "default.topic.partitions"
REPLICATION_KEY = "default.topic.replication.factor"
SETTING_PREFIX = "default.topic.config."
BOOTSTRAP_KEY = "bootstrap.servers"
CREDENTIALS_KEY = "auth.secret.ref.name"
_UNUSED_SHOWN_MAX = 5
_DIGITS_MAX = 10

PARTITIONS = 10
REPLICATION = 3
PARTITIONS_MAX = 10_000
BYTES_MAX = 1_048_576
"""`max.message.bytes` of a channel topic by default."""
OVERHEAD_BYTES = 65_536
"""Bytes that private headers and error extensions may add to an event: an event is accepted up to
this much below its channel's limit, and the topics for retries and dead letters allow this much
more than the channel.
"""

MAX_MESSAGE_BYTES = "max.message.bytes"
MIN_INSYNC_REPLICAS = "min.insync.replicas"


class InvalidConfig(ValueError):
    """The ConfigMap is invalid; the message names the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """The settings of a channel topic."""

    partitions: int = PARTITIONS
    replication: int = REPLICATION
    settings: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """Values that were adjusted, as messages."""
    unused: tuple[str, ...] = ()
    """Keys that have no effect, as messages."""

    @property
    def bytes_max(self) -> int:
        """Size of the largest record that the topic accepts."""
        return int(self.settings.get(MAX_MESSAGE_BYTES, BYTES_MAX))


def read_config(data: Mapping[str, Any], *, brokers: int) -> TopicConfig:
    """Read a ConfigMap's `data` for a cluster of `brokers` brokers; raises InvalidConfig."""
    settings = {
        key.removeprefix(SETTING_PREFIX): str(value)
        for key, value in data.items()
        if key.startswith(SETTING_PREFIX) and key != SETTING_PREFIX
    }
    partitions = _number(data, PARTITIONS_KEY, PARTITIONS, maximum=PARTITIONS_MAX)
    replication, warnings = effective_replication(_asked(data), brokers)
    settings.setdefault(MAX_MESSAGE_BYTES, str(BYTES_MAX))
    asked = settings[MAX_MESSAGE_BYTES]
    if (
        not (asked.isascii() and asked.isdecimal() and len(asked) <= _DIGITS_MAX)
        or int(settings[MAX_MESSAGE_BYTES]) <= 2 * OVERHEAD_BYTES
    ):
        text = (
            f"{SETTING_PREFIX}{MAX_MESSAGE_BYTES}: {settings[MAX_MESSAGE_BYTES][:40]!r} is not a"
            f" number above {2 * OVERHEAD_BYTES}"
        )
        raise InvalidConfig(f"{text}; Headrace adds up to {OVERHEAD_BYTES} bytes to an event")
    if settings.get("cleanup.policy", "delete") != "delete":
        raise InvalidConfig(
            f"{SETTING_PREFIX}cleanup.policy: only delete is possible; compaction would remove"
            " events before their delivery"
        )
    if replication >= REPLICATION:
        settings.setdefault(MIN_INSYNC_REPLICAS, "2")
    return TopicConfig(
        partitions=partitions,
        replication=replication,
        settings=settings,
        warnings=warnings,
        unused=_unused(data),
    )


def _unused(data: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    if CREDENTIALS_KEY in data:
        notes.append(
            f"{CREDENTIALS_KEY} is not used: Headrace connects to Kafka with the credentials of its"
            " services (HEADRACE_KAFKA_*)"
        )
    known = {PARTITIONS_KEY, REPLICATION_KEY, BOOTSTRAP_KEY, CREDENTIALS_KEY, "_example"}
    others = sorted(
        key
        for key in data
        if key not in known and not (key.startswith(SETTING_PREFIX) and key != SETTING_PREFIX)
    )
    if others:
        shown = ", ".join(f"{key[:60]}{_meant(key)}" for key in others[:_UNUSED_SHOWN_MAX])
        more = (
            f" and {len(others) - _UNUSED_SHOWN_MAX} more"
            if len(others) > _UNUSED_SHOWN_MAX
            else ""
        )
        notes.append(f"unknown keys: {shown}{more}")
    return tuple(notes)


def _meant(key: str) -> str:
    close = difflib.get_close_matches(
        key[:60], (PARTITIONS_KEY, REPLICATION_KEY, BOOTSTRAP_KEY, SETTING_PREFIX), 1, cutoff=0.75
    )
    return (
        f" (did you mean {close[0]}{'…' if close[0] == SETTING_PREFIX else ''}?)" if close else ""
    )


def effective_replication(asked: int | None, brokers: int) -> tuple[int, tuple[str, ...]]:
    """Replicas to create for the requested number (None: not set), and a warning when that is fewer
    than it should be.
    """
    if asked is not None:
        return asked, ()
    if brokers >= REPLICATION:
        return REPLICATION, ()
    replicas = max(1, brokers)
    warning = (
        f"{replicas} of {REPLICATION} replicas: the cluster has {brokers} brokers;"
        " acknowledged events survive fewer broker failures"
    )
    return replicas, (warning,)


def _asked(data: Mapping[str, Any]) -> int | None:
    return _number(data, REPLICATION_KEY, 0, maximum=100) if REPLICATION_KEY in data else None


def _number(data: Mapping[str, Any], key: str, default: int, *, maximum: int) -> int:
    text = str(data.get(key, default)).strip()
    if not (
        text.isascii()
        and text.isdecimal()
        and len(text) <= 6
        and (key not in data or 1 <= int(text) <= maximum)
    ):
        raise InvalidConfig(f"{key}: {text[:40]!r} is not a number from 1 to {maximum}")
    return int(text)
