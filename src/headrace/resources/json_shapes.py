"""The shape of a resource: the types of its fields, so that the rules of its kind can be applied
safely.

A shape is a mapping from field name to a type, a nested shape, or `ANY`. The API server checks
types by the schema of the kind; a shape is used where there is no schema, for objects that another
API server stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ANY = object()
"""Any JSON value: checked elsewhere, or not at all."""

Shape = Mapping[str, Any]

_NAMES = {str: "string", int: "integer", bool: "boolean", list: "array", dict: "object"}


def wrong_types(document: Mapping[str, Any], shape: Shape, path: str = "") -> list[tuple[str, str]]:
    """(path, message) of values that have another type than the shape; null counts as absent."""
    found: list[tuple[str, str]] = []
    for name, value in document.items():
        expected = shape.get(name, shape.get("*"))
        where = f"{path}.{name}" if path else name
        if value is None or expected is None or expected is ANY:
            continue
        wanted: Any = dict if isinstance(expected, Mapping) else expected
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            name = _NAMES.get(type(value), type(value).__name__)
            found.append((where, f"Invalid value: {name!r}: must be of type {_NAMES[wanted]}"))
        elif isinstance(expected, Mapping):
            found += wrong_types(value, expected, where)
    return found


def without_nulls(value: Any) -> Any:
    """A JSON value without null fields, which the API drops."""
    if isinstance(value, Mapping):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [without_nulls(each) for each in value]
    return value
