"""A record of what an owner has in Kafka: its names, which topics were created for it, and where
its group started.

The record is written before a topic or group is created and updated afterwards, so that a
controller that crashed in between knows after its restart what it owns. This distinguishes four
cases that Kafka alone cannot distinguish: a topic not created yet, one created by Headrace, one
that another party created under the same name, and one of Headrace's that another party deleted.

A record outlives its owner: it is retired until the dead letter topic's grace period is over, and
its names stay allocated until then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.naming import retry_group
from headrace.resources.resource import Resource


class TopicRole(StrEnum):
    """The purpose of a topic."""

    CHANNEL = "channel"
    RETRY = "retry"
    DEAD = "dead"
    DELAY = "delay"


class TopicStage(StrEnum):
    """The state of a topic."""

    CLAIMED = "claimed"
    """The name is allocated; whether a topic of that name exists is not known yet."""
    INTENDED = "intended"
    """No topic of that name existed, and Headrace is about to create one: a topic that exists from
    now on is its own.
    """
    CREATED = "made"
    """Seen in Kafka after Headrace created it (or adopted it, as requested)."""
    EXTERNAL = "external"
    """Owned by another party: Headrace neither creates, alters nor deletes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedTopic:
    """One topic of an owner."""

    name: str
    role: TopicRole
    stage: TopicStage = TopicStage.CLAIMED
    id: str = ""
    """Kafka's id of the topic as first seen; a different id later means that another party deleted
    and recreated it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipRecord:
    """Everything that one owner has in Kafka."""

    uid: str
    kind: str
    namespace: str
    name: str
    group: str = ""
    """The consumer group of a subscription; empty for an addressable."""
    topics: tuple[OwnedTopic, ...] = ()
    source: str = ""
    """The topic (name and Kafka id) for which the group's start offsets are committed; empty until
    they are.
    """
    started: int = 0
    """Number of partitions of `source` in which the group has a start offset; later partitions
    start at 0.
    """
    retired_until: int | None = None
    """Unix time in seconds at which the remains may be deleted; None while the owner exists."""

    def topic(self, role: TopicRole) -> OwnedTopic | None:
        """The topic in this role."""
        return next((topic for topic in self.topics if topic.role is role), None)

    def required_topic(self, role: TopicRole) -> OwnedTopic:
        """The topic in this role, which this kind of owner always has. Raises LookupError if it is
        missing.
        """
        found = self.topic(role)
        if found is None:
            raise LookupError(
                f"{self.kind} {self.namespace}/{self.name} ({self.uid}) has no {role} topic"
            )
        return found

    def with_topic(self, topic: OwnedTopic) -> "OwnershipRecord":
        """A copy in which the topic of that name is replaced."""
        return replace(
            self, topics=tuple(topic if each.name == topic.name else each for each in self.topics)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is allocated to this owner."""
        own = (self.group, retry_group(self.group)) if self.group else ()
        return (*own, *(topic.name for topic in self.topics))


def ownership_record_resource(ownership: OwnershipRecord) -> Resource:
    """The resource under which the record is stored; its name is the owner's uid."""
    return Resource(
        OWNERSHIP_RECORD,
        {
            "apiVersion": OWNERSHIP_RECORD.api_version,
            "kind": OWNERSHIP_RECORD.kind,
            "metadata": {"name": ownership.uid},
            "spec": {
                "owner": {
                    "kind": ownership.kind,
                    "namespace": ownership.namespace,
                    "name": ownership.name,
                },
                "group": ownership.group,
                "topics": [
                    {"name": t.name, "role": str(t.role), "stage": str(t.stage), "id": t.id}
                    for t in ownership.topics
                ],
                "source": ownership.source,
                "started": ownership.started,
                "retiredUntil": ownership.retired_until,
            },
        },
    )


def read_ownership_record(resource: Resource) -> OwnershipRecord:
    """The inverse of `ownership_record_resource`; unknown fields are ignored, missing ones have
    their defaults. Raises ValueError for an unknown role.
    """
    spec = resource.spec
    owner: Mapping[str, Any] = spec.get("owner") or {}
    retired = spec.get("retiredUntil")
    return OwnershipRecord(
        uid=resource.name,
        kind=str(owner.get("kind", "")),
        namespace=str(owner.get("namespace", "")),
        name=str(owner.get("name", "")),
        group=str(spec.get("group") or ""),
        topics=tuple(
            OwnedTopic(
                name=str(entry["name"]),
                role=TopicRole(entry["role"]),
                stage=TopicStage(entry["stage"]),
                id=str(entry.get("id") or ""),
            )
            for entry in spec.get("topics") or ()
        ),
        source=str(spec.get("source") or ""),
        started=int(spec.get("started") or 0),
        retired_until=None if retired is None else int(retired),
    )
