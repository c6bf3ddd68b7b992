"""The garbage collector: what is deleted with its owners, what stays, and which deletion waits."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headrace.adapters.memory.store import MemoryResourceStore
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.controllers.garbage_collector import (
    FOREGROUND_FINALIZER,
    ORPHAN_FINALIZER,
    UNSEEN_GRACE_SECONDS,
    GarbageCollector,
)
from tests.unit.apiserver.store_follower import StoreFollower, owned_by


class Garbage(StoreFollower):
    """A store with a collector."""

    async def start(self) -> "Garbage":
        """Become the leader and follow the store."""
        await super().start()
        self.collector = GarbageCollector(self.store, lambda: (CONFIG_MAP,), self.clock.monotonic)
        self.collector.read()
        return self

    async def settle(self) -> float | None:
        """Reconcile until nothing changes; returns when the collector wants to run again."""
        again = None
        while changes := await self.new_changes():
            self.collector.on_changes(changes)
            again = await self.collector.reconcile()
        return again

    async def delete(self, name: str, *finalizers: str) -> None:
        """Delete an object, and let the collector follow."""
        await self.store.delete(CONFIG_MAP, "default", name, finalizers=finalizers)
        await self.settle()


class Interrupted(MemoryResourceStore):
    """A store in which another client is faster than the first delete."""

    meanwhile: Callable[[str], Awaitable[Any]] | None = None

    async def delete(
        self, kind: ResourceKind, namespace: str, name: str, **options: Any
    ) -> Resource | None:
        """Delete, after the other client has done its write."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile(name)
        return await super().delete(kind, namespace, name, **options)


class Interference(Garbage):
    """A collector on such a store."""

    def __init__(self) -> None:
        super().__init__()
        self.store: Interrupted = Interrupted(clock=self.clock)

    async def release(self, name: str, *owners: Resource) -> None:
        """Remove or replace the owners, as a user does to keep an object."""
        there = self.store.get(CONFIG_MAP, "default", name)
        await self.store.replace(there.with_metadata(ownerReferences=owned_by(*owners) or None))


@pytest.fixture
async def garbage() -> Garbage:
    """A new one."""
    return await Garbage().start()


async def test_dependents_are_deleted_with_their_owner(garbage: Garbage) -> None:
    """And what that owns in turn; an object with another owner stays, without the deleted owner."""
    first, second = await garbage.make("first"), await garbage.make("second")
    child = await garbage.make("child", ownerReferences=owned_by(first))
    await garbage.make("grandchild", ownerReferences=owned_by(child))
    await garbage.make("shared", ownerReferences=owned_by(first, second))
    await garbage.settle()
    await garbage.delete("first")
    assert ["second", "shared"] == garbage.names()
    assert (
        owned_by(second)
        == garbage.store.get(CONFIG_MAP, "default", "shared").metadata["ownerReferences"]
    )


async def test_an_owner_that_was_never_seen_has_a_grace_period(garbage: Garbage) -> None:
    """Objects restored in any order are not deleted; after the grace period, those without an owner
    are.
    """
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "later", "uid": "never-seen"}
    await garbage.make("child", ownerReferences=[reference])
    again = await garbage.settle()
    assert (["child"], UNSEEN_GRACE_SECONDS) == (garbage.names(), again)
    garbage.clock.advance(UNSEEN_GRACE_SECONDS + 1)
    await garbage.collector.reconcile()
    assert [] == garbage.names()


async def test_an_owner_of_another_namespace_owns_nothing(garbage: Garbage) -> None:
    """As in Kubernetes: a reference cannot cross namespaces."""
    owner = await garbage.make("owner", namespace="elsewhere")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.settle()
    garbage.clock.advance(UNSEEN_GRACE_SECONDS + 1)
    await garbage.collector.reconcile()
    assert ["owner"] == garbage.names()


async def test_a_recreated_owner_is_another_owner(garbage: Garbage) -> None:
    """Ownership is by uid."""
    owner = await garbage.make("owner")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.settle()
    await garbage.store.delete(CONFIG_MAP, "default", "owner")
    await garbage.make("owner")
    await garbage.settle()
    assert ["owner"] == garbage.names()


