"""Commits that set no offset back, for groups for which another process may commit as well."""

import asyncio
from collections.abc import Callable, Sequence

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.group_offsets.group_offsets import (
    CommitOutcome,
    CommitResult,
    GroupOffsets,
)
from headrace.domain.errors import HeadraceError


class ForwardCommits:
    """Implements `group_commits.Offsets`. While `applies` returns True, the offsets of a group are
    read before each commit. A position behind them counts as stored: another process has done more.
    """

    def __init__(self, offsets: GroupOffsets, applies: Callable[[], bool]) -> None:
        self._offsets = offsets
        self._applies = applies

    async def commit(
        self,
        group: str,
        positions: Sequence[Position],
        timeout_seconds: float,
        still_valid: Callable[[], bool] = lambda: True,
    ) -> CommitResult:
        """As `Offsets.commit`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_seconds
        if self._applies():
            partitions = [each.partition for each in positions]
            try:
                found = (await self._offsets.read({group: partitions}, timeout_seconds))[group]
            except HeadraceError as error:
                return CommitResult(CommitOutcome.UNAVAILABLE, str(error))
            positions = [
                each for each in positions if each.offset >= found.get(each.partition, each).offset
            ]
        return await self._offsets.commit(group, positions, until - loop.time(), still_valid)
