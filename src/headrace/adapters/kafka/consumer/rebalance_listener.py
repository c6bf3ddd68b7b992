"""Rebalances of one consumer: which partitions it owns, and what it does before it gives them back.

The client calls a rebalance listener inside `poll`, `consume` and `close`. The callbacks do as
little as possible. The only requests that they send to a broker are commits during a revocation.
"""

import time
from collections.abc import Callable, Collection, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.positions import Position, to_client
from headrace.adapters.kafka.consumer.revocation import RevocationRequest
from headrace.adapters.kafka.errors import is_commit_retriable
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition
from headrace.runtime.failpoints import Failpoint, failpoint

_COMMIT_SECONDS = 5.0
_COMMIT_RETRY_SECONDS = 0.1
_WAIT_SECONDS = 0.05
"""How long a commit of the loop waits at most while partitions are drained."""


class RebalanceListener:
    """The partitions that one consumer owns. Used only in the thread of the consumer."""

    def __init__(
        self,
        assignment: Assignment,
        on_removed: Callable[[Collection[Partition]], None],
        run_commits: Callable[[], None],
    ) -> None:
        """`on_removed` is called with partitions that are no longer owned; it must drop what it
        holds for them. `run_commits` is called again and again while partitions are drained; it
        must send the commits that the loop asks for and wait for the answers.
        """
        self._assignment = assignment
        self._channel = assignment.channel
        self._call_on_loop = assignment.channel.call_on_loop
        self._drain_seconds = assignment.config.drain_seconds
        self._on_removed = on_removed
        self._run_commits = run_commits
        self.owned: set[Partition] = set()
        self.newly_assigned: set[Partition] = set()
        """Owned, and not reported to the loop yet."""
        self.has_joined = False
        """Whether the group has answered once with an assignment, which may be empty."""
        self.closing = False
        """While the consumer is closed, nothing is reported to the loop."""
        self._releasing: RevocationRequest | None = None

    def subscribe(self, consumer: Consumer, topics: Sequence[str]) -> None:
        """Subscribe the consumer to topics, with this listener."""
        consumer.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def take_newly_assigned(self) -> list[Partition]:
        """Return the newly assigned partitions once, in order."""
        assigned, self.newly_assigned = sorted(self.newly_assigned), set()
        return assigned

    def begin_release(self) -> RevocationRequest:
        """Stop work on all partitions, which `release_all` will give back."""
        self._releasing = self._request(self.owned - self.newly_assigned)
        return self._releasing

    def release_all(self, consumer: Consumer) -> None:
        """Drain all partitions and commit, before the consumer is closed."""
        self._drain_and_commit(consumer, self.owned - self.newly_assigned)
        self.closing = True

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Begin at the committed offsets, which the client reads by itself. The committed metadata
        is read outside this callback.

        Inside a callback, some requests abort the process (`list_topics`, an assertion in the
        client) or time out (`committed`).
        """
        consumer.incremental_assign(list(partitions))
        assigned = _partitions(partitions)
        self.owned |= assigned
        self.newly_assigned |= assigned
        self.has_joined = True

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        revoked = _partitions(partitions)
        if not self.closing and not self._channel.abandoned:
            self._drain_and_commit(consumer, (revoked & self.owned) - self.newly_assigned)
        self._remove(revoked)
        consumer.incremental_unassign(list(partitions))

    def _on_lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        lost = _partitions(partitions)
        self._remove(lost)
        if not self.closing:
            self._channel.report_lost(self._assignment.on_partitions_lost, lost)
        consumer.incremental_unassign(list(partitions))

    def _remove(self, partitions: Collection[Partition]) -> None:
        self.owned.difference_update(partitions)
        self.newly_assigned.difference_update(partitions)
        self._on_removed(partitions)

    def _drain_and_commit(self, consumer: Consumer, partitions: Collection[Partition]) -> None:
        """Wait until the loop has drained these partitions, then commit what is done. The group
        waits meanwhile. If the loop does not complete the request in time, the partitions are lost.
        """
        if not partitions:
            return
        request = self._releasing or self._request(partitions)
        self._call_on_loop(self._assignment.limit_drain, request)
        if not self._wait_for(request):
            request.give_up()
            self._channel.report_lost(self._assignment.on_partitions_lost, partitions)
        failpoint(Failpoint.IN_REVOKE)
        # Partitions may have been lost since the request.
        positions = [each for each in request.positions if each.partition in self.owned]
        request.positions = ()
        if positions:
            self._commit_sync(consumer, positions)

    def _wait_for(self, request: RevocationRequest) -> bool:
        """Wait until the drain deadline, and a second longer. The membership is confirmed meanwhile
        by the commits of the loop: the client serves no callbacks here.
        """
        until = time.monotonic() + self._drain_seconds + min(self._drain_seconds, 1.0)
        while not request.wait(min(_WAIT_SECONDS, max(until - time.monotonic(), 0.0))):
            if time.monotonic() >= until or self._channel.abandoned:
                return False
            self._run_commits()
        return True

    def _request(self, partitions: Collection[Partition]) -> RevocationRequest:
        request = RevocationRequest(sorted(partitions))
        self._call_on_loop(self._assignment.on_partitions_revoked, request)
        return request

    def _commit_sync(self, consumer: Consumer, positions: Sequence[Position]) -> None:
        until = time.monotonic() + _COMMIT_SECONDS
        while True:
            try:
                answers = consumer.commit(offsets=to_client(positions), asynchronous=False) or []
                error = next((each.error for each in answers if each.error is not None), None)
            except KafkaException as refused:
                error = refused.args[0]
            if error is None:
                failpoint(Failpoint.AFTER_COMMIT)
                return
            if time.monotonic() >= until or not is_commit_retriable(error):
                detail = (
                    f"the last commit before giving partitions back was refused ({error.name()});"
                    " some records will be delivered again"
                )
                self._call_on_loop(self._assignment.raise_alarm, AlarmKind.COMMIT_FAILED, detail)
                return
            time.sleep(_COMMIT_RETRY_SECONDS)


def _partitions(partitions: Sequence[TopicPartition]) -> set[Partition]:
    return {Partition(each.topic, each.partition) for each in partitions}
