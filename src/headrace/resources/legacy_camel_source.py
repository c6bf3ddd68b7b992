"""CamelSource of Knative 0.5 to 0.7 (`sources.eventing.knative.dev/v1alpha1`): validation, and the
spec of today that it stands for.

0.5 has `source.component`, 0.7 also `source.integration` and `source.flow`, which were given to
Camel K.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing, none_given
from headrace.resources.camel_source import wrong_dependencies, wrong_uri
from headrace.resources.json_shapes import ANY
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.source import (
    default_source,
    shape_of,
    sink_of,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

SHAPE = shape_of(
    {
        "sink": ANY,
        "source": {
            "component": {"uri": str, "properties": {"*": str}, "*": ANY},
            "flow": dict,
            "integration": dict,
        },
    }
)
FLOW_FILE = "flow.yaml"
_INTEGRATION = "spec.source.integration"
_NOT_READ = ("configmap", "secret", "env")


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a CamelSource."""
    errors = validate_source(todays(source), system)
    origin = source.spec.get("source")
    if not isinstance(origin, Mapping):
        return [*errors, missing("spec.source")]
    component, integration = origin.get("component"), origin.get("integration")
    if not component and not integration and not origin.get("flow"):
        names = ("component", "flow", "integration")
        errors.append(none_given(*(f"spec.source.{each}" for each in names)))
    if component:
        uri, path = component.get("uri"), "spec.source.component.uri"
        errors += wrong_uri(uri, path) if uri else [missing(path)]
    if integration:
        errors += _wrong_integration(integration, bool(origin.get("flow")))
    return errors


def todays(source: Resource) -> Resource:
    """The resource with the spec of today that has the same effect; `files` are routes."""
    origin = source.spec.get("source") or {}
    component = origin.get("component")
    if component:
        fields = {name: component[name] for name in ("uri", "properties") if component.get(name)}
        return _with_spec(source, fields)
    integration = origin.get("integration") or {}
    files = [
        {"name": _file_name(each, index), "content": str(each.get("content") or "")}
        for index, each in _entries(integration, "sources")
    ]
    if origin.get("flow"):
        files.append({"name": FLOW_FILE, "content": json.dumps(origin["flow"])})
    fields = {"files": files}
    if integration.get("dependencies"):
        fields["dependencies"] = integration["dependencies"]
    properties = dict(_properties(integration))
    if properties:
        fields["properties"] = properties
    return _with_spec(source, fields)


def _with_spec(source: Resource, fields: Mapping[str, Any]) -> Resource:
    """The resource with these fields and its sink as a destination. Its kind stays."""
    kept = {name: source.spec[name] for name in ("ceOverrides", "delivery") if name in source.spec}
    sink = sink_of(source)
    spec = {**kept, **fields, **({"sink": sink} if sink is not None else {})}
    return default_source(Resource(source.kind, {**source.object, "spec": spec}))


def _wrong_integration(integration: Mapping[str, Any], flow: bool) -> list[FieldError]:
    errors = wrong_dependencies(integration.get("dependencies"), f"{_INTEGRATION}.dependencies")
    if not flow and not integration.get("sources"):
        errors.append(missing(f"{_INTEGRATION}.sources"))
    for index, each in _entries(integration, "sources"):
        if not each.get("content"):
            errors.append(missing(f"{_INTEGRATION}.sources[{index}].content"))
    for index, each in _entries(integration, "configuration"):
        if each.get("type") in _NOT_READ:
            path = f"{_INTEGRATION}.configuration[{index}].type"
            details = "only property is read; use spec.propertiesFrom of today's CamelSource"
            errors.append(invalid(str(each["type"]), path, details))
    return errors


def _entries(integration: Mapping[str, Any], name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    entries = integration.get(name)
    for index, each in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(each, Mapping):
            yield index, each


def _file_name(entry: Mapping[str, Any], index: int) -> str:
    name = str(entry.get("name") or f"source-{index}")
    language = entry.get("language")
    return f"{name}.{language}" if language else name


def _properties(integration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for _, each in _entries(integration, "configuration"):
        name, equals, value = str(each.get("value") or "").partition("=")
        if equals and each.get("type") == "property":
            yield name.strip(), value.strip()


RULES = KindRules(SHAPE, validate=validate, warnings=lambda source: source_warnings(todays(source)))
