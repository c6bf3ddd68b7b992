"""A subscription is a consumer group with start offsets, a retry topic and a dead letter topic."""

from dataclasses import replace

from headrace.domain.backend_name import backend_of
from headrace.resources.control_ports import GroupState, TopicDescription
from headrace.resources.naming import NameAllocator
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole
from headrace.resources.resource import Resource
from headrace_controller.reconcile.backend import ObservedChannel
from headrace_controller.reconcile.observed_state import (
    DISPATCHER,
    OFFSETS_ANNOTATION,
    ObservedState,
)
from headrace_controller.reconcile.plan import Draft, ReconcileProblem, SaveOwnershipRecord
from headrace_controller.topic_backend.group_queries import OFFSETS_LOST
from headrace_controller.topic_backend.state import state_of
from headrace_controller.topic_backend.steps import CommitInitialOffsets, DeleteGroup
from headrace_controller.topic_backend.topic_specs import retry_or_dead_letter_topic_spec
from headrace_controller.topic_backend.topics import assess_topic, topic_permissions


def claim_subscription(owner: Resource, names: NameAllocator, *, group: str) -> OwnershipRecord:
    """See `BackendDecisions.claim_subscription`."""
    allocated = names.allocate_group(group, owner.uid)
    topics = (
        OwnedTopic(name=allocated.retry_topic, role=TopicRole.RETRY),
        OwnedTopic(name=allocated.dead_topic, role=TopicRole.DEAD),
    )
    return OwnershipRecord(
        uid=owner.uid,
        kind=owner.kind.kind,
        namespace=owner.namespace,
        name=owner.name,
        group=allocated.group,
        topics=topics,
    )


def ensure_subscription(
    observed: ObservedState,
    owner: Resource,
    ownership: OwnershipRecord,
    draft: Draft,
    *,
    record_bytes_max: int,
) -> ReconcileProblem | None:
    """See `BackendDecisions.ensure_subscription`."""
    recorded, problem = ownership, None
    for held in ownership.topics:
        if held.role not in (TopicRole.RETRY, TopicRole.DEAD):
            continue
        spec = retry_or_dead_letter_topic_spec(
            held.name, channel_bytes_max=record_bytes_max, brokers=observed.cluster.brokers
        )
        assessment = assess_topic(observed, held, spec, topic_permissions(owner))
        recorded = recorded.with_topic(assessment.held)
        if assessment.step:
            draft.add(assessment.step)
        problem = problem or assessment.problem
    if recorded != ownership:
        draft.add(SaveOwnershipRecord(recorded))
        # What is recorded in this iteration is decided on in the next one.
        problem = problem or ReconcileProblem(
            "TopicCreating", "topics were created and are being recorded", waiting=True
        )
    if problem is not None and problem.waiting:
        draft.wait(problem.message)
    return problem


def ensure_subscription_start(
    observed: ObservedState,
    owner: Resource,
    ownership: OwnershipRecord,
    channel: ObservedChannel,
    draft: Draft,
) -> ReconcileProblem | None:
    """See `BackendDecisions.ensure_subscription_start`: start offsets in the channel topic are
    committed once for every existing partition, then recorded.
    """
    state = state_of(observed)
    facts = state.topics[channel.topic]
    if not ownership.source:
        return _commit_initial_offsets(observed, ownership, channel, facts, draft)
    committed = state.committed.get(ownership.group)
    if committed is not None:
        lost = tuple(
            p for p in range(min(ownership.started, facts.partitions)) if p not in committed
        )
        unused = state.groups.get(ownership.group) in (GroupState.EMPTY, GroupState.ABSENT)
        if lost and unused and not _is_served(observed, ownership):
            return _restore_lost_offsets(owner, ownership, facts, lost, draft)
    if ownership.started < facts.partitions:
        _initialize_new_partitions(observed, ownership, facts, draft)
    return None


def _is_served(observed: ObservedState, ownership: OwnershipRecord) -> bool:
    """Whether dispatchers run that know the positions of the subscription, and commit them: its
    group has no members while they read the channel for all subscriptions.
    """
    return observed.serves(DISPATCHER, backend_of(ownership.group))


def forget_position(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> None:
    """See `BackendDecisions.forget_position`."""
    match state_of(observed).groups.get(ownership.group):
        case GroupState.ABSENT:
            draft.add(SaveOwnershipRecord(replace(ownership, source="", started=0)))
        case GroupState.EMPTY if observed.blocked(ownership.group) is None:
            draft.add(DeleteGroup(ownership.group))


def _commit_initial_offsets(
    observed: ObservedState,
    ownership: OwnershipRecord,
    channel: ObservedChannel,
    facts: TopicDescription,
    draft: Draft,
) -> ReconcileProblem:
    committed = state_of(observed).committed.get(ownership.group)
    waiting = ReconcileProblem(
        "InitialOffsetsNotCommitted",
        f"start offsets of group {ownership.group} are being committed",
        waiting=True,
    )
    draft.wait(waiting.message)
    if committed is None:
        return waiting
    absent = tuple(p for p in range(facts.partitions) if p not in committed)
    if not absent:
        started = replace(ownership, source=channel.identity, started=facts.partitions)
        draft.add(SaveOwnershipRecord(started))
    elif observed.blocked(ownership.group) is None:
        draft.add(CommitInitialOffsets(ownership.group, facts.name, at_end=absent))
    failure = observed.failed_steps.get(ownership.group)
    if failure is None:
        return waiting
    return replace(
        waiting, message=f"{waiting.message}; the commit was rejected: {failure.message}"
    )


def _initialize_new_partitions(
    observed: ObservedState, ownership: OwnershipRecord, facts: TopicDescription, draft: Draft
) -> None:
    """Added partitions are read from their beginning. Dispatchers do that themselves: a commit here
    could set back what they have committed meanwhile.
    """
    state = state_of(observed).groups.get(ownership.group)
    committed = state_of(observed).committed.get(ownership.group)
    if state is None or committed is None:
        draft.wait(f"the state of group {ownership.group}")
        return
    absent = tuple(p for p in range(ownership.started, facts.partitions) if p not in committed)
    if absent and state is not GroupState.LIVE and not _is_served(observed, ownership):
        if observed.blocked(ownership.group) is None:
            draft.add(CommitInitialOffsets(ownership.group, facts.name, at_beginning=absent))
        draft.wait(f"start offsets of group {ownership.group} in new partitions")
        return
    draft.add(SaveOwnershipRecord(replace(ownership, started=facts.partitions)))


def _restore_lost_offsets(
    owner: Resource,
    ownership: OwnershipRecord,
    facts: TopicDescription,
    lost: tuple[int, ...],
    draft: Draft,
) -> ReconcileProblem:
    """Committed offsets are gone: an annotation decides whether events are repeated or skipped."""
    match owner.annotations.get(OFFSETS_ANNOTATION):
        case "latest":
            draft.add(CommitInitialOffsets(ownership.group, facts.name, at_end=lost))
        case "earliest":
            draft.add(CommitInitialOffsets(ownership.group, facts.name, at_beginning=lost))
    return ReconcileProblem(
        OFFSETS_LOST,
        f"the committed offsets of group {ownership.group} are gone for {len(lost)} partitions of"
        f" {facts.name}; set annotation {OFFSETS_ANNOTATION}: earliest (repeat events) or latest"
        " (skip events) here",
    )