async def test_foreground_deletion_waits_for_blocking_dependents(garbage: Garbage) -> None:
    """The owner stays, marked as deleted, until the dependent that blocks it is gone; another one
    is deleted independently.
    """
    owner = await garbage.make("owner")
    await garbage.make("slow", ownerReferences=owned_by(owner, block=True), finalizers=["other"])
    await garbage.make("quick", ownerReferences=owned_by(owner))
    await garbage.settle()
    await garbage.delete("owner", FOREGROUND_FINALIZER)
    assert ["owner", "slow"] == garbage.names()
    slow = garbage.store.get(CONFIG_MAP, "default", "slow")
    assert slow.deleting
    await garbage.store.replace(slow.with_metadata(finalizers=None))
    await garbage.settle()
    assert [] == garbage.names()


async def test_foreground_deletion_is_not_blocked_by_dependents_with_another_owner(
    garbage: Garbage,
) -> None:
    """Such a dependent loses the deleted owner and stays."""
    owner, other = await garbage.make("owner"), await garbage.make("other")
    await garbage.make("shared", ownerReferences=owned_by(owner, other, block=True))
    await garbage.settle()
    await garbage.delete("owner", FOREGROUND_FINALIZER)
    assert ["other", "shared"] == garbage.names()


async def test_orphans_stay(garbage: Garbage) -> None:
    """The owner is removed after its dependents have lost their references."""
    owner = await garbage.make("owner")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.settle()
    await garbage.delete("owner", ORPHAN_FINALIZER)
    assert ["child"] == garbage.names()
    assert "ownerReferences" not in garbage.store.get(CONFIG_MAP, "default", "child").metadata


async def test_a_new_collector_continues(garbage: Garbage) -> None:
    """A collector that reads the store from the start knows what the one before it knew, and finds
    objects that lost their owner meanwhile.
    """
    owner = await garbage.make("owner")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.store.delete(CONFIG_MAP, "default", "owner")
    successor = GarbageCollector(garbage.store, lambda: (CONFIG_MAP,), garbage.clock.monotonic)
    successor.read()
    assert UNSEEN_GRACE_SECONDS == await successor.reconcile()
    garbage.clock.advance(UNSEEN_GRACE_SECONDS + 1)
    await successor.reconcile()
    assert [] == garbage.names()


async def test_objects_released_meanwhile_stay() -> None:
    """Many dependents are deleted in batches; one that loses its owner reference, or gets another
    owner, before its turn is kept.
    """
    garbage = Interference()
    await garbage.start()
    owner, other = await garbage.make("owner"), await garbage.make("z-other")
    for number in range(250):
        await garbage.make(f"child-{number:03}", ownerReferences=owned_by(owner))
    await garbage.settle()

    async def release(_: str) -> None:
        await garbage.release("child-240")
        await garbage.release("child-241", other)

    await garbage.store.delete(CONFIG_MAP, "default", "owner")
    garbage.store.meanwhile = release
    await garbage.settle()
    assert ["child-240", "child-241", "z-other"] == garbage.names()
    assert (
        owned_by(other)
        == garbage.store.get(CONFIG_MAP, "default", "child-241").metadata["ownerReferences"]
    )


async def test_an_object_released_during_its_delete_stays() -> None:
    """The delete is for the version that was judged; the uid is the same after the references were
    removed.
    """
    garbage = Interference()
    await garbage.start()
    owner = await garbage.make("owner")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.settle()
    await garbage.store.delete(CONFIG_MAP, "default", "owner")
    garbage.store.meanwhile = garbage.release
    await garbage.settle()
    assert ["child"] == garbage.names()


async def test_an_owner_added_while_another_is_removed_stays() -> None:
    """Removing a missing owner writes the current owners, not those at the time of the decision."""
    garbage = Interference()
    await garbage.start()
    first, second, third = (
        await garbage.make("first"),
        await garbage.make("second"),
        await garbage.make("third"),
    )
    await garbage.make("shared", ownerReferences=owned_by(first, second))
    await garbage.make("single", ownerReferences=owned_by(first))
    await garbage.settle()
    await garbage.store.delete(CONFIG_MAP, "default", "first")
    garbage.store.meanwhile = lambda _: garbage.release("shared", first, second, third)
    await garbage.settle()
    assert ["second", "shared", "third"] == garbage.names()
    assert (
        owned_by(second, third)
        == garbage.store.get(CONFIG_MAP, "default", "shared").metadata["ownerReferences"]
    )
