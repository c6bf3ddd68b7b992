"""Cluster mode: resources are in a Kubernetes API server, the controller's own records in Kafka.

Leadership needs two things: the Lease in the cluster decides which controller may start, Kafka's
transactional id fences an earlier one that is late. A controller is the leader only with both, and
releases Kafka's leadership without the Lease, so the two cannot be with different processes for
long.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence

from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.adapters.kubernetes.client import connect
from headrace.adapters.kubernetes.store import KubernetesResourceStore
from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.resource import Change, Reference, Resource, ResourceKey, ResourceKind
from headrace.resources.resource_rules import ANY_OBJECT, Precondition, not_found
from headrace.runtime.clock import SystemClock
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.settings import KubernetesSettings

EVENTS = "events"
EVENTS_MAX = 1_000
"""Events of this process that are cached, so that a repeated one is counted."""


class ClusterResourceStore:
    """A `ResourceStore`: the cluster for its kinds, Kafka for the controller's own records."""

    def __init__(self, cluster: KubernetesResourceStore, records: KafkaResourceStore) -> None:
        self._cluster = cluster
        self._records = records
        self._events: OrderedDict[ResourceKey, Resource] = OrderedDict()

    @property
    def epoch(self) -> int | None:
        """As `ResourceStore.epoch`: Kafka's, while this process also holds the Lease."""
        return self._records.epoch if self._cluster.epoch is not None else None

    @property
    def is_becoming_leader(self) -> bool:
        """As `ResourceStore.is_becoming_leader`: with the Lease, only Kafka's leadership is
        missing.
        """
        return self._cluster.epoch is not None and self._records.is_becoming_leader

    @property
    def resource_version(self) -> str:
        """As `ResourceStore.resource_version`: the cluster's."""
        return self._cluster.resource_version

    @property
    def last_error(self) -> str | None:
        """As `ResourceStore.last_error`, of the cluster and of the records in Kafka."""
        return self._cluster.last_error or self._records.last_error

    @property
    def identity(self) -> str:
        """As `ResourceStore.identity`: the cluster's."""
        return self._cluster.identity

    async def start(self) -> None:
        """As `ResourceStore.start`."""
        await self._cluster.start()
        await self._records.start()

    async def stop(self) -> None:
        """As `ResourceStore.stop`: Kafka's leadership is released first, so that the next holder of
        the Lease can acquire it.
        """
        await self._records.stop()
        await self._cluster.stop()

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        """As `ResourceStore.get`; only the Events that this process wrote, because those of the
        cluster are not watched.
        """
        if kind.qualified == EVENTS:
            found = self._events.get(ResourceKey(kind.group, kind.plural, namespace, name))
            if found is None:
                raise not_found(kind, name)
            return found
        return self._store_of(kind).get(kind, namespace, name)

    def list(self, kind: ResourceKind, namespace: str | None = None) -> Sequence[Resource]:
        """As `ResourceStore.list`."""
        return self._store_of(kind).list(kind, namespace)

    def find(self, wanted: Reference) -> Resource | None:
        """As `ResourceStore.find`."""
        return self._cluster.find(wanted)

    def track_kinds(self, kinds: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """As `ResourceStore.track_kinds`."""
        return self._cluster.track_kinds(kinds)

    async def create(self, resource: Resource) -> Resource:
        """As `ResourceStore.create`."""
        return self._cache_event(await self._store_of(resource.kind).create(resource))

    async def replace(self, resource: Resource) -> Resource | None:
        """As `ResourceStore.replace`."""
        try:
            new = await self._store_of(resource.kind).replace(resource)
        except (Conflict, NotFound):
            # An Event that has expired, or that another client changed: the next one of its name
            # is a new object.
            self._events.pop(resource.key, None)
            raise
        return new and self._cache_event(new)

    async def apply(self, resource: Resource) -> Resource:
        """As `ResourceStore.apply`."""
        return await self._store_of(resource.kind).apply(resource)

    async def replace_status(self, resource: Resource) -> Resource:
        """As `ResourceStore.replace_status`."""
        return await self._store_of(resource.kind).replace_status(resource)

    async def delete(
        self,
        kind: ResourceKind,
        namespace: str,
        name: str,
        *,
        precondition: Precondition = ANY_OBJECT,
        finalizers: Sequence[str] = (),
    ) -> Resource | None:
        """As `ResourceStore.delete`."""
        return await self._store_of(kind).delete(
            kind, namespace, name, precondition=precondition, finalizers=finalizers
        )

    def watch(self, changed: Callable[[Sequence[Change]], None]) -> None:
        """As `ResourceStore.watch`."""
        self._cluster.watch(changed)
        self._records.watch(changed)

    def _cache_event(self, new: Resource) -> Resource:
        if new.kind.qualified == EVENTS:
            self._events[new.key] = new
            self._events.move_to_end(new.key)
            if len(self._events) > EVENTS_MAX:
                self._events.popitem(last=False)
        return new

    def _store_of(self, kind: ResourceKind) -> ResourceStore:
        return self._records if kind.group == OWNERSHIP_RECORD.group else self._cluster


def create_cluster_store(
    settings: KubernetesSettings, options: KafkaOptions, reconcilers: Reconcilers, *, holder: str
) -> ClusterResourceStore:
    """The store of cluster mode. `holder` names this process in the Lease. Raises Permanent if no
    API server is configured.
    """
    clock = SystemClock()
    cluster = KubernetesResourceStore(
        connect(settings.kubeconfig, context=settings.context),
        kinds=reconcilers.watched_kinds,
        clock=clock,
        holder=holder,
        lease_namespace=settings.system_namespace,
        lease_name=settings.lease,
        namespaces=settings.served_namespaces(),
    )
    records = KafkaResourceStore(
        options,
        kinds=reconcilers.stored_kinds,
        clock=clock,
        holder=holder,
        may_write=lambda: cluster.epoch is not None,
    )
    return ClusterResourceStore(cluster, records)
