"""What leaves: owners that are being deleted, owners that are gone, and dead letter topics whose grace period is over.

Driven by the holding, not by the resource, so that nothing stays behind when a resource went without us. Order: the routing record is
removed; every live process has seen that; no process reads any more; offsets are forgotten; topics are deleted; the holding is retired or
dropped; only then the finalizer goes and the name can be used anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from headrace.domain.routing import Addressable, Subscription, addressable_key, subscription_key
from headrace.resources.control_ports import GroupState
from headrace.resources.holding import HeldTopic, Holding, Role, Stage
from headrace.resources.naming import retry_group
from headrace.resources.resource import Resource
from headrace_controller.reconcile.plan import (
    DeleteGroup,
    DeleteTopic,
    Draft,
    DropHolding,
    EndRemoval,
    KeepHolding,
    RemoveFinalizer,
    RemoveRoute,
)
from headrace_controller.reconcile.world import FINALIZER, World

_OURS = (Stage.MADE, Stage.INTENDED)


def reconcile_departure(world: World, owner: Resource, holding: Holding | None, draft: Draft) -> None:
    """Plan what comes next for an owner that is being deleted."""
    if holding is not None and holding.retired_until is None:
        if _told(world, holding, draft) and _unread(world, holding, draft) and _deleted(world, holding, draft):
            _retire(world, holding, draft)
        return
    if FINALIZER in owner.finalizers:
        draft.add(RemoveFinalizer(owner))


def reconcile_lost(world: World, holding: Holding, draft: Draft) -> None:
    """Plan what comes next for what an owner held that is not there and was never seen being deleted.

    Its finalizer should have kept it. So somebody took that off, or the resources are not those they were: restored, another cluster's,
    out of sight. Nobody can be served any more, but nothing is deleted before the grace period is over: everything may be a mistake.
    """
    if _told(world, holding, draft) and _unread(world, holding, draft):
        kept = tuple(t for t in holding.topics if t.stage in _OURS and t.name in world.topics)
        _keep_for_a_while(world, holding, kept, draft)


def reconcile_retired(world: World, holding: Holding, draft: Draft) -> None:
    """Plan the end of a retired holding: its topics when their time has come, then itself. A reader that is still there holds it up."""
    if holding.retired_until is None or world.now < holding.retired_until:
        draft.wake(holding.retired_until or world.now)
        return
    present = [topic.name for topic in holding.topics if topic.name in world.topics]
    draft.add(*(DeleteTopic(name) for name in present if world.blocked(name) is None))
    if present:
        draft.wait(f"what was kept of {holding.namespace}/{holding.name} to be deleted")
    else:
        draft.add(DropHolding(holding.uid))


def orphaned_routes(world: World, owners: Iterable[str], draft: Draft) -> None:
    """Remove routing records that nobody owns: written late by a controller that has been replaced, or left by a lost store."""
    known = frozenset(owners)
    for key, route in world.routes.items():
        if isinstance(route, Addressable | Subscription) and route.uid not in known:
            draft.add(RemoveRoute(key))


def applied_removals(world: World, draft: Draft) -> None:
    """End what was removed from the routing table, by us or by who wrote before us."""
    draft.add(*(EndRemoval(key) for key, epoch in world.removals.items() if epoch <= world.epoch and key not in world.routes))


def groups_of(holding: Holding) -> Sequence[str]:
    """The consumer groups of an owner: the live one and the retry one."""
    return (holding.group, retry_group(holding.group)) if holding.group else ()


def readers_of(world: World, holding: Holding) -> Sequence[Holding]:
    """Subscriptions that have a place in this owner's channel topic."""
    held = holding.topic(Role.CHANNEL)
    return world.readers(held.name) if held else ()


def _told(world: World, holding: Holding, draft: Draft) -> bool:
    """Whether every live process knows that this is over."""
    key = subscription_key(holding.uid) if holding.group else addressable_key(holding.uid)
    if key in world.routes:
        draft.add(RemoveRoute(key))
        return False
    if not world.applied(key):
        draft.wait(f"all processes to forget {key}")
        return False
    return True


def _unread(world: World, holding: Holding, draft: Draft) -> bool:
    """Whether nobody reads what is about to be deleted: a consumer would be left with a topic that is not there."""
    held = holding.topic(Role.CHANNEL)
    if held is not None and any(isinstance(route, Subscription) and route.topic == held.name for route in world.routes.values()):
        draft.wait(f"subscriptions to stop reading {held.name}")
        return False
    groups = [*groups_of(holding), *(reader.group for reader in readers_of(world, holding))]
    open_groups = [group for group in groups if world.groups.get(group) not in (GroupState.EMPTY, GroupState.ABSENT)]
    if open_groups:
        draft.wait(f"consumers to leave {', '.join(open_groups[:3])}")
    return not open_groups


def _deleted(world: World, holding: Holding, draft: Draft) -> bool:
    """Whether groups and topics are gone, but for what outlives its owner."""
    left = False
    for group in groups_of(holding):
        if world.groups.get(group) is GroupState.EMPTY:
            left = True
            if world.blocked(group) is None:
                draft.add(DeleteGroup(group))
    for topic in holding.topics:
        # A name that was only claimed may be somebody else's topic: it is not ours to delete.
        ours = topic.stage in _OURS and topic.role is not Role.DEAD
        if ours and topic.name in world.topics and not left:
            left = True
            if world.blocked(topic.name) is None:
                draft.add(DeleteTopic(topic.name))
    if left:
        draft.wait(f"topics and groups of {holding.namespace}/{holding.name} to be deleted")
    return not left


def _retire(world: World, holding: Holding, draft: Draft) -> None:
    kept = tuple(t for t in holding.topics if t.role is Role.DEAD and t.stage in _OURS and t.name in world.topics)
    _keep_for_a_while(world, holding, kept, draft)


def _keep_for_a_while(world: World, holding: Holding, kept: tuple[HeldTopic, ...], draft: Draft) -> None:
    if kept:
        until = int(world.now) + world.installation.dead_grace_seconds
        draft.add(KeepHolding(replace(holding, group="", topics=kept, source="", started=0, retired_until=until)))
    else:
        draft.add(DropHolding(holding.uid))
