"""Server-side apply with this controller's field manager, for objects that the controller owns.

A Kubernetes API server does this by itself; the stores without one use `applied`, which follows the
same rules for what the controller applies: objects are merged field by field, lists are replaced as
a whole, owner references are merged by uid. A field that was applied before and is no longer is
removed; fields of other managers stay. `managedFields` has the format of Kubernetes, so that a
client that applies to the same object sees a conflict.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.resources.resource import Resource

FIELD_MANAGER = "headrace-controller"
_NOT_MANAGED = ("apiVersion", "kind", "status")
_NAMES = ("name", "namespace")

Fields = Mapping[str, Any]
"""A FieldsV1 set: `f:<name>` for a field, `k:<key>` for an item of a list with keys."""


def applied(wanted: Resource, old: Resource | None, *, now: str) -> Resource:
    """The object after `wanted` was applied to it: `old` itself if nothing changes."""
    if old is None:
        return wanted.with_metadata(managedFields=[_entry(wanted, now)])
    if is_applied(wanted, old):
        return old
    content = _without(old.object, _owned_fields(old), wanted.object)
    merged = Resource(wanted.kind, _merged(content, wanted.object))
    others = [each for each in _managed_fields(old) if not _is_own(each)]
    return merged.with_metadata(
        ownerReferences=_merged_owners(old, wanted) or None,
        managedFields=[*others, _entry(wanted, now)],
        resourceVersion=old.version,
    )


def is_applied(wanted: Resource, old: Resource) -> bool:
    """Whether applying `wanted` would change nothing: its values are there, and this controller has
    applied no other field before.
    """
    owners = old.metadata.get("ownerReferences") or ()
    content = {**wanted.object, "metadata": {**wanted.metadata}}
    for reference in content["metadata"].pop("ownerReferences", ()):
        if not any(covers(each, reference) for each in owners):
            return False
    return covers(old.object, content) and not _has_stale(_owned_fields(old), wanted.object)


def _entry(wanted: Resource, now: str) -> dict[str, Any]:
    return {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": wanted.kind.api_version,
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": _fields(wanted),
    }


def _fields(wanted: Resource) -> dict[str, Any]:
    content = {key: value for key, value in wanted.object.items() if key not in _NOT_MANAGED}
    metadata = {key: value for key, value in wanted.metadata.items() if key not in _NAMES}
    fields = _fields_of({**content, "metadata": metadata})
    if owners := metadata.get("ownerReferences"):
        fields["f:metadata"]["f:ownerReferences"] = {
            f"k:{json.dumps({'uid': each['uid']}, separators=(',', ':'))}": {} for each in owners
        }
    return {key: value for key, value in fields.items() if key != "f:metadata" or value}


def _fields_of(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"f:{name}": _fields_of(value) if isinstance(value, Mapping) else {}
        for name, value in values.items()
    }


def _managed_fields(resource: Resource) -> Iterable[Mapping[str, Any]]:
    entries = resource.metadata.get("managedFields")
    return [each for each in entries if isinstance(each, Mapping)] if entries else ()


def _is_own(entry: Mapping[str, Any]) -> bool:
    return (entry.get("manager"), entry.get("operation")) == (FIELD_MANAGER, "Apply")


def _owned_fields(resource: Resource) -> Fields:
    return next(
        (each.get("fieldsV1") or {} for each in _managed_fields(resource) if _is_own(each)), {}
    )


def _has_stale(fields: Fields, wanted: Mapping[str, Any]) -> bool:
    return any(
        name not in wanted
        or (isinstance(wanted[name], Mapping) and _has_stale(inner, wanted[name]))
        for name, inner in _named(fields)
    )


def _without(
    content: Mapping[str, Any], fields: Fields, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """The content without the fields that were applied before and are no longer."""
    left = dict(content)
    for name, inner in _named(fields):
        value, kept = left.get(name), wanted.get(name, {})
        if isinstance(value, Mapping) and inner and isinstance(kept, Mapping):
            left[name] = _without(value, inner, kept)
        if name not in wanted and (not inner or not left.get(name)):
            left.pop(name, None)
    return left


def _named(fields: Fields) -> Iterable[tuple[str, Fields]]:
    return ((key[2:], inner) for key, inner in fields.items() if key.startswith("f:"))


def _merged(content: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for name, value in wanted.items():
        before = merged.get(name)
        merged[name] = (
            _merged(before, value)
            if isinstance(before, Mapping) and isinstance(value, Mapping)
            else value
        )
    return merged


def _merged_owners(old: Resource, wanted: Resource) -> list[Any]:
    new = wanted.metadata.get("ownerReferences") or []
    uids = {each["uid"] for each in new}
    return [
        each for each in old.metadata.get("ownerReferences") or () if each.get("uid") not in uids
    ] + list(new)


def covers(present: Any, wanted: Any) -> bool:
    """Whether every wanted value is present; an API server may have added defaults beside them."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            name in present and covers(present[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(present, list | tuple)
            and len(present) == len(wanted)
            and all(map(covers, present, wanted))
        )
    return bool(present == wanted)
