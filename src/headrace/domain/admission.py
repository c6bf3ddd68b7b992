"""What stands between a request and the store: shape, defaults, validation and immutability, chosen by kind.

The same function serves every way in (API, `headrace up`), so nothing unchecked can be stored. Texts and order are those of the
Kubernetes API with Knative's webhook: unknown fields first, then types, then the kind's own rules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.domain import broker, config_maps, event_type, trigger
from headrace.domain.errors import Permanent
from headrace.domain.field_errors import FieldError, InvalidResource
from headrace.domain.kinds import BROKER, CONFIG_MAP, EVENT_TYPE, TRIGGER
from headrace.domain.resources import Resource, ResourceKind
from headrace.domain.shapes import ANY, METADATA, TEXTS, Shape, unknown_fields, without_nulls, wrong_types
from headrace.domain.system_config import BUILT_IN, SystemConfig

NAME_MAX = 253
LABEL_MAX = 63
_DNS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class UnknownFields(Permanent):
    """The manifest has fields its kind does not know; `paths` names them."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__("strict decoding error: " + ", ".join(f'unknown field "{path}"' for path in paths))
        self.paths = tuple(paths)


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why an object cannot be what it says it is."""

    field: str
    message: str


class Misshapen(Permanent):
    """The object's types or names are not those of its kind (HTTP 422 with causes)."""

    def __init__(self, kind: ResourceKind, name: str, causes: list[Cause]) -> None:
        told = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
        super().__init__(f'{kind.kind}{"." + kind.group if kind.group else ""} "{name}" is invalid: {told}')
        self.causes = tuple(causes)


class Fill(Protocol):
    """Fills in what a kind gives where nothing is said."""

    def __call__(self, resource: Resource, system: SystemConfig = BUILT_IN, /) -> Resource: ...


class Validate(Protocol):
    """Says what is wrong with a resource whose defaults are filled in."""

    def __call__(self, resource: Resource, system: SystemConfig = BUILT_IN, /) -> list[FieldError]: ...


def _as_it_is(resource: Resource, _system: SystemConfig = BUILT_IN, /) -> Resource:
    return resource


def _nothing_wrong(_resource: Resource, _system: SystemConfig = BUILT_IN, /) -> list[FieldError]:
    return []


@dataclass(frozen=True, slots=True)
class Rules:
    """What a kind demands."""

    shape: Shape
    default: Fill = _as_it_is
    validate: Validate = _nothing_wrong
    validate_update: Callable[[Resource, Resource], list[FieldError]] = lambda new, old: []
    remarks: Callable[[Resource], list[str]] = lambda _: []
    """What to warn of in a resource that has passed."""


RULES: Mapping[ResourceKind, Rules] = {
    BROKER: Rules(broker.SHAPE, broker.default, broker.validate, broker.validate_update, broker.delivery_remarks),
    TRIGGER: Rules(trigger.SHAPE, trigger.default, trigger.validate, trigger.validate_update, trigger.remarks),
    EVENT_TYPE: Rules(event_type.SHAPE, event_type.default, event_type.validate),
    CONFIG_MAP: Rules(
        {"apiVersion": str, "kind": str, "metadata": METADATA, "data": TEXTS, "binaryData": TEXTS, "immutable": bool},
        validate=config_maps.validate,
    ),
}
"""By kind, in whichever version; a kind that is not here has no rules beyond its schema."""


_BY_NAME = {(kind.group, kind.kind): rules for kind, rules in RULES.items()}


def admit(resource: Resource, *, old: Resource | None = None, system: SystemConfig = BUILT_IN) -> Resource:
    """Return what may be stored of a create (no `old`) or a replace: nulls dropped, defaults filled in, everything checked.

    Raises UnknownFields, Misshapen or InvalidResource.
    """
    rules = _BY_NAME[resource.kind.group, resource.kind.kind]
    resource = Resource(resource.kind, without_nulls(resource.object))
    unknown = unknown_fields(resource.object, rules.shape)
    if unknown:
        raise UnknownFields(unknown)
    causes = [Cause(path, message) for path, message in wrong_types(resource.object, rules.shape)] + _wrong_names(resource)
    if causes:
        raise Misshapen(resource.kind, resource.name, causes)
    resource = rules.default(resource, system)
    errors = rules.validate(resource, system)
    if old is not None and not errors:
        errors = rules.validate_update(resource, old)
    if errors:
        raise InvalidResource(errors)
    return resource


def judge(resource: Resource, system: SystemConfig = BUILT_IN) -> tuple[Resource, list[FieldError]]:
    """A resource that somebody else's API server took in: as admission would have filled it in, and why it would have been refused.

    Where errors are returned, nothing may be taken on trust of the resource but its metadata.
    """
    rules = _BY_NAME[resource.kind.group, resource.kind.kind]
    bare = Resource(resource.kind, without_nulls(resource.object))
    spec = bare.object.get("spec")
    errors = [FieldError(message, (path,)) for path, message in wrong_types({"spec": spec}, {"spec": rules.shape.get("spec", ANY)})]
    if errors:
        return bare, errors
    filled = rules.default(bare, system)
    return filled, rules.validate(filled, system)


def _wrong_names(resource: Resource) -> list[Cause]:
    causes = []
    if not is_dns_name(resource.name, NAME_MAX, dots=True):
        rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', at most 253 of them"
        causes.append(Cause("metadata.name", f'Invalid value: "{resource.name[:300]}": {rule}'))
    if resource.kind.namespaced and not is_dns_name(resource.namespace, LABEL_MAX, dots=False):
        rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', at most 63 of them"
        causes.append(Cause("metadata.namespace", f'Invalid value: "{resource.namespace[:300]}": {rule}'))
    finalizers: Any = resource.metadata.get("finalizers") or ()
    causes += [Cause("metadata.finalizers", "Invalid value: finalizers are text") for each in finalizers if not isinstance(each, str)]
    return causes


def is_dns_name(name: str, length_max: int, *, dots: bool) -> bool:
    """Whether `name` is an RFC 1123 label, or with `dots` a subdomain of such labels."""
    labels = name.split(".") if dots else [name]
    return len(name) <= length_max and all(label and _DNS.issuperset(label) and label[0] != "-" != label[-1] for label in labels)
