"""What all sources have in common: `spec.sink`, `spec.ceOverrides`, their conditions, and the
annotation that switches one off.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, disallowed, invalid, invalid_key
from headrace.resources.condition_types import OIDC_IDENTITY_CREATED
from headrace.resources.conditions import ConditionSet, happy
from headrace.resources.destination import DESTINATION_SHAPE, unsupported_uri
from headrace.resources.destination import default as default_destination
from headrace.resources.destination import validate as validate_destination
from headrace.resources.json_shapes import ANY, Shape
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

SINK_PROVIDED = "SinkProvided"
DEPLOYED = "Deployed"
"""A process of the sources service runs the source."""
PAUSED_ANNOTATION = "headrace.dev/paused"
"""`true` switches a source off; what it has in the outside system stays."""
PAUSED = happy("Paused", f"switched off; remove {PAUSED_ANNOTATION} to switch it on")
"""The conditions of a source that is switched off, `Ready` among them: nothing is wrong with it."""
SOURCE_SHAPE: Shape = {
    "sink": DESTINATION_SHAPE,
    "ceOverrides": {"extensions": {"*": str}},
    "serviceAccountName": str,
}
"""Of the spec, beside the fields of each kind, which have any type (`shape_of`)."""
_REFERENCE_FIELDS = ("apiVersion", "kind", "name", "namespace")
EXTENSION_VALUE_MAX = 8_192
REQUIRED_ATTRIBUTES = ("id", "source", "specversion", "type")
"""Of every event: `ceOverrides` may not set them (Knative's specification of sources)."""


def shape_of(fields: Mapping[str, Any]) -> Shape:
    """The shape of a kind with these fields in its spec."""
    return {"spec": {**SOURCE_SHAPE, **fields, "*": ANY}}


def source_conditions(*more: str) -> ConditionSet:
    """The conditions of a kind: those of every source, and its own."""
    return ConditionSet(SINK_PROVIDED, DEPLOYED, *more, OIDC_IDENTITY_CREATED)


def default_source(source: Resource, _system: SystemConfig = BUILT_IN) -> Resource:
    """Set the namespace of the sink's reference."""
    sink = source.spec.get("sink")
    if not isinstance(sink, Mapping):
        return source
    spec = {**source.spec, "sink": default_destination(sink, source.namespace)}
    return Resource(source.kind, {**source.object, "spec": spec})


def sink_of(source: Resource) -> Mapping[str, Any] | None:
    """The sink as a destination; None without one. In Knative 0.5 it was the reference itself."""
    sink = source.spec.get("sink")
    if not isinstance(sink, Mapping) or sink.get("ref") or sink.get("uri"):
        return sink if isinstance(sink, Mapping) else None
    reference = {name: sink[name] for name in _REFERENCE_FIELDS if sink.get(name)}
    return {"ref": {"namespace": source.namespace, **reference}} if reference else sink


def validate_source(
    source: Resource, system: SystemConfig = BUILT_IN, *, sink_required: bool = True
) -> list[FieldError]:
    """The errors of what all sources have, with Knative's messages."""
    grouped = system.features.kreference_group
    if "sink" not in source.spec and not sink_required:
        errors = []
    else:
        errors = validate_destination(sink_of(source), "spec.sink", grouped=grouped)
    for name, value in extensions_of(source).items():
        path = "spec.ceOverrides.extensions"
        if not name:
            errors.append(invalid_key(name, path, "keys MUST NOT be empty"))
        elif not (name.isascii() and name.isalnum()):
            errors.append(invalid_key(name, path, "keys are expected to be alphanumeric"))
        elif name.lower() in REQUIRED_ATTRIBUTES:
            # Names are written in lower case into events, and are sent to every sink.
            errors.append(
                disallowed(f"{path}.{name}", details="required attributes stay as they are")
            )
        elif len(value) > EXTENSION_VALUE_MAX:
            details = f"expected at most {EXTENSION_VALUE_MAX} characters"
            errors.append(invalid(f"{len(value)} characters", f"{path}.{name}", details))
    paused = source.annotations.get(PAUSED_ANNOTATION)
    if paused not in (None, "true", "false"):
        path = f"metadata.annotations[{PAUSED_ANNOTATION}]"
        errors.append(invalid(paused[:100], path, "expected true or false"))
    return errors


def source_warnings(source: Resource) -> list[str]:
    """Warnings about a valid source."""
    problem = unsupported_uri(sink_of(source), "spec.sink")
    return [problem] if problem else []


def extensions_of(source: Resource) -> Mapping[str, str]:
    """`spec.ceOverrides.extensions`."""
    overrides = source.spec.get("ceOverrides")
    found = overrides.get("extensions") if isinstance(overrides, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def is_paused(source: Resource) -> bool:
    """Whether the source is switched off."""
    return source.annotations.get(PAUSED_ANNOTATION) == "true"
