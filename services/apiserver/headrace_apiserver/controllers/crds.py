"""CustomResourceDefinitions in the store, and the catalog that serves them: a kind is served as
soon as its CRD is applied, and no longer once the CRD is deleted.

Every process keeps its catalog equal to the store. The leader also stores the definitions that are
built into Headrace, writes the status of the others, and deletes the objects of a kind before its
definition is removed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import AlreadyExists, Change, Resource, ResourceKey, ResourceKind
from headrace.resources.resource_rules import Precondition
from headrace.resources.timestamps import write_time
from headrace_apiserver.kinds.catalog import Catalog

logger = structlog.get_logger(__name__)

DEFINITION = ResourceKind(
    group="apiextensions.k8s.io",
    version="v1",
    kind="CustomResourceDefinition",
    plural="customresourcedefinitions",
    singular="customresourcedefinition",
    short_names=("crd", "crds"),
    namespaced=False,
)
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_RETRY_SECONDS = 1.0
_BATCH = 200


class CustomResourceDefinitionController:
    """Keeps the catalog and the stored definitions in step."""

    def __init__(self, store: ResourceStore, catalog: Catalog, now: Callable[[], datetime]) -> None:
        self._store = store
        self._catalog = catalog
        self._now = now
        self._term: int | None = None

    def read(self) -> None:
        """Serve what the store holds; call it once the store has been read."""
        for each in self._store.list(DEFINITION):
            self._catalog.put(each.object)

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Serve added and changed definitions, and stop serving deleted ones."""
        for change in changes:
            if self.is_relevant(change):
                if change.after is None:
                    self._catalog.remove(change.key.name)
                else:
                    self._catalog.put(change.after.object)

    def is_relevant(self, change: Change) -> bool:
        """Whether a definition changed."""
        return (change.key.group, change.key.plural) == (DEFINITION.group, DEFINITION.plural)

    async def reconcile(self) -> float | None:
        """The leader's part; see `headrace_apiserver.controllers.control_loop`."""
        if self._term != self._store.epoch:
            # Concurrently: the store writes waiting requests in one batch.
            await asyncio.gather(
                *(self._apply_builtin(each) for each in self._catalog.builtin_definitions())
            )
            self._term = self._store.epoch
        delay = None
        for definition in self._store.list(DEFINITION):
            if self._catalog.is_builtin(definition.name):
                continue
            if definition.deleting and CLEANUP_FINALIZER in definition.finalizers:
                delay = None if await self._clean_up(definition) else _RETRY_SECONDS
            elif not definition.deleting:
                await self._update_status(definition)
        return delay

    async def _apply_builtin(self, wanted: Mapping[str, Any]) -> None:
        """Store a built-in definition where it is missing, or differs from that of this version."""
        resource = Resource(DEFINITION, wanted)
        try:
            stored = self._store.get(DEFINITION, "", resource.name)
        except NotFound:
            try:
                stored = await self._store.create(resource)
            except AlreadyExists:
                return
        if stored.spec != resource.spec or not _has_metadata_of(stored, resource):
            stored = await self._store.replace(resource) or stored
        await self._update_status(stored)

    async def _update_status(self, definition: Resource) -> None:
        status = _with_transition_times(
            self._catalog.put(definition.object), definition.status, write_time(self._now())
        )
        if status != definition.status:
            try:
                await self._store.replace_status(definition.with_status(status))
            except (NotFound, Conflict):
                # Another writer was faster; its change wakes this controller again.
                return

    async def _clean_up(self, definition: Resource) -> bool:
        """Delete the objects of a kind whose definition is being deleted; True when none is left
        and the finalizer has been removed.
        """
        spec = definition.spec
        key = _any_of(spec)
        kind = self._catalog.of_key(key)
        # A definition that was stored under the name of an internal kind never had objects: those
        # belong to the controller.
        if kind is not None and not self._catalog.is_internal(key.group, key.plural):
            left = self._store.list(kind)
            for each in [each for each in left if not each.deleting][:_BATCH]:
                try:
                    await self._store.delete(
                        kind, each.namespace, each.name, precondition=Precondition(uid=each.uid)
                    )
                except (NotFound, Conflict):
                    continue
            if self._store.list(kind):
                return False
        remaining = [each for each in definition.finalizers if each != CLEANUP_FINALIZER]
        try:
            await self._store.replace(definition.with_metadata(finalizers=remaining or None))
        except (NotFound, Conflict):
            return False
        logger.info("kind_removed", name=definition.name)
        return True


def _any_of(spec: Mapping[str, Any]) -> ResourceKey:
    return ResourceKey(str(spec["group"]), str(spec["names"]["plural"]), "", "")


def _has_metadata_of(stored: Resource, wanted: Resource) -> bool:
    """Whether the stored definition has the labels and annotations of the wanted one."""
    return all(
        (stored.metadata.get(field) or {}).get(name) == value
        for field in ("labels", "annotations")
        for name, value in (wanted.metadata.get(field) or {}).items()
    )


def _with_transition_times(
    status: Mapping[str, Any], before: Mapping[str, Any], now: str
) -> dict[str, Any]:
    """A status whose conditions carry the time of their last transition."""
    known = {
        str(each.get("type")): each
        for each in before.get("conditions") or ()
        if isinstance(each, Mapping)
    }
    conditions = []
    for each in status.get("conditions") or ():
        old = known.get(each["type"], {})
        since = old.get("lastTransitionTime") if old.get("status") == each["status"] else None
        conditions.append({**each, "lastTransitionTime": since or now})
    return {**status, "conditions": conditions}
