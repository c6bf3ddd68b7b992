"""Channel (`messaging.knative.dev/v1`): validation, defaults, immutable fields and conditions.

A Channel is backed by an object of the kind that `spec.channelTemplate` names.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import (
    FieldError,
    disallowed,
    invalid,
    missing,
)
from headrace.resources.channelable import (
    CHANNELABLE_SHAPE,
    default_channelable,
    validate_channelable,
)
from headrace.resources.condition_types import (
    ADDRESSABLE,
    DEAD_LETTER_SINK_RESOLVED,
    EVENT_POLICIES_READY,
)
from headrace.resources.conditions import ConditionSet
from headrace.resources.delivery_rules import delivery_remarks
from headrace.resources.json_shapes import ANY, Shape
from headrace.resources.kind_rules import KindRules, immutable_except
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

BACKING_CHANNEL_READY = "BackingChannelReady"
CONDITIONS = ConditionSet(
    BACKING_CHANNEL_READY, ADDRESSABLE, DEAD_LETTER_SINK_RESOLVED, EVENT_POLICIES_READY
)
TEMPLATE_SHAPE: Shape = {"apiVersion": str, "kind": str, "spec": ANY}
SHAPE: Shape = {"spec": {"channelTemplate": TEMPLATE_SHAPE, **CHANNELABLE_SHAPE}}


def default(channel: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the template, the annotation of channels, and the namespaces of references."""
    spec = dict(channel.spec)
    if not spec.get("channelTemplate"):
        spec["channelTemplate"] = dict(system.channel_defaults.template_in(channel.namespace))
    return default_channelable(channel, spec)


def validate(channel: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted Channel."""
    errors = validate_template(channel.spec.get("channelTemplate"), "spec.channelTemplate")
    if channel.spec.get("subscribers"):
        errors.append(disallowed("spec.subscribable.subscribers"))
    return errors + validate_channelable(channel, system)


def validate_template(template: Any, path: str) -> list[FieldError]:
    """The errors of a channel template at `path`."""
    if not isinstance(template, Mapping) or not template:
        return [missing(path)]
    absent = [f"{path}.{name}" for name in ("apiVersion", "kind") if not template.get(name)]
    if absent:
        return [missing(*absent)]
    spec = template.get("spec")
    if spec is not None and not isinstance(spec, Mapping):
        return [invalid(type(spec).__name__, f"{path}.spec", "expected an object")]
    return []


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: all of the spec except the subscribers is immutable. A Channel that
    was stored without a template may get one.
    """
    return immutable_except("v1.ChannelSpec", old, new, "subscribers", set_once="channelTemplate")


RULES = KindRules(
    SHAPE,
    set_defaults=default,
    validate=validate,
    validate_update=validate_update,
    warnings=delivery_remarks,
)
