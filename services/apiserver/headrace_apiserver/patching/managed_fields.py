"""Reads and writes `metadata.managedFields`: who owns which fields of an object. (pure)

An owner is a manager (the name that a client gives itself), the operation and subresource it wrote
with, and the API version. Managers that update are distinguished by version too; those that apply
are not, because every apply contains everything that its manager wants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from headrace_apiserver.patching.field_set import (
    NOTHING,
    FieldSet,
    InvalidFields,
    read_fields,
    write_fields,
)

APPLY = "Apply"
UPDATE = "Update"
UPDATERS_MAX = 10
"""Number of updating managers that are kept apart; the oldest ones beyond it are merged
into one.
"""
_ANCIENT_CHANGES = "ancient-changes"
_MANAGER_MAX = 128
_ENTRIES_MAX = 256


class ManagerKey(NamedTuple):
    """What distinguishes managers."""

    manager: str
    operation: str
    api_version: str
    """Empty for a manager that applies."""
    subresource: str


@dataclass(frozen=True, slots=True)
class FieldManager:
    """One entry of `managedFields`."""

    api_version: str
    fields: FieldSet
    time: str
    """When it last took a field, RFC 3339; empty if unknown."""


FieldManagers = dict[ManagerKey, FieldManager]


def read_managed_fields(document: Mapping[str, Any] | None) -> FieldManagers:
    """The managers of an object. Invalid entries are ignored: a lost manager means a conflict less,
    not a refused write.
    """
    managers: FieldManagers = {}
    entries = ((document or {}).get("metadata") or {}).get("managedFields")
    for entry in entries[:_ENTRIES_MAX] if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and (read := _read(entry)) is not None:
            name, owner = read
            there = managers.get(name)
            managers[name] = (
                owner if there is None else replace(owner, fields=owner.fields | there.fields)
            )
    return managers


def submitted_managed_fields(
    new: Mapping[str, Any], old: Mapping[str, Any] | None
) -> FieldManagers:
    """The managers that a write starts from: those in its document, or else those of the stored
    object.

    A client that does not know managedFields sends none, which must not clear them; a client that
    wants to clear them sends one empty entry.
    """
    entries = (new.get("metadata") or {}).get("managedFields")
    if entries == [{}]:
        return {}
    return read_managed_fields(new) or read_managed_fields(old)


def write_managed_fields(managers: FieldManagers) -> list[dict[str, Any]]:
    """`managedFields`, in the order of Kubernetes."""
    named = sorted(
        managers.items(),
        key=lambda each: (
            each[0].operation,
            each[1].time,
            each[0].manager,
            each[1].api_version,
            each[0].subresource,
        ),
    )
    return [_written(name, owner) for name, owner in named]


def with_managed_fields(document: Mapping[str, Any], managers: FieldManagers) -> dict[str, Any]:
    """The document with these managers in its metadata."""
    metadata = {
        name: value
        for name, value in (document.get("metadata") or {}).items()
        if name != "managedFields"
    }
    if managers:
        metadata["managedFields"] = write_managed_fields(managers)
    return {**document, "metadata": metadata}


def without_managed_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without managedFields: the form in which fields are compared."""
    metadata = document.get("metadata") or {}
    if "managedFields" not in metadata:
        return dict(document)
    return {
        **document,
        "metadata": {name: value for name, value in metadata.items() if name != "managedFields"},
    }


def cap_update_managers(managers: FieldManagers) -> FieldManagers:
    """The same managers, with the oldest updating managers of each version merged into one if there
    are too many: otherwise every controller that ever wrote an object would stay listed in it.
    """
    updaters = sorted(
        (name for name in managers if name.operation == UPDATE),
        key=lambda name: (managers[name].time, name),
    )
    excess = len(updaters) - UPDATERS_MAX
    if excess <= 0:
        return managers
    result = dict(managers)
    first: dict[str, ManagerKey] = {}
    for name in updaters:
        if excess <= 0:
            break
        owner = result[name]
        bucket = ManagerKey(_ANCIENT_CHANGES, UPDATE, owner.api_version, "")
        if owner.api_version not in first:
            first[owner.api_version] = name
            continue
        into = result.pop(first[owner.api_version]) if bucket not in result else result[bucket]
        first[owner.api_version] = bucket
        if name != bucket:
            del result[name]
        result[bucket] = FieldManager(owner.api_version, into.fields | owner.fields, owner.time)
        excess -= 1
    return result


def describe_manager(name: ManagerKey) -> str:
    """A manager as conflicts name it."""
    text = f'"{name.manager}"'
    if name.subresource:
        text += f' with subresource "{name.subresource}"'
    return f"{text} using {name.api_version}" if name.operation == UPDATE else text


def _read(entry: Mapping[str, Any]) -> tuple[ManagerKey, FieldManager] | None:
    manager, operation, version = (
        str(entry.get(name) or "") for name in ("manager", "operation", "apiVersion")
    )
    subresource, time = str(entry.get("subresource") or ""), str(entry.get("time") or "")
    if operation not in (APPLY, UPDATE) or not version or len(manager) > _MANAGER_MAX:
        return None
    try:
        fields = read_fields(entry.get("fieldsV1") or {})
    except InvalidFields:
        return None
    name = ManagerKey(manager, operation, version if operation == UPDATE else "", subresource)
    return name, FieldManager(version, fields or NOTHING, time)


def _written(name: ManagerKey, owner: FieldManager) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "manager": name.manager,
        "operation": name.operation,
        "apiVersion": owner.api_version,
        "time": owner.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": write_fields(owner.fields),
        "subresource": name.subresource,
    }
    return {key: value for key, value in entry.items() if value not in ("", None)}


def all_fields(managers: Iterable[FieldManager]) -> FieldSet:
    """All fields that any of these managers owns."""
    return NOTHING.union(*(owner.fields for owner in managers))
