"""Finds committed offsets that are beyond the end of their log.

A log becomes shorter when a replica is elected that has not all records, and when a topic is
created again. A position beyond its end would get no records until the log is as long as before.
And the error that it causes would move all subscriptions that are read for together with it.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.group_offsets.connection import Unanswered
from headrace.adapters.kafka.group_offsets.topic_offsets import TopicOffsets
from headrace.adapters.kafka.group_offsets.topic_requests import FIRST, LOG_END, Place
from headrace.domain.record import Partition

READ_BOUNDS_SECONDS: Final = 4.0


class CheckedPositions(NamedTuple):
    """Where to begin."""

    positions: dict[Partition, Position]
    shorter: Mapping[Partition, str]
    """Why some of them are at the oldest record of a log."""
    unknown: Collection[Partition]
    """Partitions whose log was not described: their leader does not answer."""


class LogBounds:
    """Where the logs of some topics begin and end."""

    def __init__(self, offsets: TopicOffsets) -> None:
        self._offsets = offsets
        self._loop = asyncio.get_running_loop()

    async def ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Return the ends of these logs, as far as they are known in time."""
        return await self._read(partitions, LOG_END)

    async def check(
        self, positions: Mapping[Partition, Position], ends: Mapping[Partition, int]
    ) -> CheckedPositions:
        """Return where to begin: at these positions, but at the oldest record of a log that ends
        before its position. `ends` may have been read before the positions were.
        """
        unknown = {
            each for each, position in positions.items() if position.offset and each not in ends
        }
        beyond = [
            each
            for each, position in positions.items()
            if each in ends and position.offset > ends[each]
        ]
        shorter: dict[Partition, str] = {}
        if beyond:
            # Only now the first offsets are needed, and the ends once more: they may be older than
            # the positions.
            ends, firsts = await asyncio.gather(
                self._read(beyond, LOG_END), self._read(beyond, FIRST)
            )
            unknown |= {each for each in beyond if each not in ends or each not in firsts}
            starts = {}
            for each in beyond:
                if each not in unknown and (offset := positions[each].offset) > ends[each]:
                    starts[each] = Position(each, firsts[each], "")
                    shorter[each] = (
                        f"offset {offset} is committed in {each.topic}/{each.partition}, whose log"
                        f" ends at {ends[each]}: it was created again or truncated"
                    )
            positions = {**positions, **starts}
        known = {each: position for each, position in positions.items() if each not in unknown}
        return CheckedPositions(known, shorter, unknown)

    async def _read(self, partitions: Collection[Partition], at: Place) -> Mapping[Partition, int]:
        with suppress(Unanswered):
            return await self._offsets.read_at(
                partitions, at, self._loop.time() + READ_BOUNDS_SECONDS
            )
        return {}
