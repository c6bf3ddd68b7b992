"""The observed state: everything a reconcile decides on, as one value, with the lookups that are
needed for each resource.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from headrace.domain.backend_name import IN_MEMORY, KAFKA, backend_of
from headrace.domain.ports import Instance
from headrace.domain.routing import Addressable, Route
from headrace.domain.source_report import SourceReport
from headrace.domain.subscription_state import SubscriptionState, merge, read
from headrace.resources.control_ports import ClusterDescription
from headrace.resources.destination import Unresolved
from headrace.resources.event_schema import SchemaResult
from headrace.resources.ownership_record import OwnershipRecord
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace.resources.system_config import BUILT_IN, SystemConfig
from headrace.resources.timestamps import write_seconds

T = TypeVar("T")

INGRESS = "ingress"
DISPATCHER = "dispatcher"
SOURCES = "sources"
FINALIZER = "headrace.dev/kafka"

TOPICS_ANNOTATION = "headrace.dev/existing-topics"
"""`adopt` takes over existing topics of the same name, if their partitions and settings match."""
LOST_ANNOTATION = "headrace.dev/lost-topics"
"""`recreate` accepts that a topic was deleted together with the events in it."""
OFFSETS_ANNOTATION = "headrace.dev/lost-offsets"
"""`earliest` or `latest`: where a group restarts after its committed offsets are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Settings of the operator that apply to all resources."""

    ingress_url: str = "http://127.0.0.1:8080"
    """The prefix of the addresses of addressables."""
    in_memory_url: str | None = None
    """The same for in-memory channels; None: the ingress serves them too."""
    cluster_domain: str = "cluster.local"
    in_cluster: bool = False
    """Whether the controller runs against a cluster, whose DNS resolves Services."""
    dead_grace_seconds: int = 7 * 24 * 3600
    """How long dead letter topics outlive their subscriptions, and how long all topics outlive an
    owner that disappeared without being deleted.
    """
    namespaces: tuple[str, ...] = ()
    """The namespaces that are served; empty: all of them."""
    adopts_store: bool = False
    """Whether topics that belong to the resources of another store may be taken over."""

    def serves(self, namespace: str) -> bool:
        """Whether resources of this namespace are visible. In other namespaces, not seeing a
        resource does not mean that it does not exist.
        """
        return not self.namespaces or namespace in self.namespaces

    def ingress_of(self, backend: str) -> str:
        """The URL of the ingress that accepts the events of this backend, without a final slash."""
        url = self.in_memory_url if backend == IN_MEMORY else None
        return (url or self.ingress_url).rstrip("/")

    @property
    def service_domain(self) -> str | None:
        """The DNS domain of Services; None outside a cluster."""
        return self.cluster_domain if self.in_cluster else None


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step about one topic, group or object has failed; it is retried at `retry_at` (Unix
    seconds).
    """

    message: str
    retry_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedState:
    """Everything a reconcile decides on. Where a field says so, a missing entry means unknown, not
    false.
    """

    installation: Installation
    now: float
    epoch: int
    cluster: ClusterDescription
    resources: Mapping[ResourceKind, Sequence[Resource]] = field(default_factory=dict)
    """The resources of every registered kind, with their defaults (see `ResourceValidator`)."""
    validation_errors: Mapping[str, str] = field(default_factory=dict)
    """By uid, why a resource is invalid; invalid resources are not acted on."""
    system: SystemConfig = BUILT_IN
    system_problems: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with the ConfigMaps behind `system`, by name."""
    referenced: Sequence[Resource] = ()
    """The existing objects of any kind that resources refer to (see `references`)."""
    unreadable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By apiVersion and kind, why objects of that kind cannot be read."""
    ownership_records: Mapping[str, OwnershipRecord] = field(default_factory=dict)
    backend: object = None
    """What the backend has observed; only the backend understands it."""
    routes: Mapping[str, Route] = field(default_factory=dict)
    """The routing table as stored."""
    removed_routes: Mapping[str, int] = field(default_factory=dict)
    """Epoch by key of removals in the routing table that have no tombstone yet."""
    route_positions: Mapping[str, int] = field(default_factory=dict)
    """Log position by key of this process's newest write or removal."""
    routes_end: int = -1
    """Log position of the routing table's newest record."""
    instances: Sequence[Instance] = ()
    source_reports: Mapping[str, SourceReport] = field(default_factory=dict)
    """By uid, what the processes report of the sources that they run."""
    event_schemas: dict[str, SchemaResult] = field(default_factory=dict)
    """What was read of the schemas that are wanted, by uid of the EventType. Filled in after the
    rest is known, because only that says which schemas are wanted.
    """
    failed_steps: Mapping[str, StepFailure] = field(default_factory=dict)
    """By topic or group name, or by object name."""
    _objects: Mapping[tuple[str, str, str, str], Resource] = field(
        init=False, repr=False, compare=False
    )
    _readers: Mapping[str, Sequence[OwnershipRecord]] = field(init=False, repr=False, compare=False)
    _derived: dict[Callable[..., Any], Any] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _now_text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the indexes of lookups that every subscription does: with a thousand of them, each
        linear search would be a million steps.
        """
        objects = {
            (each.kind.group, str(each.object.get("kind")), each.namespace, each.name): each
            for each in (*self.referenced, *self.all())
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
        """`now` in the format of condition timestamps."""
        return self._now_text

    def of(self, kind: ResourceKind) -> Sequence[Resource]:
        """The resources of a registered kind."""
        return self.resources.get(kind, ())

    def all(self) -> Iterator[Resource]:
        """The resources of all registered kinds."""
        return (each for resources in self.resources.values() for each in resources)

    def applied(self, key: str) -> bool:
        """Whether every live process has read the newest record (or removal) of `key`."""
        position = self.route_positions.get(key, self.routes_end)
        return all(instance.applied >= position for instance in self.instances)

    def serves(self, service: str, backend: str = KAFKA) -> bool:
        """Whether a process of this service is alive that serves this backend."""
        return any(
            instance.service == service and backend in instance.backends
            for instance in self.instances
        )

    def state_of(self, uid: str) -> SubscriptionState:
        """The state of a subscription, merged over all dispatchers that report one."""
        return merge(
            read(instance.groups[uid]) for instance in self.instances if uid in instance.groups
        )

    def report_of(self, uid: str) -> SourceReport | None:
        """What the processes report of a source; None if none of them runs it."""
        return self.source_reports.get(uid)

    def blocked(self, name: str) -> StepFailure | None:
        """The failure that a step about this topic or group still has to wait for."""
        failure = self.failed_steps.get(name)
        return failure if failure is not None and failure.retry_at > self.now else None

    def lookup(
        self, api_version: str, kind: str, namespace: str, name: str
    ) -> Mapping[str, Any] | None:
        """Any object by reference. Raises Unresolved if its kind cannot be read: unknown is not
        absent.
        """
        found = self.find(Reference(api_version, kind, namespace, name))
        return found.object if found else None

    def find(self, wanted: Reference) -> Resource | None:
        """As `lookup`, with the kind in which the store has the object."""
        group, kind = wanted.group, wanted.kind
        found = self._objects.get(
            (group, kind, wanted.namespace, wanted.name)
        ) or self._objects.get((group, kind, "", wanted.name))
        if found is None and (wanted.api_version, kind) in self.unreadable:
            reason = self.unreadable[wanted.api_version, kind]
            raise Unresolved(f"{kind} of {wanted.api_version} cannot be read: {reason}")
        return found

    def all_of(self, api_version: str, kind: str, namespace: str) -> Sequence[Resource]:
        """The objects of a kind in a namespace, which a resource is shown (see
        `KindReconciler.workloads`). Raises Unresolved if the kind cannot be read.
        """
        if (api_version, kind) in self.unreadable:
            reason = self.unreadable[api_version, kind]
            raise Unresolved(f"{kind} of {api_version} cannot be read: {reason}")
        group = api_version.rpartition("/")[0]
        return [
            found for key, found in self._objects.items() if key[:3] == (group, kind, namespace)
        ]

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource | None:
        """The resource of a registered kind with that name."""
        return self._objects.get((kind.group, kind.kind, namespace, name))

    def addressable_at(self, url: str) -> Addressable | None:
        """The addressable that accepts events at this address; None if it is not one of this
        installation.
        """
        return self.derived(_by_address).get(url.rstrip("/"))

    def restricted_to(
        self,
        ownership_records: Mapping[str, OwnershipRecord],
        *,
        cluster: ClusterDescription,
        backend: object,
    ) -> "ObservedState":
        """The same state with what one of several backends has: its records, and what was observed
        of it. The indexes are shared.
        """
        view = copy(self)
        object.__setattr__(view, "ownership_records", ownership_records)
        object.__setattr__(view, "cluster", cluster)
        object.__setattr__(view, "backend", backend)
        return view

    def derived(self, compute: Callable[["ObservedState"], T]) -> T:
        """The result of `compute`, which is pure, for this state; computed once."""
        if compute not in self._derived:
            self._derived[compute] = compute(self)
        found: T = self._derived[compute]
        return found

    def readers(self, topic: str) -> Sequence[OwnershipRecord]:
        """Subscriptions whose group has start offsets in this topic."""
        return self._readers.get(topic, ())


def _by_address(observed: ObservedState) -> Mapping[str, Addressable]:
    ingress_of = observed.installation.ingress_of
    return {
        url: route
        for route in observed.routes.values()
        if isinstance(route, Addressable)
        for url in (
            *(ingress_of(backend_of(route.topic)) + path for path in route.paths),
            *(f"http://{host}" for host in route.hosts),
        )
    }
