"""What a reconcile needs to know of Kafka: topics always, groups only where the next decision
depends on them.

Kafka answers for one group at a time, so querying every group in every iteration would be slow with
a thousand of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headrace.resources.naming import retry_group
from headrace.resources.ownership_record import OwnershipRecord, TopicRole
from headrace_controller.reconcile.observed_state import ObservedState


@dataclass(frozen=True, slots=True)
class GroupQueries:
    """The groups to query: offsets in a topic by group, and states."""

    committed: dict[str, str] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)


def topics_to_describe(ownership_records: Iterable[OwnershipRecord]) -> set[str]:
    """Every topic that is recorded as owned, created or not."""
    return {topic.name for ownership in ownership_records for topic in ownership.topics}


def groups_of(ownership: OwnershipRecord) -> Sequence[str]:
    """The consumer groups of an owner: the live one and the retry one."""
    return (ownership.group, retry_group(ownership.group)) if ownership.group else ()


def readers_of(observed: ObservedState, ownership: OwnershipRecord) -> Sequence[OwnershipRecord]:
    """Subscriptions whose group has start offsets in this owner's channel topic."""
    held = ownership.topic(TopicRole.CHANNEL)
    return observed.readers(held.name) if held else ()


def add_finalization_queries(observed: ObservedState, queries: GroupQueries) -> None:
    """Query the groups whose consumers must have left before an owner's topics can be deleted."""
    alive = {each.uid for each in observed.all() if not each.deleting}
    for ownership in observed.ownership_records.values():
        if ownership.retired_until is None and ownership.uid not in alive:
            queries.states.update(groups_of(ownership))
            queries.states.update(reader.group for reader in readers_of(observed, ownership))
