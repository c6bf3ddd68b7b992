"""A memory store for tests of one controller: the test sets the time and fetches the changes."""

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Change, Resource, ResourceKind


class StoreFollower:
    """A started store, and its changes since the last call of `new_changes`."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.store = MemoryResourceStore(clock=self.clock)
        self.changes: list[Change] = []

    async def start(self) -> "StoreFollower":
        """Start the store, as the leader."""
        await self.store.start()
        self.store.watch(self._on_changes)
        return self

    def _on_changes(self, changes: Sequence[Change]) -> None:
        self.changes += changes

    async def new_changes(self) -> list[Change]:
        """The changes since the last call."""
        await asyncio.sleep(0)
        found, self.changes = self.changes, []
        return found

    async def make(
        self,
        name: str,
        *,
        kind: ResourceKind = CONFIG_MAP,
        namespace: str = "default",
        **metadata: Any,
    ) -> Resource:
        """Store an object."""
        content = {
            "name": name,
            **({"namespace": namespace} if kind.namespaced else {}),
            **metadata,
        }
        return await self.store.create(
            Resource(kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": content})
        )

    def names(self, kind: ResourceKind = CONFIG_MAP, namespace: str | None = None) -> list[str]:
        """The names of the stored objects."""
        return [each.name for each in self.store.list(kind, namespace)]


def owned_by(*owners: Resource, block: bool = False) -> list[dict[str, Any]]:
    """`ownerReferences` to the given objects."""
    return [
        {
            "apiVersion": each.kind.api_version,
            "kind": each.kind.kind,
            "name": each.name,
            "uid": each.uid,
            "blockOwnerDeletion": block,
        }
        for each in owners
    ]
