"""What an owner holds in Kafka, remembered: its names, which topics were made for it, and from
where its group started.

The record is written before the thing it speaks of is made and updated after, so that a controller
that died between the two knows on its return what is its own. That makes four facts decidable which
Kafka alone cannot tell apart: a topic not yet made, one made by us, one that somebody else made
under our name, and one of ours that somebody removed.

A holding outlives its owner: it is retired until the dead letter topic's grace period is over, and
its names stay taken meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.naming import retry_group
from headrace.resources.resource import Resource


class TopicRole(StrEnum):
    """What a topic is for."""

    CHANNEL = "channel"
    RETRY = "retry"
    DEAD = "dead"
    DELAY = "delay"


class TopicStage(StrEnum):
    """How far a topic has come."""

    CLAIMED = "claimed"
    """The name is ours; whether a topic of that name exists has not been seen."""
    INTENDED = "intended"
    """No topic of that name existed, and one is about to be made: what exists from now on
    is ours.
    """
    CREATED = "made"
    """Seen in Kafka after we made (or, told to, adopted) it."""
    EXTERNAL = "external"
    """Somebody else's: neither made nor altered nor deleted here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedTopic:
    """One topic of an owner."""

    name: str
    role: TopicRole
    stage: TopicStage = TopicStage.CLAIMED
    id: str = ""
    """Kafka's id of the topic as first seen; another one later means it was removed and made again
    by somebody.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipRecord:
    """Everything one owner holds."""

    uid: str
    kind: str
    namespace: str
    name: str
    group: str = ""
    """The consumer group of a subscription; empty for an addressable."""
    topics: tuple[OwnedTopic, ...] = ()
    source: str = ""
    """Which topic (name and Kafka id) the group's start offsets are committed for; empty until they
    are.
    """
    started: int = 0
    """How many partitions of `source` the group has a place in; later ones begin at 0."""
    retired_until: int | None = None
    """Unix seconds at which what is left may go; None while the owner lives."""

    def topic(self, role: TopicRole) -> OwnedTopic | None:
        """The topic in this role."""
        return next((topic for topic in self.topics if topic.role is role), None)

    def required_topic(self, role: TopicRole) -> OwnedTopic:
        """The topic in this role, which its kind of owner always has; raises LookupError when it
        does not.
        """
        found = self.topic(role)
        if found is None:
            raise LookupError(
                f"{self.kind} {self.namespace}/{self.name} ({self.uid}) holds no {role} topic"
            )
        return found

    def with_topic(self, topic: OwnedTopic) -> "OwnershipRecord":
        """A copy in which the topic of that name is replaced."""
        return replace(
            self, topics=tuple(topic if each.name == topic.name else each for each in self.topics)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is taken by this owner."""
        own = (self.group, retry_group(self.group)) if self.group else ()
        return (*own, *(topic.name for topic in self.topics))


def ownership_record_resource(ownership: OwnershipRecord) -> Resource:
    """The record under which a holding is stored; its name is the owner's uid."""
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
    """Undo `ownership_record_resource`; unknown fields are ignored, missing ones defaulted. Raises
    ValueError for an unknown role.
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
