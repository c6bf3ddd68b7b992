"""In-memory channels as a `Backend`: names only. Topics and groups exist in the process that serves
them, which creates them when it reads the routing record (`headrace.adapters.memory.topics`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace.domain.backend_name import IN_MEMORY
from headrace.domain.routing import Subscription, delays_key
from headrace.resources.broker_config import BYTES_MAX, TopicConfig
from headrace.resources.control_ports import ClusterDescription
from headrace.resources.naming import NameAllocator
from headrace.resources.ownership_record import OwnershipRecord, TopicRole
from headrace.resources.resource import Resource
from headrace_controller.reconcile.backend import ChannelResult, ObservedChannel
from headrace_controller.reconcile.observed_state import ObservedState, StepFailure
from headrace_controller.reconcile.plan import (
    DeleteOwnershipRecord,
    Draft,
    PutRoute,
    ReconcileProblem,
    SaveOwnershipRecord,
    Step,
)
from headrace_controller.topic_backend import channels, subscriptions
from headrace_controller.topic_backend.delays import delays_route

_CLUSTER = ClusterDescription(IN_MEMORY, 1)


class InMemoryDecisions:
    """See `BackendDecisions`."""

    def prepare(self, observed: ObservedState, draft: Draft, *, record_bytes_max: int) -> None:
        """The routing record of the delay topics, once there is a channel."""
        if observed.ownership_records and delays_key(IN_MEMORY) not in observed.routes:
            draft.add(PutRoute(delays_route(observed.epoch, IN_MEMORY)))

    def claim_channel(
        self, owner: Resource, names: NameAllocator, *, topic: str, external: str | None
    ) -> OwnershipRecord:
        """A topic name. There are no existing topics to use: `external` is ignored."""
        return channels.claim_channel(owner, names, topic=topic, external=None)

    def ensure_channel(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        config: TopicConfig,
        draft: Draft,
    ) -> ChannelResult:
        """The channel, which needs nothing."""
        return ChannelResult(channel=_channel(ownership))

    def channel_of(
        self, observed: ObservedState, ownership: OwnershipRecord | None
    ) -> ObservedChannel | None:
        """The channel."""
        return _channel(ownership) if ownership else None

    def claim_subscription(
        self, owner: Resource, names: NameAllocator, *, group: str
    ) -> OwnershipRecord:
        """A group, with the names of its topics."""
        return subscriptions.claim_subscription(owner, names, group=group)

    def ensure_subscription(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        draft: Draft,
        *,
        record_bytes_max: int,
    ) -> ReconcileProblem | None:
        """Nothing: the routing record names the retry and dead letter topics."""
        return None

    def ensure_subscription_start(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        channel: ObservedChannel,
        draft: Draft,
    ) -> ReconcileProblem | None:
        """Record which channel is read; the position is the end of the channel when the serving
        process reads the routing record.
        """
        if not ownership.source:
            draft.add(SaveOwnershipRecord(replace(ownership, source=channel.identity, started=1)))
        return None

    def reads_other_channel(self, ownership: OwnershipRecord, channel: ObservedChannel) -> bool:
        """Whether the channel is that of another owner."""
        return bool(ownership.source) and ownership.source != channel.identity

    def forget_position(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Forget which channel is read; the position went with the routing record."""
        draft.add(SaveOwnershipRecord(replace(ownership, source="", started=0)))

    def remaining_events(
        self, observed: ObservedState, ownership: OwnershipRecord
    ) -> ReconcileProblem | None:
        """Nothing is waited for: what is in memory may be lost at any time."""
        return None

    def retire(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft, *, orphaned: bool
    ) -> None:
        """Delete the record, once no subscription reads the channel; there is nothing to keep."""
        held = ownership.topic(TopicRole.CHANNEL)
        if held is not None and any(
            isinstance(route, Subscription) and route.topic == held.name
            for route in observed.routes.values()
        ):
            draft.wait(f"subscriptions to stop reading {held.name}")
        else:
            draft.add(DeleteOwnershipRecord(ownership.uid))

    def purge_retired(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Delete the record."""
        draft.add(DeleteOwnershipRecord(ownership.uid))


class InMemoryBackend:
    """See `Backend`. Nothing is observed, and no step is planned."""

    decisions = InMemoryDecisions()
    failed_steps: Mapping[str, StepFailure] = {}

    def reset(self) -> None:
        """As `Backend.reset`."""

    async def observe(
        self, ownership_records: Mapping[str, OwnershipRecord]
    ) -> tuple[ClusterDescription, object]:
        """As `Backend.observe`."""
        return _CLUSTER, None

    async def observe_subscriptions(
        self, observed: ObservedState, subscriptions: Sequence[tuple[Resource, Resource | None]]
    ) -> object | None:
        """As `Backend.observe_subscriptions`."""
        return None

    async def observe_backlogs(
        self, observed: ObservedState, ownership_records: Sequence[OwnershipRecord]
    ) -> object | None:
        """As `Backend.observe_backlogs`."""
        return None

    async def create(self, steps: Sequence[Step]) -> None:
        """As `Backend.create`."""

    async def delete(self, steps: Sequence[Step]) -> None:
        """As `Backend.delete`."""


def _channel(ownership: OwnershipRecord) -> ObservedChannel:
    name = ownership.required_topic(TopicRole.CHANNEL).name
    return ObservedChannel(
        topic=name,
        identity=f"{name}@{ownership.uid}",
        bytes_max=BYTES_MAX,
        retention_seconds=None,
    )
