"""The reconcile over a backend that is not Kafka: channels and positions in a dictionary. Broker,
Trigger and Queue become Ready and go again, and no topic admin exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.resources.broker_config import TopicConfig
from headrace.resources.control_ports import ClusterDescription
from headrace.resources.kinds import BROKER, TRIGGER
from headrace.resources.naming import NameAllocator
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole
from headrace.resources.resource import Resource
from headrace_controller.reconcile.backend import (
    BackendDecisions,
    ChannelResult,
    ObservedChannel,
)
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.observed_state import ObservedState, StepFailure
from headrace_controller.reconcile.plan import (
    BackendStep,
    DeleteOwnershipRecord,
    Draft,
    ReconcileProblem,
    Step,
)
from headrace_controller.reconcile.registry import Reconcilers
from tests.support.queue_kind import QUEUE, QUEUES, READERS
from tests.unit.controller.harness import ControllerHarness, broker, manifest, trigger


@dataclass(frozen=True)
class Open(BackendStep):
    """Create a channel, or a position."""

    name: str


@dataclass(frozen=True)
class Close(BackendStep):
    """Delete one."""

    name: str


class Decisions:
    """See `BackendDecisions`: what is not there is opened, and used once it was observed."""

    def prepare(self, observed: ObservedState, draft: Draft, *, record_bytes_max: int) -> None:
        """Nothing is shared."""

    def claim_channel(
        self, owner: Resource, names: NameAllocator, *, topic: str, external: str | None
    ) -> OwnershipRecord:
        """A channel's name."""
        return _record(owner, (TopicRole.CHANNEL,), names.allocate_topic(topic, owner.uid))

    def claim_subscription(
        self, owner: Resource, names: NameAllocator, *, group: str
    ) -> OwnershipRecord:
        """A position's name."""
        name = names.allocate_group(group, owner.uid).group
        return _record(owner, (TopicRole.RETRY, TopicRole.DEAD), name, group=name)

    def ensure_channel(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        config: TopicConfig,
        draft: Draft,
    ) -> ChannelResult:
        """Open it."""
        name = ownership.topics[0].name
        if name in _open(observed):
            return ChannelResult(channel=_channel(name))
        draft.add(Open(name))
        return ChannelResult(problem=ReconcileProblem("Opening", "it is opened", waiting=True))

    def channel_of(
        self, observed: ObservedState, ownership: OwnershipRecord | None
    ) -> ObservedChannel | None:
        """The channel, once it is open."""
        name = ownership.topics[0].name if ownership else ""
        return _channel(name) if name in _open(observed) else None

    def ensure_subscription(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        draft: Draft,
        *,
        record_bytes_max: int,
    ) -> ReconcileProblem | None:
        """Nothing to do."""
        return None

    def ensure_subscription_start(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        channel: ObservedChannel,
        draft: Draft,
    ) -> ReconcileProblem | None:
        """Open the position."""
        if ownership.group in _open(observed):
            return None
        draft.add(Open(ownership.group))
        return ReconcileProblem("Opening", "it is opened", waiting=True)

    def reads_other_channel(self, ownership: OwnershipRecord, channel: ObservedChannel) -> bool:
        """Channels are never replaced."""
        return False

    def forget_position(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Never asked for."""
        raise AssertionError("no channel was replaced")

    def remaining_events(
        self, observed: ObservedState, ownership: OwnershipRecord
    ) -> ReconcileProblem | None:
        """Nothing is kept."""
        return None

    def retire(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft, *, orphaned: bool
    ) -> None:
        """Close what is open, then delete the record."""
        names = {ownership.group, ownership.topics[0].name} & _open(observed)
        draft.add(*(Close(name) for name in sorted(names)))
        if not names:
            draft.add(DeleteOwnershipRecord(ownership.uid))

    def purge_retired(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Never asked for: nothing is kept."""
        raise AssertionError("nothing was retired")


@dataclass
class DictionaryBackend:
    """See `Backend`."""

    open: set[str] = field(default_factory=set)
    decisions: BackendDecisions = field(default_factory=Decisions)
    failed_steps: Mapping[str, StepFailure] = field(default_factory=dict)

    def reset(self) -> None:
        """Nothing is remembered."""

    async def observe(
        self, ownership_records: Mapping[str, OwnershipRecord]
    ) -> tuple[ClusterDescription, object]:
        """What is open."""
        return ClusterDescription("dictionary", 1), frozenset(self.open)

    async def observe_subscriptions(
        self, observed: ObservedState, subscriptions: Sequence[tuple[Resource, Resource | None]]
    ) -> object | None:
        """Everything is known."""
        return None

    async def observe_backlogs(
        self, observed: ObservedState, ownership_records: Sequence[OwnershipRecord]
    ) -> object | None:
        """Nothing is kept."""
        return None

    async def create(self, steps: Sequence[Step]) -> None:
        """Open."""
        self.open |= {step.name for step in steps if isinstance(step, Open)}

    async def delete(self, steps: Sequence[Step]) -> None:
        """Close."""
        self.open -= {step.name for step in steps if isinstance(step, Close)}


def _open(observed: ObservedState) -> frozenset[str]:
    assert isinstance(observed.backend, frozenset)
    return observed.backend


def _channel(name: str) -> ObservedChannel:
    return ObservedChannel(topic=name, identity=name, bytes_max=None, retention_seconds=None)


def _record(
    owner: Resource, roles: Sequence[TopicRole], name: str, *, group: str = ""
) -> OwnershipRecord:
    topics = tuple(OwnedTopic(name=name, role=role) for role in roles)
    return OwnershipRecord(
        uid=owner.uid,
        kind=owner.kind.kind,
        namespace=owner.namespace,
        name=owner.name,
        group=group,
        topics=topics,
    )


async def test_another_backend_is_another_adapter() -> None:
    """Nothing of the reconcile depends on Kafka."""
    backend = DictionaryBackend()
    harness = ControllerHarness(
        reconcilers=Reconcilers(*RECONCILERS, QUEUES, READERS), backend=backend
    )
    await harness.restart()
    await harness.apply(broker(), trigger())
    spec = {"subscriber": {"uri": "http://sink.example/"}}
    await harness.store.create(manifest(QUEUE, "work", spec=spec))
    await harness.settle()
    for kind, name in ((BROKER, "default"), (TRIGGER, "orders"), (QUEUE, "work")):
        assert ("True", "") == harness.condition(kind, name)
    assert 4 == len(backend.open)
    for kind, name in ((TRIGGER, "orders"), (BROKER, "default"), (QUEUE, "work")):
        await harness.delete(kind, name)
    await harness.settle()
    assert set() == backend.open
    assert {} == harness.routes() == harness.admin.topics
