"""What stands between a request and the store: shape, defaults, validation and immutability, chosen by kind.

The same function serves every way in (API, `headrace up`), so nothing unchecked can be stored. Texts and order are those of the
Kubernetes API with Knative's webhook: unknown fields first, then types, then the kind's own rules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain import broker, trigger
from headrace.domain.errors import Permanent
from headrace.domain.field_errors import FieldError, InvalidResource
from headrace.domain.kinds import BROKER, CONFIG_MAP, TRIGGER
from headrace.domain.resources import Resource, ResourceKind
from headrace.domain.shapes import METADATA, TEXTS, Shape, unknown_fields, without_nulls, wrong_types

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


@dataclass(frozen=True, slots=True)
class Rules:
    """What a kind demands."""

    shape: Shape
    default: Callable[[Resource], Resource] = lambda resource: resource
    validate: Callable[[Resource], list[FieldError]] = lambda resource: []
    validate_update: Callable[[Resource, Resource], list[FieldError]] = lambda new, old: []


RULES: Mapping[ResourceKind, Rules] = {
    BROKER: Rules(broker.SHAPE, broker.default, broker.validate, broker.validate_update),
    TRIGGER: Rules(trigger.SHAPE, trigger.default, trigger.validate, trigger.validate_update),
    CONFIG_MAP: Rules(
        {"apiVersion": str, "kind": str, "metadata": METADATA, "data": TEXTS, "binaryData": TEXTS, "immutable": bool},
    ),
}


def admit(resource: Resource, *, old: Resource | None = None) -> Resource:
    """Return what may be stored of a create (no `old`) or a replace: nulls dropped, defaults filled in, everything checked.

    Raises UnknownFields, Misshapen or InvalidResource.
    """
    rules = RULES[resource.kind]
    resource = Resource(resource.kind, without_nulls(resource.object))
    unknown = unknown_fields(resource.object, rules.shape)
    if unknown:
        raise UnknownFields(unknown)
    causes = [Cause(path, message) for path, message in wrong_types(resource.object, rules.shape)] + _wrong_names(resource)
    if causes:
        raise Misshapen(resource.kind, resource.name, causes)
    resource = rules.default(resource)
    errors = rules.validate(resource)
    if old is not None and not errors:
        errors = rules.validate_update(resource, old)
    if errors:
        raise InvalidResource(errors)
    return resource


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
