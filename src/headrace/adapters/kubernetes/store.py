"""A `ResourceStore` on a Kubernetes API server.

Reads: informers follow the kinds of the store, and the kinds that resources refer to as soon as
those are known (`track_kinds`). Writes: calls to the server, which return when the informer has
seen the result. One controller writes: the holder of a Lease.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from headrace.adapters.kubernetes.client import KubernetesClient
from headrace.adapters.kubernetes.election import LeaderElector
from headrace.adapters.kubernetes.informer import Informer
from headrace.domain.errors import Conflict, NotFound, Temporary
from headrace.domain.ports import Clock
from headrace.resources.resource import (
    Change,
    NotLeader,
    Reference,
    Resource,
    ResourceKey,
    ResourceKind,
    kind_of_reference,
)
from headrace.resources.resource_rules import ANY_OBJECT, Precondition, not_found
from headrace.resources.server_side_apply import is_applied

SYNC_SECONDS = 30.0
READ_BACK_SECONDS = 5.0
CONFLICT_ATTEMPTS = 3


class KubernetesResourceStore:
    """A `ResourceStore` on one API server, for `kinds` in `namespaces` (empty: all of them)."""

    def __init__(
        self,
        client: KubernetesClient,
        *,
        kinds: Iterable[ResourceKind],
        clock: Clock,
        holder: str,
        lease_namespace: str,
        lease_name: str = "headrace-controller",
        namespaces: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._kinds = tuple(kinds)
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._informers: dict[tuple[str, str], list[Informer]] = {}
        self._resources: dict[tuple[str, str], dict[ResourceKey, Resource]] = {}
        self._watchers: list[Callable[[Sequence[Change]], None]] = []
        self._pending_writes: dict[ResourceKey, list[asyncio.Event]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._newest_version = 0
        self._election = LeaderElector(
            client,
            namespace=lease_namespace,
            name=lease_name,
            holder=holder,
            clock=clock,
            changed=lambda: self._notify(()),
        )

    @property
    def epoch(self) -> int | None:
        """As `ResourceStore.epoch`: the number of this leadership term."""
        return self._election.term.number if self._election.term else None

    @property
    def is_becoming_leader(self) -> bool:
        """As `ResourceStore.is_becoming_leader`."""
        return False

    @property
    def resource_version(self) -> str:
        """As `ResourceStore.resource_version`: the newest version of any kind that was seen
        here.
        """
        return str(self._newest_version)

    @property
    def last_error(self) -> str | None:
        """As `ResourceStore.last_error`."""
        found = [
            informer.last_error
            for kind in self._kinds
            for informer in self._informers.get(_group_resource(kind), ())
            if informer.last_error
        ]
        return found[0] if found else None

    @property
    def identity(self) -> str:
        """The identity of this cluster, to distinguish it from others: the uid of the Lease; empty
        before it was first held.
        """
        return f"kubernetes/{self._election.uid}" if self._election.uid else ""

    async def start(self) -> None:
        """As `ResourceStore.start`. Raises Temporary when the server does not answer in time."""
        for kind in self._kinds:
            if _group_resource(kind) not in self._informers:  # else started by an earlier attempt
                self._start_informers(kind, optional=False)
        waiting = [
            informer.synced.wait()
            for informers in self._informers.values()
            for informer in informers
        ]
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                await asyncio.gather(*waiting)
        except TimeoutError as error:
            raise Temporary(
                f"the Kubernetes API server {self._client.server} was not read within"
                f" {SYNC_SECONDS:g} s: {self.last_error}"
            ) from error
        self._election.start()

    async def stop(self) -> None:
        """As `ResourceStore.stop`."""
        await self._election.stop()
        for informers in self._informers.values():
            for informer in informers:
                await informer.stop()
        await self._client.close()

    def track_kinds(self, kinds: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """As `ResourceStore.track_kinds`: these kinds are followed too, as long as some resource
        refers to them.
        """
        # One version of a kind is enough: all versions have the same objects. A kind of the store
        # may be referred to in another version.
        always = {_group_resource(kind) for kind in self._kinds}
        named = {each: kind_of_reference(*each) for each in sorted(kinds)}
        wanted: dict[tuple[str, str], ResourceKind] = {}
        for kind in named.values():
            if _group_resource(kind) not in always:
                wanted.setdefault(_group_resource(kind), kind)
        for place in wanted.keys() - self._informers.keys():
            self._start_informers(wanted[place], optional=True)
        for place in self._informers.keys() - wanted.keys() - always:
            self._stop_informers(place)
        problems = {
            each: [i.last_error for i in self._informers[_group_resource(kind)] if i.last_error]
            for each, kind in named.items()
        }
        return {each: found[0] for each, found in problems.items() if found}

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        """As `ResourceStore.get`."""
        found = self._get(ResourceKey(kind.group, kind.plural, namespace, name))
        if found is None:
            raise not_found(kind, name)
        return found

    def list(self, kind: ResourceKind, namespace: str | None = None) -> Sequence[Resource]:
        """As `ResourceStore.list`."""
        known = self._resources.get((kind.group, kind.plural), {})
        return [known[key] for key in sorted(known) if namespace in (None, key.namespace)]

    def find(self, wanted: Reference) -> Resource | None:
        """As `ResourceStore.find`."""
        named = kind_of_reference(wanted.api_version, wanted.kind)
        here = self._get(ResourceKey(named.group, named.plural, wanted.namespace, wanted.name))
        return here or self._get(ResourceKey(named.group, named.plural, "", wanted.name))

    async def create(self, resource: Resource) -> Resource:
        """As `ResourceStore.create`."""
        self._require_leadership()
        # The status has a separate subresource, also for a new object.
        content = {
            key: value
            for key, value in resource.object.items()
            if not (resource.kind.has_status and key == "status")
        }
        return await self._wait_until_seen(
            await self._client.create(
                Resource(resource.kind, content).with_metadata(resourceVersion=None)
            )
        )

    async def replace(self, resource: Resource) -> Resource | None:
        """As `ResourceStore.replace`."""
        self._require_leadership()
        for turn in range(CONFLICT_ATTEMPTS):
            wanted = resource
            if not wanted.version:
                wanted = wanted.with_metadata(
                    resourceVersion=(
                        await self._client.get(wanted.kind, wanted.namespace, wanted.name)
                    ).version
                )
            try:
                new = await self._client.replace(wanted)
                break
            except Conflict:
                if resource.version or turn == CONFLICT_ATTEMPTS - 1:
                    raise
        if new.deleting and not new.finalizers:
            await self._wait_until_deleted(new)
            return None
        return await self._wait_until_seen(new)

    async def apply(self, resource: Resource) -> Resource:
        """As `ResourceStore.apply`."""
        self._require_leadership()
        old = self._get(resource.key)
        if old is not None and is_applied(resource, old):
            return old
        return await self._wait_until_seen(await self._client.apply(resource))

    async def replace_status(self, resource: Resource) -> Resource:
        """As `ResourceStore.replace_status`: a patch of the difference, so that fields of other
        writers are not touched.
        """
        self._require_leadership()
        old = self._get(resource.key)
        if old is None:
            raise not_found(resource.kind, resource.name)
        if resource.version and resource.version != old.version:
            raise Conflict(
                f'Operation cannot be fulfilled on {resource.kind.qualified} "{resource.name}": the'
                " object has been modified"
            )
        changed = merge_patch(old.status, resource.status)
        if not changed:
            return old
        # The uid prevents a status from being written to a later object of the same name.
        patch = {"metadata": {"uid": old.uid}, "status": changed}
        for turn in range(CONFLICT_ATTEMPTS):
            try:
                return await self._wait_until_seen(
                    await self._client.patch_status(
                        resource.kind, resource.namespace, resource.name, patch
                    )
                )
            except Conflict:
                if turn == CONFLICT_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def delete(
        self,
        kind: ResourceKind,
        namespace: str,
        name: str,
        *,
        precondition: Precondition = ANY_OBJECT,
        finalizers: Sequence[str] = (),
    ) -> Resource | None:
        """As `ResourceStore.delete`, but the precondition is checked before the call, not
        atomically.
        """
        self._require_leadership()
        old = await self._client.get(kind, namespace, name)
        if precondition.uid not in (None, old.uid):
            raise Conflict(
                f"Precondition failed: UID in precondition: {precondition.uid}, UID in object meta:"
                f" {old.uid}"
            )
        if precondition.version not in (None, old.version):
            found = f"ResourceVersion in object meta: {old.version}"
            raise Conflict(
                f"Precondition failed: ResourceVersion in precondition: {precondition.version},"
                f" {found}"
            )
        if missing := [each for each in finalizers if each not in old.finalizers]:
            old = await self._client.replace(
                old.with_metadata(finalizers=[*old.finalizers, *missing])
            )
        await self._client.delete(kind, namespace, name)
        try:
            left = await self._client.get(kind, namespace, name)
        except NotFound:
            left = None
        if left is None or left.uid != old.uid:
            await self._wait_until_deleted(old)
            return None
        return await self._wait_until_seen(left)

    def watch(self, changed: Callable[[Sequence[Change]], None]) -> None:
        """As `ResourceStore.watch`."""
        self._watchers.append(changed)

    def _start_informers(self, kind: ResourceKind, *, optional: bool) -> None:
        namespaces = self._namespaces if kind.namespaced else (None,)
        informers = [
            Informer(self._client, kind, namespace, self._on_change, optional=optional)
            for namespace in namespaces
        ]
        self._informers[_group_resource(kind)] = informers
        for informer in informers:
            informer.start()

    def _stop_informers(self, place: tuple[str, str]) -> None:
        for informer in self._informers.pop(place):
            informer.mute()
            leaving = asyncio.get_running_loop().create_task(informer.stop())
            self._stopping.add(leaving)
            leaving.add_done_callback(self._stopping.discard)
        self._resources.pop(place, None)

    def _require_leadership(self) -> None:
        if self._election.term is None:
            who = (
                f"controller {self._election.holder}"
                if self._election.holder
                else "no controller yet"
            )
            raise NotLeader(f"this controller is a standby; {who} holds the Lease")

    def _get(self, key: ResourceKey) -> Resource | None:
        return self._resources.get((key.group, key.plural), {}).get(key)

    def _on_change(self, key: ResourceKey, resource: Resource | None, version: str) -> None:
        known = self._resources.setdefault((key.group, key.plural), {})
        before = known.get(key)
        if resource is None:
            known.pop(key, None)
        else:
            known[key] = resource
        for event in self._pending_writes.get(key, ()):
            event.set()
        self._newest_version = max(self._newest_version, int(version) if version.isdecimal() else 0)
        if (before and before.version) != (resource and resource.version):
            self._notify([Change(key, version, before, resource)])

    def _notify(self, changes: Sequence[Change]) -> None:
        for changed in self._watchers:
            changed(changes)

    async def _wait_until_seen(self, new: Resource) -> Resource:
        """Wait until a written object can be read here; a write is successful even if it is not
        seen in time.
        """
        if _group_resource(new.kind) in self._informers:
            await self._wait_until(
                new.key, lambda found: found is not None and _not_older(found.version, new.version)
            )
        return new

    async def _wait_until_deleted(self, old: Resource) -> None:
        if _group_resource(old.kind) in self._informers:
            await self._wait_until(old.key, lambda found: found is None or found.uid != old.uid)

    async def _wait_until(
        self, key: ResourceKey, reached: Callable[[Resource | None], bool]
    ) -> None:
        event = asyncio.Event()
        self._pending_writes.setdefault(key, []).append(event)
        try:
            async with asyncio.timeout(READ_BACK_SECONDS):
                while not reached(self._get(key)):
                    event.clear()
                    await event.wait()
        except TimeoutError:
            return
        finally:
            self._pending_writes[key].remove(event)
            if not self._pending_writes[key]:
                del self._pending_writes[key]


def _group_resource(kind: ResourceKind) -> tuple[str, str]:
    """Return the group and resource of a kind: all its versions share their objects."""
    return kind.group, kind.plural


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7396) that turns `old` into `new`."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if inner := merge_patch(before, value):
                patch[name] = inner
        elif before != value:
            patch[name] = value
    return patch


def _not_older(found: str, wanted: str) -> bool:
    # Versions of an object are increasing numbers wherever an API server uses etcd; elsewhere
    # exactly this version must be seen.
    return (
        int(found) >= int(wanted) if found.isdecimal() and wanted.isdecimal() else found == wanted
    )
