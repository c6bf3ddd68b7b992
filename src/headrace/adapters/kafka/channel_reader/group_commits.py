"""Commits of many groups without membership, for the feeds of one channel reader.

Nothing is sent unless the reader's own group has confirmed a moment ago that this process is a
member (`membership`).
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Final, Protocol

from headrace.adapters.kafka.channel_reader.membership import ReaderMembership
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.positions import CommitRateLimiter, Position
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, CommitResult
from headrace.domain.errors import NotFound
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition

COMMIT_INTERVAL_SECONDS = 0.1
REFUSED_INTERVAL_SECONDS = 1.0
"""Between the commits of a group for which all are refused: they take the rate of the others."""
COMMIT_SECONDS = 5.0
FINAL_COMMIT_SECONDS = 3.0
REFUSED_NEXT_STEP: Final = "; `headrace acls` lists the permissions that the dispatcher needs"
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
        membership: ReaderMembership,
        *,
        on_members: Callable[[SubscriptionFeed], None],
    ) -> None:
        """`on_members` is called when a group has members."""
        self._offsets = offsets
        self._limiter = limiter
        self._membership = membership
        self._on_members = on_members
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[bool]] = set()

    def schedule(self, feed: SubscriptionFeed, seconds: float = COMMIT_INTERVAL_SECONDS) -> None:
        """Commit what the feed has done, after this time or when the rate of the process allows."""
        if feed.commit_timer is None:
            delay = max(seconds, self._limiter.reserve(self._loop.time()))
            feed.commit_timer = self._loop.call_later(delay, self._send, feed)

    def _send(self, feed: SubscriptionFeed) -> None:
        feed.commit_timer = None
        if feed.commit_lock.locked() or feed.stopping:
            return
        if self._membership.confirmed():
            self._spawn(self._store(feed, None, COMMIT_SECONDS))
        else:
            self._membership.confirm()
            self.schedule(feed)

    async def give_back(
        self, feed: SubscriptionFeed, numbers: Collection[int], overdue: asyncio.Event
    ) -> None:
        """Have the listener return these partitions, until the drain deadline, and commit. They may
        be assigned to this process again before that has ended.
        """
        returned = asyncio.Event()
        states = feed.states(numbers)
        feed.revoke(numbers, returned.set)
        if not returned.is_set():
            waits = {asyncio.ensure_future(each.wait()) for each in (returned, overdue)}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
        numbers = feed.still(states)
        if not returned.is_set():
            feed.drain_overdue(numbers)
        await self._commit_final(feed, numbers)
        feed.remove(feed.still(states))

    async def drain(self, feed: SubscriptionFeed, seconds: float) -> None:
        """Have the listener return everything, for `seconds` at most, and commit."""
        numbers = list(feed.partitions)
        returned = asyncio.Event()
        feed.revoke(numbers, returned.set)
        try:
            async with asyncio.timeout(seconds):
                await returned.wait()
        except TimeoutError:
            feed.drain_overdue(numbers)
        if feed.partitions:
            await self._commit_final(feed)

    async def _commit_final(
        self, feed: SubscriptionFeed, numbers: Collection[int] | None = None
    ) -> None:
        """Commit what is done in these partitions before they are given back. The drain may have
        taken longer than a confirmation of the membership is valid.
        """
        await self._membership.wait_until_confirmed()
        if not await self._store(feed, numbers, FINAL_COMMIT_SECONDS):
            feed.raise_alarm(
                AlarmKind.COMMIT_FAILED,
                "the last commit before giving partitions back was not stored; some records will be"
                " delivered again",
            )

    async def _store(
        self, feed: SubscriptionFeed, numbers: Collection[int] | None, seconds: float
    ) -> bool:
        """Commit once; return whether everything is stored. What is due then is committed later:
        `_send` sends nothing meanwhile.

        A request may wait for the coordinator of the group. It is not written after one of its
        partitions was lost: another process may have committed for it, even if this one is a member
        again.
        """
        async with feed.commit_lock:
            found = feed.next_commit(numbers)
            if not found:
                return True
            states = {position.partition.partition: state for state, position in found}

            def still_valid() -> bool:
                return self._membership.confirmed() and len(feed.still(states)) == len(states)

            result = _NOT_SENT
            try:
                result = await self._offsets.commit(
                    feed.group,
                    [position for _, position in found],
                    seconds,
                    still_valid,
                )
            finally:
                for state, position in found:
                    state.on_commit_answered(stored=is_stored(result, position.partition))
        if result.outcome is CommitOutcome.MEMBERS:
            self._on_members(feed)
        self._report_refusal(feed, result)
        stored = [is_stored(result, position.partition) for _, position in found]
        if feed.has_changed():
            refused = result.outcome is CommitOutcome.REFUSED and not any(stored)
            self.schedule(feed, REFUSED_INTERVAL_SECONDS if refused else COMMIT_INTERVAL_SECONDS)
        return all(stored)

    def _report_refusal(self, feed: SubscriptionFeed, result: CommitResult) -> None:
        """Of a topic that is gone, the reader reports that it cannot be read."""
        refused = (each for each in result.refused.values() if not isinstance(each, NotFound))
        if (error := next(refused, None)) is not None:
            feed.raise_alarm(
                AlarmKind.REFUSED,
                f"{error}; what is delivered now will be delivered again after a restart"
                + REFUSED_NEXT_STEP,
            )

    def _spawn(self, coroutine: Coroutine[None, None, bool]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def is_stored(result: CommitResult, partition: Partition) -> bool:
    """Whether a commit has stored the position of this partition."""
    return result.outcome is CommitOutcome.STORED or (
        result.outcome is CommitOutcome.REFUSED and partition not in result.refused
    )
