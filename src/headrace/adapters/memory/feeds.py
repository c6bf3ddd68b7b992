"""The feeds of one process, over in-memory groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.domain.feed import Backlog, FeedAlarm, FeedConfig


@dataclass
class MemoryFeeds:
    """Opens feeds over one set of groups; implements `headrace.domain.ports.Feeds`."""

    groups: MemoryGroups
    drain_seconds: float = 5.0
    opened: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Group and topics of every opened feed, in that order."""
    feeds: list[MemoryFeed] = field(default_factory=list)

    async def prepare(self) -> None:
        """Do nothing."""

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> MemoryFeed:
        """As `headrace.domain.ports.Feeds.open`. Delivers every record, matching or not."""
        feed = MemoryFeed(
            self.groups,
            group=config.group,
            topics=config.topics,
            bounds=config.bounds,
            alarm=alarm,
            drain_seconds=self.drain_seconds,
            initial_offset=config.initial_offset,
        )
        self.opened.append((config.group, config.topics))
        self.feeds.append(feed)
        return feed

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """Return an empty backlog."""
        return Backlog(waiting={group: {} for group in groups}, unknown={})
