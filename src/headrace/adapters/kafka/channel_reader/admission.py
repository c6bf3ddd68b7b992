"""Begins the feeds of a reader: at the offsets of their groups, if these have no members."""

import asyncio
import contextlib
from collections.abc import Awaitable, Collection, Coroutine, Mapping, Sequence
from itertools import chain
from typing import Final, Protocol

from headrace.adapters.kafka.channel_reader.group_commits import REFUSED_NEXT_STEP, is_stored
from headrace.adapters.kafka.channel_reader.log_bounds import LogBounds
from headrace.adapters.kafka.channel_reader.membership import ReaderMembership
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.topic_ids import TopicIds, add_topic_id, split_topic_id
from headrace.adapters.kafka.group_offsets.group_offsets import (
    CommitOutcome,
    CommitResult,
    GroupOffsets,
)
from headrace.domain.errors import HeadraceError, NotFound, WriteRefused
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition

READ_OFFSETS_SECONDS: Final = 4.0
_CLAIM_SECONDS = 4.0
_RETRY_SECONDS = 1.0
_MEMBERS_ALARM_SECONDS = 60.0
"""How long a group has members before that is an alarm: during an upgrade it has."""
_UNANSWERED_ALARM_SECONDS = 5.0
"""How long commits fail for a reason that may pass by itself before that is an alarm."""
_NEXT_STEPS: Final = {
    AlarmKind.REFUSED: REFUSED_NEXT_STEP,
    AlarmKind.UNAVAILABLE: "; this is tried again each second: check the brokers and the topic"
    " __consumer_offsets",
}


class Reader(Protocol):
    """What an admission needs of the reader of its feeds."""

    @property
    def feeds(self) -> Collection[SubscriptionFeed]:
        """The feeds that are served."""
        ...

    @property
    def changes(self) -> int:
        """How often that has changed which partitions this process owns. What was read of a group
        before the last change may be outdated.
        """
        ...

    def partition_count(self, feed: SubscriptionFeed) -> int:
        """The number of partitions of the feed's topic; 0 if it is not known."""
        ...

    def owns_partitions(self) -> bool:
        """Whether this process owns any partition."""
        ...

    def topic_id(self, partition: Partition) -> str:
        """The id of the topic in which a partition is read; empty if it is not known."""
        ...

    def owns(self, partition: Partition) -> bool:
        """Whether this process owns a partition, and does not give it back now."""
        ...

    def missing(self, feed: SubscriptionFeed) -> Sequence[Partition]:
        """The partitions that this process owns and in which the feed has not begun."""
        ...

    def place(self, feed: SubscriptionFeed) -> None:
        """Read for a feed wherever it has begun."""
        ...

    def stop_reading(self, feed: SubscriptionFeed, numbers: Sequence[int]) -> None:
        """Read no more for a feed in these partitions."""
        ...


