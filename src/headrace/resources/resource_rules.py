"""The rules for a resource's metadata when it is written: the same for every store, without the
storage.

They are those of the Kubernetes API: the server owns uid, creationTimestamp, generation and
deletionTimestamp; the main endpoint does not change the status of kinds that have a status
subresource, and that subresource does not change anything else; deleting a resource with finalizers
only marks it, and it is removed when its last finalizer is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.resource import (
    AlreadyExists,
    Change,
    Reference,
    Resource,
    ResourceKey,
    ResourceKind,
)
from headrace.resources.server_side_apply import applied

_SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
)


@dataclass(frozen=True, slots=True)
class Precondition:
    """The object that a caller wants to delete: with this uid, in this version; None if it does not
    matter.
    """

    uid: str | None = None
    version: str | None = None


ANY_OBJECT = Precondition()


def not_found(kind: ResourceKind, name: str) -> NotFound:
    """The error for a missing resource."""
    return NotFound(f'{kind.qualified} "{name}" not found')


def created(wanted: Resource, old: Resource | None, *, uid: str, now: str) -> Resource:
    """The resource that a create stores. Raises AlreadyExists if there is an `old` one."""
    if old is not None:
        raise AlreadyExists(f'{wanted.kind.qualified} "{wanted.name}" already exists')
    metadata = {
        key: value
        for key, value in wanted.metadata.items()
        if key not in _SERVER_FIELDS and value is not None
    }
    metadata |= {"uid": uid, "creationTimestamp": now}
    if wanted.kind.has_generation:
        metadata["generation"] = 1
    content = {
        key: value
        for key, value in wanted.object.items()
        if not (wanted.kind.has_status and key == "status")
    }
    return Resource(wanted.kind, {**content, "metadata": metadata})


def replaced(wanted: Resource, old: Resource | None) -> Resource | None:
    """The resource that a replace stores: `old` itself if nothing changes, None if the last
    finalizer of a deleted resource was removed.

    Raises NotFound, and Conflict if `wanted` is based on another version than the stored one.
    """
    if old is None:
        raise not_found(wanted.kind, wanted.name)
    _same_version(wanted, old)
    kept = {key: value for key, value in old.metadata.items() if key in _SERVER_FIELDS}
    metadata = {
        key: value
        for key, value in wanted.metadata.items()
        if key not in _SERVER_FIELDS and value is not None
    } | kept
    content = {
        key: value
        for key, value in wanted.object.items()
        if not (wanted.kind.has_status and key == "status")
    }
    if wanted.kind.has_status and "status" in old.object:
        content["status"] = old.object["status"]
    if old.deleting and not metadata.get("finalizers"):
        return None
    if wanted.kind.has_generation and _spec(content) != _spec(old.object):
        metadata["generation"] = old.generation + 1
    new = Resource(wanted.kind, {**content, "metadata": metadata})
    return old if _same(new, old) else new


def apply_changes(wanted: Resource, old: Resource | None, *, uid: str, now: str) -> Resource:
    """What a server-side apply of this controller stores: `old` itself when nothing changes."""
    new = applied(wanted, old, now=now)
    if old is None:
        return created(new, None, uid=uid, now=now)
    return replaced(new, old) or old


def status_replaced(wanted: Resource, old: Resource | None) -> Resource:
    """The resource that a write to the status subresource stores; raises as `replaced` does. Of the
    metadata only `managedFields` may change.
    """
    if old is None:
        raise not_found(wanted.kind, wanted.name)
    _same_version(wanted, old)
    managed = wanted.metadata.get("managedFields", old.metadata.get("managedFields"))
    if wanted.status == old.status and managed == old.metadata.get("managedFields"):
        return old
    return old.with_status(wanted.status).with_metadata(managedFields=managed)


def deleted(
    old: Resource | None,
    *,
    kind: ResourceKind,
    name: str,
    precondition: Precondition = ANY_OBJECT,
    finalizers: Sequence[str] = (),
    now: str,
) -> Resource | None:
    """The resource that a delete stores: None if it is removed; with finalizers it stays, marked as
    deleted. `finalizers` are added to those it has.
    """
    if old is None:
        raise not_found(kind, name)
    if precondition.uid is not None and precondition.uid != old.uid:
        raise _precondition_failed(kind, name, "UID", wanted=precondition.uid, found=old.uid)
    if precondition.version is not None and precondition.version != old.version:
        raise _precondition_failed(
            kind, name, "ResourceVersion", wanted=precondition.version, found=old.version
        )
    held = (*old.finalizers, *(each for each in finalizers if each not in old.finalizers))
    if not held:
        return None
    if old.deleting:
        return old if held == old.finalizers else old.with_metadata(finalizers=list(held))
    # A deletion changes the desired state.
    generation = old.generation + 1 if old.kind.has_generation else None
    return old.with_metadata(
        deletionTimestamp=now,
        deletionGracePeriodSeconds=0,
        generation=generation,
        finalizers=list(held),
    )


class ResourceIndex:
    """The resources of a store, as far as one process has read them."""

    def __init__(self) -> None:
        self.position = -1
        """Log position of the newest applied record."""
        self._kinds: dict[tuple[str, str], dict[ResourceKey, Resource]] = {}

    def apply(self, key: ResourceKey, resource: Resource | None, position: int) -> Change | None:
        """Store or (None) remove a resource; returns the change. Returns None for a record at or
        before `position`: a writer applies its own records at once, and reading them later must not
        restore what was removed since.
        """
        if position <= self.position:
            return None
        self.position = position
        there = self._kinds.setdefault((key.group, key.plural), {})
        before = there.get(key)
        if resource is None:
            if before is None:
                return None
            del there[key]
            return Change(key, str(position), before, None)
        there[key] = new = resource.with_metadata(resourceVersion=str(position))
        return Change(key, str(position), before, new)

    def get(self, key: ResourceKey) -> Resource | None:
        """The resource under `key`."""
        return self._kinds.get((key.group, key.plural), {}).get(key)

    def find(self, wanted: Reference) -> Resource | None:
        """The object of a reference; neither its plural nor its stored version need be known."""
        for (group, plural), there in self._kinds.items():
            if group == wanted.group:
                for namespace in (wanted.namespace, ""):
                    found = there.get(ResourceKey(group, plural, namespace, wanted.name))
                    if found is not None and found.object.get("kind") == wanted.kind:
                        return found
        return None

    def of_kind(self, kind: ResourceKind, namespace: str | None = None) -> list[Resource]:
        """All resources of a kind, sorted by namespace and name."""
        there = self._kinds.get((kind.group, kind.plural), {})
        return [there[key] for key in sorted(there) if namespace in (None, key.namespace)]


def _same_version(wanted: Resource, old: Resource) -> None:
    if wanted.version and wanted.version != old.version:
        raise Conflict(
            f'Operation cannot be fulfilled on {wanted.kind.qualified} "{wanted.name}": the object'
            " has been modified; please apply your changes to the latest version and try again"
        )
    if wanted.uid and old.uid and wanted.uid != old.uid:
        raise _precondition_failed(
            wanted.kind, wanted.name, "UID", wanted=wanted.uid, found=old.uid
        )


def _precondition_failed(
    kind: ResourceKind, name: str, what: str, *, wanted: str, found: str
) -> Conflict:
    text = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
    return Conflict(f'Operation cannot be fulfilled on {kind.qualified} "{name}": {text}')


def _spec(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ("metadata", "status")}


def _same(new: Resource, old: Resource) -> bool:
    return _stripped(new) == _stripped(old)


def _stripped(resource: Resource) -> dict[str, Any]:
    return {
        **resource.object,
        "metadata": {
            key: value for key, value in resource.metadata.items() if key != "resourceVersion"
        },
    }
