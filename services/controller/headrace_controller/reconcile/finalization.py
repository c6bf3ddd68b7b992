"""Clean-up of owners that are being deleted, of owners that disappeared, and of dead letter topics
whose grace period is over.

It is driven by the ownership record, not by the resource, so that nothing is left behind when a
resource disappeared without a finalizer. The order: the routing record is removed; every live
process has read that; no consumer is left; offsets are deleted; topics are deleted; the ownership
record is retired or deleted; then the finalizer is removed and the name can be used again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import Enum

from headrace.domain.routing import Addressable, Subscription, addressable_key, subscription_key
from headrace.resources.control_ports import GroupState
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace_controller.reconcile.group_queries import groups_of, readers_of
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
from headrace_controller.reconcile.registry import ReconcileRequest

_OWNED_STAGES = (TopicStage.CREATED, TopicStage.INTENDED)


class Progress(Enum):
    """How far one stage of a clean-up is."""

    DONE = "done"
    PENDING = "pending"
    """Steps were planned, or something has to be waited for: the next stage must not begin."""


Stage = Callable[[ObservedState, OwnershipRecord, Draft], Progress]


def finalize(request: ReconcileRequest) -> None:
    """Plan the next steps for an owner that is being deleted."""
    ownership = request.ownership
    if ownership is None or ownership.retired_until is not None:
        if FINALIZER in request.resource.finalizers:
            request.draft.add(RemoveFinalizer(request.resource))
        return
    stages = (remove_routes, wait_for_consumers, delete_groups, delete_topics)
    if _run(stages, request.observed, ownership, request.draft) is Progress.DONE:
        dead = tuple(t for t in ownership.topics if t.role is TopicRole.DEAD)
        retire(request.observed, ownership, dead, request.draft)


def finalize_orphaned(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> None:
    """Plan the next steps for an owner that does not exist and was never seen being deleted.

    Its finalizer should have kept it. So it was removed by hand, or these are other resources:
    restored from a backup, of another cluster, in a namespace that is not served. It can no longer
    be served, but nothing is deleted before the grace period is over: this may be an accident.
    """
    stages = (remove_routes, wait_for_consumers)
    if _run(stages, observed, ownership, draft) is Progress.DONE:
        retire(observed, ownership, ownership.topics, draft)


def finalize_retired(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> None:
    """Plan the end of a retired ownership record: its topics once the grace period is over, then
    the record.
    """
    if ownership.retired_until is None or observed.now < ownership.retired_until:
        draft.requeue(ownership.retired_until or observed.now)
        return
    present = [topic.name for topic in ownership.topics if topic.name in observed.topics]
    draft.add(*(DeleteTopic(name) for name in present if observed.blocked(name) is None))
    if present:
        draft.wait(f"retained topics of {ownership.namespace}/{ownership.name} to be deleted")
    else:
        draft.add(DeleteOwnershipRecord(ownership.uid))


def remove_orphaned_routes(observed: ObservedState, owners: Iterable[str], draft: Draft) -> None:
    """Remove routing records without an owner: written late by a controller that was replaced, or
    left over from a lost store.
    """
    known = frozenset(owners)
    for key, route in observed.routes.items():
        if isinstance(route, Addressable | Subscription) and route.uid not in known:
            draft.add(RemoveRoute(key))


def write_tombstones(observed: ObservedState, draft: Draft) -> None:
    """Write tombstones for what this controller or an earlier one removed from the routing
    table.
    """
    draft.add(
        *(
            WriteTombstone(key)
            for key, epoch in observed.removals.items()
            if epoch <= observed.epoch and key not in observed.routes
        )
    )


def _run(
    stages: Sequence[Stage], observed: ObservedState, ownership: OwnershipRecord, draft: Draft
) -> Progress:
    for stage in stages:
        if stage(observed, ownership, draft) is Progress.PENDING:
            return Progress.PENDING
    return Progress.DONE


def remove_routes(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> Progress:
    """Remove the owner's routing records; done once every live process has read that."""
    progress = Progress.DONE
    for key in _keys_of(ownership):
        if key in observed.routes:
            draft.add(RemoveRoute(key))
            progress = Progress.PENDING
        elif not observed.applied(key):
            draft.wait(f"all processes to read the removal of {key}")
            progress = Progress.PENDING
    return progress


def _keys_of(ownership: OwnershipRecord) -> list[str]:
    keys = [subscription_key(ownership.uid)] if ownership.group else []
    if ownership.topic(TopicRole.CHANNEL) or not keys:
        keys.append(addressable_key(ownership.uid))
    return keys


def wait_for_consumers(
    observed: ObservedState, ownership: OwnershipRecord, draft: Draft
) -> Progress:
    """Done once nothing reads what is about to be deleted: a consumer would be left with a topic
    that does not exist.
    """
    held = ownership.topic(TopicRole.CHANNEL)
    if held is not None and any(
        isinstance(route, Subscription) and route.topic == held.name
        for route in observed.routes.values()
    ):
        draft.wait(f"subscriptions to stop reading {held.name}")
        return Progress.PENDING
    groups = [*groups_of(ownership), *(reader.group for reader in readers_of(observed, ownership))]
    live = [
        group
        for group in groups
        if observed.groups.get(group) not in (GroupState.EMPTY, GroupState.ABSENT)
    ]
    if live:
        draft.wait(f"consumers to leave {', '.join(live[:3])}")
        return Progress.PENDING
    return Progress.DONE


def delete_groups(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> Progress:
    """Delete the owner's consumer groups; done once they do not exist."""
    empty = [each for each in groups_of(ownership) if observed.groups.get(each) is GroupState.EMPTY]
    draft.add(*(DeleteGroup(group) for group in empty if observed.blocked(group) is None))
    if empty:
        draft.wait(f"groups of {ownership.namespace}/{ownership.name} to be deleted")
        return Progress.PENDING
    return Progress.DONE


def delete_topics(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> Progress:
    """Delete the owner's topics one after another, except dead letters; done once they do not
    exist.
    """
    for topic in ownership.topics:
        # A name that was only claimed may be a topic of another owner: it must not be deleted.
        if (
            topic.stage in _OWNED_STAGES
            and topic.role is not TopicRole.DEAD
            and topic.name in observed.topics
        ):
            if observed.blocked(topic.name) is None:
                draft.add(DeleteTopic(topic.name))
            draft.wait(f"topics of {ownership.namespace}/{ownership.name} to be deleted")
            return Progress.PENDING
    return Progress.DONE


def retire(
    observed: ObservedState,
    ownership: OwnershipRecord,
    topics: Sequence[OwnedTopic],
    draft: Draft,
) -> None:
    """Keep those of `topics` that exist and are owned for the grace period, and the record with
    them; delete the record if there are none.
    """
    kept = tuple(t for t in topics if t.stage in _OWNED_STAGES and t.name in observed.topics)
    if kept:
        until = int(observed.now) + observed.installation.dead_grace_seconds
        retired = replace(
            ownership, group="", topics=kept, source="", started=0, retired_until=until
        )
        draft.add(SaveOwnershipRecord(retired))
    else:
        draft.add(DeleteOwnershipRecord(ownership.uid))
