"""A channel is a topic."""

from headrace.resources.broker_config import BYTES_MAX, TopicConfig
from headrace.resources.control_ports import TopicDescription
from headrace.resources.naming import RESERVED, NameAllocator
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.backend import ChannelResult, ObservedChannel
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import Draft, SaveOwnershipRecord
from headrace_controller.topic_backend.group_queries import identity_of
from headrace_controller.topic_backend.state import state_of
from headrace_controller.topic_backend.topic_specs import channel_topic_spec
from headrace_controller.topic_backend.topics import assess_topic, topic_permissions


def claim_channel(
    owner: Resource, names: NameAllocator, *, topic: str, external: str | None
) -> OwnershipRecord:
    """See `BackendDecisions.claim_channel`."""
    if external:
        held = OwnedTopic(name=external, role=TopicRole.CHANNEL, stage=TopicStage.EXTERNAL)
    else:
        held = OwnedTopic(name=names.allocate_topic(topic, owner.uid), role=TopicRole.CHANNEL)
    return OwnershipRecord(
        uid=owner.uid,
        kind=owner.kind.kind,
        namespace=owner.namespace,
        name=owner.name,
        topics=(held,),
    )


def ensure_channel(
    observed: ObservedState,
    owner: Resource,
    ownership: OwnershipRecord,
    config: TopicConfig,
    draft: Draft,
) -> ChannelResult:
    """See `BackendDecisions.ensure_channel`."""
    held = ownership.required_topic(TopicRole.CHANNEL)
    spec = channel_topic_spec(held.name, config)
    assessment = assess_topic(observed, held, spec, topic_permissions(owner))
    if assessment.step:
        draft.add(assessment.step)
    if assessment.held != held:
        draft.add(SaveOwnershipRecord(ownership.with_topic(assessment.held)))
    if assessment.problem and assessment.problem.waiting:
        draft.wait(assessment.problem.message)
    usable = assessment.facts is not None and assessment.problem is None
    return ChannelResult(
        channel=_observed_channel(assessment.held, assessment.facts)
        if usable and assessment.facts
        else None,
        problem=assessment.problem,
        note=assessment.note,
    )


def channel_of(
    observed: ObservedState, ownership: OwnershipRecord | None
) -> ObservedChannel | None:
    """See `BackendDecisions.channel_of`: the topic exists, and is the one that was created for (or
    named by) its addressable.
    """
    held = ownership.topic(TopicRole.CHANNEL) if ownership else None
    facts = state_of(observed).topics.get(held.name) if held else None
    if held is None or facts is None or held.stage not in (TopicStage.CREATED, TopicStage.EXTERNAL):
        return None
    if held.id and facts.id and held.id != facts.id:
        return None
    return _observed_channel(held, facts)


def largest_channel(observed: ObservedState, default: int = BYTES_MAX) -> int:
    """The largest record of any existing channel, at least `default`."""
    sizes = [default]
    for ownership in observed.ownership_records.values():
        held = ownership.topic(TopicRole.CHANNEL)
        facts = state_of(observed).topics.get(held.name) if held else None
        # A delay topic that a Broker names as its own would have to be larger than itself.
        if facts is not None and facts.name not in RESERVED:
            sizes.append(_bytes_max(facts) or default)
    return max(sizes)


def _observed_channel(held: OwnedTopic, facts: TopicDescription) -> ObservedChannel:
    retention_ms = int(facts.settings.get("retention.ms", "-1"))
    return ObservedChannel(
        topic=held.name,
        identity=identity_of(held, facts),
        bytes_max=_bytes_max(facts),
        retention_seconds=retention_ms / 1000 if retention_ms >= 0 else None,
    )


def _bytes_max(facts: TopicDescription) -> int | None:
    reported = facts.settings.get("max.message.bytes")
    return None if reported is None else int(reported)
