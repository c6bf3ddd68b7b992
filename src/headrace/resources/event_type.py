"""EventType (`eventing.knative.dev`): a description of one type of event, written by a user or
created from events that were seen.

There are two equivalent forms: the fields `type`, `source`, `schema` (v1beta1, v1beta2) and a list
of `attributes` (v1beta3). An object may have both, and must have both in a cluster without
conversion to be readable in every version.
"""

from collections.abc import Iterator, Mapping
from hashlib import md5
from typing import Any, NamedTuple

from headrace.domain.field_errors import FieldError, missing
from headrace.domain.observed_event_types import ObservedEventType
from headrace.resources.conditions import ConditionSet
from headrace.resources.destination import api_version_of, validate_ref
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import BROKER, EVENT_TYPE
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

REFERENCE_EXISTS = "ReferenceExists"
SCHEMA_IN_EFFECT = "SchemaInEffect"
"""Headrace-specific informational condition: whether the ingress checks data against the schema.
Shown only if the Broker or channel asks for checks.
"""
CONDITIONS = ConditionSet(REFERENCE_EXISTS)

SENT_BY = "Event Type sent by"
AUTO_CREATED = "Event Type auto-created by controller"
"""Description of EventTypes that were created from events that were seen."""
_NAME_PREFIX, _NAME_MAX = "et-", 253
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
_REQUIRED = ("type", "source", "specversion", "id")
_WITH_ATTRIBUTES = "v1beta3"


class TypeDescription(NamedTuple):
    """What the definition of a kind of sources says about a type of its events."""

    schema: str = ""
    """A URI; empty if it names none."""
    description: str = ""


SHAPE: Shape = {
    "spec": {
        "type": str,
        "source": str,
        "schema": str,
        "schemaData": str,
        "broker": str,
        "description": str,
        "reference": {
            "apiVersion": str,
            "kind": str,
            "name": str,
            "namespace": str,
            "address": str,
            "group": str,
        },
        "attributes": list,
    },
}


def default(event_type: Resource, _system: SystemConfig = BUILT_IN) -> Resource:
    """Set the namespace of the reference."""
    ref = event_type.spec.get("reference")
    if not isinstance(ref, Mapping) or not ref or ref.get("namespace"):
        return event_type
    spec = {**event_type.spec, "reference": {**ref, "namespace": event_type.namespace}}
    return Resource(event_type.kind, {**event_type.object, "spec": spec})


