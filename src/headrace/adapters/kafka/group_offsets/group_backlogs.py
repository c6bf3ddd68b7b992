"""How many records wait in groups, read by a process that is no member of them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.group_offsets.connection import Unanswered
from headrace.adapters.kafka.group_offsets.group_offsets import GroupOffsets
from headrace.adapters.kafka.group_offsets.topic_offsets import (
    OffsetRange,
    TopicOffsets,
    TopicRanges,
)
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import Backlog
from headrace.domain.record import Partition

COMMITTED_SECONDS_MAX: Final = 3.0
"""The time limit for the committed offsets."""


class _Last(NamedTuple):
    """The last backlog, if no topic had records."""

    groups: Mapping[str, Sequence[str]]
    ranges: TopicRanges
    backlog: Backlog


class GroupBacklogs:
    """The backlogs of all groups of a cluster.

    It has a connection of its own to each broker: a broker answers the requests of a connection one
    after the other, so that commits would wait for these.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._offsets = GroupOffsets(options)
        self._last: _Last | None = None
        self._topics = TopicOffsets(self._offsets.connections, options.bootstrap_servers)

    async def read(self, groups: Mapping[str, Sequence[str]], seconds: float) -> Backlog:
        """Return for each group the number of records in its topics that it has not committed.
        Topics that do not exist have none.

        A partition without an answer hides no other. Offsets of groups whose topics are empty are
        not read. Raises `LogUnavailable` when no broker answers.
        """
        until = asyncio.get_running_loop().time() + seconds
        try:
            ranges = await self._topics.read(
                {each for some in groups.values() for each in some}, until
            )
        except Unanswered as error:
            raise LogUnavailable(
                f"Kafka did not answer a query about consumer groups: {error}"
            ) from error
        last = self._last
        if last is not None and (last.groups, last.ranges) == (groups, ranges):
            return last.backlog
        known: dict[str, dict[Partition, OffsetRange]] = {}
        for partition, span in ranges.known.items():
            known.setdefault(partition.topic, {})[partition] = span
        missing: dict[str, int] = {}
        for partition in ranges.unknown:
            missing[partition.topic] = missing.get(partition.topic, 0) + 1
        filled = {
            group: [
                partition
                for topic in topics
                for partition, (first, end) in known.get(topic, {}).items()
                if end > first
            ]
            for group, topics in groups.items()
        }
        committed = await self._committed(
            {group: some for group, some in filled.items() if some}, until
        )
        waiting: dict[str, dict[Partition, int]] = {}
        unknown: dict[str, int] = {}
        for group, topics in groups.items():
            spans = {each: span for topic in topics for each, span in known.get(topic, {}).items()}
            done = committed.get(group)
            waiting[group] = {
                each: _waiting(span, done.get(each) if done is not None else None)
                for each, span in spans.items()
                if span.end == span.first or done is not None
            }
            lacks = (
                sum(missing.get(topic, 0) for topic in topics) + len(spans) - len(waiting[group])
            )
            if lacks:
                unknown[group] = lacks
        backlog = Backlog(waiting=waiting, unknown=unknown)
        # While the topics are empty, what is committed does not matter.
        self._last = None if any(filled.values()) else _Last(dict(groups), ranges, backlog)
        return backlog

    async def _committed(
        self, groups: Mapping[str, Collection[Partition]], until: float
    ) -> Mapping[str, Mapping[Partition, Position]]:
        """Return what is committed, without groups that have no answer."""
        found: dict[str, Mapping[Partition, Position]] = {}
        left = min(COMMITTED_SECONDS_MAX, until - asyncio.get_running_loop().time())
        if groups and left > 0:
            await self._offsets.read_each(groups, left, found.__setitem__)
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._offsets.close()


def _waiting(span: OffsetRange, committed: Position | None) -> int:
    return max(0, span.end - max(committed.offset if committed is not None else 0, span.first))
