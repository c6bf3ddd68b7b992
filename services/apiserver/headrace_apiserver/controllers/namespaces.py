"""Namespaces, as in Kubernetes: some exist from the start, deleting one deletes its contents, and
nothing can be created in one that does not exist.

The leader creates those that belong to every installation and those that already have contents
(stored when namespaces were only names), and empties a deleted namespace before it removes it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import AlreadyExists, Change, Resource, ResourceKind
from headrace.resources.resource_rules import Precondition

logger = structlog.get_logger(__name__)

NAMESPACE = ResourceKind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    namespaced=False,
    has_status=False,
    has_generation=False,
)
DEFAULT = "default"
PROTECTED = frozenset((DEFAULT, "kube-system", "kube-public"))
"""Namespaces that cannot be deleted."""
INITIAL = frozenset((DEFAULT, "kube-public", "kube-system"))
"""Namespaces of every installation."""
CONTENT_FINALIZER = "headrace.dev/namespace-content"
_NAME_LABEL = "kubernetes.io/metadata.name"
_RETRY_SECONDS = 1.0
_BATCH = 200

Kinds = Callable[[], Iterable[ResourceKind]]
"""All kinds, in the version that is stored."""


def is_terminating(namespace: Resource) -> bool:
    """Whether it has been deleted and is being emptied."""
    return namespace.deleting


def with_phase(draft: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A Namespace with the label, the finalizer and the phase that every Namespace has."""
    metadata = draft["metadata"]
    labels = metadata.get("labels")
    labels = (
        {**labels, _NAME_LABEL: metadata.get("name")}
        if isinstance(labels, Mapping)
        else {_NAME_LABEL: metadata.get("name")}
    )
    phase = (
        "Terminating"
        if before is not None and before["metadata"].get("deletionTimestamp")
        else "Active"
    )
    return {
        **draft,
        "metadata": {**metadata, "labels": labels},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": phase},
    }


def namespace_of(name: str) -> Resource:
    """A new Namespace with this name."""
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    return Resource(NAMESPACE, with_phase(document, None))


class NamespaceController:
    """The leader's work on namespaces; see `headrace_apiserver.controllers.control_loop`."""

    def __init__(
        self, store: ResourceStore, kinds: Kinds, initial: frozenset[str] = INITIAL
    ) -> None:
        """`initial` are the namespaces that are created at the start."""
        self.initial = initial
        self._store = store
        self._kinds = kinds
        self._term: int | None = None

    @property
    def initialised(self) -> bool:
        """Whether this leader has created the initial namespaces."""
        return self._term is not None and self._term == self._store.epoch

    def is_relevant(self, change: Change) -> bool:
        """Whether a namespace changed, or an object was removed from a namespace (which may be
        terminating).
        """
        if (change.key.group, change.key.plural) == ("", "namespaces"):
            return True
        return change.after is None and bool(change.key.namespace)

    async def reconcile(self) -> float | None:
        """Create missing namespaces, empty deleted ones."""
        if self._term != self._store.epoch:
            await self._create_missing()
            self._term = self._store.epoch
        delay = None
        for namespace in self._store.list(NAMESPACE):
            if (
                namespace.deleting
                and CONTENT_FINALIZER in namespace.finalizers
                and not await self._empty(namespace)
            ):
                delay = _RETRY_SECONDS
        return delay

    async def _create_missing(self) -> None:
        existing = {each.name for each in self._store.list(NAMESPACE)}
        in_use = {
            each.namespace
            for kind in self._kinds()
            if kind.namespaced
            for each in self._store.list(kind)
        }
        await asyncio.gather(
            *(self._create(name) for name in sorted({*self.initial, *in_use} - existing))
        )

    async def _create(self, name: str) -> None:
        try:
            await self._store.create(namespace_of(name))
        except AlreadyExists:
            return

    async def _empty(self, namespace: Resource) -> bool:
        """Delete its contents; True when it is empty and its finalizer has been removed."""
        if namespace.object.get("status") != {"phase": "Terminating"}:
            await self._replace(
                Resource(NAMESPACE, {**namespace.object, "status": {"phase": "Terminating"}})
            )
            return False
        left = [
            each
            for kind in self._kinds()
            if kind.namespaced
            for each in self._store.list(kind, namespace.name)
        ]
        for each in [each for each in left if not each.deleting][:_BATCH]:
            try:
                await self._store.delete(
                    each.kind, each.namespace, each.name, precondition=Precondition(uid=each.uid)
                )
            except (NotFound, Conflict):
                continue
        if any(
            kind.namespaced and self._store.list(kind, namespace.name) for kind in self._kinds()
        ):
            return False
        remaining = [each for each in namespace.finalizers if each != CONTENT_FINALIZER]
        await self._replace(namespace.with_metadata(finalizers=remaining or None))
        logger.info("namespace_removed", name=namespace.name)
        return True

    async def _replace(self, namespace: Resource) -> None:
        try:
            await self._store.replace(namespace)
        except (NotFound, Conflict):
            # Another writer was faster; its change wakes this controller again.
            return
