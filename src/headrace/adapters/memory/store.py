"""Resources in memory: the store of the embedded mode and of tests. Stored resources exist as long
as their `MemoryResources`.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from headrace.codec.objects import InvalidObject, stored_bytes
from headrace.domain.errors import Unstorable
from headrace.domain.ports import Clock
from headrace.resources.resource import (
    Change,
    NotLeader,
    Reference,
    Resource,
    ResourceKey,
    ResourceKind,
)
from headrace.resources.resource_rules import (
    ANY_OBJECT,
    Precondition,
    ResourceIndex,
    apply_changes,
    created,
    deleted,
    not_found,
    replaced,
    status_replaced,
)
from headrace.resources.timestamps import write_seconds

_BYTES_MAX = 1_000_000


@dataclass
class MemoryResources:
    """The state that several `MemoryResourceStore`s share, as several controllers share a log: the
    resources, the leadership, and the stores that wait for it.
    """

    index: ResourceIndex = field(default_factory=ResourceIndex)
    epoch: int = 0
    waiting: list["MemoryResourceStore"] = field(default_factory=list)
    """Started stores; the first one writes."""


class MemoryResourceStore:
    """A `ResourceStore` without a log."""

    def __init__(self, shared: MemoryResources | None = None, *, clock: Clock) -> None:
        self._shared = shared or MemoryResources()
        self._clock = clock
        self._epoch: int | None = None
        self._watchers: list[Callable[[Sequence[Change]], None]] = []

    @property
    def epoch(self) -> int | None:
        """As `ResourceStore.epoch`."""
        return self._epoch

    @property
    def is_becoming_leader(self) -> bool:
        """As `ResourceStore.is_becoming_leader`."""
        return False

    @property
    def resource_version(self) -> str:
        """As `ResourceStore.resource_version`."""
        return str(max(self._shared.index.position, 1))

    @property
    def identity(self) -> str:
        """As `ResourceStore.identity`."""
        return "memory"

    @property
    def last_error(self) -> str | None:
        """As `ResourceStore.last_error`. Always None."""
        return None

    async def start(self) -> None:
        """Become the leader if there is none, otherwise wait for leadership."""
        self._shared.waiting.append(self)
        self._shared.waiting[0]._become_leader()

    async def stop(self) -> None:
        """Give up leadership; the next waiting store becomes the leader."""
        if self in self._shared.waiting:
            self._shared.waiting.remove(self)
        self._epoch = None
        if self._shared.waiting:
            self._shared.waiting[0]._become_leader()

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        """As `ResourceStore.get`."""
        found = self._shared.index.get(ResourceKey(kind.group, kind.plural, namespace, name))
        if found is None:
            raise not_found(kind, name)
        return found

    def list(self, kind: ResourceKind, namespace: str | None = None) -> Sequence[Resource]:
        """As `ResourceStore.list`."""
        return self._shared.index.of_kind(kind, namespace)

    def find(self, wanted: Reference) -> Resource | None:
        """As `ResourceStore.find`."""
        return self._shared.index.find(wanted)

    def track_kinds(self, kinds: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """As `ResourceStore.track_kinds`. Does nothing, because all kinds are stored here."""
        return {}

    async def create(self, resource: Resource) -> Resource:
        """As `ResourceStore.create`."""
        new = created(resource, self._old(resource.key), uid=str(uuid4()), now=self._now())
        return self._put(new.key, new)

    async def replace(self, resource: Resource) -> Resource | None:
        """As `ResourceStore.replace`."""
        old = self._old(resource.key)
        new = replaced(resource, old)
        if new is None:
            self._apply(resource.key, None)
            return None
        return new if new is old else self._put(new.key, new)

    async def apply(self, resource: Resource) -> Resource:
        """As `ResourceStore.apply`."""
        old = self._old(resource.key)
        new = apply_changes(resource, old, uid=str(uuid4()), now=self._now())
        return new if new is old else self._put(new.key, new)

    async def replace_status(self, resource: Resource) -> Resource:
        """As `ResourceStore.replace_status`."""
        old = self._old(resource.key)
        new = status_replaced(resource, old)
        return new if new is old else self._put(new.key, new)

    async def delete(
        self,
        kind: ResourceKind,
        namespace: str,
        name: str,
        *,
        precondition: Precondition = ANY_OBJECT,
        finalizers: Sequence[str] = (),
    ) -> Resource | None:
        """As `ResourceStore.delete`."""
        key = ResourceKey(kind.group, kind.plural, namespace, name)
        old = self._old(key)
        new = deleted(
            old,
            kind=kind,
            name=name,
            precondition=precondition,
            finalizers=finalizers,
            now=self._now(),
        )
        if new is None:
            self._apply(key, None)
            return None
        return new if new is old else self._put(key, new)

    def watch(self, changed: Callable[[Sequence[Change]], None]) -> None:
        """As `ResourceStore.watch`."""
        self._watchers.append(changed)

    def _old(self, key: ResourceKey) -> Resource | None:
        if self._epoch is None:
            raise NotLeader(
                "another controller writes; send the request there, or wait until it is gone"
            )
        return self._shared.index.get(key)

    def _put(self, key: ResourceKey, resource: Resource) -> Resource:
        try:
            # As strict as a log, so that objects accepted here are also accepted by the log.
            stored_bytes(resource.object, bytes_max=_BYTES_MAX)
        except InvalidObject as error:
            raise Unstorable(f"the object cannot be stored: {error}") from error
        self._apply(key, resource)
        return self.get(resource.kind, key.namespace, key.name)

    def _apply(self, key: ResourceKey, resource: Resource | None) -> None:
        # From 2: 0 means "any" to clients, and 1 is the version of an empty store.
        change = self._shared.index.apply(key, resource, max(self._shared.index.position, 1) + 1)
        if change is None:
            return
        loop = asyncio.get_running_loop()
        for store in self._shared.waiting:
            # Notify later, as a log does: never in the call that wrote.
            loop.call_soon(store._notify, (change,))

    def _become_leader(self) -> None:
        if self._epoch is None:
            self._shared.epoch += 1
            self._epoch = self._shared.epoch
            asyncio.get_running_loop().call_soon(self._notify, ())

    def _notify(self, changes: Sequence[Change]) -> None:
        for changed in self._watchers:
            changed(changes)

    def _now(self) -> str:
        return write_seconds(self._clock.now())
