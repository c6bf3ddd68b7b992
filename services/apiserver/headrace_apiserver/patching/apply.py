"""Server-side apply, and the tracking of field managers for every other write. (pure)

`applied` merges the configuration of a manager into the live object: fields that it no longer names
are removed unless another manager owns them; a change of fields that others own is a conflict
unless it is forced. `track_managed_fields` records after any other write which fields its manager
has taken. Rules and results are those of Kubernetes' structured merge, so that `kubectl apply
--server-side` behaves as in a cluster.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace_apiserver.patching.field_set import NOTHING, FieldSet, Path, field, ordered, shown
from headrace_apiserver.patching.field_types import FieldType, root_type
from headrace_apiserver.patching.managed_fields import (
    APPLY,
    UPDATE,
    FieldManager,
    FieldManagers,
    ManagerKey,
    all_fields,
    cap_update_managers,
    describe_manager,
    read_managed_fields,
    submitted_managed_fields,
    with_managed_fields,
    without_managed_fields,
)
from headrace_apiserver.patching.typed_values import (
    Comparison,
    compared,
    fields_of,
    merged,
    restore_empty_values,
    same,
    type_mismatch,
    with_named,
    without,
)
from headrace_apiserver.statuses import MANAGER_CONFLICT, StatusCause, apply_conflict, bad_request

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL = "kubectl"
_BEFORE = "before-first-apply"
_STATUS = field("status")

# Fields of the server that nobody owns, and their parents, which always exist.
_NEVER_OWNED: FieldSet = frozenset(
    {
        (field("apiVersion"),),
        (field("kind"),),
        (field("metadata"),),
        *(
            (field("metadata"), field(name))
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteContext:
    """Who writes, and how."""

    manager: str
    """The client's `fieldManager`; without one, the first part of its user agent."""
    api_version: str
    now: str
    """RFC 3339."""
    subresource: str = ""
    has_status: bool = True
    """Whether the kind has a status subresource: the main endpoint then leaves the status
    unchanged, and the subresource everything else.
    """


def track_managed_fields(
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    schema: Mapping[str, Any],
    write: WriteContext,
) -> dict[str, Any]:
    """`new`, as a create (`old` None), replace or patch is about to store it, with updated
    managedFields.

    Never fails: a document that does not match the schema is refused by admission.
    """
    managers = submitted_managed_fields(new, old)
    if not managers and old is not None:
        # Fields of this object are not tracked; the first apply starts that.
        return with_managed_fields(new, {})
    kind = root_type(schema)
    new = _without_empty_metadata(new)
    before = _without_empty_metadata(old or _empty(new))
    managers = _updated(
        managers, without_managed_fields(before), without_managed_fields(new), kind, write
    )
    return with_managed_fields(new, cap_update_managers(managers))


