"""The end of what an owner has: consumers leave, groups and topics are deleted, dead letter topics
are kept for the grace period.
"""

from collections.abc import Sequence
from dataclasses import replace

from headrace.domain.routing import Subscription
from headrace.resources.control_ports import GroupState
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace_controller.reconcile.backend import Progress
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import DeleteOwnershipRecord, Draft, SaveOwnershipRecord
from headrace_controller.topic_backend.group_queries import groups_of, readers_of
from headrace_controller.topic_backend.state import state_of
from headrace_controller.topic_backend.steps import DeleteGroup, DeleteTopic

_OWNED_STAGES = (TopicStage.CREATED, TopicStage.INTENDED)


def retire(
    observed: ObservedState, ownership: OwnershipRecord, draft: Draft, *, orphaned: bool
) -> None:
    """See `BackendDecisions.retire`."""
    stages = (
        (wait_for_consumers,) if orphaned else (wait_for_consumers, delete_groups, delete_topics)
    )
    for stage in stages:
        if stage(observed, ownership, draft) is Progress.PENDING:
            return
    kept = [each for each in ownership.topics if orphaned or each.role is TopicRole.DEAD]
    _keep_for_grace_period(observed, ownership, kept, draft)


def purge_retired(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> None:
    """See `BackendDecisions.purge_retired`."""
    topics = state_of(observed).topics
    present = [topic.name for topic in ownership.topics if topic.name in topics]
    draft.add(*(DeleteTopic(name) for name in present if observed.blocked(name) is None))
    if present:
        draft.wait(f"retained topics of {ownership.namespace}/{ownership.name} to be deleted")
    else:
        draft.add(DeleteOwnershipRecord(ownership.uid))


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
    states = state_of(observed).groups
    groups = [*groups_of(ownership), *(reader.group for reader in readers_of(observed, ownership))]
    live = [
        group for group in groups if states.get(group) not in (GroupState.EMPTY, GroupState.ABSENT)
    ]
    if live:
        draft.wait(f"consumers to leave {', '.join(live[:3])}")
        return Progress.PENDING
    return Progress.DONE


def delete_groups(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> Progress:
    """Delete the owner's consumer groups; done once they do not exist."""
    states = state_of(observed).groups
    empty = [each for each in groups_of(ownership) if states.get(each) is GroupState.EMPTY]
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
        if topic.role is not TopicRole.DEAD and _is_owned(observed, topic):
            if observed.blocked(topic.name) is None:
                draft.add(DeleteTopic(topic.name))
            draft.wait(f"topics of {ownership.namespace}/{ownership.name} to be deleted")
            return Progress.PENDING
    return Progress.DONE


def _keep_for_grace_period(
    observed: ObservedState, ownership: OwnershipRecord, topics: Sequence[OwnedTopic], draft: Draft
) -> None:
    """Retire the record with those of `topics` that exist; delete it if there are none."""
    kept = tuple(each for each in topics if _is_owned(observed, each))
    if kept:
        until = int(observed.now) + observed.installation.dead_grace_seconds
        retired = replace(
            ownership, group="", topics=kept, source="", started=0, retired_until=until
        )
        draft.add(SaveOwnershipRecord(retired))
    else:
        draft.add(DeleteOwnershipRecord(ownership.uid))


def _is_owned(observed: ObservedState, topic: OwnedTopic) -> bool:
    return topic.stage in _OWNED_STAGES and topic.name in state_of(observed).topics
