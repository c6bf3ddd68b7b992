"""What happens to a resource's metadata when it is written: one set of rules for every store, without the storing.

They are those of the Kubernetes API: the server owns uid, creationTimestamp, generation and deletionTimestamp; the main endpoint does
not touch the status of kinds that have a status endpoint, nor that endpoint the rest; a resource with finalizers is only marked when
deleted, and goes when the last finalizer does.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.errors import Conflict, NotFound
from headrace.domain.resources import AlreadyExists, Resource, ResourceKey, ResourceKind

_SERVER_FIELDS = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion")


def absent(kind: ResourceKind, name: str) -> NotFound:
    """The error for a resource that is not there."""
    return NotFound(f'{kind.qualified} "{name}" not found')


def created(wanted: Resource, old: Resource | None, *, uid: str, now: str) -> Resource:
    """What a create stores. Raises AlreadyExists when `old` is there."""
    if old is not None:
        raise AlreadyExists(f'{wanted.kind.qualified} "{wanted.name}" already exists')
    metadata = {key: value for key, value in wanted.metadata.items() if key not in _SERVER_FIELDS and value is not None}
    metadata |= {"uid": uid, "creationTimestamp": now}
    if _has_spec(wanted.kind):
        metadata["generation"] = 1
    content = {key: value for key, value in wanted.object.items() if not (wanted.kind.has_status and key == "status")}
    return Resource(wanted.kind, {**content, "metadata": metadata})


def replaced(wanted: Resource, old: Resource | None) -> Resource | None:
    """What a replace stores: `old` itself when nothing changes, None when the last finalizer of a deleted resource went.

    Raises NotFound, and Conflict when `wanted` was made from another version than the stored one.
    """
    if old is None:
        raise absent(wanted.kind, wanted.name)
    _same_version(wanted, old)
    kept = {key: value for key, value in old.metadata.items() if key in _SERVER_FIELDS}
    metadata = {key: value for key, value in wanted.metadata.items() if key not in _SERVER_FIELDS and value is not None} | kept
    content = {key: value for key, value in wanted.object.items() if not (wanted.kind.has_status and key == "status")}
    if wanted.kind.has_status and "status" in old.object:
        content["status"] = old.object["status"]
    if old.deleting and not metadata.get("finalizers"):
        return None
    if _has_spec(wanted.kind) and _spec(content) != _spec(old.object):
        metadata["generation"] = old.generation + 1
    new = Resource(wanted.kind, {**content, "metadata": metadata})
    return old if _same(new, old) else new


def status_replaced(wanted: Resource, old: Resource | None) -> Resource:
    """What a write to the status endpoint stores; raises as `replaced` does."""
    if old is None:
        raise absent(wanted.kind, wanted.name)
    _same_version(wanted, old)
    if wanted.status == old.status:
        return old
    return old.with_status(wanted.status)


def deleted(old: Resource | None, *, kind: ResourceKind, name: str, uid: str | None, now: str) -> Resource | None:
    """What a delete stores: None removes; with finalizers left the resource stays, marked. `uid` is the caller's precondition, if any."""
    if old is None:
        raise absent(kind, name)
    if uid is not None and uid != old.uid:
        raise _other_uid(kind, name, wanted=uid, found=old.uid)
    if not old.finalizers:
        return None
    return old if old.deleting else old.with_metadata(deletionTimestamp=now)


class ResourceIndex:
    """The resources of a store as one process has read them so far."""

    def __init__(self) -> None:
        self.position = -1
        """Log position of the newest record applied."""
        self._resources: dict[ResourceKey, Resource] = {}

    def apply(self, key: ResourceKey, resource: Resource | None, position: int) -> bool:
        """Put or (None) remove. False when nothing changed, as for a record at or before `position`: a writer applies its own records at
        once, and a reader that meets them later must not bring back what was removed since."""
        if position <= self.position:
            return False
        self.position = position
        if resource is None:
            return self._resources.pop(key, None) is not None
        self._resources[key] = resource.with_metadata(resourceVersion=str(position))
        return True

    def get(self, key: ResourceKey) -> Resource | None:
        """The resource under `key`."""
        return self._resources.get(key)

    def of_kind(self, kind: ResourceKind, namespace: str | None = None) -> list[Resource]:
        """All resources of a kind, by namespace and name."""
        found = (
            each
            for key, each in self._resources.items()
            if key.plural == kind.plural and key.group == kind.group and namespace in (None, key.namespace)
        )
        return sorted(found, key=lambda each: (each.namespace, each.name))


def _same_version(wanted: Resource, old: Resource) -> None:
    if wanted.version and wanted.version != old.version:
        raise Conflict(
            f'Operation cannot be fulfilled on {wanted.kind.qualified} "{wanted.name}": '
            "the object has been modified; please apply your changes to the latest version and try again"
        )
    if wanted.uid and old.uid and wanted.uid != old.uid:
        raise _other_uid(wanted.kind, wanted.name, wanted=wanted.uid, found=old.uid)


def _other_uid(kind: ResourceKind, name: str, *, wanted: str, found: str) -> Conflict:
    told = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    return Conflict(f'Operation cannot be fulfilled on {kind.qualified} "{name}": {told}')


def _has_spec(kind: ResourceKind) -> bool:
    # Kubernetes gives a generation to kinds whose spec somebody works on; the only core kind here, ConfigMap, has none.
    return kind.has_status


def _spec(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ("metadata", "status")}


def _same(new: Resource, old: Resource) -> bool:
    return _stripped(new) == _stripped(old)


def _stripped(resource: Resource) -> dict[str, Any]:
    return {**resource.object, "metadata": {key: value for key, value in resource.metadata.items() if key != "resourceVersion"}}
