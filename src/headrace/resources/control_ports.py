"""What the controller needs of the outside world: a place for resources, and the power over topics
and groups.

The rules of `headrace.domain.ports` hold here too: callbacks run on the loop, every coroutine ends
within a deadline, errors are ours.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from headrace.resources.resource import Change, Reference, Resource, ResourceKind
from headrace.resources.resource_rules import ANY_OBJECT, Precondition


class ResourceStore(Protocol):
    """Resources, durably, with one writer at a time.

    Reads answer from what this process has followed so far. A write is answered when its result can
    be read here.
    """

    @property
    def epoch(self) -> int | None:
        """Number of this writer's term, above that of every earlier one; None while somebody else
        writes.
        """
        ...

    @property
    def is_becoming_leader(self) -> bool:
        """Whether this process does not write yet and is about to: nobody else does. Writes may
        wait for it for a few seconds.
        """
        ...

    @property
    def resource_version(self) -> str:
        """The resourceVersion of a list read now."""
        ...

    @property
    def identity(self) -> str:
        """Which set of resources this is, for who must not take it for another; the same for as
        long as the set lasts.
        """
        ...

    @property
    def last_error(self) -> str | None:
        """Why resources cannot be read at the moment, None when all is well; what was read
        stays.
        """
        ...

    async def start(self) -> None:
        """Read everything, then follow; begin to write as soon as nobody else does.

        Raises Temporary when that takes too long; then it may be called again.
        """
        ...

    async def stop(self) -> None:
        """Finish writes in hand, let go of the writer's place, stop following. Idempotent."""
        ...

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        """One resource. Raises NotFound."""
        ...

    def list(self, kind: ResourceKind, namespace: str | None = None) -> Sequence[Resource]:
        """All of a kind, of one namespace or of all, in the order of namespace and name."""
        ...

    def find(self, wanted: Reference) -> Resource | None:
        """Any object by the way a manifest names it; None where there is none, or its kind is not
        followed (yet).
        """
        ...

    def track_kinds(self, kinds: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """Say which kinds (apiVersion, kind) resources refer to, all of them, so that `find` knows
        their objects.

        Returns why some of them cannot be read. Only a store of somebody else's resources has
        anything to do here.
        """
        ...

    async def create(self, resource: Resource) -> Resource:
        """Store a new resource. Raises AlreadyExists, NotLeader, LogUnavailable when nothing was
        stored, OutcomeUnknown when it may be.
        """
        ...

    async def replace(self, resource: Resource) -> Resource | None:
        """Store another version of it, status untouched; None when that was the last finalizer of a
        deleted one.

        Without a resourceVersion whatever is there is replaced. Raises NotFound, Conflict,
        NotLeader, LogUnavailable.
        """
        ...

    async def replace_status(self, resource: Resource) -> Resource:
        """Store another status, all else untouched. Raises as `replace` does."""
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
        """Remove it, or mark it when it has finalizers, `finalizers` added to them (then it is
        returned).

        Raises NotFound, Conflict (it is not the object of `precondition`), NotLeader,
        LogUnavailable.
        """
        ...

    def watch(self, changed: Callable[[Sequence[Change]], None]) -> None:
        """Call `changed` with every change, in order and once; with none when this process becomes
        or ceases to be the writer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic to make."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDescription:
    """A topic as Kafka has it."""

    name: str
    partitions: int
    replication: int
    id: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Effective settings, defaults of the brokers included."""


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The Kafka cluster as it is now."""

    id: str
    brokers: int


class GroupState(StrEnum):
    """Whether a consumer group exists and has members."""

    ABSENT = "absent"
    EMPTY = "empty"
    LIVE = "live"


class TopicAdmin(Protocol):
    """Power over topics, groups and their offsets. A collection that names nothing is answered
    without a call.
    """

    async def cluster(self) -> ClusterDescription:
        """Who is there."""
        ...

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicDescription]:
        """Those of `topics` that exist, with settings."""
        ...

    async def create(self, topics: Sequence[TopicSpec]) -> Mapping[str, str]:
        """Make topics; return the ones that could not be made, with the reason. One that exists
        already counts as made.
        """
        ...

    async def add_partitions(self, topic: str, total: int) -> None:
        """Raise the number of partitions to `total`."""
        ...

    async def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """Set these settings, leave the others."""
        ...

    async def delete(self, topics: Collection[str]) -> Mapping[str, str]:
        """Delete topics; return the ones that could not be deleted, with the reason. One that is
        not there counts as deleted.
        """
        ...

    async def ends(self, topics: Mapping[str, Collection[int]]) -> Mapping[str, Mapping[int, int]]:
        """The offset after the last record of each of these partitions."""
        ...

    async def committed(self, groups: Mapping[str, str]) -> Mapping[str, Mapping[int, int]]:
        """By group (each given with a topic), the offsets it has committed in that topic; an
        unknown group has none.
        """
        ...

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit offsets for a group without members."""
        ...

    async def groups(self, groups: Collection[str]) -> Mapping[str, GroupState]:
        """The state of each of these groups."""
        ...

    async def delete_groups(self, groups: Collection[str]) -> Mapping[str, str]:
        """Forget groups without members; return the ones that could not be, with the reason. Absent
        ones count as forgotten.
        """
        ...

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Give up the records below these offsets, by partition."""
        ...