def validate(event_type: Resource, _system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted EventType of any version."""
    spec = event_type.spec
    errors = _missing(spec, event_type.kind.version)
    if spec.get("reference"):
        errors += validate_ref(spec["reference"], "spec.reference")
    return errors


def _missing(spec: Mapping[str, Any], version: str) -> list[FieldError]:
    """Either form is sufficient in every version: a label must be changeable through another
    version than the object was written in.
    """
    listed = spec.get("attributes")
    if not isinstance(listed, list):
        if spec.get("type"):
            return []
        return (
            [missing(*(f"spec.attributes.{name}" for name in _REQUIRED))]
            if version == _WITH_ATTRIBUTES
            else [missing("spec.type")]
        )
    if version != _WITH_ATTRIBUTES:
        return []
    names = {each.get("name") for each in listed if isinstance(each, Mapping)}
    absent = [f"spec.attributes.{name}" for name in _REQUIRED if name not in names]
    return [missing(*absent)] if absent else []


def reference_of(event_type: Resource) -> Mapping[str, Any] | None:
    """The object that it refers to, None if there is none; the old field `broker` is a reference
    too.
    """
    ref, broker = event_type.spec.get("reference"), event_type.spec.get("broker")
    if isinstance(ref, Mapping) and ref:
        return ref
    if broker and isinstance(broker, str):
        return {
            "apiVersion": BROKER.api_version,
            "kind": BROKER.kind,
            "name": broker,
            "namespace": event_type.namespace,
        }
    return None


def is_auto_created(event_type: Resource) -> bool:
    """Whether an EventType was created from events that were seen."""
    owned = bool(event_type.metadata.get("ownerReferences"))
    return owned and event_type.spec.get("description") == AUTO_CREATED


def described(event_type: Resource, name: str) -> str:
    """The value of an attribute of the events as the description says it, `{placeholders}`
    included; empty if it does not. `name` is one of `type`, `source` and `schemadata` (the
    `dataschema` of the events).
    """
    value = event_type.spec.get("schema" if name == "schemadata" else name)
    if value and isinstance(value, str):
        return value
    return next(
        (value for each, value, _ in _listed_attributes(event_type) if each == name and value), ""
    )


def schema_place(event_type: Resource) -> str:
    """Where the schema of the events is: `inline` if the object contains it, else its URI; empty if
    there is none.
    """
    return "inline" if event_type.spec.get("schemaData") else described(event_type, "schemadata")


def known_attributes(event_type: Resource) -> Mapping[str, str]:
    """The attributes that every event of this type has, with their values; those without a value,
    or with a `{placeholder}` in it, are left out.
    """
    found = {
        name: value
        for name, value, required in _listed_attributes(event_type)
        if value and required
    }
    found.pop("schemadata", None)
    found |= {name: text for name in ("type", "source") if (text := described(event_type, name))}
    return {name: value for name, value in found.items() if "{" not in value}


def _listed_attributes(event_type: Resource) -> Iterator[tuple[str, str, bool]]:
    """Name, value and whether it is required of each entry of `spec.attributes`."""
    listed = event_type.spec.get("attributes")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, Mapping) and isinstance(each.get("name"), str):
            yield each["name"], str(each.get("value") or ""), each.get("required") is True


def event_type_name(addressable: str, namespace: str, type_: str, source: str) -> str:
    """The name of the EventType for events seen at an addressable: the same for every observer.

    A long name is truncated, but never its hash, which distinguishes event types.
    """
    digest = md5(
        f"{type_}{source}{namespace}{addressable}".encode("utf-8", "surrogatepass"),
        usedforsecurity=False,
    ).hexdigest()
    room = _NAME_MAX - len(_NAME_PREFIX) - 1 - len(digest)
    kept = "".join(each for each in addressable.lower() if each in _NAME_CHARACTERS)[:room].strip(
        "-."
    )
    return f"{_NAME_PREFIX}{kept}-{digest}"


def auto_created(owner: Resource, seen: ObservedEventType) -> Resource:
    """The EventType for events seen at (or in replies to) `owner`; it is deleted with its owner."""
    name = event_type_name(owner.name, owner.namespace, seen.type, seen.source)
    about = {"apiVersion": owner.kind.api_version, "kind": owner.kind.kind, "name": owner.name}
    schema = {"schema": seen.schema} if seen.schema else {}
    origin = {"value": seen.source} if seen.source else {}
    attributes = [
        {"name": "type", "required": True, "value": seen.type},
        {"name": "source", "required": True, **origin},
        {"name": "schemadata", "required": True, **({"value": seen.schema} if seen.schema else {})},
        {"name": "specversion", "required": True, "value": seen.specversion},
        {"name": "id", "required": True},
    ]
    return Resource(
        EVENT_TYPE,
        {
            "apiVersion": EVENT_TYPE.api_version,
            "kind": EVENT_TYPE.kind,
            "metadata": {
                "name": name,
                "namespace": owner.namespace,
                "ownerReferences": [{**about, "uid": owner.uid}],
            },
            "spec": {
                "reference": {**about, "namespace": owner.namespace},
                "description": AUTO_CREATED,
                "type": seen.type,
                **({"source": seen.source} if seen.source else {}),
                **schema,
                "attributes": attributes,
            },
        },
    )


def source_event_type(
    source: Resource,
    reference: Mapping[str, Any],
    sent: ObservedEventType,
    described: TypeDescription | None = None,
) -> Resource:
    """The EventType for events that `source` sends to the object that `reference` names; it is
    deleted with the source.
    """
    schema, description = described or TypeDescription()
    named = {"apiVersion": api_version_of(reference), "kind": reference.get("kind")}
    for field in ("name", "namespace"):
        if field in reference:
            named[field] = reference[field]
    seen = auto_created(source, sent._replace(schema=schema))
    by_default = f"{SENT_BY} {source.kind.kind} {source.namespace}/{source.name}"
    spec = {
        **seen.spec,
        "reference": named,
        "description": description or by_default,
    }
    return Resource(EVENT_TYPE, {**seen.object, "spec": spec})


def owner_uid(event_type: Resource) -> str:
    """The uid of the object that an EventType was created for; empty for a user's own."""
    owners = event_type.metadata.get("ownerReferences")
    first = owners[0] if isinstance(owners, list) and owners else None
    return str(first.get("uid")) if isinstance(first, dict) else ""


RULES = KindRules(SHAPE, set_defaults=default, validate=validate)
