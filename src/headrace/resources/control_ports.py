"""The controller's ports: a store for resources, and administration of topics and groups.

The rules of `headrace.domain.ports` apply: callbacks run on the event loop, every coroutine ends
within a deadline, and errors are Headrace's own.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from headrace.resources.resource import Change, Reference, Resource, ResourceKind
from headrace.resources.resource_rules import ANY_OBJECT, Precondition

KIND_NOT_READ = "not read yet"
"""Why a kind cannot be read that was just named for the first time."""
KIND_NOT_SERVED = "the API server does not serve this kind"
"""Why a kind cannot be read of which there is no definition; see `ResourceStore.track_kinds`."""


class ResourceStore(Protocol):
    """Durable storage of resources, with one writer at a time.

    Reads return what this process has followed so far. A write returns when its result can be read
    here.
    """

    @property
    def epoch(self) -> int | None:
        """Number of this process's leadership term, higher than that of every earlier one; None
        while this process is not the leader.
        """
        ...

    @property
    def is_becoming_leader(self) -> bool:
        """Whether this process is not the leader yet and is about to be, because no other process
        is. Writes may wait a few seconds for it.
        """
        ...

    @property
    def resource_version(self) -> str:
        """The resourceVersion of a list read now."""
        ...

    @property
    def identity(self) -> str:
        """The identity of this set of resources, so that it is not confused with another one;
        constant for the life of the set.
        """
        ...

    @property
    def last_error(self) -> str | None:
        """Why resources cannot be read at the moment, None if they can; what was read before stays
        available.
        """
        ...

    async def start(self) -> None:
        """Read everything, then follow; become the leader as soon as there is no other.

        Raises Temporary if that takes too long; it may then be called again.
        """
        ...

    async def stop(self) -> None:
        """Finish writes in flight, release leadership, stop following. Idempotent."""
        ...

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        """One resource. Raises NotFound."""
        ...

    def list(self, kind: ResourceKind, namespace: str | None = None) -> Sequence[Resource]:
        """All resources of a kind, in one namespace or in all, sorted by namespace and name."""
        ...

    def find(self, wanted: Reference) -> Resource | None:
        """An object by the reference of a manifest; None if there is none, or its kind is not
        followed (yet).
        """
        ...

    def track_kinds(self, kinds: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """Set all the kinds (apiVersion, kind) that resources refer to, so that `find` knows their
        objects.

        Returns why some of them cannot be read. Only a store on another API server has to do
        anything here.
        """
        ...

    async def create(self, resource: Resource) -> Resource:
        """Store a new resource. Raises AlreadyExists, NotLeader, LogUnavailable if nothing was
        stored, OutcomeUnknown if it may have been.
        """
        ...

    async def replace(self, resource: Resource) -> Resource | None:
        """Store a new version, without changing its status; None if that removed the last finalizer
        of a deleted resource.

        Without a resourceVersion any stored version is replaced. Raises NotFound, Conflict,
        NotLeader, LogUnavailable.
        """
        ...

    async def apply(self, resource: Resource) -> Resource:
        """Create the object, or set the fields given here and remove those that this controller has
        applied before and that are not given (server-side apply, forced).

        Fields of other managers and the status stay. Nothing is written if nothing changes. Raises
        as `replace` does.
        """
        ...

    async def replace_status(self, resource: Resource) -> Resource:
        """Store a new status, without changing anything else. Raises as `replace` does."""
        ...

    async def delete(
        self,
        kind: ResourceKind,
        namespace: str,
        name: str,
        *,
        precondition: Precondition = ANY_OBJECT,
        finalizers: Sequence[str] = (),
    ) -> Resource | None:
        """Remove it, or mark it as deleted if it has finalizers (then it is returned); `finalizers`
        are added to them.

        Raises NotFound, Conflict (`precondition` is not met), NotLeader, LogUnavailable.
        """
        ...

    def watch(self, changed: Callable[[Sequence[Change]], None]) -> None:
        """Call `changed` with every change, in order and once; with an empty sequence when this
        process becomes the leader, or is no longer the leader.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic to create."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDescription:
    """A topic as Kafka describes it."""

    name: str
    partitions: int
    replication: int
    id: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Effective settings, including the brokers' defaults."""


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The Kafka cluster as it is now."""

    id: str
    brokers: int
    addresses: tuple[str, ...] = ()
    """Where clients connect to it, as `host:port`; empty if that is not known."""


class GroupState(StrEnum):
    """Whether a consumer group exists and has members."""

    ABSENT = "absent"
    EMPTY = "empty"
    LIVE = "live"


class TopicAdmin(Protocol):
    """Administration of topics, groups and their offsets. An empty collection is answered without a
    call.
    """

    async def cluster(self) -> ClusterDescription:
        """The brokers of the cluster."""
        ...

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        """Those of `topics` that exist. Without `settings` they may be left out, which is less work
        for the backend.
        """
        ...

    async def create(self, topics: Sequence[TopicSpec]) -> Mapping[str, str]:
        """Create topics; returns those that could not be created, with the reason. An existing
        topic counts as created.
        """
        ...

    async def add_partitions(self, topic: str, total: int) -> None:
        """Raise the number of partitions to `total`."""
        ...

    async def add_replicas(self, topic: str, total: int) -> None:
        """Raise the number of replicas to `total`. Raises `WriteRefused` where that is not
        possible.
        """
        ...

    async def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """Set these settings; all others stay."""
        ...

    async def delete(self, topics: Collection[str]) -> Mapping[str, str]:
        """Delete topics; returns those that could not be deleted, with the reason. A missing topic
        counts as deleted.
        """
        ...

    async def ends(self, topics: Mapping[str, Collection[int]]) -> Mapping[str, Mapping[int, int]]:
        """The offset after the last record of each of these partitions."""
        ...

    async def committed(self, groups: Mapping[str, str]) -> Mapping[str, Mapping[int, int]]:
        """By group (each given with a topic), its committed offsets in that topic; an unknown group
        has none.
        """
        ...

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit offsets for a group without members."""
        ...

    async def groups(self, groups: Collection[str]) -> Mapping[str, GroupState]:
        """The state of each of these groups."""
        ...

    async def delete_groups(self, groups: Collection[str]) -> Mapping[str, str]:
        """Delete groups without members; returns those that could not be deleted, with the reason.
        A missing group counts as deleted.
        """
        ...

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records below these offsets, by partition."""
        ...
