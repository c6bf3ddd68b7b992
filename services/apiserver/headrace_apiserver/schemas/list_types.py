"""Lists that are sets or maps (`x-kubernetes-list-type`): the keys of their entries, and
duplicates. (pure)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.keywords import LIST_MAP_KEYS, LIST_TYPE, Schema
from headrace_apiserver.schemas.status_causes import child
from headrace_apiserver.statuses import StatusCause


def entry_key(entry: Any, names: Sequence[str]) -> str:
    """The key of an entry of a map list: the values of its key fields, as a text that is equal only
    for equal values.
    """
    found = (
        {name: entry[name] for name in names if name in entry} if isinstance(entry, Mapping) else {}
    )
    return _text(found)


def duplicates(value: Any, schema: Schema, path: str) -> list[StatusCause]:
    """Duplicate entries of sets and map lists, anywhere in a value."""
    found: list[StatusCause] = []
    if isinstance(value, list):
        kind, items = schema.get(LIST_TYPE), schema.get("items")
        if kind == "set":
            found += [
                status_causes.duplicate(f"{path}[{index}]", value[index])
                for index in _repeated([_text(each) for each in value])
            ]
        elif kind == "map":
            found += _repeated_entries(value, schema.get(LIST_MAP_KEYS) or (), path)
        if items:
            for index, each in enumerate(value):
                if isinstance(each, list | dict):
                    found += duplicates(each, items, f"{path}[{index}]")
    elif isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, each in value.items():
            if not isinstance(each, list | dict):
                continue
            if name in properties:
                found += duplicates(each, properties[name], child(path, name))
            elif isinstance(extra, Mapping):
                found += duplicates(each, extra, f"{path}[{name}]")
    return found


def _repeated_entries(value: list[Any], names: Sequence[str], path: str) -> list[StatusCause]:
    for index, each in enumerate(value):
        if each is not None and not isinstance(each, dict):
            return [
                status_causes.invalid(
                    f"{path}[{index}]", each, "must be an object for an array of list-type map"
                )
            ]
    again = _repeated([entry_key(each, names) for each in value])
    return [
        status_causes.duplicate(
            f"{path}[{index}]",
            {name: value[index][name] for name in names if name in (value[index] or {})},
        )
        for index in again
    ]


def _repeated(keys: list[str]) -> list[int]:
    """Index of the second occurrence of each repeated key."""
    seen: dict[str, int] = {}
    again = []
    for index, key in enumerate(keys):
        seen[key] = seen.get(key, 0) + 1
        if seen[key] == 2:
            again.append(index)
    return again


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
