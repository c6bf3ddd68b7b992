"""ApiServerSource (`sources.knative.dev/v1`): validation, defaults and conditions."""

import re
from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing
from headrace.domain.filters import validate as validate_filters
from headrace.resources.kind_rules import KindRules
from headrace.resources.label_selector import SELECTOR_SHAPE, validate_selector
from headrace.resources.resource import Resource
from headrace.resources.source import (
    default_source,
    shape_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

SUFFICIENT_PERMISSIONS = "SufficientPermissions"
CONDITIONS = source_conditions(SUFFICIENT_PERMISSIONS)
REFERENCE, RESOURCE = "Reference", "Resource"
"""The values of `spec.mode`."""
FILTERS_DISABLED = "Filters is not empty but the NewAPIServerFilters feature is disabled."
SHAPE = shape_of(
    {
        "resources": list,
        "owner": {"apiVersion": str, "kind": str},
        "mode": str,
        "namespaceSelector": SELECTOR_SHAPE,
        "filters": list,
    }
)
_API_VERSION = re.compile(r"([^/]+/)?[^/]+").fullmatch
_SHOWN_MAX = 100


def default(source: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the mode, the service account and the namespace of the sink's reference."""
    found = default_source(source, system)
    spec = {**found.spec}
    spec["mode"] = spec.get("mode") or REFERENCE
    spec["serviceAccountName"] = spec.get("serviceAccountName") or "default"
    return Resource(found.kind, {**found.object, "spec": spec})


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted ApiServerSource."""
    spec = source.spec
    errors = validate_source(source, system)
    if spec["mode"] not in (REFERENCE, RESOURCE):
        errors.append(invalid(spec["mode"][:_SHOWN_MAX], "spec.mode"))
    resources = spec.get("resources") or []
    if not resources:
        errors.append(missing("spec.resources"))
    for index, each in enumerate(resources):
        errors += _wrong_resource(each, f"spec.resources[{index}]")
    if spec.get("owner"):
        errors += _wrong_kind(spec["owner"], "spec.owner")
    errors += validate_selector(spec.get("namespaceSelector"), "spec.namespaceSelector")
    filters = spec.get("filters")
    if filters and not system.features.api_server_source_filters:
        errors.append(FieldError(FILTERS_DISABLED, ("spec.filters",)))
    elif filters:
        errors += validate_filters(filters, "spec.filters")
    return errors


def _wrong_resource(resource: Any, path: str) -> list[FieldError]:
    if not isinstance(resource, Mapping):
        return [missing(f"{path}.apiVersion", f"{path}.kind")]
    selector = resource.get("selector")
    if selector is not None and not isinstance(selector, Mapping):
        return [invalid(type(selector).__name__, f"{path}.selector", "expected a label selector")]
    return _wrong_kind(resource, path) + validate_selector(selector, f"{path}.selector")


def _wrong_kind(reference: Mapping[str, Any], path: str) -> list[FieldError]:
    api_version, kind = (str(reference.get(each) or "") for each in ("apiVersion", "kind"))
    errors = []
    if not _API_VERSION(api_version):
        errors.append(invalid(api_version[:_SHOWN_MAX], f"{path}.apiVersion"))
    if not kind.strip():
        errors.append(missing(f"{path}.kind"))
    return errors


RULES = KindRules(SHAPE, set_defaults=default, validate=validate, warnings=source_warnings)
