"""What leaves: owners that are being deleted, owners that are gone, and dead letter topics whose
grace period is over.

Driven by the holding, not by the resource, so that nothing stays behind when a resource went
without us. Order: the routing record is removed; every live process has seen that; no process reads
any more; offsets are forgotten; topics are deleted; the holding is retired or dropped; only then
the finalizer goes and the name can be used anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from headrace.domain.routing import Addressable, Subscription, addressable_key, subscription_key
from headrace.resources.control_ports import GroupState
from headrace.resources.naming import retry_group
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import FINALIZER, ObservedState
from headrace_controller.reconcile.plan import (
    DeleteGroup,
    DeleteOwnershipRecord,
    DeleteTopic,
    Draft,
    RemoveFinalizer,
    RemoveRoute,
    SaveOwnershipRecord,
    WriteTombstone,
)

_OWNED_STAGES = (TopicStage.CREATED, TopicStage.INTENDED)


def finalize(
    observed: ObservedState, owner: Resource, ownership: OwnershipRecord | None, draft: Draft
) -> None:
    """Plan what comes next for an owner that is being deleted."""
    if ownership is not None and ownership.retired_until is None:
        if (
            _remove_route(observed, ownership, draft)
            and _wait_for_consumers(observed, ownership, draft)
            and _delete_groups_and_topics(observed, ownership, draft)
        ):
            _retire(observed, ownership, draft)
        return
    if FINALIZER in owner.finalizers:
        draft.add(RemoveFinalizer(owner))


def finalize_orphaned(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> None:
    """Plan what comes next for what an owner held that is not there and was never seen being
    deleted.

    Its finalizer should have kept it. So somebody took that off, or the resources are not those
    they were: restored, another cluster's, out of sight. Nobody can be served any more, but nothing
    is deleted before the grace period is over: everything may be a mistake.
    """
    if _remove_route(observed, ownership, draft) and _wait_for_consumers(
        observed, ownership, draft
    ):
        kept = tuple(
            t for t in ownership.topics if t.stage in _OWNED_STAGES and t.name in observed.topics
        )
        _retain_for_grace_period(observed, ownership, kept, draft)


def finalize_retired(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> None:
    """Plan the end of a retired holding: its topics when their time has come, then itself. A reader
    that is still there holds it up.
    """
    if ownership.retired_until is None or observed.now < ownership.retired_until:
        draft.requeue(ownership.retired_until or observed.now)
        return
    present = [topic.name for topic in ownership.topics if topic.name in observed.topics]
    draft.add(*(DeleteTopic(name) for name in present if observed.blocked(name) is None))
    if present:
        draft.wait(f"what was kept of {ownership.namespace}/{ownership.name} to be deleted")
    else:
        draft.add(DeleteOwnershipRecord(ownership.uid))


def remove_orphaned_routes(observed: ObservedState, owners: Iterable[str], draft: Draft) -> None:
    """Remove routing records that nobody owns: written late by a controller that has been replaced,
    or left by a lost store.
    """
    known = frozenset(owners)
    for key, route in observed.routes.items():
        if isinstance(route, Addressable | Subscription) and route.uid not in known:
            draft.add(RemoveRoute(key))


def write_tombstones(observed: ObservedState, draft: Draft) -> None:
    """End what was removed from the routing table, by us or by who wrote before us."""
    draft.add(
        *(
            WriteTombstone(key)
            for key, epoch in observed.removals.items()
            if epoch <= observed.epoch and key not in observed.routes
        )
    )


def groups_of(ownership: OwnershipRecord) -> Sequence[str]:
    """The consumer groups of an owner: the live one and the retry one."""
    return (ownership.group, retry_group(ownership.group)) if ownership.group else ()


def readers_of(observed: ObservedState, ownership: OwnershipRecord) -> Sequence[OwnershipRecord]:
    """Subscriptions that have a place in this owner's channel topic."""
    held = ownership.topic(TopicRole.CHANNEL)
    return observed.readers(held.name) if held else ()


def _remove_route(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> bool:
    """Whether every live process knows that this is over."""
    key = subscription_key(ownership.uid) if ownership.group else addressable_key(ownership.uid)
    if key in observed.routes:
        draft.add(RemoveRoute(key))
        return False
    if not observed.applied(key):
        draft.wait(f"all processes to forget {key}")
        return False
    return True


def _wait_for_consumers(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> bool:
    """Whether nobody reads what is about to be deleted: a consumer would be left with a topic that
    is not there.
    """
    held = ownership.topic(TopicRole.CHANNEL)
    if held is not None and any(
        isinstance(route, Subscription) and route.topic == held.name
        for route in observed.routes.values()
    ):
        draft.wait(f"subscriptions to stop reading {held.name}")
        return False
    groups = [*groups_of(ownership), *(reader.group for reader in readers_of(observed, ownership))]
    open_groups = [
        group
        for group in groups
        if observed.groups.get(group) not in (GroupState.EMPTY, GroupState.ABSENT)
    ]
    if open_groups:
        draft.wait(f"consumers to leave {', '.join(open_groups[:3])}")
    return not open_groups


def _delete_groups_and_topics(
    observed: ObservedState, ownership: OwnershipRecord, draft: Draft
) -> bool:
    """Whether groups and topics are gone, but for what outlives its owner."""
    left = False
    for group in groups_of(ownership):
        if observed.groups.get(group) is GroupState.EMPTY:
            left = True
            if observed.blocked(group) is None:
                draft.add(DeleteGroup(group))
    for topic in ownership.topics:
        # A name that was only claimed may be somebody else's topic: it is not ours to delete.
        ours = topic.stage in _OWNED_STAGES and topic.role is not TopicRole.DEAD
        if ours and topic.name in observed.topics and not left:
            left = True
            if observed.blocked(topic.name) is None:
                draft.add(DeleteTopic(topic.name))
    if left:
        draft.wait(f"topics and groups of {ownership.namespace}/{ownership.name} to be deleted")
    return not left


def _retire(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> None:
    kept = tuple(
        t
        for t in ownership.topics
        if t.role is TopicRole.DEAD and t.stage in _OWNED_STAGES and t.name in observed.topics
    )
    _retain_for_grace_period(observed, ownership, kept, draft)


def _retain_for_grace_period(
    observed: ObservedState, ownership: OwnershipRecord, kept: tuple[OwnedTopic, ...], draft: Draft
) -> None:
    if kept:
        until = int(observed.now) + observed.installation.dead_grace_seconds
        draft.add(
            SaveOwnershipRecord(
                replace(ownership, group="", topics=kept, source="", started=0, retired_until=until)
            )
        )
    else:
        draft.add(DeleteOwnershipRecord(ownership.uid))
