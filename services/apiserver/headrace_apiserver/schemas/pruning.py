"""Removes fields that a schema does not know before an object is stored, and lists them for strict
requests.

Fields that the schema preserves (`x-kubernetes-preserve-unknown-fields`) stay, and so do
`apiVersion`, `kind` and `metadata` of an embedded object (`x-kubernetes-embedded-resource`). Null
in a field that is not nullable counts as absent. Documents are never changed in place. (pure)
"""

from collections.abc import Mapping
from typing import Any

from headrace_apiserver.schemas.keywords import (
    EMBEDDED,
    METADATA,
    PRESERVE,
    RESOURCE_FIELDS,
    Schema,
)
from headrace_apiserver.schemas.status_causes import child


def pruned(
    document: Mapping[str, Any], schema: Schema, *, whole: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """A document without the fields that its schema does not know, and the paths of these
    (`spec.filters[0].exakt`), sorted.

    With `whole`, the document is a resource, which keeps its apiVersion, kind and metadata whatever
    the schema says about them.
    """
    unknown: list[str] = []
    kept = _object(document, schema, "", unknown, embedded=whole)
    return kept, sorted(unknown)


def _value(value: Any, schema: Schema | None, path: str, unknown: list[str]) -> Any:
    if isinstance(value, dict):
        return _object(value, schema or {}, path, unknown)
    if isinstance(value, list):
        items = (schema or {}).get("items")
        if items is None and (schema or {}).get(PRESERVE):
            return value
        return [
            _value(each, items, f"{path}[{index}]", unknown) for index, each in enumerate(value)
        ]
    return value


def _object(
    value: Mapping[str, Any],
    schema: Schema,
    path: str,
    unknown: list[str],
    *,
    embedded: bool = False,
) -> dict[str, Any]:
    embedded = embedded or bool(schema.get(EMBEDDED))
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    preserving = bool(schema.get(PRESERVE))
    kept: dict[str, Any] = {}
    for name, each in value.items():
        if embedded and name in RESOURCE_FIELDS:
            # The metadata of the resource itself is read before its schema is looked at.
            within = name == "metadata" and path
            kept[name] = _value(each, METADATA, child(path, name), unknown) if within else each
        elif name in properties:
            kept[name] = _value(each, properties[name], child(path, name), unknown)
        elif extra:
            kept[name] = _value(
                each, extra if isinstance(extra, Mapping) else None, child(path, name), unknown
            )
        elif preserving:
            kept[name] = each
        else:
            unknown.append(child(path, name))
    return kept
