"""Reads and commits the offsets of consumer groups from outside of them.

A process that reads a topic once for all its subscriptions is no member of their groups. Each group
still has its offsets in Kafka, where other tools look for them. Kafka accepts commits without a
member id while a group has no members.

librdkafka needs a client, and with it five threads, for each group. Here all groups share one
connection to each broker.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from confluent_kafka import KafkaError

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.errors import (
    broker_error,
    call_error,
    connection_error,
    has_members,
    is_commit_not_read,
    is_commit_unclear,
    is_coordinator_change,
    is_missing,
    is_unreachable,
)
from headrace.adapters.kafka.group_offsets.connection import (
    Allowed,
    BrokerConnections,
    NotAllowed,
    Unanswered,
)
from headrace.adapters.kafka.group_offsets.coordinators import Coordinators
from headrace.adapters.kafka.group_offsets.offset_reads import OffsetReads
from headrace.adapters.kafka.group_offsets.requests import (
    Address,
    GroupPositions,
    commit_offsets,
    refused_offsets,
)
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import HeadraceError
from headrace.domain.record import Partition

COMMITS_MAX: Final = 10_000
"""Commits in progress; further ones are not taken."""
_PAUSE_SECONDS: Final = 0.05
_PAUSE_SECONDS_MAX: Final = 1.0


class CommitOutcome(StrEnum):
    """What happened to a commit."""

    STORED = "stored"
    """All positions."""
    REFUSED = "refused"
    """Some positions are refused, and those of the other partitions stored."""
    MEMBERS = "members"
    """Nothing is stored, because the group has members."""
    WITHDRAWN = "withdrawn"
    """Nothing was sent, because `still_valid` said so."""
    UNAVAILABLE = "unavailable"
    """Nothing is stored. The same commit may succeed later."""
    UNKNOWN = "unknown"
    """It was sent. It may be stored, also later."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The result of a commit."""

    outcome: CommitOutcome
    reason: str = ""
    """Why it is not stored, for logs."""
    refused: Mapping[Partition, HeadraceError] = field(default_factory=dict)
    """Why a partition is refused: `NotFound` if it does not exist, `WriteRefused` for access that
    is denied and metadata that is too long.
    """


@dataclass(slots=True)
class _Progress:
    """How far a call has come, for its deadline."""

    repeatable: bool
    """Whether a request without an answer may be sent again."""
    error: KafkaError | None = None
    """Why the last attempt failed."""
    written: bool = False
    """Whether a broker may have received one that must not be sent again, and has not answered."""

    @property
    def reason(self) -> str:
        return f": {self.error.str()} ({self.error.name()})" if self.error is not None else ""


