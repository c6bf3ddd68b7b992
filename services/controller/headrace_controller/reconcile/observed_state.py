"""What a reconcile looks at: everything that is known, as one value, and the few questions that are
asked of it again and again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.ports import Instance
from headrace.domain.routing import Route
from headrace.domain.subscription_state import SubscriptionState, merge, read
from headrace.resources.control_ports import ClusterDescription, GroupState, TopicDescription
from headrace.resources.destination import Unresolved
from headrace.resources.kinds import BROKER
from headrace.resources.ownership_record import OwnershipRecord
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig
from headrace.resources.timestamps import write_seconds

INGRESS = "ingress"
DISPATCHER = "dispatcher"
FINALIZER = "headrace.dev/kafka"

TOPICS_ANNOTATION = "headrace.dev/existing-topics"
"""`adopt` takes over topics that exist under our names, when partitions and settings are right."""
LOST_ANNOTATION = "headrace.dev/lost-topics"
"""`recreate` accepts that a topic of ours was removed, and what was in it with it."""
OFFSETS_ANNOTATION = "headrace.dev/lost-offsets"
"""`earliest` or `latest`: where a group begins again whose offsets Kafka has forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What the operator decided once for all resources."""

    ingress_url: str = "http://127.0.0.1:8080"
    """What Broker addresses begin with."""
    cluster_domain: str = "cluster.local"
    in_cluster: bool = False
    """Whether there is a cluster around us, whose DNS knows Services."""
    dead_grace_seconds: int = 7 * 24 * 3600
    """How long dead letter topics outlive their subscriptions, and all topics an owner that went
    without being deleted.
    """
    namespaces: tuple[str, ...] = ()
    """Namespaces that are served; none: all of them."""
    adopts_store: bool = False
    """Whether topics that belong to resources of another place may be taken over."""

    def serves(self, namespace: str) -> bool:
        """Whether resources of this namespace can be seen at all: of the others, none seen does not
        mean none there.
        """
        return not self.namespaces or namespace in self.namespaces

    @property
    def service_domain(self) -> str | None:
        """The domain of Services; None where there is no cluster to have any."""
        return self.cluster_domain if self.in_cluster else None


@dataclass(frozen=True, slots=True)
class StepRejection:
    """Kafka refused a step about this topic or group; it is tried again at `retry_at` (Unix
    seconds).
    """

    message: str
    retry_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedState:
    """Everything a reconcile decides upon. Absent facts are unknown, not false, where a field says
    so.
    """

    installation: Installation
    now: float
    epoch: int
    cluster: ClusterDescription
    brokers: Sequence[Resource] = ()
    triggers: Sequence[Resource] = ()
    """Both as `ResourceValidator` gives them: with their defaults."""
    event_types: Sequence[Resource] = ()
    validation_errors: Mapping[str, str] = field(default_factory=dict)
    """By uid, what is wrong with resources that nothing may be done about for that reason."""
    system: SystemConfig = BUILT_IN
    system_problems: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with the ConfigMaps behind `system`, by name."""
    referenced: Sequence[Resource] = ()
    """Objects of any kind that resources refer to, as far as they exist (see `references`)."""
    unreadable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By apiVersion and kind, why objects of that kind cannot be read here."""
    ownership_records: Mapping[str, OwnershipRecord] = field(default_factory=dict)
    topics: Mapping[str, TopicDescription] = field(default_factory=dict)
    """Of the topics in any holding, those that exist."""
    committed: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Committed offsets by group, of the groups that were asked for; a group that is not here is
    unknown.
    """
    groups: Mapping[str, GroupState] = field(default_factory=dict)
    """States of the groups that were asked for; a group that is not here is unknown."""
    routes: Mapping[str, Route] = field(default_factory=dict)
    """The routing table as stored."""
    removals: Mapping[str, int] = field(default_factory=dict)
    """Epoch by key of removals in the routing table that no tombstone has followed yet."""
    route_positions: Mapping[str, int] = field(default_factory=dict)
    """Log position of the newest write or removal by key, where this process made it."""
    routes_end: int = -1
    """Log position of the routing table's newest record."""
    instances: Sequence[Instance] = ()
    rejections: Mapping[str, StepRejection] = field(default_factory=dict)
    """By topic or group name."""
    _objects: Mapping[tuple[str, str, str, str], Resource] = field(
        init=False, repr=False, compare=False
    )
    _readers: Mapping[str, Sequence[OwnershipRecord]] = field(init=False, repr=False, compare=False)
    _now_text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index what is asked for once per Trigger: with a thousand of them every search would be a
        million steps.
        """
        everything = (*self.referenced, *self.brokers, *self.triggers)
        objects = {
            (each.kind.group, str(each.object.get("kind")), each.namespace, each.name): each
            for each in everything
        }
        readers: dict[str, list[OwnershipRecord]] = {}
        for ownership in self.ownership_records.values():
            if ownership.source:
                readers.setdefault(ownership.source.rpartition("@")[0], []).append(ownership)
        object.__setattr__(self, "_now_text", write_seconds(self.now))
        object.__setattr__(self, "_objects", objects)
        object.__setattr__(self, "_readers", readers)

    @property
    def now_text(self) -> str:
        """`now` as conditions carry it."""
        return self._now_text

    def applied(self, key: str) -> bool:
        """Whether every live process has seen the newest record (or removal) of `key`."""
        position = self.route_positions.get(key, self.routes_end)
        return all(instance.applied >= position for instance in self.instances)

    def serves(self, service: str) -> bool:
        """Whether a process of this service is alive."""
        return any(instance.service == service for instance in self.instances)

    def state_of(self, uid: str) -> SubscriptionState:
        """What the dispatchers say of a subscription."""
        return merge(
            read(instance.groups[uid]) for instance in self.instances if uid in instance.groups
        )

    def blocked(self, name: str) -> StepRejection | None:
        """The refusal that a step about this topic or group still has to wait for."""
        rejection = self.rejections.get(name)
        return rejection if rejection is not None and rejection.retry_at > self.now else None

    def lookup(
        self, api_version: str, kind: str, namespace: str, name: str
    ) -> Mapping[str, Any] | None:
        """Any object by reference. Raises Unresolved where its kind cannot be read: what is not
        known is not absent.
        """
        group = api_version.rpartition("/")[0]
        found = self._objects.get((group, kind, namespace, name)) or self._objects.get(
            (group, kind, "", name)
        )
        if found is None and (api_version, kind) in self.unreadable:
            raise Unresolved(
                f"{kind} of {api_version} cannot be read: {self.unreadable[api_version, kind]}"
            )
        return found.object if found else None

    def broker(self, namespace: str, name: str) -> Resource | None:
        """The Broker of that name."""
        return self._objects.get((BROKER.group, BROKER.kind, namespace, name))

    def readers(self, topic: str) -> Sequence[OwnershipRecord]:
        """Subscriptions that have a place in this topic."""
        return self._readers.get(topic, ())