def applied(
    live: Mapping[str, Any] | None,
    patch: Mapping[str, Any],
    schema: Mapping[str, Any],
    write: WriteContext,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """The object after a server-side apply of `patch`, including managedFields; it is created if
    `live` is None.

    Raises StatusError: 409 with a cause per field that others own and that would change; 400 for a
    patch that contains managedFields.
    """
    if (patch.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    kind = root_type(schema)
    managers = read_managed_fields(live)
    current = without_managed_fields(_without_empty_metadata(live or _empty(patch)))
    if not managers:
        managers = _updated(
            managers, _empty(current), current, kind, replace(write, manager=_BEFORE)
        )
    wanted = without_managed_fields(patch)
    if problem := type_mismatch(wanted, kind):
        raise bad_request(f"failed to create typed patch object ({_called(wanted)}): {problem}")
    try:
        result, managers = _applied(current, wanted, managers, kind, write, force=force)
    except _ConflictsError as error:
        if write.manager != _KUBECTL:
            raise _conflict_status(error.fields) from None
        # Migration from client-side apply: fields that it set and nobody has changed since may be
        # taken over.
        allowed = _last_applied_unchanged(current, kind)
        left = {name: fields - allowed for name, fields in error.fields.items() if fields - allowed}
        if left:
            raise _conflict_status(left) from None
        result, managers = _applied(current, wanted, managers, kind, write, force=True)
    if write.manager == _KUBECTL and LAST_APPLIED in _annotations(result):
        result = _with_last_applied(result, wanted)
    return with_managed_fields(_without_empty_metadata(result), managers)


def keep_unchanged_times(old: Mapping[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """`new` with the managedFields of `old` if only their times differ: such a write
    changes nothing.

    Call it last, after admission, so that a repeated write keeps the resourceVersion.
    """
    if old is None or not same(
        _without_version(without_managed_fields(old)), _without_version(without_managed_fields(new))
    ):
        return new
    before, after = read_managed_fields(old), read_managed_fields(new)
    timeless = [
        {name: replace(owner, time="") for name, owner in managers.items()}
        for managers in (before, after)
    ]
    return with_managed_fields(new, before) if timeless[0] == timeless[1] else new


class _ConflictsError(Exception):
    def __init__(self, fields: Mapping[ManagerKey, FieldSet]) -> None:
        super().__init__("fields that others own would change")
        self.fields = fields


def _updated(
    managers: FieldManagers,
    old: dict[str, Any],
    new: dict[str, Any],
    kind: FieldType,
    write: WriteContext,
) -> FieldManagers:
    """The managers after an update: a manager owns exclusively the fields that it changed or added;
    removed fields have no owner.
    """
    difference = compared(old, new, kind)
    changed = _own(difference.changed, write)
    removed = _own(difference.removed, write)
    managers = _taken(managers, changed | removed)
    if changed:
        name = ManagerKey(write.manager, UPDATE, write.api_version, write.subresource)
        known = managers.get(name)
        managers[name] = FieldManager(
            write.api_version, changed | (known.fields if known else NOTHING), write.now
        )
    return managers


def _applied(
    live: dict[str, Any],
    wanted: dict[str, Any],
    managers: FieldManagers,
    kind: FieldType,
    write: WriteContext,
    *,
    force: bool,
) -> tuple[dict[str, Any], FieldManagers]:
    name = ManagerKey(write.manager, APPLY, "", write.subresource)
    last = managers.get(name)
    fields = _own(fields_of(wanted, kind), write)
    result = merged(live, wanted, kind)
    managers = {**managers, name: FieldManager(write.api_version, fields, write.now)}
    if last is not None and last.fields:
        result = restore_empty_values(
            _pruned(result, last.fields, managers, kind), result, wanted, kind
        )
    difference = compared(live, result, kind)
    others = {each: owner for each, owner in managers.items() if each != name}
    changed = _own(difference.changed, write)
    conflicts = {
        each: owner.fields & changed for each, owner in others.items() if owner.fields & changed
    }
    if conflicts and not force:
        raise _ConflictsError(conflicts)
    managers = _taken(others, changed | _own(difference.removed, write)) | (
        {name: managers[name]} if fields else {}
    )
    if last is not None and not _differs(difference):
        managers = _same_time(managers, name, last)
    return result, managers


def _pruned(
    result: dict[str, Any], last: FieldSet, managers: FieldManagers, kind: FieldType
) -> dict[str, Any]:
    """`result` without what its manager applied last time and nobody owns now."""
    last = with_named(last, kind)
    pruned = without(result, last, kind) or {}
    owned = with_named(all_fields(managers.values()), kind)
    present = with_named(fields_of(result, kind), kind)
    kept = with_named(fields_of(pruned, kind), kind)
    pruned = without(result, present - (kept | owned), kind) or {}
    # Fields that were removed with an entry or object, but were never applied, stay.
    kept = with_named(fields_of(pruned, kind), kind)
    return without(result, (present - kept) & last, kind) or {}


def _taken(managers: FieldManagers, fields: FieldSet) -> FieldManagers:
    """The managers without these fields; a manager that owns nothing is removed."""
    rest = {
        name: replace(owner, fields=owner.fields - fields) if owner.fields & fields else owner
        for name, owner in managers.items()
    }
    return {name: owner for name, owner in rest.items() if owner.fields}


def _own(fields: Iterable[Path], write: WriteContext) -> FieldSet:
    """Those of the fields that can be owned through this endpoint."""
    own = frozenset(fields) - _NEVER_OWNED
    if not write.has_status:
        return own
    return frozenset(
        path for path in own if (path[0] == _STATUS) is (write.subresource == "status")
    )


def _differs(difference: Comparison) -> bool:
    return bool(difference.added or difference.modified or difference.removed)


def _same_time(managers: FieldManagers, name: ManagerKey, last: FieldManager) -> FieldManagers:
    owner = managers.get(name)
    if owner is None or owner.fields != last.fields:
        return managers
    return {**managers, name: replace(owner, time=last.time)}


def _conflict_status(conflicts: Mapping[ManagerKey, FieldSet]) -> Exception:
    found = [(name, path) for name in sorted(conflicts) for path in ordered(conflicts[name])]
    causes = [
        StatusCause(shown(path), f"conflict with {describe_manager(name)}", MANAGER_CONFLICT)
        for name, path in found
    ]
    if len(found) == 1:
        ((name, path),) = found
        return apply_conflict(
            f"Apply failed with 1 conflict: conflict with {describe_manager(name)}: {shown(path)}",
            causes,
        )
    lines = []
    for name in sorted(conflicts):
        lines += [
            f"conflicts with {describe_manager(name)}:",
            *(f"- {shown(path)}" for path in ordered(conflicts[name])),
        ]
    return apply_conflict(f"Apply failed with {len(found)} conflicts: " + "\n".join(lines), causes)


def _last_applied_unchanged(live: dict[str, Any], kind: FieldType) -> FieldSet:
    """The fields that client-side apply set last and that are unchanged since."""
    try:
        last = json.loads(_annotations(live).get(LAST_APPLIED, ""))
    except (TypeError, ValueError, RecursionError):
        return NOTHING
    if not isinstance(last, dict):
        return NOTHING
    difference = compared(last, live, kind)
    return fields_of(last, kind) - difference.changed - difference.removed


def _with_last_applied(result: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """`result` with the annotation from which client-side apply can continue."""
    metadata = dict(wanted.get("metadata") or {})
    annotations = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if name != LAST_APPLIED
    }
    if "annotations" in metadata:
        metadata["annotations"] = annotations
        if not annotations:
            del metadata["annotations"]
    text = (
        json.dumps(
            {**wanted, "metadata": metadata},
            ensure_ascii=False,
            separators=(",", ":"),
            sort_keys=True,
        )
        + "\n"
    )
    kept = result.get("metadata") or {}
    return {
        **result,
        "metadata": {**kept, "annotations": {**_annotations(result), LAST_APPLIED: text}},
    }


def _annotations(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return (document.get("metadata") or {}).get("annotations") or {}


def _called(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata") or {}
    return (
        f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {document.get('apiVersion')},"
        f" Kind={document.get('kind')}"
    )


def _empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("apiVersion", "kind") if name in document}


def _without_empty_metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    # An empty map or list in metadata equals an absent one, and no store keeps it.
    metadata = document.get("metadata") or {}
    if {} not in metadata.values() and [] not in metadata.values():
        return document
    return {
        **document,
        "metadata": {name: value for name, value in metadata.items() if value not in ({}, [])},
    }


def _without_version(document: dict[str, Any]) -> dict[str, Any]:
    metadata = {
        name: value
        for name, value in (document.get("metadata") or {}).items()
        if name not in ("resourceVersion", "generation")
    }
    return {**document, "metadata": metadata}
