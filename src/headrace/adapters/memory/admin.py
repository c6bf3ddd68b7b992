"""Topics and groups in memory: the admin for tests and for the embedded cluster, which creates
topics automatically and stores no topic settings.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

from headrace.domain.errors import TopicMissing, WriteRefused
from headrace.resources.control_ports import (
    ClusterDescription,
    GroupState,
    TopicDescription,
    TopicSpec,
)


@dataclass
class MemoryGroup:
    """A consumer group: its offsets by topic and partition, and its number of members."""

    offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    members: int = 0


class MemoryTopicAdmin:
    """A `TopicAdmin` based on dictionaries. Tests change `topics`, `ends_of` and `groups_of` as
    other clients of the cluster would.
    """

    def __init__(self, *, brokers: int = 1) -> None:
        self.brokers = brokers
        self.topics: dict[str, TopicDescription] = {}
        self.ends_of: dict[str, dict[int, int]] = {}
        self.groups_of: dict[str, MemoryGroup] = {}

    async def cluster(self) -> ClusterDescription:
        """As `TopicAdmin.cluster`."""
        return ClusterDescription("memory", self.brokers, ("memory:9092",))

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        """As `TopicAdmin.describe`."""
        return {name: self.topics[name] for name in topics if name in self.topics}

    async def create(self, topics: Sequence[TopicSpec]) -> Mapping[str, str]:
        """As `TopicAdmin.create`."""
        refused = {}
        for spec in topics:
            if spec.replication > self.brokers:
                refused[spec.name] = (
                    f"replication factor {spec.replication} exceeds the {self.brokers} brokers of"
                    " the cluster"
                )
            elif spec.name not in self.topics:
                self.topics[spec.name] = TopicDescription(
                    name=spec.name,
                    partitions=spec.partitions,
                    replication=spec.replication,
                    id=str(uuid4()),
                    settings=dict(spec.settings),
                )
                self.ends_of[spec.name] = dict.fromkeys(range(spec.partitions), 0)
        return refused

    async def add_partitions(self, topic: str, total: int) -> None:
        """As `TopicAdmin.add_partitions`."""
        self.topics[topic] = replace(self._existing(topic), partitions=total)
        self.ends_of[topic] = dict.fromkeys(range(total), 0) | self.ends_of.get(topic, {})

    async def add_replicas(self, topic: str, total: int) -> None:
        """As `TopicAdmin.add_replicas`."""
        facts = self._existing(topic)
        if total > self.brokers:
            raise WriteRefused(f"{total} replicas exceed the {self.brokers} brokers of the cluster")
        self.topics[topic] = replace(facts, replication=max(facts.replication, total))

    async def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """As `TopicAdmin.alter`."""
        facts = self._existing(topic)
        self.topics[topic] = replace(facts, settings={**facts.settings, **settings})

    async def delete(self, topics: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete`."""
        for name in topics:
            self.topics.pop(name, None)
            self.ends_of.pop(name, None)
            for group in self.groups_of.values():
                group.offsets.pop(name, None)
        return {}

    async def ends(self, topics: Mapping[str, Collection[int]]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.ends`."""
        return {
            name: {p: self.ends_of[self._existing(name).name].get(p, 0) for p in wanted}
            for name, wanted in topics.items()
        }

    async def committed(self, groups: Mapping[str, str]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.committed`."""
        return {
            group: (
                dict(self.groups_of[group].offsets.get(topic, {}))
                if group in self.groups_of
                else {}
            )
            for group, topic in groups.items()
        }

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """As `TopicAdmin.commit`."""
        self._existing(topic)
        known = self.groups_of.setdefault(group, MemoryGroup())
        if known.members:
            raise WriteRefused(f"group {group} has members; only they can commit")
        known.offsets.setdefault(topic, {}).update(offsets)

    async def groups(self, groups: Collection[str]) -> Mapping[str, GroupState]:
        """As `TopicAdmin.groups`."""
        return {group: self._state(group) for group in groups}

    async def delete_groups(self, groups: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete_groups`."""
        refused = {}
        for group in groups:
            if self._state(group) is GroupState.LIVE:
                refused[group] = "the group has members"
            else:
                self.groups_of.pop(group, None)
        return refused

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """As `TopicAdmin.trim`. Does nothing, because no records are stored here."""
        self._existing(topic)

    def _existing(self, topic: str) -> TopicDescription:
        if topic not in self.topics:
            raise TopicMissing(topic)
        return self.topics[topic]

    def _state(self, group: str) -> GroupState:
        known = self.groups_of.get(group)
        if known is None:
            return GroupState.ABSENT
        return GroupState.LIVE if known.members else GroupState.EMPTY
