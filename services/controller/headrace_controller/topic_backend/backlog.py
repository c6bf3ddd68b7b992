"""What a subscription has left of the events that its channel had at a certain time, so that
channel and subscription can be removed without losing one.

An event is in one of three places until it is delivered or a dead letter: in the channel topic, in
the retry topic, or in a delay topic, which all subscriptions share. The first two are counted by
the offsets of the subscription's groups. An event of this subscription that is in the third comes
out of it, into the retry topic, within the longest wait of the delivery policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.domain.backend_name import backend_of
from headrace.domain.delivery import JITTER_SHARE, DeliveryPolicy, backoff_seconds
from headrace.domain.errors import HeadraceError, TopicMissing
from headrace.domain.ports import Clock
from headrace.domain.routing import Subscription, subscription_key
from headrace.resources.control_ports import TopicAdmin
from headrace.resources.naming import DELAY_TIERS, delay_group, delay_topic, retry_group
from headrace.resources.ownership_record import OwnershipRecord, TopicRole
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import ReconcileProblem
from headrace_controller.topic_backend.state import GroupBacklog, state_of

PAUSE_SECONDS = 1.0
"""The time between two looks at the same groups."""
_DELAY_SLACK_SECONDS = 30.0
"""How late a delay reader may be."""

Offsets = Mapping[int, int]


def remaining_events(
    observed: ObservedState, ownership: OwnershipRecord
) -> ReconcileProblem | None:
    """See `BackendDecisions.remaining_events`."""
    if not ownership.source:
        return None
    group = ownership.group
    found = state_of(observed).backlogs.get(group)
    if found is None:
        text = f"it is not known yet what group {group} has left to deliver"
        return ReconcileProblem("BacklogUnknown", text, waiting=True)
    left = found.channel + found.retries
    if left:
        text = f"{left} events of group {group} are not delivered yet"
        return ReconcileProblem("EventsLeft", text, waiting=True)
    route = observed.routes.get(subscription_key(ownership.uid))
    policy = route.delivery if isinstance(route, Subscription) else DeliveryPolicy()
    # Between two looks at the same offsets, no event can have moved from one place to another.
    quiet = PAUSE_SECONDS if not found.delayed else _longest_wait(policy)
    if found.quiet_seconds < quiet:
        text = f"events of group {group} may be waiting for a retry"
        return ReconcileProblem("RetriesLeft", text, waiting=True)
    return None


def _longest_wait(policy: DeliveryPolicy) -> float:
    """The seconds after which a delayed event is in the retry topic again at the latest. Replies of
    a loop may wait longer: they become dead letters.
    """
    backoff = backoff_seconds(policy, max(policy.retry, 1)) * (1.0 + JITTER_SHARE)
    return max(backoff, policy.retry_after_max_seconds) + _DELAY_SLACK_SECONDS


@dataclass(slots=True)
class _Watch:
    """What is remembered of one group while it is observed."""

    until: Offsets
    """The ends of the channel topic at the first look: what comes later is not waited for."""
    backlog: GroupBacklog
    looked_at: float
    """Monotonic seconds."""
    quiet_since: float | None = None
    """Since when nothing is left and nothing came into the retry topic; None while that is not
    so.
    """
    retry_ends: Offsets | None = None


class BacklogReader:
    """Looks at groups again and again, from the first time that they are asked for until they are
    no longer.
    """

    def __init__(self, admin: TopicAdmin, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._watches: dict[str, _Watch] = {}

    def reset(self) -> None:
        """Forget all groups."""
        self._watches.clear()

    async def read(
        self, observed: ObservedState, records: Sequence[OwnershipRecord]
    ) -> Mapping[str, GroupBacklog]:
        """The backlogs by group; a group that cannot be asked is missing."""
        wanted = {each.group: each for each in records if each.source}
        self._watches = {group: watch for group, watch in self._watches.items() if group in wanted}
        for group, ownership in wanted.items():
            watch = self._watches.get(group)
            if watch is None or self._clock.monotonic() - watch.looked_at >= PAUSE_SECONDS:
                try:
                    self._watches[group] = await self._look(observed, ownership, watch)
                except HeadraceError:
                    # Unknown for now: nothing is removed, and the next look may succeed.
                    self._watches.pop(group, None)
        return {group: watch.backlog for group, watch in self._watches.items()}

    async def _look(
        self, observed: ObservedState, ownership: OwnershipRecord, watch: _Watch | None
    ) -> _Watch:
        """The order matters: events move from the channel topic to the other two, and between
        these.
        """
        channel = ownership.source.rpartition("@")[0]
        retry = ownership.required_topic(TopicRole.RETRY).name
        until = watch.until if watch else await self._ends(observed, channel)
        unread = _behind(until, await self._committed(ownership.group, channel))
        backend = backend_of(ownership.group)
        delayed, group = 0, delay_group(backend)
        for label, _ in DELAY_TIERS:
            topic = delay_topic(label, backend)
            ends = await self._ends(observed, topic)
            delayed += _behind(ends, await self._committed(group, topic))
        retry_ends = await self._ends(observed, retry)
        retries = _behind(retry_ends, await self._committed(retry_group(ownership.group), retry))
        now = self._clock.monotonic()
        since = watch.quiet_since if watch and watch.retry_ends == retry_ends else None
        since = None if unread or retries else (now if since is None else since)
        found = GroupBacklog(
            channel=unread,
            retries=retries,
            delayed=delayed,
            quiet_seconds=0.0 if since is None else now - since,
        )
        return _Watch(until, found, now, since, retry_ends)

    async def _ends(self, observed: ObservedState, topic: str) -> Offsets:
        facts = state_of(observed).topics.get(topic)
        if facts is None:
            # Not empty, but lost, or not seen: nothing is known of the events that were in it.
            raise TopicMissing(topic)
        return (await self._admin.ends({topic: range(facts.partitions)})).get(topic, {})

    async def _committed(self, group: str, topic: str) -> Offsets:
        return (await self._admin.committed({group: topic})).get(group, {})


def _behind(ends: Offsets, committed: Offsets) -> int:
    """How many records before `ends` are not done."""
    return sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())
