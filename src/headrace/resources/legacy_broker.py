"""The channel template of a Broker of Knative 0.5 to 0.13 (`eventing.knative.dev/v1alpha1`):
`channelTemplate` with a provisioner and its arguments, later `channelTemplateSpec` with a kind of
channel.

Each Trigger read from a channel that was made by this template. A Broker of today has a topic of
its own: what a template says of the topic is applied to that one, and nothing else of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headrace.domain.field_errors import FieldError, invalid
from headrace.resources.broker_config import (
    MIN_INSYNC_REPLICAS,
    PARTITIONS_MAX,
    REPLICATION,
    InvalidConfig,
    TopicConfig,
)
from headrace.resources.channel_provisioners import (
    provisioner_name,
    template_of,
    unknown_provisioner,
    wrong_arguments,
)
from headrace.resources.kafka_channel import REPLICATION_MAX
from headrace.resources.kinds import KAFKA_CHANNEL
from headrace.resources.legacy_channel import validate_provisioner

_PROVISIONER, _TEMPLATE = "channelTemplate", "channelTemplateSpec"
_TOPIC_FIELDS: Mapping[str, int] = {
    "numPartitions": PARTITIONS_MAX,
    "replicationFactor": REPLICATION_MAX,
}
"""Fields of a KafkaChannel that a Broker's topic has too, and their largest values."""


def validate_template(spec: Mapping[str, Any]) -> list[FieldError]:
    """The errors of a Broker's channel template. That its provisioner is unknown is none: a
    condition says so.
    """
    old, errors = spec.get(_PROVISIONER), list[FieldError]()
    if isinstance(old, Mapping):
        path = f"spec.{_PROVISIONER}"
        errors += validate_provisioner(old.get("provisioner"), f"{path}.provisioner")
        errors += wrong_arguments(old, f"{path}.arguments")
    fields, path = _kafka_fields(spec.get(_TEMPLATE)), f"spec.{_TEMPLATE}.spec"
    for name, maximum in _TOPIC_FIELDS.items():
        value = fields.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
            details = f"expected a number from 1 to {maximum}"
            errors.append(invalid(str(value)[:40], f"{path}.{name}", details))
    return errors


def with_template(config: TopicConfig, spec: Mapping[str, Any]) -> TopicConfig:
    """The settings of a Broker's topic with what its valid channel template says, and with a note
    on what of it has no effect. Raises InvalidConfig for an unknown provisioner.
    """
    template, unused = _template(spec)
    if template is None:
        return config
    fields = _kafka_fields(template)
    if template.get("kind") != KAFKA_CHANNEL.kind:
        unused = (f"{template.get('kind')}: the events of this Broker are in Kafka", *unused)
    partitions = fields.get("numPartitions", config.partitions)
    replication = fields.get("replicationFactor")
    settings, warnings = dict(config.settings), config.warnings
    if replication is not None:
        warnings = ()
        if replication < REPLICATION:
            settings.pop(MIN_INSYNC_REPLICAS, None)
        else:
            settings.setdefault(MIN_INSYNC_REPLICAS, "2")
    notes = tuple(f"the channel template is not used for {each}" for each in unused)
    return replace(
        config,
        partitions=partitions,
        replication=config.replication if replication is None else replication,
        settings=settings,
        warnings=warnings,
        unused=(*config.unused, *notes),
    )


def _template(spec: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """The template in today's form, and what of it is unknown."""
    old, new = spec.get(_PROVISIONER), spec.get(_TEMPLATE)
    if isinstance(new, Mapping) and new.get("kind"):
        return new, ()
    if not isinstance(old, Mapping) or not provisioner_name(old):
        return None, ()
    found = template_of(old)
    if found is None:
        name = provisioner_name(old)
        raise InvalidConfig(f"spec.{_PROVISIONER}.provisioner: {unknown_provisioner(name)}")
    return found.template, tuple(f"argument {name}" for name in found.unused)


def _kafka_fields(template: Any) -> Mapping[str, Any]:
    """The spec of a template of KafkaChannels; empty for other kinds."""
    if not isinstance(template, Mapping) or template.get("kind") != KAFKA_CHANNEL.kind:
        return {}
    spec = template.get("spec")
    return spec if isinstance(spec, Mapping) else {}
