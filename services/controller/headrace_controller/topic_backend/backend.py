"""Topics and groups as a `Backend`: its decisions, and what they need of a `TopicAdmin` and do with
it.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import replace

import structlog

from headrace.domain.backend_name import KAFKA
from headrace.domain.ports import Clock
from headrace.resources.broker_config import BYTES_MAX, REPLICATION, TopicConfig
from headrace.resources.control_ports import (
    ClusterDescription,
    TopicAdmin,
    TopicDescription,
    TopicSpec,
)
from headrace.resources.naming import NameAllocator
from headrace.resources.ownership_record import OwnershipRecord, TopicRole
from headrace.resources.resource import Resource
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_controller.failed_steps import FailedSteps
from headrace_controller.reconcile.backend import (
    BackendDecisions,
    ChannelResult,
    ObservedChannel,
)
from headrace_controller.reconcile.observed_state import ObservedState, StepFailure
from headrace_controller.reconcile.plan import Draft, ReconcileProblem, Step
from headrace_controller.topic_backend import channels, retirement, subscriptions
from headrace_controller.topic_backend.backlog import BacklogReader, remaining_events
from headrace_controller.topic_backend.delays import reconcile_delays
from headrace_controller.topic_backend.group_queries import (
    required_group_queries,
    topics_to_describe,
)
from headrace_controller.topic_backend.state import TopicBackendState, state_of
from headrace_controller.topic_backend.steps import (
    AddPartitions,
    AddReplicas,
    AlterTopic,
    CommitInitialOffsets,
    CreateTopic,
    DeleteGroup,
    DeleteTopic,
)

logger = structlog.get_logger(__name__)

RESYNC_SECONDS = 30.0
_VERIFY_SECONDS = 300.0
_CREATED_SECONDS = 10.0
"""How long a created topic may be missing until it is created again. A broker that creates a
thousand topics needs some seconds until it describes the last of them.
"""
_COMMITS_IN_FLIGHT_MAX = 64


class TopicDecisions:
    """See `BackendDecisions`. They hold for every backend with a `TopicAdmin`."""

    def __init__(self, backend: str = KAFKA, *, bytes_max: int = BYTES_MAX) -> None:
        """`backend` is the prefix of the names that this backend needs for itself, `bytes_max` the
        largest record of a channel by default.
        """
        self._backend = backend
        self._bytes_max = bytes_max

    def prepare(self, observed: ObservedState, draft: Draft, *, record_bytes_max: int) -> None:
        """The delay topics and their routing record. In other backends than Kafka they are created
        for the first channel.
        """
        if self._backend != KAFKA:
            if not observed.ownership_records:
                return
            # The size that is given is that of Brokers.
            record_bytes_max = self._bytes_max
        size = max(record_bytes_max, channels.largest_channel(observed, self._bytes_max))
        reconcile_delays(observed, draft, bytes_max=size, backend=self._backend)

    def claim_channel(
        self, owner: Resource, names: NameAllocator, *, topic: str, external: str | None
    ) -> OwnershipRecord:
        """A topic name."""
        return channels.claim_channel(owner, names, topic=topic, external=external)

    def ensure_channel(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        config: TopicConfig,
        draft: Draft,
    ) -> ChannelResult:
        """A topic."""
        return channels.ensure_channel(observed, owner, ownership, config, draft)

    def channel_of(
        self, observed: ObservedState, ownership: OwnershipRecord | None
    ) -> ObservedChannel | None:
        """The topic, once it is created."""
        return channels.channel_of(observed, ownership)

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
        """Retry and dead letter topic."""
        return subscriptions.ensure_subscription(
            observed, owner, ownership, draft, record_bytes_max=record_bytes_max
        )

    def ensure_subscription_start(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        channel: ObservedChannel,
        draft: Draft,
    ) -> ReconcileProblem | None:
        """Committed offsets for every partition."""
        return subscriptions.ensure_subscription_start(observed, owner, ownership, channel, draft)

    def reads_other_channel(self, ownership: OwnershipRecord, channel: ObservedChannel) -> bool:
        """Whether the offsets are those of a topic with another id."""
        return bool(ownership.source) and ownership.source != channel.identity

    def forget_position(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Delete the group, once it is empty."""
        subscriptions.forget_position(observed, ownership, draft)

    def remaining_events(
        self, observed: ObservedState, ownership: OwnershipRecord
    ) -> ReconcileProblem | None:
        """Records that the groups have not done."""
        return remaining_events(observed, ownership)

    def retire(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft, *, orphaned: bool
    ) -> None:
        """Delete groups and topics, once no consumer is left."""
        retirement.retire(observed, ownership, draft, orphaned=orphaned)

    def purge_retired(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """Delete the topics that were kept."""
        retirement.purge_retired(observed, ownership, draft)


class TopicBackend:
    """See `Backend`.

    Topics are described again when a step has changed them, when they are unknown, and every half
    minute (an operator may have deleted one); groups are queried only where a decision depends on
    them. The cluster is described every half minute too, and when topics are unknown if it has few
    brokers.
    """

    def __init__(
        self, admin: TopicAdmin, clock: Clock, decisions: BackendDecisions | None = None
    ) -> None:
        """`decisions` are those about what `admin` administers; without them, those for Kafka."""
        self._admin = admin
        self._clock = clock
        self._failed_steps = FailedSteps(clock)
        self._backlogs = BacklogReader(admin, clock)
        self._cluster = ClusterDescription("", 0)
        self._topics: dict[str, TopicDescription] = {}
        self._described_topics: set[str] = set()
        self._stale_topics: set[str] = set()
        self._created_at: dict[str, float] = {}
        """By name, when a topic was created that was not described yet."""
        self._described_at = self._verified_at = float("-inf")
        self.decisions: BackendDecisions = decisions or TopicDecisions()

    @property
    def failed_steps(self) -> Mapping[str, StepFailure]:
        """As `Backend.failed_steps`."""
        return self._failed_steps.current

    def reset(self) -> None:
        """As `Backend.reset`."""
        self._failed_steps.clear()
        self._backlogs.reset()
        self._created_at.clear()
        self._described_at = self._verified_at = float("-inf")

    async def observe(
        self, ownership_records: Mapping[str, OwnershipRecord]
    ) -> tuple[ClusterDescription, object]:
        """As `Backend.observe`."""
        names = topics_to_describe(ownership_records.values())
        now = self._clock.monotonic()
        unknown = names - self._described_topics
        resync = now - self._described_at > RESYNC_SECONDS
        if resync or (unknown and self._cluster.brokers < REPLICATION):
            # What is created soon gets as many replicas as the cluster allows now: one that was
            # still starting may have become complete.
            self._cluster = await self._admin.cluster()
        if resync:
            self._described_at = now
            wanted = names
        else:
            wanted = (names & self._stale_topics) | unknown
        if wanted:
            # Only the readers of a channel need to know what a new topic has by default.
            created = self._created_at.keys()
            bare = set() if resync else wanted & created & _internal_topics(ownership_records)
            found = {
                **(await self._admin.describe(wanted - bare) if wanted - bare else {}),
                **(await self._admin.describe(bare, settings=False) if bare else {}),
            }
            self._stale_topics = (self._stale_topics - wanted) | (created - found.keys())
            self._topics = {
                name: facts for name, facts in self._topics.items() if name not in wanted
            } | found
        self._described_topics = names
        self._created_at = {
            name: at
            for name, at in self._created_at.items()
            if name not in self._topics and now - at < _CREATED_SECONDS
        }
        return self._cluster, TopicBackendState(topics=self._topics, created=set(self._created_at))

    async def observe_subscriptions(
        self, observed: ObservedState, subscriptions: Sequence[tuple[Resource, Resource | None]]
    ) -> object | None:
        """As `Backend.observe_subscriptions`."""
        now = self._clock.monotonic()
        verify = now - self._verified_at > _VERIFY_SECONDS
        if verify:
            self._verified_at = now
        queries = required_group_queries(observed, subscriptions, verify=verify)
        if not queries.committed and not queries.states:
            return None
        committed = await self._admin.committed(queries.committed) if queries.committed else {}
        states = await self._admin.groups(queries.states) if queries.states else {}
        return replace(state_of(observed), committed=committed, groups=states)

    async def observe_backlogs(
        self, observed: ObservedState, ownership_records: Sequence[OwnershipRecord]
    ) -> object | None:
        """As `Backend.observe_backlogs`."""
        backlogs = await self._backlogs.read(observed, ownership_records)
        return replace(state_of(observed), backlogs=backlogs) if backlogs else None

    async def create(self, steps: Sequence[Step]) -> None:
        """As `Backend.create`: topics first, then the offsets in them."""
        await self._create_topics([each.topic for each in steps if isinstance(each, CreateTopic)])
        for step in steps:
            match step:
                case AddPartitions(topic, total):
                    await self._change_topic(topic, self._admin.add_partitions(topic, total))
                case AddReplicas(topic, total):
                    logger.info("topic_replicas_requested", topic=topic, replicas=total)
                    await self._change_topic(topic, self._admin.add_replicas(topic, total))
                case AlterTopic(topic, settings):
                    logger.info("topic_settings_corrected", topic=topic, settings=dict(settings))
                    await self._change_topic(topic, self._admin.alter(topic, settings))
        await self._commit_initial_offsets(
            [step for step in steps if isinstance(step, CommitInitialOffsets)]
        )

    async def delete(self, steps: Sequence[Step]) -> None:
        """As `Backend.delete`: groups first, then topics."""
        groups = [step.group for step in steps if isinstance(step, DeleteGroup)]
        if groups:
            refused = await self._failed_steps.call(groups, self._admin.delete_groups(groups), {})
            self._failed_steps.update(groups, refused)
        topics = [step.topic for step in steps if isinstance(step, DeleteTopic)]
        if topics:
            self._stale_topics.update(topics)
            logger.info("topics_deleted", topics=topics)
            refused = await self._failed_steps.call(topics, self._admin.delete(topics), {})
            self._failed_steps.update(topics, refused)

    async def _create_topics(self, specs: Sequence[TopicSpec]) -> None:
        if not specs:
            return
        names = [spec.name for spec in specs]
        self._stale_topics.update(names)
        refused = await self._failed_steps.call(names, self._admin.create(specs), {})
        self._failed_steps.update(names, refused)
        created = [name for name in names if name not in self._failed_steps.current]
        self._created_at.update(dict.fromkeys(created, self._clock.monotonic()))
        failpoint(Failpoint.AFTER_TOPICS)

    async def _change_topic(self, topic: str, call: Awaitable[None]) -> None:
        self._stale_topics.add(topic)
        await self._failed_steps.call([topic], call, None)

    async def _commit_initial_offsets(self, steps: Sequence[CommitInitialOffsets]) -> None:
        by_topic: dict[str, list[CommitInitialOffsets]] = {}
        for step in steps:
            by_topic.setdefault(step.topic, []).append(step)
        slots = asyncio.Semaphore(_COMMITS_IN_FLIGHT_MAX)
        async with asyncio.TaskGroup() as tasks:
            for topic, commits in by_topic.items():
                tasks.create_task(self._commit_in_topic(topic, commits, slots))

    async def _commit_in_topic(
        self, topic: str, steps: Sequence[CommitInitialOffsets], slots: asyncio.Semaphore
    ) -> None:
        """The end of the topic is read once, before the first commit."""
        ends: Mapping[int, int] = {}
        at_end = {each for step in steps for each in step.at_end}
        if at_end:
            async with slots:
                groups = [step.group for step in steps if step.at_end]
                ends = await self._failed_steps.call(groups, self._ends(topic, at_end), {})

        async def commit(step: CommitInitialOffsets) -> None:
            offsets = {
                **{each: ends[each] for each in step.at_end},
                **dict.fromkeys(step.at_beginning, 0),
            }
            async with slots:
                call = self._admin.commit(step.group, topic, offsets)
                await self._failed_steps.call([step.group], call, None)
                failpoint(Failpoint.AFTER_START_OFFSETS)

        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                if ends.keys() >= set(step.at_end):
                    tasks.create_task(commit(step))

    async def _ends(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        return (await self._admin.ends({topic: partitions})).get(topic, {})


def _internal_topics(ownership_records: Mapping[str, OwnershipRecord]) -> set[str]:
    """The retry and dead letter topics."""
    return {
        topic.name
        for ownership in ownership_records.values()
        for topic in ownership.topics
        if topic.role in (TopicRole.RETRY, TopicRole.DEAD)
    }
