"""The garbage collector: an object is deleted when all its owners are gone
(`metadata.ownerReferences`).

It follows the store's changes to know by uid which object owns which. When an owner is deleted, the
objects that only it owned are deleted too. An owner that was never seen gets a grace period to
appear, since objects are restored or applied in any order. Foreground deletion waits for the
dependents, orphaning removes their owner references first; both are finalizers that only this
controller removes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change, Resource, ResourceKey, ResourceKind
from headrace.resources.resource_rules import Precondition

logger = structlog.get_logger(__name__)

FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"
UNSEEN_GRACE_SECONDS = 30.0
_DELETED_UIDS_MAX = 10_000
_BATCH = 100
_SLICE = 500

Kinds = Callable[[], Iterable[ResourceKind]]


@dataclass(frozen=True, slots=True)
class Dependent:
    """An object with owners."""

    key: ResourceKey
    owners: tuple[Mapping[str, Any], ...]

    def is_owned_by(self, uid: str) -> bool:
        """Whether an object of this uid is among the owners."""
        return any(each.get("uid") == uid for each in self.owners)

    def blocks(self, uid: str) -> bool:
        """Whether foreground deletion of the owner with this uid waits for it."""
        return any(
            each.get("uid") == uid and each.get("blockOwnerDeletion") for each in self.owners
        )


class GarbageCollector:
    """The collector; `reconcile` runs in a control loop of the leader
    (`headrace_apiserver.controllers.control_loop`).
    """

    def __init__(self, store: ResourceStore, kinds: Kinds, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._kinds = kinds
        self._monotonic = monotonic
        self._present: dict[str, ResourceKey] = {}
        self._dependents: dict[ResourceKey, Dependent] = {}
        self._waiting: set[ResourceKey] = set()
        """Objects being deleted that wait for their dependents."""
        self._deleted_uids: dict[str, None] = {}
        self._unseen_since: dict[str, float] = {}
        """By uid of an owner that is missing and was never seen: since when."""

    def read(self) -> None:
        """Index what the store holds; call it once the store has been read."""
        for kind in self._kinds():
            for each in self._store.list(kind):
                self._put(each)

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Follow the store."""
        for change in changes:
            if change.after is not None:
                if change.before is not None and change.before.uid != change.after.uid:
                    self._drop(change.before)
                self._put(change.after)
            elif change.before is not None:
                self._drop(change.before)

    def is_relevant(self, change: Change) -> bool:
        """Whether a change concerns ownership. Call it after `on_changes`."""
        return (
            change.key in self._dependents
            or bool(self._waiting)
            or (change.after is None and bool(self._dependents))
        )

    async def reconcile(self) -> float | None:
        """Delete objects without owners, and finish the deletion of owners whose dependents are
        handled.
        """
        collectable, orphanable, delay = await self._classify()
        await self._in_batches(collectable, self._collect)
        await self._in_batches(orphanable, self._orphan)
        for key in list(self._waiting):
            await self._process_finalizer(key)
        return delay

    def _put(self, resource: Resource) -> None:
        self._present[resource.uid] = resource.key
        if owners := _owners(resource):
            self._dependents[resource.key] = Dependent(resource.key, owners)
        else:
            self._dependents.pop(resource.key, None)
        if resource.deleting and {FOREGROUND_FINALIZER, ORPHAN_FINALIZER} & set(
            resource.finalizers
        ):
            self._waiting.add(resource.key)
        else:
            self._waiting.discard(resource.key)

    def _drop(self, resource: Resource) -> None:
        if self._present.get(resource.uid) == resource.key:
            del self._present[resource.uid]
        self._dependents.pop(resource.key, None)
        self._waiting.discard(resource.key)
        self._deleted_uids[resource.uid] = None
        if len(self._deleted_uids) > _DELETED_UIDS_MAX:
            del self._deleted_uids[next(iter(self._deleted_uids))]

    async def _classify(self) -> tuple[list[Dependent], list[Dependent], float | None]:
        """Objects to delete, objects that lose some of their owner references, and the delay until
        the next look.
        """
        collectable: list[Dependent] = []
        orphanable: list[Dependent] = []
        unseen: dict[str, float] = {}
        now = self._monotonic()
        for number, dependent in enumerate(list(self._dependents.values()), 1):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            missing = [
                each for each in dependent.owners if not self._is_present(each, dependent.key)
            ]
            if not missing:
                continue
            never_seen = [
                str(each.get("uid"))
                for each in missing
                if str(each.get("uid")) not in self._deleted_uids
            ]
            for uid in never_seen:
                unseen[uid] = self._unseen_since.get(uid, now)
            if any(now - unseen[uid] < UNSEEN_GRACE_SECONDS for uid in never_seen):
                continue
            (collectable if len(missing) == len(dependent.owners) else orphanable).append(dependent)
        self._unseen_since = unseen
        left = [since + UNSEEN_GRACE_SECONDS - now for since in unseen.values()]
        return collectable, orphanable, max(min(left), 0.1) if left else None

    def _is_present(self, owner: Mapping[str, Any], of: ResourceKey) -> bool:
        key = self._present.get(str(owner.get("uid")))
        return (
            key is not None
            and key.name == owner.get("name")
            and key.namespace in ("", of.namespace)
        )

    async def _in_batches(
        self, dependents: Sequence[Dependent], act: Callable[[Dependent], Awaitable[None]]
    ) -> None:
        for start in range(0, len(dependents), _BATCH):
            batch = (act(each) for each in dependents[start : start + _BATCH])
            # All of them must have ended before this fails, because reconcile is soon called again:
            # two runs must not overlap.
            for failed in await asyncio.gather(*batch, return_exceptions=True):
                if failed is not None:
                    raise failed

    async def _collect(self, dependent: Dependent, uid: str | None = None) -> None:
        """Delete an object whose owners, but for the one with this uid, are all missing."""
        resource = self._if_owners_unchanged(dependent)
        if (
            resource is None
            or resource.deleting
            or any(
                each.get("uid") != uid and self._is_present(each, dependent.key)
                for each in dependent.owners
            )
        ):
            return
        key = dependent.key
        try:
            # The version too: the uid stays the same when a client removes the owner reference
            # while this delete is on its way.
            precondition = Precondition(uid=resource.uid, version=resource.version)
            await self._store.delete(
                resource.kind, key.namespace, key.name, precondition=precondition
            )
            logger.info(
                "object_collected",
                kind=resource.kind.qualified,
                namespace=key.namespace,
                name=key.name,
            )
        except (NotFound, Conflict):
            return

    async def _orphan(self, dependent: Dependent, uid: str | None = None) -> None:
        """Remove the references to owners that are missing, or to the one with this uid."""
        resource = self._if_owners_unchanged(dependent)
        if resource is None:
            return
        kept = [
            each
            for each in dependent.owners
            if (each.get("uid") != uid if uid else self._is_present(each, dependent.key))
        ]
        if not kept and not uid:
            # The last owner has gone since this was decided: the object must be deleted, not
            # orphaned.
            return
        try:
            await self._store.replace(resource.with_metadata(ownerReferences=kept or None))
        except (NotFound, Conflict):
            return

    def _if_owners_unchanged(self, dependent: Dependent) -> Resource | None:
        """The object as it is now; None when its owners have changed since the decision.

        Many objects are judged at once and processed in batches; a client that changed the owners
        meanwhile has woken this controller again.
        """
        resource = self._get(dependent.key)
        return resource if resource is not None and _owners(resource) == dependent.owners else None

    async def _process_finalizer(self, key: ResourceKey) -> None:
        """Process the dependents of an object that waits, as its finalizer demands, and remove the
        finalizer when that is done.
        """
        resource = self._get(key)
        if resource is None:
            return
        dependents = [each for each in self._dependents.values() if each.is_owned_by(resource.uid)]
        if ORPHAN_FINALIZER in resource.finalizers:
            await self._in_batches(dependents, lambda each: self._orphan(each, resource.uid))
            done = not any(each.is_owned_by(resource.uid) for each in dependents)
            finalizer = ORPHAN_FINALIZER
        else:
            await self._in_batches(
                [each for each in dependents if len(each.owners) == 1],
                lambda each: self._collect(each, resource.uid),
            )
            # A dependent that has another owner does not block the deletion of this one.
            await self._in_batches(
                [each for each in dependents if len(each.owners) > 1],
                lambda each: self._orphan(each, resource.uid),
            )
            done = not any(each.blocks(resource.uid) for each in dependents)
            finalizer = FOREGROUND_FINALIZER
        if not done:
            # The deletion of the dependents wakes this controller again.
            return
        try:
            left = [each for each in resource.finalizers if each != finalizer]
            await self._store.replace(resource.with_metadata(finalizers=left or None))
        except (NotFound, Conflict):
            return

    def _get(self, key: ResourceKey) -> Resource | None:
        kind = next(
            (
                kind
                for kind in self._kinds()
                if (kind.group, kind.plural) == (key.group, key.plural)
            ),
            None,
        )
        if kind is None:
            return None
        try:
            return self._store.get(kind, key.namespace, key.name)
        except NotFound:
            return None


def _owners(resource: Resource) -> tuple[Mapping[str, Any], ...]:
    owners = resource.metadata.get("ownerReferences")
    return (
        tuple(each for each in owners if isinstance(each, Mapping))
        if isinstance(owners, list)
        else ()
    )
