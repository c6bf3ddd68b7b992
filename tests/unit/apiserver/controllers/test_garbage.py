"""The garbage collector: what goes with its owners, what stays, and who waits for whom."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headrace.adapters.memory.store import MemoryResourceStore
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.controllers.garbage import (
    FOREGROUND_FINALIZER,
    ORPHAN_FINALIZER,
    UNSEEN_GRACE_SECONDS,
    GarbageCollector,
)
from tests.unit.apiserver.store_follower import StoreFollower, owned_by


class Garbage(StoreFollower):
    """A store with a collector."""

    async def start(self) -> "Garbage":
        """Begin to write and to follow."""
        await super().start()
        self.collector = GarbageCollector(self.store, lambda: (CONFIG_MAP,), self.clock.monotonic)
        self.collector.read()
        return self

    async def settle(self) -> float | None:
        """Work until nothing changes any more; when the collector wants to look again."""
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
    """A store in which somebody is quicker than the first delete."""

    meanwhile: Callable[[str], Awaitable[Any]] | None = None

    async def delete(
        self, kind: ResourceKind, namespace: str, name: str, **options: Any
    ) -> Resource | None:
        """Delete, after somebody else has done what they do."""
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
        """What a user does who keeps an object although its owner goes."""
        there = self.store.get(CONFIG_MAP, "default", name)
        await self.store.replace(there.with_metadata(ownerReferences=owned_by(*owners) or None))


@pytest.fixture
async def garbage() -> Garbage:
    """A fresh one."""
    return await Garbage().start()


async def test_what_is_owned_goes_with_its_owner(garbage: Garbage) -> None:
    """And what that owns in turn; what others own too stays, without the owner that went."""
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


async def test_an_owner_that_was_never_seen_gets_time(garbage: Garbage) -> None:
    """Restored in any order, nothing is lost; after the grace what nobody owns goes."""
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "later", "uid": "never-seen"}
    await garbage.make("child", ownerReferences=[reference])
    again = await garbage.settle()
    assert (["child"], UNSEEN_GRACE_SECONDS) == (garbage.names(), again)
    garbage.clock.advance(UNSEEN_GRACE_SECONDS + 1)
    await garbage.collector.reconcile()
    assert [] == garbage.names()


async def test_an_owner_of_another_namespace_owns_nothing(garbage: Garbage) -> None:
    """As in Kubernetes: a reference cannot leave its namespace."""
    owner = await garbage.make("owner", namespace="elsewhere")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.settle()
    garbage.clock.advance(UNSEEN_GRACE_SECONDS + 1)
    await garbage.collector.reconcile()
    assert ["owner"] == garbage.names()


async def test_a_name_taken_again_is_another_owner(garbage: Garbage) -> None:
    """Ownership is by uid."""
    owner = await garbage.make("owner")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.settle()
    await garbage.store.delete(CONFIG_MAP, "default", "owner")
    await garbage.make("owner")
    await garbage.settle()
    assert ["owner"] == garbage.names()


async def test_foreground_waits_for_what_blocks(garbage: Garbage) -> None:
    """The owner stays, marked, until the dependent that holds it is gone; one that does not block
    goes by itself.
    """
    owner = await garbage.make("owner")
    await garbage.make("slow", ownerReferences=owned_by(owner, block=True), finalizers=["somebody"])
    await garbage.make("quick", ownerReferences=owned_by(owner))
    await garbage.settle()
    await garbage.delete("owner", FOREGROUND_FINALIZER)
    assert ["owner", "slow"] == garbage.names()
    slow = garbage.store.get(CONFIG_MAP, "default", "slow")
    assert slow.deleting
    await garbage.store.replace(slow.with_metadata(finalizers=None))
    await garbage.settle()
    assert [] == garbage.names()


async def test_foreground_is_not_held_by_what_others_own_too(garbage: Garbage) -> None:
    """Such a dependent loses the owner that goes and stays."""
    owner, other = await garbage.make("owner"), await garbage.make("other")
    await garbage.make("shared", ownerReferences=owned_by(owner, other, block=True))
    await garbage.settle()
    await garbage.delete("owner", FOREGROUND_FINALIZER)
    assert ["other", "shared"] == garbage.names()


async def test_orphans_stay(garbage: Garbage) -> None:
    """The owner goes after its dependents are cut loose."""
    owner = await garbage.make("owner")
    await garbage.make("child", ownerReferences=owned_by(owner))
    await garbage.settle()
    await garbage.delete("owner", ORPHAN_FINALIZER)
    assert ["child"] == garbage.names()
    assert "ownerReferences" not in garbage.store.get(CONFIG_MAP, "default", "child").metadata


async def test_a_successor_goes_on(garbage: Garbage) -> None:
    """A collector that reads the store anew knows what the one before it knew, and finds what lost
    its owner meanwhile.
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


async def test_what_was_released_meanwhile_stays() -> None:
    """Many dependents go batch by batch; one that loses its owner reference, or gets another owner,
    before its turn is kept.
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


async def test_what_is_released_while_its_delete_is_on_its_way_stays() -> None:
    """The delete holds for the version that was judged; the uid alone is the same after the
    release.
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


async def test_an_owner_that_comes_while_another_is_taken_off_stays() -> None:
    """Taking off a missing owner writes the owners of now, not those of when it was looked."""
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