class GroupOffsets:
    """The committed offsets of all groups of a cluster. Used from one event loop only.

    A commit that was sent may reach the broker after its deadline, and after other commits that
    were sent on another connection. So `still_valid` must become False some time before another
    process may commit for the group, and a position may go back to an earlier one.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self.connections = BrokerConnections(options, on_lost=self._on_lost)
        """Closed by `close`."""
        self._coordinators = Coordinators(self.connections, options.bootstrap_servers)
        self._reads = OffsetReads(self.connections)
        self._commits = 0
        self._closed = False

    async def read(
        self,
        groups: Mapping[str, Collection[Partition]],
        timeout_seconds: float,
    ) -> Mapping[str, Mapping[Partition, Position]]:
        """Return what each group has committed for its partitions. Partitions without an offset are
        absent. Raises the error of the first group that could not be read, as `read_each` returns
        it.
        """
        found: dict[str, Mapping[Partition, Position]] = {}
        failed = await self.read_each(groups, timeout_seconds, found.__setitem__)
        for error in failed.values():
            raise error
        return {group: found[group] for group in groups}

    async def read_each(
        self,
        groups: Mapping[str, Collection[Partition]],
        timeout_seconds: float,
        on_read: Callable[[str, Mapping[Partition, Position]], None],
    ) -> Mapping[str, HeadraceError]:
        """Call `on_read` with what each group has committed for its partitions, while others may
        wait for another broker.

        Returns the groups that could not be read, with an error that names the group and the
        reason: `LogUnavailable` if there was no answer in time, `WriteRefused` for access that is
        denied.
        """
        failed: dict[str, KafkaError] = {}

        async def read(group: str, partitions: Collection[Partition]) -> None:
            answer = await self._read(group, partitions, timeout_seconds)
            if isinstance(answer, KafkaError):
                failed[group] = answer
            else:
                on_read(group, answer)

        async with asyncio.TaskGroup() as tasks:
            for group, partitions in groups.items():
                if partitions:
                    tasks.create_task(read(group, partitions))
                else:
                    on_read(group, {})
        return {
            group: call_error(failed[group], f"committed offsets of group {group}")
            for group in groups
            if group in failed
        }

    async def commit(
        self,
        group: str,
        positions: Sequence[Position],
        timeout_seconds: float,
        still_valid: Allowed = lambda: True,
    ) -> CommitResult:
        """Commit for a group without members. One commit of a group at a time: their order is
        undefined.

        `still_valid` is called immediately before the request is written to its connection; nothing
        is written if it returns False. A request is written again only after a broker has answered
        that it did not look at it.
        """
        if self._commits >= COMMITS_MAX:
            reason = f"group {group}: {COMMITS_MAX} commits are in progress"
            return CommitResult(CommitOutcome.UNAVAILABLE, reason)
        if not positions:
            return CommitResult(CommitOutcome.STORED)
        progress = _Progress(repeatable=False)
        self._commits += 1
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._commit(group, positions, still_valid, progress)
        except TimeoutError:
            outcome = CommitOutcome.UNKNOWN if progress.written else CommitOutcome.UNAVAILABLE
            reason = f"group {group}: not committed within {timeout_seconds:g} s{progress.reason}"
            return CommitResult(outcome, reason)
        finally:
            self._commits -= 1

    async def close(self) -> None:
        """Close all connections. Calls in progress fail."""
        self._closed = True
        await self._reads.close()
        await self._coordinators.close()
        await self.connections.close()

    def _on_lost(self, broker: Address) -> None:
        self._coordinators.forget_broker(broker)

    async def _read(
        self, group: str, partitions: Collection[Partition], timeout_seconds: float
    ) -> Mapping[Partition, Position] | KafkaError:
        progress = _Progress(repeatable=True)
        answer: GroupPositions | None = None

        async def attempt(coordinator: Address) -> KafkaError | None:
            nonlocal answer
            answer = await self._reads.read(coordinator, group, partitions)
            if answer.error:
                return broker_error(answer.error)
            refused = (broker_error(code) for code in answer.refused.values())
            return next((each for each in refused if not is_missing(each)), None)

        try:
            async with asyncio.timeout(timeout_seconds):
                error = await self._ask_coordinator(group, attempt, progress)
        except TimeoutError:
            return connection_error(f"no answer within {timeout_seconds:g} s{progress.reason}")
        if error is not None or answer is None:
            return error or connection_error("no answer")
        return answer.positions

    async def _commit(
        self,
        group: str,
        positions: Sequence[Position],
        still_valid: Allowed,
        progress: _Progress,
    ) -> CommitResult:
        request = commit_offsets(group, positions)
        result = CommitResult(CommitOutcome.STORED)

        def may_write() -> bool:
            progress.written = still_valid()
            return progress.written

        async def attempt(coordinator: Address) -> KafkaError | None:
            nonlocal result
            connection = await self.connections.connection(coordinator)
            answer = await connection.send(request, may_write)
            progress.written = False
            errors = {each: broker_error(code) for each, code in refused_offsets(answer).items()}
            not_read = next((each for each in errors.values() if is_commit_not_read(each)), None)
            result = _result(group, errors)
            return not_read

        try:
            error = await self._ask_coordinator(group, attempt, progress)
        except NotAllowed:
            return CommitResult(
                CommitOutcome.WITHDRAWN, f"group {group}: withdrawn before it was sent"
            )
        if error is None:
            return result
        if progress.written or is_unreachable(error):
            outcome = CommitOutcome.UNKNOWN if progress.written else CommitOutcome.UNAVAILABLE
            return CommitResult(outcome, str(call_error(error, f"group {group}")))
        return _result(group, {each.partition: error for each in positions})

    async def _ask_coordinator(
        self,
        group: str,
        attempt: Callable[[Address], Awaitable[KafkaError | None]],
        progress: _Progress,
    ) -> KafkaError | None:
        """Call `attempt` with the coordinator until it succeeds. Returns an error that does not
        pass by itself, or after which the outcome is not known.
        """
        pause = _PAUSE_SECONDS
        while not self._closed:
            error: KafkaError | None
            coordinator = await self._coordinators.find(group)
            if isinstance(coordinator, KafkaError):
                error = coordinator
            else:
                try:
                    error = await attempt(coordinator)
                except Unanswered as lost:
                    error = lost.error
                    progress.written = lost.written and not progress.repeatable
                if error is not None:
                    self._coordinators.forget(group, coordinator)
            if error is None:
                return None
            progress.error = error
            if progress.written or not (is_coordinator_change(error) or is_unreachable(error)):
                return error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)
        return connection_error("the client is closed")


def _result(group: str, errors: Mapping[Partition, KafkaError]) -> CommitResult:
    if not errors:
        return CommitResult(CommitOutcome.STORED)
    what = f"group {group}"
    members = next((each for each in errors.values() if has_members(each)), None)
    if members is not None:
        return CommitResult(CommitOutcome.MEMBERS, str(call_error(members, what)))
    unclear = next((each for each in errors.values() if is_commit_unclear(each)), None)
    if unclear is not None:
        return CommitResult(CommitOutcome.UNKNOWN, str(call_error(unclear, what)))
    refused = {
        partition: call_error(error, f"{what}, topic {partition.topic}/{partition.partition}")
        for partition, error in errors.items()
    }
    return CommitResult(CommitOutcome.REFUSED, str(next(iter(refused.values()))), refused)
