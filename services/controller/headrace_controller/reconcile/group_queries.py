"""What a reconcile needs to know of Kafka: topics always, groups only where the next decision hangs
on them.

Kafka answers for one group at a time, so a controller that asked about every group at every turn
would be slow with a thousand of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.resources.conditions import condition_of
from headrace.resources.ownership_record import OwnershipRecord, TopicRole
from headrace.resources.trigger import SUBSCRIPTION_READY, broker_name, broker_namespace
from headrace_controller.reconcile.finalization import groups_of, readers_of
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.triggers import OFFSETS_LOST


@dataclass(frozen=True, slots=True)
class GroupQueries:
    """Groups to ask about: offsets in a topic by group, and states."""

    committed: dict[str, str] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)


def topics_to_describe(ownership_records: Iterable[OwnershipRecord]) -> set[str]:
    """Every topic somebody holds or means to."""
    return {topic.name for ownership in ownership_records for topic in ownership.topics}


def required_group_queries(observed: ObservedState, *, verify: bool) -> GroupQueries:
    """What to ask about groups, given a world without answers; `verify` asks for all offsets, to
    find forgotten ones.
    """
    queries = GroupQueries()
    brokers = {(each.namespace, each.name): each for each in observed.brokers if not each.deleting}
    deleting = {each.uid for each in (*observed.brokers, *observed.triggers) if each.deleting}
    living = {each.uid for each in (*observed.brokers, *observed.triggers)}
    for ownership in observed.ownership_records.values():
        if ownership.retired_until is None and (
            ownership.uid in deleting or ownership.uid not in living
        ):
            queries.states.update(groups_of(ownership))
            queries.states.update(reader.group for reader in readers_of(observed, ownership))
    for trigger in observed.triggers:
        held = observed.ownership_records.get(trigger.uid)
        broker = brokers.get((broker_namespace(trigger), broker_name(trigger)))
        channel = observed.ownership_records.get(broker.uid) if broker else None
        topic = channel.topic(TopicRole.CHANNEL) if channel else None
        if held is None or topic is None or not held.group or trigger.deleting:
            continue
        # Once found missing they are asked for until they are there again.
        verify_offsets = verify or _has_lost_offsets(trigger.status)
        _add_queries(queries, observed, held, topic.name, topic.id, verify=verify_offsets)
    return queries


def _add_queries(
    queries: GroupQueries,
    observed: ObservedState,
    held: OwnershipRecord,
    topic: str,
    topic_id: str,
    *,
    verify: bool,
) -> None:
    facts = observed.topics.get(topic)
    if facts is None:
        return
    if not held.source:
        queries.committed[held.group] = topic
    elif held.source != f"{topic}@{topic_id or facts.id}":
        queries.states.add(held.group)
    elif verify or held.started < facts.partitions:
        queries.committed[held.group] = topic
        queries.states.add(held.group)


def _has_lost_offsets(status: Mapping[str, Any]) -> bool:
    condition = condition_of(status, SUBSCRIPTION_READY)
    return condition is not None and condition.reason == OFFSETS_LOST
