"""The shape of a manifest: which fields it may have and of what type. Everything else about a field is its kind's validation.

A shape is a mapping from field name to a type, a nested shape, or `ANY`. It stands where a kind's JSON schema will: the answers (unknown
field, wrong type) are those the Kubernetes API gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ANY = object()
"""Any JSON value: judged elsewhere, or not at all."""

Shape = Mapping[str, Any]

TEXTS: Shape = {"*": str}
"""A map of any keys to text."""

_NAMES = {str: "string", int: "integer", bool: "boolean", list: "array", dict: "object"}

METADATA: Shape = {
    "name": str,
    "namespace": str,
    "labels": TEXTS,
    "annotations": TEXTS,
    "finalizers": list,
    "generation": int,
    "uid": str,
    "resourceVersion": str,
    # These two come as null from clients that serialise Go structs.
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "managedFields": list,
    "ownerReferences": list,
    "generateName": str,
    "selfLink": str,
}


def unknown_fields(document: Mapping[str, Any], shape: Shape, path: str = "") -> list[str]:
    """Paths of fields that the shape does not have."""
    found: list[str] = []
    for name, value in document.items():
        expected = shape.get(name, shape.get("*"))
        where = f"{path}.{name}" if path else name
        if expected is None:
            found.append(where)
        elif isinstance(expected, Mapping) and isinstance(value, Mapping):
            found += unknown_fields(value, expected, where)
    return found


def wrong_types(document: Mapping[str, Any], shape: Shape, path: str = "") -> list[tuple[str, str]]:
    """(path, message) of values that are of another type than the shape says; null counts as absent."""
    found: list[tuple[str, str]] = []
    for name, value in document.items():
        expected = shape.get(name, shape.get("*"))
        where = f"{path}.{name}" if path else name
        if value is None or expected is None or expected is ANY:
            continue
        wanted: Any = dict if isinstance(expected, Mapping) else expected
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            found.append((where, f"Invalid value: {_NAMES.get(type(value), type(value).__name__)!r}: must be of type {_NAMES[wanted]}"))
        elif isinstance(expected, Mapping):
            found += wrong_types(value, expected, where)
    return found


def without_nulls(value: Any) -> Any:
    """A JSON value whose null fields are gone, as the API drops them."""
    if isinstance(value, Mapping):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [without_nulls(each) for each in value]
    return value
