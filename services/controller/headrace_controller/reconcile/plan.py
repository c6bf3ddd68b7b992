"""What a reconcile decides: steps, as values. Nothing here acts.

Every step is safe to repeat and safe to lose: if a plan is executed in part, or twice, the next
reconcile continues from the resulting state. Steps of one plan do not depend on each other's
success; a step that must come after another one is planned once the other's effect was observed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.routing import Route
from headrace.resources.ownership_record import OwnershipRecord
from headrace.resources.resource import Resource


@dataclass(frozen=True, slots=True)
class SaveOwnershipRecord:
    """Store what an owner has in Kafka."""

    ownership: OwnershipRecord


@dataclass(frozen=True, slots=True)
class DeleteOwnershipRecord:
    """Delete the record of an owner that has nothing left in Kafka; its names are free again."""

    uid: str


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Keep the resource, once deleted, until the controller has cleaned up.

    This is the first write to an object and there is one per object, so defaults that should be
    visible in the object are written with it.
    """

    resource: Resource
    delivery: Mapping[str, Any] | None = None
    """What to write into a `spec` that has no `delivery`."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """The clean-up is complete; the resource may go."""

    resource: Resource


class BackendStep:
    """A step that a backend plans and executes."""

    __slots__ = ()

    @property
    def subject(self) -> str:
        """The name of the topic or group that the step is about; it says which backend executes
        it.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PutRoute:
    """Write a record of the routing table."""

    route: Route


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Write the removal of a record of the routing table."""

    key: str


@dataclass(frozen=True, slots=True)
class WriteTombstone:
    """Let compaction drop a key whose removal was applied.

    A tombstone carries no epoch, so it is planned only for a removal that the routing table has
    accepted: the removals of a controller that was replaced are ignored.
    """

    key: str


@dataclass(frozen=True, slots=True)
class CreateObject:
    """Create an object; one that exists already stays as it is."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class ApplyObject:
    """Create an object, or set the fields given here and remove those that were given before."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class ReplaceObject:
    """Write an object of another owner as it is here, unless it was written since it was
    observed.
    """

    resource: Resource


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """Delete this very object; another one of the same name stays."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class PutSubscriber:
    """Write the entry of a Subscription into `spec.subscribers` of a channel that another
    controller serves.
    """

    resource: Resource
    uid: str
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RemoveSubscriber:
    """Remove the entry of a Subscription from such a channel."""

    resource: Resource
    uid: str


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Write a resource's status."""

    resource: Resource
    status: Mapping[str, Any]
    interim: bool = False
    """Whether it says only what the other steps about the resource are about to change: Ready was
    Unknown and remains so.
    """


Step = (
    SaveOwnershipRecord
    | DeleteOwnershipRecord
    | AddFinalizer
    | RemoveFinalizer
    | BackendStep
    | PutRoute
    | RemoveRoute
    | WriteTombstone
    | CreateObject
    | ApplyObject
    | ReplaceObject
    | DeleteObject
    | PutSubscriber
    | RemoveSubscriber
    | SetStatus
)


@dataclass(frozen=True, slots=True)
class ReconcileProblem:
    """What prevents a resource from being ready, as a condition's reason and message. A `waiting`
    problem is temporary and needs no action.
    """

    reason: str
    message: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps to execute now. `waiting_for` lists what else must happen before more can be
    decided: reconcile again soon.
    """

    steps: Sequence[Step] = ()
    waiting_for: Sequence[str] = ()
    requeue_at: float | None = None
    """Unix time of the next deadline that depends on the clock only."""
    internal_errors: Sequence[tuple[Resource, Exception]] = ()
    """Resources whose decision raised an unexpected exception: nothing is planned for them."""


@dataclass(slots=True)
class Draft:
    """A plan under construction."""

    steps: list[Step] = field(default_factory=list)
    waiting_for: list[str] = field(default_factory=list)
    requeue_times: list[float] = field(default_factory=list)
    internal_errors: list[tuple[Resource, Exception]] = field(default_factory=list)
    _before: int = 0
    """The number of steps before those about the resource that is decided on."""

    def add(self, *steps: Step) -> None:
        """Plan these steps."""
        self.steps += steps

    def wait(self, what: str) -> None:
        """Record that the next decision depends on `what`: reconcile again soon."""
        self.waiting_for.append(what)

    def requeue(self, at: float) -> None:
        """Reconcile again at this Unix time."""
        self.requeue_times.append(at)

    @contextmanager
    def isolated(self, resource: Resource) -> Iterator[None]:
        """Plan steps about one resource: if that raises, none of its steps are planned and the
        plans of other resources are kept.
        """
        self._before = len(self.steps)
        try:
            yield
        except Exception as error:
            del self.steps[self._before :]
            self.internal_errors.append((resource, error))

    @property
    def has_steps(self) -> bool:
        """Whether steps are planned about the resource that is decided on."""
        return len(self.steps) > self._before

    def finish(self) -> Plan:
        """The finished plan."""
        return Plan(
            tuple(self.steps),
            tuple(self.waiting_for),
            min(self.requeue_times, default=None),
            tuple(self.internal_errors),
        )
