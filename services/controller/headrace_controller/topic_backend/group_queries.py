"""Which consumer groups a decision depends on.

A query about every group in every iteration would be slow with a thousand of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.domain.backend_name import KAFKA, backend_of
from headrace.domain.reader_group import reader_group
from headrace.resources.control_ports import TopicDescription
from headrace.resources.naming import retry_group
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.topic_backend.state import state_of

OFFSETS_LOST = "OffsetsLost"


@dataclass(frozen=True, slots=True)
class GroupQueries:
    """The groups to query: offsets in a topic by group, and states."""

    committed: dict[str, str] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)


def topics_to_describe(ownership_records: Iterable[OwnershipRecord]) -> set[str]:
    """Every topic that is recorded as owned, created or not."""
    return {topic.name for ownership in ownership_records for topic in ownership.topics}


def groups_of(ownership: OwnershipRecord) -> Sequence[str]:
    """The consumer groups of an owner: the live one and the retry one of a subscription, that of
    the readers of a channel.
    """
    groups = (ownership.group, retry_group(ownership.group)) if ownership.group else ()
    held = ownership.topic(TopicRole.CHANNEL)
    if held is not None and backend_of(held.name) == KAFKA:
        return (*groups, reader_group(held.name))
    return groups


def readers_of(observed: ObservedState, ownership: OwnershipRecord) -> Sequence[OwnershipRecord]:
    """Subscriptions whose group has start offsets in this owner's channel topic."""
    held = ownership.topic(TopicRole.CHANNEL)
    return observed.readers(held.name) if held else ()


def identity_of(topic: OwnedTopic, facts: TopicDescription) -> str:
    """The topic with the id that its backend gave it."""
    return f"{topic.name}@{topic.id or facts.id}"


def required_group_queries(
    observed: ObservedState,
    subscriptions: Iterable[tuple[Resource, Resource | None]],
    *,
    verify: bool,
) -> GroupQueries:
    """What has to be asked, for a state without answers; `verify` asks for all committed offsets,
    to detect that some are gone.
    """
    queries = GroupQueries()
    _add_finalizations(observed, queries)
    for subscription, source in subscriptions:
        if source is not None and not source.deleting and not subscription.deleting:
            _add_subscription(observed, subscription, source, queries, verify)
    return queries


def _add_finalizations(observed: ObservedState, queries: GroupQueries) -> None:
    """The groups whose consumers must have left before an owner's topics can be deleted."""
    alive = {each.uid for each in observed.all() if not each.deleting}
    for ownership in observed.ownership_records.values():
        if ownership.retired_until is None and ownership.uid not in alive:
            queries.states.update(groups_of(ownership))
            queries.states.update(reader.group for reader in readers_of(observed, ownership))


def _add_subscription(
    observed: ObservedState,
    subscription: Resource,
    source: Resource,
    queries: GroupQueries,
    verify: bool,
) -> None:
    held = observed.ownership_records.get(subscription.uid)
    channel = observed.ownership_records.get(source.uid)
    topic = channel.topic(TopicRole.CHANNEL) if channel else None
    facts = state_of(observed).topics.get(topic.name) if topic else None
    if held is None or topic is None or facts is None or not held.group:
        return
    # Once found missing, offsets are queried until they are there again.
    verify = verify or _has_lost_offsets(subscription)
    if not held.source:
        # Its own topics come first.
        if all(each.stage is TopicStage.CREATED for each in held.topics):
            queries.committed[held.group] = topic.name
    elif held.source != identity_of(topic, facts):
        queries.states.add(held.group)
    elif verify or held.started < facts.partitions:
        queries.committed[held.group] = topic.name
        queries.states.add(held.group)


def _has_lost_offsets(subscription: Resource) -> bool:
    conditions = subscription.status.get("conditions")
    return isinstance(conditions, list) and any(
        isinstance(each, Mapping) and each.get("reason") == OFFSETS_LOST for each in conditions
    )
