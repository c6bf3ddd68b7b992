"""What the rules of a kind beyond its schema consist of: defaults, validation, immutable fields and
warnings, as in Knative's webhook.

The module of a kind has its rules as `RULES`, and its reconciler registers them. The API server
applies them to each write, after the schema. `default_and_validate` applies them to objects that
another API server stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from headrace.domain.field_errors import FieldError, immutable_spec
from headrace.resources.json_shapes import Shape, without_nulls, wrong_types
from headrace.resources.resource import Resource
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
    """The rules of a kind. The functions are pure, and have the names that they have in the
    `KindStrategy` of the API server, which the rules become once the system configuration is known.
    """

    shape: Shape = field(default_factory=dict)
    """The types of its spec, which must be right before its other rules can be applied."""
    set_defaults: SetDefaults = _no_defaults
    validate: Validate = _no_errors
    validate_update: Callable[[Resource, Resource], list[FieldError]] = lambda new, old: []
    warnings: Callable[[Resource], list[str]] = lambda _: []
    """Warnings about a valid resource."""


def default_and_validate(
    resource: Resource, rules: KindRules, system: SystemConfig = BUILT_IN
) -> tuple[Resource, list[FieldError]]:
    """A resource that another API server has accepted: with the defaults that admission would have
    set, and the errors for which it would have been rejected.

    `rules` are the kind's. If there are errors, only the resource's metadata is valid.
    """
    bare = Resource(resource.kind, without_nulls(resource.object))
    spec = bare.object.get("spec")
    errors = [
        FieldError(message, (path,)) for path, message in wrong_types({"spec": spec}, rules.shape)
    ]
    if errors:
        return bare, errors
    defaulted = rules.set_defaults(bare, system)
    return defaulted, rules.validate(defaulted, system)


def immutable_except(
    type_name: str, old: Resource, new: Resource, *mutable: str, set_once: str = ""
) -> list[FieldError]:
    """The error of an update that changes a field of the spec, except those that are `mutable`. The
    field `set_once` may be set where it was stored without a value.
    """
    skipped = {*mutable, set_once} if not old.spec.get(set_once) else {*mutable}
    before, after = (
        {key: value for key, value in each.spec.items() if key not in skipped}
        for each in (old, new)
    )
    return immutable_spec(type_name, before, after)
