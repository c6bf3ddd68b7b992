"""The feeds of a process that also asks how much waits in groups."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.adapters.kafka.consumer.feeds import KafkaFeeds
from headrace.domain.feed import Backlog

if TYPE_CHECKING:
    from headrace.adapters.kafka.group_offsets.group_backlogs import GroupBacklogs

BACKLOG_SECONDS = 10.0


class FeedsWithBacklog(KafkaFeeds):
    """Implements `headrace.domain.ports.Feeds`."""

    _backlogs: "GroupBacklogs | None" = None

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """Return for each group how many records of its topics it has not committed. Topics that do
        not exist count as empty.

        Partitions that do not answer are left out and counted. Raises `LogUnavailable` when no
        broker answers.
        """
        if self._backlogs is None:
            # Not before it is used: in-memory channels are served without the library for it.
            from headrace.adapters.kafka.group_offsets.group_backlogs import GroupBacklogs

            self._backlogs = GroupBacklogs(self.options)
        return await self._backlogs.read(groups, BACKLOG_SECONDS)

    async def close(self) -> None:
        """As `KafkaFeeds.close`."""
        await super().close()
        if self._backlogs is not None:
            await self._backlogs.close()
