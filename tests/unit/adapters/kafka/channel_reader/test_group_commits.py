"""The commits of feeds whose groups have no members; the test acts as the group and its
coordinator.
"""

import asyncio
from collections.abc import Callable, Sequence

from headrace.adapters.kafka.channel_reader.group_commits import (
    COMMIT_INTERVAL_SECONDS,
    REFUSED_INTERVAL_SECONDS,
    GroupCommits,
)
from headrace.adapters.kafka.channel_reader.membership import ReaderMembership
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.positions import CommitRateLimiter, Position
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, CommitResult
from headrace.domain.errors import HeadraceError, NotFound, WriteRefused
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.test_subscription_feed import give, open_feed


class Coordinator:
    """Stores offsets as soon as it is available."""

    def __init__(self) -> None:
        self.stored: dict[int, int] = {}
        self.waiting = 0
        self.available = asyncio.Event()
        self.available.set()
        self.refused: dict[Partition, HeadraceError] = {}

    async def commit(
        self,
        group: str,
        positions: Sequence[Position],
        timeout_seconds: float,
        still_valid: Callable[[], bool] = lambda: True,
    ) -> CommitResult:
        """See the protocol."""
        self.waiting += 1
        await self.available.wait()
        self.waiting -= 1
        if not still_valid():
            return CommitResult(CommitOutcome.WITHDRAWN)
        if self.refused:
            return CommitResult(CommitOutcome.REFUSED, "", self.refused)
        self.stored |= {each.partition.partition: each.offset for each in positions}
        return CommitResult(CommitOutcome.STORED)


class AnsweringMember:
    """A member whose group answers when it is asked."""

    has_partitions = True
    has_lost_more = False

    def __init__(self) -> None:
        self.confirmed_at = float("-inf")

    def confirm_membership(self) -> None:
        """See the protocol."""
        self.confirmed_at = asyncio.get_running_loop().time()


def open_commits() -> tuple[
    GroupCommits, Coordinator, AnsweringMember, SubscriptionFeed, RecordingListener
]:
    """The commits of a feed that owns two partitions and has one record of each in flight."""
    coordinator, member = Coordinator(), AnsweringMember()
    commits = GroupCommits(
        coordinator, CommitRateLimiter(), ReaderMembership(member), on_members=lambda _: None
    )
    feed, _, listener = open_feed()
    for number in (0, 1):
        give(feed, number, 0)
    return commits, coordinator, member, feed, listener


async def test_a_commit_is_not_written_after_a_partition_was_lost() -> None:
    """The commit waits for its coordinator, and the process is a member again before that is found.
    Another process has committed for the lost partition meanwhile.
    """
    commits, coordinator, member, feed, listener = open_commits()
    member.confirm_membership()
    coordinator.available.clear()
    listener.finish(listener.records)
    commits.schedule(feed)
    await wait_until_async(lambda: coordinator.waiting, 5, "a commit")
    feed.lose([0])
    coordinator.stored[0] = 100
    coordinator.available.set()
    await wait_until_async(lambda: 1 in coordinator.stored, 5, "the commit of the other partition")
    assert coordinator.stored == {0: 100, 1: 1}


async def test_a_commit_is_not_written_after_a_partition_was_assigned_again() -> None:
    commits, coordinator, member, feed, listener = open_commits()
    member.confirm_membership()
    coordinator.available.clear()
    listener.finish(listener.records[:1])
    commits.schedule(feed)
    await wait_until_async(lambda: coordinator.waiting, 5, "a commit")
    feed.lose([0])
    coordinator.stored[0] = 100
    feed.assign(Position(Partition("t", 0), 100, ""))
    coordinator.available.set()
    await wait_until_async(lambda: not coordinator.waiting, 5, "the end of the commit")
    assert coordinator.stored == {0: 100}


async def test_the_last_commit_of_a_partition_waits_for_a_confirmation() -> None:
    """Its drain has taken longer than a confirmation is valid."""
    commits, coordinator, _, feed, listener = open_commits()
    listener.finish(listener.records[:1])
    await commits.give_back(feed, [0], asyncio.Event())
    assert (coordinator.stored, list(feed.partitions)) == ({0: 1}, [1])
    assert listener.alarms == []


async def test_what_is_due_during_a_last_commit_is_committed_after_it() -> None:
    """Of the partitions that stay."""
    commits, coordinator, member, feed, listener = open_commits()
    member.confirm_membership()
    coordinator.available.clear()
    listener.finish(listener.records[:1])
    giving_back = asyncio.ensure_future(commits.give_back(feed, [0], asyncio.Event()))
    await wait_until_async(lambda: coordinator.waiting, 5, "the last commit")
    listener.finish(listener.records[1:])
    commits.schedule(feed)
    await wait_until_async(lambda: feed.commit_timer is None, 5, "the time of the next commit")
    coordinator.available.set()
    await giving_back
    await wait_until_async(lambda: coordinator.stored == {0: 1, 1: 1}, 5, "both commits")


async def test_a_commit_that_is_refused_is_an_alarm() -> None:
    """It names the group and what to do. It is reported once, however often that is repeated."""
    commits, coordinator, member, feed, listener = open_commits()
    member.confirm_membership()
    reason = "group g, topic t/0: Group authorization failed. (GROUP_AUTHORIZATION_FAILED)"
    coordinator.refused = {Partition("t", 0): WriteRefused(reason)}
    listener.finish(listener.records)
    for _ in range(3):
        await commits._store(feed, None, 1.0)
    (alarm,) = listener.alarms
    assert (AlarmKind.REFUSED, "g") == (alarm.kind, alarm.group)
    assert reason in alarm.detail
    assert "headrace acls" in alarm.detail
    assert feed.has_changed()
    feed.close()


async def test_a_group_whose_commits_are_all_refused_is_asked_once_a_second() -> None:
    """One of which a part is stored continues at its rate."""
    commits, coordinator, member, feed, listener = open_commits()
    member.confirm_membership()
    loop = asyncio.get_running_loop()
    listener.finish(listener.records)
    error: HeadraceError = WriteRefused("no permission")
    for numbers, seconds in (((0, 1), REFUSED_INTERVAL_SECONDS), ((0,), COMMIT_INTERVAL_SECONDS)):
        coordinator.refused = {Partition("t", number): error for number in numbers}
        begun = loop.time()
        await commits._store(feed, None, 1.0)
        assert feed.commit_timer is not None
        assert begun + seconds <= feed.commit_timer.when() <= loop.time() + seconds
        feed.commit_timer.cancel()
        feed.commit_timer = None
    feed.close()


async def test_the_commit_for_a_topic_that_is_gone_is_no_alarm() -> None:
    """It was deleted with its Trigger or Broker, for example."""
    commits, coordinator, member, feed, listener = open_commits()
    member.confirm_membership()
    coordinator.refused = {Partition("t", 0): NotFound("topic t/0")}
    listener.finish(listener.records)
    await commits._store(feed, None, 1.0)
    assert [] == listener.alarms
    feed.close()