class Admission:
    """The feeds that begin. Everything here runs on the event loop."""

    def __init__(
        self,
        reader: Reader,
        offsets: GroupOffsets,
        membership: ReaderMembership,
        topic_ids: TopicIds,
        log_bounds: LogBounds | None = None,
    ) -> None:
        """Without `log_bounds`, the reader finds out which logs have become shorter."""
        self._log_bounds = log_bounds
        self._reader = reader
        self._offsets = offsets
        self._membership = membership
        self._topic_ids = topic_ids
        self._loop = asyncio.get_running_loop()
        self._joining: dict[SubscriptionFeed, None] = {}
        """Feeds whose offsets are not known yet."""
        self._waiting: dict[SubscriptionFeed, asyncio.TimerHandle] = {}
        """Feeds that could not begin: their groups are asked again a second later, not before."""
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, feed: SubscriptionFeed) -> None:
        """Read the offsets of a feed in the partitions that are owned, with those of other feeds
        that join at the same time.
        """
        if feed in self._waiting:
            return
        self._joining[feed] = None
        if self._task is None and self._reader.owns_partitions():
            self._task = self._spawn(self._join_all())

    def join_where_missing(self) -> None:
        """Have the feeds join that have not begun in all partitions that are owned."""
        for feed in self._reader.feeds:
            if not feed.stopping and self._reader.missing(feed):
                self.join(feed)

    def verify(self, feed: SubscriptionFeed) -> None:
        """Check that a feed is read for in all partitions that are owned, and in the topic in which
        its offsets were committed.
        """
        if feed.stopping or feed not in self._reader.feeds:
            return
        for number in list(feed.partitions):
            partition = Partition(feed.topic, number)
            # What is given back begins again at its next owner, which may have committed for it
            # when the commit of this process is sent.
            if self._reader.owns(partition):
                self.check_topic_id(feed, partition)
        self._reader.place(feed)
        if self._reader.missing(feed):
            self.join(feed)

    def forget(self, feed: SubscriptionFeed) -> None:
        """The feed is not served any longer."""
        self._joining.pop(feed, None)
        if timer := self._waiting.pop(feed, None):
            timer.cancel()

    def close(self) -> None:
        """Begin nothing more."""
        for task in self._tasks:
            task.cancel()
        for timer in self._waiting.values():
            timer.cancel()

    async def _join_all(self) -> None:
        reader = self._reader
        try:
            while self._joining and reader.owns_partitions():
                await asyncio.sleep(0)  # Feeds that are opened together are read together.
                feeds = [each for each in self._joining if each not in self._waiting]
                self._joining = {}
                await self._membership.wait_until_confirmed()
                wanted = {feed: reader.missing(feed) for feed in feeds if feed in reader.feeds}
                with contextlib.suppress(HeadraceError):  # These join again.
                    await self.admit({feed: each for feed, each in wanted.items() if each})
        finally:
            self._task = None

    async def admit(self, wanted: Mapping[SubscriptionFeed, Sequence[Partition]]) -> None:
        """Begin these partitions for each feed whose group has no members, as soon as the group is
        read: a group that cannot be read delays no other. The feeds that have not begun join again
        later. Raises the error of the first group if no group can be read.
        """
        changes = self._reader.changes
        groups: dict[str, dict[SubscriptionFeed, Sequence[Partition]]] = {}
        for feed, partitions in wanted.items():  # Retries and dead letters have one group.
            groups.setdefault(feed.group, {})[feed] = partitions
        async with asyncio.TaskGroup() as claims:
            ends = claims.create_task(self._read_ends(set(chain(*wanted.values()))))

            def claim(group: str, found: Mapping[Partition, Position]) -> None:
                for feed, partitions in groups[group].items():
                    claims.create_task(self._claim(feed, found, partitions, changes, ends))

            failed = await self._offsets.read_each(
                {group: list(chain(*feeds.values())) for group, feeds in groups.items()},
                READ_OFFSETS_SECONDS,
                claim,
            )
            for group, error in failed.items():
                for feed in groups[group]:
                    self._join_after(feed, error)
        if failed and failed.keys() == groups.keys():
            raise next(iter(failed.values()))

    async def _read_ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        return await self._log_bounds.ends(partitions) if self._log_bounds is not None else {}

    async def _claim(
        self,
        feed: SubscriptionFeed,
        found: Mapping[Partition, Position],
        partitions: Sequence[Partition],
        changes: int,
        ends: Awaitable[Mapping[Partition, int]],
    ) -> None:
        """Commit what is committed: accepted only if the group has no members, which would deliver
        the same events. A partition without an offset begins at 0. The id of the topic is committed
        with it, if that is known.

        Nothing begins if the assignment has changed since the offsets were read, or the feed has
        ended: another process, or another feed of the group, may have committed meanwhile.
        """
        reader = self._reader
        starts = {each: found.get(each, Position(each, 0, "")) for each in partitions}
        shorter: Mapping[Partition, str] = {}
        if self._log_bounds is not None:
            starts, shorter, unknown = await self._log_bounds.check(starts, await ends)
            if unknown:
                self._on_unknown_ends(feed, unknown)
            if not starts:
                return
        try:
            forgotten = found.keys().isdisjoint(starts) and await self._has_no_offsets(feed)
        except HeadraceError as error:
            self._join_after(feed, error)
            return
        if shorter:  # Otherwise it would begin once more when the id of the new topic is known.
            self._topic_ids.forget_id(feed.topic)
        starts = {each: self._with_topic_id(position) for each, position in starts.items()}

        def is_served() -> bool:
            return feed in reader.feeds and not feed.stopping

        result = await self._offsets.commit(
            feed.group,
            list(starts.values()),
            _CLAIM_SECONDS,
            still_valid=lambda: (
                is_served() and reader.changes == changes and self._membership.confirmed()
            ),
        )
        if not is_served():
            return
        if result.outcome is CommitOutcome.MEMBERS:
            self.on_members(feed)
            return
        if reader.changes != changes:
            self.join(feed)
            return
        if not all(is_stored(result, each) for each in starts):
            self._on_not_stored(feed, result)
            return
        feed.refused_since = None
        for position in starts.values():
            self._begin(
                feed,
                position,
                found=position.partition in found,
                forgotten=forgotten,
                shorter=shorter.get(position.partition),
            )
        reader.place(feed)

    def _begin(
        self,
        feed: SubscriptionFeed,
        position: Position,
        *,
        found: bool,
        forgotten: bool,
        shorter: str | None,
    ) -> None:
        """Begin at a position that is committed, unless that has happened meanwhile. `found` says
        whether it was committed before, `forgotten` that the group has lost its offsets, and
        `shorter` why the log begins again.
        """
        partition = position.partition
        if partition.partition not in feed.partitions:
            feed.assign(position, at_log_start=not found)
            self.check_topic_id(feed, partition)
            if shorter is not None:
                reason = f"{shorter}; reading continues at its oldest record"
                feed.raise_alarm(AlarmKind.TOPIC_RECREATED, reason, partition)
            if forgotten:
                feed.raise_alarm(
                    AlarmKind.OFFSET_MISSING,
                    f"no offset is committed in {feed.topic}; reading begins at the oldest record",
                    partition,
                )

    def _with_topic_id(self, position: Position) -> Position:
        """Return a committed position with the id of the topic, unless it has one."""
        topic_id, metadata = split_topic_id(position.metadata)
        topic_id = topic_id or self._topic_ids.known(position.partition.topic)
        return position._replace(metadata=add_topic_id(topic_id, metadata))

    async def _has_no_offsets(self, feed: SubscriptionFeed) -> bool:
        """Whether the offsets of the group are lost. Raises a `HeadraceError`."""
        if feed.begins_at_oldest:
            return False
        count = self._reader.partition_count(feed)
        everything = [Partition(feed.topic, number) for number in range(count)]
        found = await self._offsets.read({feed.group: everything}, READ_OFFSETS_SECONDS)
        return not found.get(feed.group)

    def check_topic_id(self, feed: SubscriptionFeed, partition: Partition) -> bool:
        """Return whether the topic is still the one in which the offsets were committed; begin at
        its oldest record otherwise.
        """
        topic_id = self._reader.topic_id(partition)
        if not topic_id or feed.set_topic_id(partition.partition, topic_id):
            return True
        where = f"the topic of {partition.topic}/{partition.partition}"
        self.restart(feed, partition, 0, f"{where} was deleted and created again")
        return False

    def restart(
        self, feed: SubscriptionFeed, partition: Partition, offset: int, reason: str
    ) -> None:
        """Begin a partition again at `offset`, because its log is another one."""
        number = partition.partition
        self._reader.stop_reading(feed, [number])
        feed.lose([number])
        feed.assign(Position(partition, offset, ""), committed=False)
        if topic_id := self._topic_ids.known(feed.topic):
            feed.set_topic_id(number, topic_id)
        where = "its oldest record" if offset == 0 else f"offset {offset}"
        feed.raise_alarm(
            AlarmKind.TOPIC_RECREATED, f"{reason}; reading continues at {where}", partition
        )

    def on_members(self, feed: SubscriptionFeed) -> None:
        """The group of a feed has members: another version of this service reads for it. It is not
        served here until they have left.
        """
        numbers = list(feed.partitions)
        self._reader.stop_reading(feed, numbers)
        feed.lose(numbers)
        self._join_later(
            feed,
            AlarmKind.OTHER_MEMBERS,
            f"group {feed.group} has members of its own; its events are delivered here when they"
            " have left",
            alarm_after=_MEMBERS_ALARM_SECONDS,
        )

    def _on_unknown_ends(self, feed: SubscriptionFeed, partitions: Collection[Partition]) -> None:
        """It is not known whether the offsets of the feed are in these logs."""
        names = ", ".join(f"{each.topic}/{each.partition}" for each in sorted(partitions))
        self._join_later(
            feed,
            AlarmKind.UNAVAILABLE,
            f"the end of {names} is not known: the leader does not answer",
            alarm_after=_UNANSWERED_ALARM_SECONDS,
        )

    def _on_not_stored(self, feed: SubscriptionFeed, result: CommitResult) -> None:
        """The commit with which a feed begins has failed."""
        error = next(iter(result.refused.values()), None)
        if error is not None:
            self._join_after(feed, error)
        else:
            withdrawn = result.outcome is CommitOutcome.WITHDRAWN
            kind = AlarmKind.UNCONFIRMED if withdrawn else AlarmKind.UNAVAILABLE
            self._join_later(feed, kind, result.reason, alarm_after=_UNANSWERED_ALARM_SECONDS)

    def _join_after(self, feed: SubscriptionFeed, error: HeadraceError) -> None:
        """Join again after an error that names the group and the cause."""
        if isinstance(error, NotFound):
            kind = AlarmKind.TOPIC_MISSING
        else:
            refused = isinstance(error, WriteRefused)
            kind = AlarmKind.REFUSED if refused else AlarmKind.UNAVAILABLE
        self._join_later(feed, kind, str(error))

    def _join_later(
        self, feed: SubscriptionFeed, kind: AlarmKind, reason: str, *, alarm_after: float = 0.0
    ) -> None:
        """Join again in a second. It is an alarm when the feed has not begun for so many
        seconds.
        """
        if feed not in self._reader.feeds or feed.stopping:
            return
        now = self._loop.time()
        if feed.refused_since is None:
            feed.refused_since = now
        if now - feed.refused_since >= alarm_after:
            feed.raise_alarm(kind, reason + _NEXT_STEPS.get(kind, ""))
        if feed not in self._waiting:
            self._waiting[feed] = self._loop.call_later(_RETRY_SECONDS, self._rejoin, feed)

    def _rejoin(self, feed: SubscriptionFeed) -> None:
        del self._waiting[feed]
        if feed in self._reader.feeds and not feed.stopping:
            self.join(feed)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
