"""The feeds of one process, over in-memory groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.domain.feed import Backlog, FeedAlarm, FeedBounds, InitialOffset
from headrace.domain.ports import Matches


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

    def open(
        self,
        *,
        group: str,
        topics: Sequence[str],
        bounds: FeedBounds,
        alarm: Callable[[FeedAlarm], None],
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
        matches: Matches | None = None,
    ) -> MemoryFeed:
        """As `headrace.domain.ports.Feeds.open`. Delivers every record, matching or not."""
        feed = MemoryFeed(
            self.groups,
            group=group,
            topics=topics,
            bounds=bounds,
            alarm=alarm,
            drain_seconds=self.drain_seconds,
            initial_offset=initial_offset,
        )
        self.opened.append((group, tuple(topics)))
        self.feeds.append(feed)
        return feed

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """Return an empty backlog."""
        return Backlog(waiting={group: {} for group in groups}, unknown={})
