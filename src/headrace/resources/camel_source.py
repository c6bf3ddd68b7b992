"""CamelSource (`sources.headrace.dev/v1alpha1`): validation and conditions."""

import re
from collections.abc import Mapping
from typing import Any, Final

from headrace.domain.field_errors import FieldError, both_given, invalid, missing, none_given
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.source import (
    default_source,
    shape_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

EVENT_TYPE: Final = "org.apache.camel.event"
"""What Camel K set; Knative's CamelSource added nothing to it."""
CONDITIONS = source_conditions()
SHAPE = shape_of(
    {
        "uri": str,
        "route": str,
        "eventType": str,
        "properties": {"*": str},
        "propertiesFrom": list,
        "dependencies": list,
    }
)
_DEPENDENCY = re.compile(r"camel[:-][a-z0-9-]+|(?:mvn:)?[\w.-]+:[\w.-]+:[\w.-]+").fullmatch


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a CamelSource. What Camel thinks of the route is a condition."""
    spec = source.spec
    errors = validate_source(source, system)
    if spec.get("uri") and spec.get("route"):
        errors.append(both_given("spec.route", "spec.uri"))
    elif not spec.get("uri") and not spec.get("route"):
        errors.append(none_given("spec.route", "spec.uri"))
    return [
        *errors,
        *wrong_uri(spec.get("uri"), "spec.uri"),
        *wrong_dependencies(spec.get("dependencies"), "spec.dependencies"),
        *_wrong_properties_from(spec.get("propertiesFrom")),
    ]


def wrong_uri(uri: Any, path: str) -> list[FieldError]:
    """The error of an endpoint without a component."""
    if not uri or ":" in str(uri):
        return []
    return [invalid(str(uri)[:100], path, "expected a component and what it reads: timer:tick")]


def wrong_dependencies(dependencies: Any, path: str) -> list[FieldError]:
    """The errors of artifacts."""
    return [
        invalid(
            str(each)[:100],
            f"{path}[{index}]",
            "expected camel:NAME or mvn:GROUP:NAME:VERSION",
        )
        for index, each in enumerate(dependencies or ())
        if not isinstance(each, str) or not _DEPENDENCY(each)
    ]


def _wrong_properties_from(entries: Any) -> list[FieldError]:
    errors = []
    for index, each in enumerate(entries or ()):
        reference = each.get("secretKeyRef") if isinstance(each, Mapping) else None
        given = reference if isinstance(reference, Mapping) else {}
        path = f"spec.propertiesFrom[{index}].secretKeyRef"
        absent = [f"{path}.{name}" for name in ("key", "name") if not given.get(name)]
        errors += [missing(*absent)] if absent else []
    return errors


def event_type(source: Resource) -> str:
    """The attribute `type` of its events, unless the route sets another one."""
    return str(source.spec.get("eventType") or EVENT_TYPE)


def event_source(source: Resource) -> str:
    """The attribute `source` of its events, likewise."""
    return f"/apis/v1/namespaces/{source.namespace}/camelsources/{source.name}"


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=source_warnings)
