"""Fills in the defaults of a schema, and drops nulls where they are not allowed.

A default is set where its field is absent, or null although the schema does not allow null; nothing
is filled in inside an object that is absent itself. A null without default and without `nullable`
is dropped. The operation is idempotent. The size of added defaults is bounded: a default of a few
kilobytes for each of thousands of entries would be gigabytes. (pure)
"""

from collections.abc import Mapping
from typing import Any

from headrace.codec.objects import ObjectTooLarge
from headrace_apiserver.schemas.keywords import Schema

ADDED_BYTES_MAX = 900_000
"""Estimated bytes that the defaults of one document may add; a stored object cannot be larger."""
_VALUE_BYTES = 8


def defaulted(document: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """A copy with the schema's defaults, and without nulls that its fields do not allow. Raises
    ObjectTooLarge.
    """
    return _Filling(ADDED_BYTES_MAX).object(document, schema)


def without_nulls(document: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """A copy without nulls that its fields do not allow, and without added defaults: for status
    writes and for the result of a merge patch.
    """
    return _Filling(None).object(document, schema)


class _Filling:
    """One walk, with the bytes of defaults that it may still add; None if it adds none."""

    __slots__ = ("_left",)

    def __init__(self, left: int | None) -> None:
        self._left = left

    def object(self, value: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
        """An object with its defaults."""
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        found: dict[str, Any] = {}
        for name, each in value.items():
            field = properties.get(name, extra if isinstance(extra, Mapping) else None)
            if field is None:
                found[name] = each
                continue
            if each is None and not field.get("nullable"):
                if self._left is None or "default" not in field:
                    continue
                each = self._copied(field["default"])
            found[name] = self._value(each, field)
        if self._left is not None:
            for name, field in properties.items():
                if name not in found and "default" in field:
                    self._left -= len(name)
                    found[name] = self._value(self._copied(field["default"]), field)
        return found

    def _value(self, value: Any, schema: Schema) -> Any:
        if isinstance(value, dict):
            return self.object(value, schema)
        if isinstance(value, list):
            items = schema.get("items")
            if items is None:
                return value
            return [
                self._value(
                    self._copied(items["default"]) if self._defaultable(each, items) else each,
                    items,
                )
                for each in value
            ]
        return value

    def _defaultable(self, value: Any, schema: Schema) -> bool:
        return (
            self._left is not None
            and value is None
            and not schema.get("nullable")
            and "default" in schema
        )

    def _copied(self, default: Any) -> Any:
        if self._left is not None:
            self._left -= _VALUE_BYTES + (len(default) if isinstance(default, str) else 0)
            if self._left < 0:
                raise ObjectTooLarge(
                    f"the defaults of its schema would add more than {ADDED_BYTES_MAX} bytes; give"
                    " fewer or shorter ones"
                )
        if isinstance(default, Mapping):
            if self._left is not None:
                self._left -= sum(map(len, default))
            return {name: self._copied(each) for name, each in default.items()}
        if isinstance(default, list):
            return [self._copied(each) for each in default]
        return default
