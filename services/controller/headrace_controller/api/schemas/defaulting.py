"""Defaults of a schema filled in, and nulls that mean nothing dropped.

A default is given where its field is absent, or null although the schema does not allow null; inside an object that is itself absent
nothing is filled in. A null with no default and no `nullable` is dropped. Doing it twice changes nothing. (pure)
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from headrace_controller.api.schemas.keywords import Schema


def defaulted(document: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """A copy with the schema's defaults, and without nulls that its fields may not have."""
    return _object(document, schema)


def without_nulls(document: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """A copy without nulls that its fields may not have, no default given: what a status write and a merge patch's result need."""
    return _object(document, schema, filling=False)


def _value(value: Any, schema: Schema, filling: bool) -> Any:
    if isinstance(value, dict):
        return _object(value, schema, filling=filling)
    if isinstance(value, list):
        items = schema.get("items")
        if items is None:
            return value
        return [_value(deepcopy(items["default"]) if filling and _defaultable(each, items) else each, items, filling) for each in value]
    return value


def _object(value: Mapping[str, Any], schema: Schema, *, filling: bool = True) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    found: dict[str, Any] = {}
    for name, each in value.items():
        field = properties.get(name, extra if isinstance(extra, Mapping) else None)
        if field is None:
            found[name] = each
            continue
        if each is None and not field.get("nullable"):
            if not filling or "default" not in field:
                continue
            each = deepcopy(field["default"])
        found[name] = _value(each, field, filling)
    if filling:
        for name, field in properties.items():
            if name not in found and "default" in field:
                found[name] = _value(deepcopy(field["default"]), field, filling)
    return found


def _defaultable(value: Any, schema: Schema) -> bool:
    return value is None and not schema.get("nullable") and "default" in schema
