"""What a reconcile decides: steps, as values. Nothing here acts.

Every step is safe to repeat and safe to lose: who performs half of a plan and dies, or performs it
twice, leaves a world from which the next reconcile goes on. Steps of one plan do not depend on each
other's success; what must come after something is planned when that something has been seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.routing import Route
from headrace.resources.control_ports import TopicSpec
from headrace.resources.ownership_record import OwnershipRecord
from headrace.resources.resource import Resource


@dataclass(frozen=True, slots=True)
class SaveOwnershipRecord:
    """Remember what an owner holds."""

    ownership: OwnershipRecord


@dataclass(frozen=True, slots=True)
class DeleteOwnershipRecord:
    """Forget an owner that holds nothing any more; its names are free again."""

    uid: str


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Ask the store to keep the resource, once deleted, until we have cleaned up.

    It is the first write to an object and there is one such in its life, so defaults that an object
    should show go with it.
    """

    resource: Resource
    delivery: Mapping[str, Any] | None = None
    """What to write into a `spec` that has no `delivery`."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """We have cleaned up."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """Make a topic."""

    topic: TopicSpec


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """Raise a topic's number of partitions."""

    topic: str
    total: int


@dataclass(frozen=True, slots=True)
class AlterTopic:
    """Bring settings back to what they should be."""

    topic: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    """Delete a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class CommitInitialOffsets:
    """Give a group its place: at the end of some partitions as it is when performed, at the
    beginning of others.
    """

    group: str
    topic: str
    at_end: tuple[int, ...] = ()
    at_beginning: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Forget a group's offsets."""

    group: str


@dataclass(frozen=True, slots=True)
class PutRoute:
    """RecordEvent the data plane."""

    route: Route


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """RecordEvent the data plane that this is over."""

    key: str


@dataclass(frozen=True, slots=True)
class WriteTombstone:
    """Let compaction forget a key whose removal was applied.

    The tombstone carries no epoch, so it is planned only for a removal that the routing table took:
    a controller that was replaced sees its own removals ignored.
    """

    key: str


@dataclass(frozen=True, slots=True)
class CreateEventType:
    """Describe a type of events that was seen; one that is there already stays as it is."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Show how a resource does."""

    resource: Resource
    status: Mapping[str, Any]


Step = (
    SaveOwnershipRecord
    | DeleteOwnershipRecord
    | AddFinalizer
    | RemoveFinalizer
    | CreateTopic
    | AddPartitions
    | AlterTopic
    | DeleteTopic
    | CommitInitialOffsets
    | DeleteGroup
    | PutRoute
    | RemoveRoute
    | WriteTombstone
    | CreateEventType
    | SetStatus
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to perform now. `waiting_for` says what else must happen before more can be decided:
    look again soon.
    """

    steps: Sequence[Step] = ()
    waiting_for: Sequence[str] = ()
    requeue_at: float | None = None
    """Unix time of the next thing that is due by the clock alone."""
    internal_errors: Sequence[tuple[Resource, Exception]] = ()
    """Resources that could not be decided upon, by a mistake of ours: nothing is planned about
    them.
    """


@dataclass(slots=True)
class Draft:
    """A plan being written."""

    steps: list[Step] = field(default_factory=list)
    waiting_for: list[str] = field(default_factory=list)
    requeue_times: list[float] = field(default_factory=list)
    internal_errors: list[tuple[Resource, Exception]] = field(default_factory=list)

    def add(self, *steps: Step) -> None:
        """Plan these steps."""
        self.steps += steps

    def wait(self, what: str) -> None:
        """Nothing to do about this but look again soon."""
        self.waiting_for.append(what)

    def requeue(self, at: float) -> None:
        """Look again at this Unix time."""
        self.requeue_times.append(at)

    @contextmanager
    def isolated(self, resource: Resource) -> Iterator[None]:
        """What is planned within is about this resource: if that fails, nothing of it is planned,
        and the others' plans stand.
        """
        before = len(self.steps)
        try:
            yield
        except Exception as error:
            del self.steps[before:]
            self.internal_errors.append((resource, error))

    def finish(self) -> Plan:
        """The plan."""
        return Plan(
            tuple(self.steps),
            tuple(self.waiting_for),
            min(self.requeue_times, default=None),
            tuple(self.internal_errors),
        )
