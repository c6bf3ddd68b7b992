"""The port to what carries events between addressables and subscriptions, one level above the admin
API of a message broker.

The reconcile asks for a channel, for the start of a subscription, and for the end of either; how
that is done, and in which steps, is the backend's. Kafka and JetStream share one
(`headrace_controller.topic_backend`), the memory of a process has another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from headrace.resources.broker_config import TopicConfig
from headrace.resources.control_ports import ClusterDescription
from headrace.resources.naming import NameAllocator
from headrace.resources.ownership_record import OwnershipRecord
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import ObservedState, StepFailure
from headrace_controller.reconcile.plan import Draft, ReconcileProblem, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedChannel:
    """A channel that exists and belongs to its addressable."""

    topic: str
    """Its name in routing records."""
    identity: str
    """Another one after the channel was replaced under the same name."""
    bytes_max: int | None
    """The largest record it takes; None if that is not known."""
    retention_seconds: float | None
    """How long it keeps records; None if without limit, or not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelResult:
    """What came of ensuring a channel: the channel, or the problem that prevents its use."""

    channel: ObservedChannel | None = None
    problem: ReconcileProblem | None = None
    note: str = ""
    """Information for the status that does not prevent the channel's use."""


class Progress(Enum):
    """How far a clean-up is."""

    DONE = "done"
    PENDING = "pending"
    """Steps were planned, or something has to be waited for: the next stage must not begin."""


class BackendDecisions(Protocol):
    """The pure half: each function reads the observed state and writes steps to the draft."""

    def prepare(self, observed: ObservedState, draft: Draft, *, record_bytes_max: int) -> None:
        """Plan what the backend needs for itself, to take records of this size."""
        ...

    def claim_channel(
        self, owner: Resource, names: NameAllocator, *, topic: str, external: str | None
    ) -> OwnershipRecord:
        """The record of an addressable whose channel prefers the name `topic`, or is the existing
        one `external`.
        """
        ...

    def ensure_channel(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        config: TopicConfig,
        draft: Draft,
    ) -> ChannelResult:
        """Plan that the channel exists as configured."""
        ...

    def channel_of(
        self, observed: ObservedState, ownership: OwnershipRecord | None
    ) -> ObservedChannel | None:
        """The channel, if subscriptions may read it."""
        ...

    def claim_subscription(
        self, owner: Resource, names: NameAllocator, *, group: str
    ) -> OwnershipRecord:
        """The record of a subscription that prefers the name `group`."""
        ...

    def ensure_subscription(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        draft: Draft,
        *,
        record_bytes_max: int,
    ) -> ReconcileProblem | None:
        """Plan where retries and dead letters of records of this size are kept; what prevents that,
        None if nothing does.
        """
        ...

    def ensure_subscription_start(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        channel: ObservedChannel,
        draft: Draft,
    ) -> ReconcileProblem | None:
        """Plan the position from which the subscription reads the channel; what prevents that, None
        if nothing does.
        """
        ...

    def reads_other_channel(self, ownership: OwnershipRecord, channel: ObservedChannel) -> bool:
        """Whether the subscription's position is one in a channel that was replaced."""
        ...

    def forget_position(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Plan that the position is dropped; no consumer is left, or the next one waits for it."""
        ...

    def remaining_events(
        self, observed: ObservedState, ownership: OwnershipRecord
    ) -> ReconcileProblem | None:
        """What the subscription still has to deliver of the events that were in its channel when
        `Backend.observe_backlogs` was first asked for it; None once each of them is delivered or a
        dead letter. A backend that keeps no events has nothing left.
        """
        ...

    def retire(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft, *, orphaned: bool
    ) -> None:
        """Plan the clean-up of an owner whose routing records are gone, then retire or delete its
        record. What an orphaned owner had is kept for the grace period.
        """
        ...

    def purge_retired(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Plan the deletion of what was kept for the grace period, then of the record."""
        ...


class Backend(Protocol):
    """The half that does I/O. Errors are Headrace's own; every call ends within a deadline."""

    @property
    def decisions(self) -> BackendDecisions:
        """The pure half."""
        ...

    @property
    def failed_steps(self) -> Mapping[str, StepFailure]:
        """The steps that have failed, by name of the thing that a step was about."""
        ...

    def reset(self) -> None:
        """Drop everything remembered, at the start of a term."""
        ...

    async def observe(
        self, ownership_records: Mapping[str, OwnershipRecord]
    ) -> tuple[ClusterDescription, object]:
        """The cluster, and the facts about these owners: `ObservedState.backend`, which only the
        backend understands.
        """
        ...

    async def observe_subscriptions(
        self, observed: ObservedState, subscriptions: Sequence[tuple[Resource, Resource | None]]
    ) -> object | None:
        """The facts with everything that the next decision about these subscriptions (each with
        what it reads from) depends on; None if nothing had to be asked.
        """
        ...

    async def observe_backlogs(
        self, observed: ObservedState, ownership_records: Sequence[OwnershipRecord]
    ) -> object | None:
        """The facts with what these subscriptions have left to deliver (see
        `BackendDecisions.remaining_events`); None if there is nothing to add. Called in every
        iteration, with those that are about to be removed.
        """
        ...

    async def create(self, steps: Sequence[Step]) -> None:
        """Execute those of the steps that create or change something."""
        ...

    async def delete(self, steps: Sequence[Step]) -> None:
        """Execute those of the steps that delete something."""
        ...
