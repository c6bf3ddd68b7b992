"""The rules of each kind beyond its schema: defaults, validation, immutable fields and warnings, as
in Knative's webhook.

The API server applies these rules to each write, after the schema. `default_and_validate` applies
them to objects that another API server stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headrace.domain.field_errors import FieldError
from headrace.resources import (
    broker,
    channel,
    event_type,
    kafka_channel,
    subscription,
    trigger,
)
from headrace.resources.delivery_rules import delivery_remarks
from headrace.resources.json_shapes import Shape, without_nulls, wrong_types
from headrace.resources.kinds import (
    BROKER,
    CHANNEL,
    EVENT_TYPE,
    KAFKA_CHANNEL,
    SUBSCRIPTION,
    TRIGGER,
)
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.system_config import BUILT_IN, SystemConfig


class SetDefaults(Protocol):
    """Sets the defaults of a kind."""

    def __call__(self, resource: Resource, system: SystemConfig = BUILT_IN, /) -> Resource: ...


class Validate(Protocol):
    """Returns the errors of a resource whose defaults are set."""

    def __call__(
        self, resource: Resource, system: SystemConfig = BUILT_IN, /
    ) -> list[FieldError]: ...


def _no_defaults(resource: Resource, _system: SystemConfig = BUILT_IN, /) -> Resource:
    return resource


def _no_errors(_resource: Resource, _system: SystemConfig = BUILT_IN, /) -> list[FieldError]:
    return []


@dataclass(frozen=True, slots=True)
class KindRules:
    """The rules of a kind."""

    shape: Shape = field(default_factory=dict)
    """The types of its spec, which must be right before its other rules can be applied."""
    default: SetDefaults = _no_defaults
    validate: Validate = _no_errors
    validate_update: Callable[[Resource, Resource], list[FieldError]] = lambda new, old: []
    remarks: Callable[[Resource], list[str]] = lambda _: []
    """Warnings about a valid resource."""


RULES: Mapping[ResourceKind, KindRules] = {
    BROKER: KindRules(
        broker.SHAPE,
        broker.default,
        broker.validate,
        broker.validate_update,
        delivery_remarks,
    ),
    TRIGGER: KindRules(
        trigger.SHAPE, trigger.default, trigger.validate, trigger.validate_update, trigger.remarks
    ),
    CHANNEL: KindRules(
        channel.SHAPE,
        channel.default,
        channel.validate,
        channel.validate_update,
        delivery_remarks,
    ),
    KAFKA_CHANNEL: KindRules(
        kafka_channel.SHAPE,
        kafka_channel.default,
        kafka_channel.validate,
        kafka_channel.validate_update,
        delivery_remarks,
    ),
    SUBSCRIPTION: KindRules(
        subscription.SHAPE,
        subscription.default,
        subscription.validate,
        subscription.validate_update,
        subscription.remarks,
    ),
    EVENT_TYPE: KindRules(event_type.SHAPE, event_type.default, event_type.validate),
}
"""By kind, for all its versions; a kind that is not listed has no rules beyond its schema."""


_BY_NAME = {(kind.group, kind.kind): rules for kind, rules in RULES.items()}


def default_and_validate(
    resource: Resource, system: SystemConfig = BUILT_IN, rules: KindRules | None = None
) -> tuple[Resource, list[FieldError]]:
    """A resource that another API server has accepted: with the defaults that admission would have
    set, and the errors for which it would have been rejected.

    `rules` are the kind's; by default those of `RULES`. If there are errors, only the resource's
    metadata is valid.
    """
    rules = rules or _BY_NAME[resource.kind.group, resource.kind.kind]
    bare = Resource(resource.kind, without_nulls(resource.object))
    spec = bare.object.get("spec")
    errors = [
        FieldError(message, (path,)) for path, message in wrong_types({"spec": spec}, rules.shape)
    ]
    if errors:
        return bare, errors
    defaulted = rules.default(bare, system)
    return defaulted, rules.validate(defaulted, system)
