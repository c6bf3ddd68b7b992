"""The feeds of one process, over in-memory groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.domain.feed import Backlog, FeedAlarm, FeedConfig


@dataclass
class MemoryFeeds:
    """Opens feeds over one set of groups; implements `headrace.domain.ports.Feeds`."""

    groups: MemoryGroups
    drain_seconds: float = 5.0

    async def prepare(self) -> None:
        """Do nothing."""

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> MemoryFeed:
        """As `headrace.domain.ports.Feeds.open`. Delivers every record, matching or not."""
        return MemoryFeed(
            self.groups,
            group=config.group,
            topics=config.topics,
            bounds=config.bounds,
            alarm=alarm,
            drain_seconds=self.drain_seconds,
            initial_offset=config.initial_offset,
        )

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """As `headrace.domain.ports.Feeds.backlog`."""
        return Backlog(
            waiting={group: self.groups.backlog(group, topics) for group, topics in groups.items()},
            unknown={},
        )
