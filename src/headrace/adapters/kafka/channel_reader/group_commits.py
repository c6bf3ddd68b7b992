"""Commits of many groups without membership, for the feeds of one channel reader.

A group without members accepts offsets from everybody. So what fences a process that has lost its
partitions is here: nothing is sent unless the reader's own group has confirmed a moment ago that
this process is a member.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Final, Protocol

from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.positions import CommitRateLimiter, Position
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, CommitResult
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition

COMMIT_INTERVAL_SECONDS = 0.1
COMMIT_SECONDS = 5.0
FINAL_COMMIT_SECONDS = 3.0
_NOT_SENT: Final = CommitResult(CommitOutcome.UNAVAILABLE)


class Offsets(Protocol):
    """Offsets of groups without members (`headrace.adapters.kafka.group_offsets`)."""

    async def commit(
        self,
        group: str,
        positions: Sequence[Position],
        timeout_seconds: float,
        still_valid: Callable[[], bool] = ...,
    ) -> CommitResult:
        """Commit for one group."""
        ...


class GroupCommits:
    """Sends the commits of the feeds, one at a time for each group: a second one could overtake the
    first and set the offset back.
    """

    def __init__(
        self,
        offsets: Offsets,
        limiter: CommitRateLimiter,
        *,
        confirmed: Callable[[], bool],
        confirm: Callable[[], None],
        on_members: Callable[[SubscriptionFeed], None],
    ) -> None:
        """`confirmed` returns whether this process is known to own its partitions now, `confirm`
        begins to find out, and `on_members` is called when a group has members.
        """
        self._offsets = offsets
        self._limiter = limiter
        self._confirmed = confirmed
        self._confirm = confirm
        self._on_members = on_members
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def schedule(self, feed: SubscriptionFeed) -> None:
        """Commit what the feed has done, within 100 ms or when the rate of the process allows."""
        if feed.commit_timer is None:
            delay = max(COMMIT_INTERVAL_SECONDS, self._limiter.reserve(self._loop.time()))
            feed.commit_timer = self._loop.call_later(delay, self._send, feed)

    def _send(self, feed: SubscriptionFeed) -> None:
        feed.commit_timer = None
        if feed.commit_lock.locked() or feed.stopping:
            return
        if self._confirmed():
            self._spawn(self._commit(feed))
        else:
            self._confirm()
            self.schedule(feed)

    async def _commit(self, feed: SubscriptionFeed) -> None:
        await self._store(feed, None, COMMIT_SECONDS)
        if feed.has_changed():
            self.schedule(feed)

    async def commit_final(
        self, feed: SubscriptionFeed, numbers: Collection[int] | None = None
    ) -> None:
        """Commit what is done in these partitions before they are given back."""
        if not await self._store(feed, numbers, FINAL_COMMIT_SECONDS):
            feed.raise_alarm(
                AlarmKind.COMMIT_FAILED,
                "the last commit before giving partitions back was not stored; some records will be"
                " delivered again",
            )

    async def _store(
        self, feed: SubscriptionFeed, numbers: Collection[int] | None, seconds: float
    ) -> bool:
        """Commit once; return whether everything is stored."""
        async with feed.commit_lock:
            found = feed.next_commit(numbers)
            if not found:
                return True
            result = _NOT_SENT
            try:
                result = await self._offsets.commit(
                    feed.group, [position for _, position in found], seconds, self._confirmed
                )
            finally:
                for state, position in found:
                    state.on_commit_answered(stored=is_stored(result, position.partition))
        if result.outcome is CommitOutcome.MEMBERS:
            self._on_members(feed)
        return all(is_stored(result, position.partition) for _, position in found)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def is_stored(result: CommitResult, partition: Partition) -> bool:
    """Whether a commit has stored the position of this partition."""
    return result.outcome is CommitOutcome.STORED or (
        result.outcome is CommitOutcome.REFUSED and partition not in result.refused
    )
