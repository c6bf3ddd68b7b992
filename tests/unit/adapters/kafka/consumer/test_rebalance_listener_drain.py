"""What the thread of a consumer reports to the loop while partitions are given back. The client is
the test's.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.adapters.kafka.consumer import assignment as assignment_module
from headrace.adapters.kafka.consumer import poll_loop
from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.poll_loop import PollLoop
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.revocation import RevocationRequest
from headrace.domain.feed import FeedAlarm
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.consumer.test_assignment import (
    OPTIONS,
    PARTITION,
    SlowListener,
    commits,
    with_partition,
)


class Client:
    """A client that answers only the commits for whose answers it is waited."""

    def __init__(self, *_: object, **__: object) -> None:
        self.commits: list[bool] = []
        """For each commit, whether its answer was waited for."""
        self.losses_at_close = -1
        self.assignment: Assignment | None = None

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> Any:
        """As Consumer."""
        self.commits.append(not asynchronous)
        return None if asynchronous else offsets

    def subscribe(self, *_: object, **__: object) -> None:
        """As Consumer. It fails."""
        raise KafkaException(KafkaError(KafkaError._FATAL))

    def close(self) -> None:
        """As Consumer."""
        assert self.assignment is not None
        self.losses_at_close = self.assignment.channel.losses


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """The next client that is created."""
    made = Client()
    monkeypatch.setattr(poll_loop, "Consumer", lambda *_, **__: made)
    return made


async def give_everything_back(loop: PollLoop, client: Client) -> None:
    """As the thread does at its end."""
    await asyncio.to_thread(loop._rebalance.release_all, cast(Any, client))


async def test_the_membership_is_confirmed_while_a_partition_is_drained(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the answer to a commit was due when that began. The client reports it later, and it
    is not taken for that of a later commit.
    """
    listener = SlowListener()
    assignment = with_partition(listener, [])
    loop = PollLoop(assignment, {})
    loop._rebalance.owned.add(PARTITION)
    assignment.verify_membership()
    await wait_until_async(lambda: commits(assignment), 5, "a commit")
    loop._run_commands()
    assert client.commits == [False]
    releasing = asyncio.ensure_future(give_everything_back(loop, client))
    await wait_until_async(lambda: listener.unconfirmed_calls == [True, False], 5, "an answer")
    assignment.pause(PARTITION)
    assignment.verify_membership()
    await wait_until_async(lambda: listener.unconfirmed_calls[2:] == [True, False], 5, "another")
    assert client.commits == [False, True, True]
    assert listener.drained is not None
    listener.drained()
    await releasing
    assert [command for command, _ in assignment.channel.commands] == ["pause"]
    answers: list[object] = []
    monkeypatch.setattr(assignment, "on_commit_answered", lambda *each, **_: answers.append(each))
    loop._on_commit(KafkaError(KafkaError._TIMED_OUT), [])
    loop._on_commit(None, [])
    await wait_until_async(lambda: answers, 5, "an answer to a later commit")
    assert answers == [(set(),)]
    assignment.close()


async def test_a_late_answer_to_a_commit_is_not_that_of_the_next_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group may have taken the partitions since: it confirms nothing."""
    monkeypatch.setattr(assignment_module, "_COMMIT_ANSWER_SECONDS", 0.0)
    assignment = with_partition(SlowListener(), [])
    loop = PollLoop(assignment, {})
    loop._rebalance.owned.add(PARTITION)
    for count in (1, 2):
        assignment.confirm_membership()
        await wait_until_async(lambda: commits(assignment), 5, "a commit")
        loop._run_commands()
        assert count == len(client.commits)
        if count == 1:
            assignment._commit()  # The time for an answer is over.
    answers: list[object] = []
    monkeypatch.setattr(assignment, "on_commit_answered", lambda *each, **_: answers.append(each))
    loop._on_commit(None, [])
    loop._on_commit(KafkaError(KafkaError.UNKNOWN_MEMBER_ID), [])
    await wait_until_async(lambda: answers, 5, "the answer to the second commit")
    assert answers == [(None,)]
    assignment.close()


async def test_commits_during_a_drain_are_of_the_present_assignment(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition may be lost and assigned again in one poll, in which others are given back. What
    the loop has asked before it has taken that over is not done, but answered.
    """
    assignment = with_partition(SlowListener(), [])
    loop = PollLoop(assignment, {})
    loop._rebalance.owned.add(PARTITION)
    loop._run_commands()
    assert assignment.channel.reported[PARTITION] == -1  # As if the thread had reported it.
    assignment.channel.reported[PARTITION] = 1
    answers: list[object] = []
    monkeypatch.setattr(assignment, "on_commit_answered", lambda *each, **_: answers.append(each))
    assignment.channel.commit([Position(PARTITION, 3, "")])
    await asyncio.to_thread(loop._run_commits)
    await wait_until_async(lambda: answers == [(None,)], 5, "an answer")
    assert client.commits == []
    assignment.channel.take_over([PARTITION])
    assignment.channel.commit([Position(PARTITION, 4, "")])
    await asyncio.to_thread(loop._run_commits)
    await wait_until_async(lambda: len(answers) == 2, 5, "another answer")
    assert client.commits == [True]
    assert not assignment.channel.commands
    assignment.close()


async def test_a_partition_that_is_not_drained_in_time_is_lost(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last commits of a reader's feeds may take longer than the group can wait. A deadline that
    the loop notices late changes nothing of the next assignment.
    """
    listener, alarms = RecordingListener(give_back=False), list[FeedAlarm]()
    assignment = with_partition(listener, alarms)
    assignment.config = replace(assignment.config, drain_seconds=0.01)
    late: list[RevocationRequest] = []
    monkeypatch.setattr(assignment, "on_drain_timeout", late.append)
    loop = PollLoop(assignment, {})
    loop._rebalance.owned.add(PARTITION)
    await give_everything_back(loop, client)
    await wait_until_async(lambda: late and not assignment.has_partitions, 5, "the loss")
    assignment.on_partitions_assigned([Position(PARTITION, 0, "")])
    Assignment.on_drain_timeout(assignment, late[0])
    assert (assignment.has_partitions, listener.lost, alarms) == (True, [PARTITION], [])
    assignment.close()


async def test_a_wait_for_a_feed_that_was_abandoned_ends(client: Client) -> None:
    assignment = with_partition(SlowListener(), [])
    assignment.config = replace(assignment.config, drain_seconds=60.0)
    loop = PollLoop(assignment, {})
    loop._rebalance.owned.add(PARTITION)
    releasing = asyncio.ensure_future(give_everything_back(loop, client))
    assignment.channel.abandon()
    await asyncio.wait_for(releasing, 5)


async def test_partitions_are_lost_before_a_consumer_is_closed(client: Client) -> None:
    """It leaves the group then, and others get them."""
    assignment = client.assignment = with_partition(SlowListener(), [])
    loop = PollLoop(assignment, {})
    with pytest.raises(KafkaException):
        loop.run(OPTIONS.credentials.age("client"))
    assert client.losses_at_close == 1
    await wait_until_async(lambda: not assignment.has_partitions, 5, "the loss")
    assignment.close()
