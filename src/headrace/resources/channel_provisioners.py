"""What became of the provisioners of Knative 0.5: the kind of channel that a
ClusterChannelProvisioner stands for, and the template of a Channel with this provisioner and its
`arguments`.

Up to 0.7 a Channel named its implementation by a ClusterChannelProvisioner. Since 0.8 each
implementation is a kind of its own, which a Channel names by its template.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain.field_errors import FieldError, invalid
from headrace.resources.broker_config import PARTITIONS_MAX
from headrace.resources.kafka_channel import REPLICATION_MAX
from headrace.resources.kinds import (
    CLUSTER_CHANNEL_PROVISIONER,
    IN_MEMORY_CHANNEL,
    KAFKA_CHANNEL,
    NATS_JETSTREAM_CHANNEL,
)
from headrace.resources.resource import ResourceKind

PROVISIONERS: Mapping[str, ResourceKind] = {
    "in-memory": IN_MEMORY_CHANNEL,
    "in-memory-channel": IN_MEMORY_CHANNEL,
    "kafka": KAFKA_CHANNEL,
    "natss": NATS_JETSTREAM_CHANNEL,
}
"""The kind of channel by the name of its provisioner."""
KNOWN_PROVISIONERS = ", ".join(PROVISIONERS)
"""Their names, for messages."""

_KAFKA_ARGUMENTS: Mapping[str, tuple[str, int]] = {
    "numpartitions": ("numPartitions", PARTITIONS_MAX),
    "replicationfactor": ("replicationFactor", REPLICATION_MAX),
}
"""Field of a KafkaChannel and its largest value, by the argument in lower case: the provisioner
read `NumPartitions` and `ReplicationFactor` without regard to case.
"""


@dataclass(frozen=True, slots=True)
class ProvisionedTemplate:
    """The template of a Channel that had a provisioner."""

    template: Mapping[str, Any]
    unused: tuple[str, ...] = ()
    """Names of arguments that have no effect."""


def unknown_provisioner(name: str) -> str:
    """What to say about a provisioner that is not in the table."""
    return (
        f'no {CLUSTER_CHANNEL_PROVISIONER.kind} "{name}" makes channels here; these do:'
        f" {KNOWN_PROVISIONERS}"
    )


def provisioner_name(spec: Mapping[str, Any]) -> str:
    """The name in `provisioner`; empty if there is none."""
    provisioner = spec.get("provisioner")
    return str(provisioner.get("name") or "") if isinstance(provisioner, Mapping) else ""


def template_of(spec: Mapping[str, Any]) -> ProvisionedTemplate | None:
    """The template for valid `provisioner` and `arguments`; None if the provisioner is unknown."""
    found = PROVISIONERS.get(provisioner_name(spec))
    if found is None:
        return None
    arguments = spec.get("arguments")
    given = arguments if isinstance(arguments, Mapping) else {}
    named = {"apiVersion": found.api_version, "kind": found.kind}
    if found != KAFKA_CHANNEL:
        return ProvisionedTemplate(named, tuple(sorted(map(str, given))))
    fields = {
        _KAFKA_ARGUMENTS[name.lower()][0]: value
        for name, value in given.items()
        if name.lower() in _KAFKA_ARGUMENTS
    }
    unused = sorted(name for name in given if name.lower() not in _KAFKA_ARGUMENTS)
    return ProvisionedTemplate({**named, "spec": fields} if fields else named, tuple(unused))


def wrong_arguments(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    """The errors in `arguments`, which is at `path`, of the provisioner that `spec` names."""
    arguments = spec.get("arguments")
    if arguments is None:
        return []
    if not isinstance(arguments, Mapping):
        return [invalid(type(arguments).__name__, path, "expected an object")]
    if PROVISIONERS.get(provisioner_name(spec)) != KAFKA_CHANNEL:
        return []
    errors = []
    for name, value in arguments.items():
        _, maximum = _KAFKA_ARGUMENTS.get(name.lower(), ("", 0))
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if maximum and not (is_number and 1 <= value <= maximum):
            details = f"expected a number from 1 to {maximum}"
            errors.append(invalid(str(value)[:40], f"{path}.{name}", details))
    return errors
