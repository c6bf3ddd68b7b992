"""The part of a schema that matters for ownership and merging: which values are atomic, and which
have parts that different managers may own. (pure)

A `FieldType` is created from the raw schema on the way down an object, when it is needed. Where
there is no schema (unknown fields kept by `x-kubernetes-preserve-unknown-fields`), the value
decides: objects have parts, lists are atomic.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from headrace_apiserver.patching.field_set import field, key, value

Schema = Mapping[str, Any]


class FieldStructure(Enum):
    """How a value is owned."""

    ATOMIC = "whole"
    """As a whole: scalars, and lists and maps that are atomic."""
    MAP = "map"
    """By field."""
    SET = "set"
    """By entry; an entry is identified by its value."""
    ENTRIES = "entries"
    """By entry; an entry is identified by its key fields."""


_OBJECT_META: Schema = {
    "type": "object",
    "properties": {
        **{
            name: {"type": "string"}
            for name in ("name", "generateName", "namespace", "uid", "resourceVersion", "selfLink")
        },
        **{name: {"type": "string"} for name in ("creationTimestamp", "deletionTimestamp")},
        **{name: {"type": "integer"} for name in ("generation", "deletionGracePeriodSeconds")},
        **{
            name: {"type": "object", "additionalProperties": {"type": "string"}}
            for name in ("labels", "annotations")
        },
        "finalizers": {
            "type": "array",
            "x-kubernetes-list-type": "set",
            "items": {"type": "string"},
        },
        "ownerReferences": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "items": {
                "type": "object",
                "x-kubernetes-map-type": "atomic",
                "properties": {
                    name: {"type": "string"} for name in ("apiVersion", "kind", "name", "uid")
                },
            },
        },
        "managedFields": {"type": "array"},
    },
}
_ROOT = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _OBJECT_META}


class FieldType:
    """The type of one value."""

    __slots__ = ("_element", "_fields", "_structure", "keys")

    def __init__(self, schema: Schema | None) -> None:
        self._structure: FieldStructure | None = None
        self._fields: Mapping[str, Schema] = {}
        self._element: Schema | None = None
        self.keys: tuple[str, ...] = ()
        """The fields that identify an entry of a list of this type."""
        if schema is None or schema.get("x-kubernetes-int-or-string"):
            self._structure = None if schema is None else FieldStructure.ATOMIC
            return
        match schema.get("type"):
            case "object":
                self._object(schema)
            case "array":
                self._array(schema)
            case str():
                self._structure = FieldStructure.ATOMIC

    def structure(self, of: Any) -> FieldStructure:
        """How this value of the type is owned."""
        if self._structure is not None:
            return self._structure
        return FieldStructure.MAP if of is None or isinstance(of, dict) else FieldStructure.ATOMIC

    @property
    def described(self) -> bool:
        """Whether there is a schema for the value."""
        return self._structure is not None

    def named(self, name: str) -> bool:
        """Whether the schema has a property of this name; the key of a map is not one."""
        return name in self._fields

    def field(self, name: str) -> "FieldType":
        """The type of a field or map value."""
        return FieldType(self._fields.get(name, self._element))

    def entry(self) -> "FieldType":
        """The type of a list's entries."""
        return FieldType(self._element)

    def at(self, element: str) -> "FieldType":
        """The type one path element further down."""
        return self.field(element[2:]) if element.startswith("f:") else self.entry()

    def element(self, entry: Any) -> str:
        """The path element of an entry of a list, from its key fields or its value. A missing key
        field has its schema's default, if there is one.
        """
        if self._structure is not FieldStructure.ENTRIES or not isinstance(entry, dict):
            return value(entry)
        named = {}
        for name in self.keys:
            part = entry.get(name)
            if part is None:
                part = ((self._element or {}).get("properties", {}).get(name) or {}).get("default")
            if part is not None:
                named[name] = part
        return key(named) if named else value(entry)

    def members(self, of: dict[str, Any]) -> "list[tuple[str, str, FieldType]]":
        """Name, path element and type of every field of an object of this type."""
        return [(name, field(name), self.field(name)) for name in of]

    def _object(self, schema: Schema) -> None:
        if schema.get("x-kubernetes-map-type") == "atomic":
            self._structure = FieldStructure.ATOMIC
            return
        self._structure = FieldStructure.MAP
        self._fields = schema.get("properties") or {}
        if schema.get("x-kubernetes-embedded-resource"):
            self._fields = {**self._fields, **_ROOT}
        further = schema.get("additionalProperties")
        self._element = further if isinstance(further, Mapping) else None

    def _array(self, schema: Schema) -> None:
        items = schema.get("items")
        self._element = items if isinstance(items, Mapping) else None
        match schema.get("x-kubernetes-list-type"):
            case "set":
                self._structure = FieldStructure.SET
            case "map":
                self._structure = FieldStructure.ENTRIES
                self.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
            case _:
                self._structure = FieldStructure.ATOMIC


def root_type(schema: Schema) -> FieldType:
    """The type of a whole object: its schema, with the metadata that all kinds have."""
    return FieldType(
        {**schema, "type": "object", "properties": {**(schema.get("properties") or {}), **_ROOT}}
    )
