"""What a feed reads, its limits, and what it reports to operators. Every adapter of the `Feed` port
uses these values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from headrace.domain.filters import Filter
from headrace.domain.record import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedBounds:
    """Limits for the records that one feed has handed out and that are not done yet.

    `records_max` is never exceeded. `bytes_max` may be exceeded by one record, or by one batch
    whose records are larger than those of the previous one.
    """

    records_max: int = 1000
    bytes_max: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.records_max < 1 or self.bytes_max < 1:
            raise ValueError(
                f"a feed needs room for one record: records_max={self.records_max},"
                f" bytes_max={self.bytes_max}"
            )


class AlarmKind(StrEnum):
    """What went wrong with a feed."""

    EXPIRED = "expired"
    """Records were removed from the log before they were handed out; `count` says how many."""
    OFFSET_MISSING = "offset-missing"
    """The group has no committed offset in a topic where it should have one, so it is not known
    which records are done.
    """
    TOPIC_MISSING = "topic-missing"
    TOPIC_RECREATED = "topic-recreated"
    """The topic is a new one with the same name, or was truncated. What was read before says
    nothing about its present content.
    """
    REFUSED = "refused"
    """Authentication or authorization failed."""
    UNAVAILABLE = "unavailable"
    """No broker answers; work resumes automatically when one does."""
    REBUILT = "rebuilt"
    """The client failed and is being replaced."""
    FENCED = "fenced"
    """Another process uses the same instance id."""
    OTHER_MEMBERS = "other-members"
    """The group of the subscription has had members for a while, which only the version before
    makes. It is not served here until they have left.
    """
    UNCONFIRMED = "unconfirmed"
    """The group has not confirmed for a while that this process is still a member. Nothing is
    started until it does.
    """
    DRAIN_OVERDUE = "drain-overdue"
    """Partitions were revoked before the records that were held were done. The next owner delivers
    those records again.
    """
    COMMIT_FAILED = "commit-failed"
    """Done records could not be committed before their partitions were revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAlarm:
    """A condition of a feed that operators should know about; `detail` is a sentence without
    payload.
    """

    kind: AlarmKind
    group: str
    detail: str
    partition: Partition | None = None
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many records are waiting in each of the requested groups.

    Partitions that did not answer are left out and counted in `unknown`; they are never treated as
    empty.
    """

    waiting: Mapping[str, Mapping[Partition, int]]
    """Number of records by group and partition, for the partitions that answered."""
    unknown: Mapping[str, int]
    """Number of partitions that did not answer, by group. Groups whose partitions all answered are
    left out.
    """

    def at_least(self, group: str) -> int:
        """Return a lower limit for the number of waiting records."""
        return sum(self.waiting.get(group, {}).values())

    def exactly(self, group: str) -> int | None:
        """Return the number of waiting records, or None if a partition did not answer."""
        return self.at_least(group) if group in self.waiting and group not in self.unknown else None


class InitialOffset(StrEnum):
    """Where reading begins in a topic in which the group has committed nothing.

    If the group has offsets in other partitions of the topic, a partition without one was added
    since. It is always read from its beginning.
    """

    COMMITTED = "committed"
    """An initial offset was committed for every partition before the first feed was opened. If
    there is none, the group's offsets were lost: an alarm is raised, and `OutOfRange` decides where
    reading begins.
    """
    EARLIEST = "earliest"
    """At the oldest record, without an alarm. No initial offset is committed for such a group."""
    LATEST = "latest"
    """At the end, without an alarm. It is committed at once. Adapters of this installation's own
    logs, whose groups have initial offsets, read it as `COMMITTED`.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """What one feed reads, as a member of which group."""

    group: str
    topics: tuple[str, ...]
    bounds: FeedBounds
    initial_offset: InitialOffset = InitialOffset.COMMITTED
    """Where reading begins in topics in which the group has committed nothing, and whether that
    raises an alarm.
    """
    filter: Filter | None = None
    """The filter of the subscription; `Feed.change_filter` replaces it. An adapter may skip an
    event that does not match, as if it were done; an adapter that hands it out anyway is correct
    too.
    """
    assigned_with: str | None = None
    """The channel topic whose partitions an adapter may assign together with these ones. Without
    it, and in other adapters, the feed is a member of its group.
    """
    exclusive: bool = False
    """Whether the order within a partition must hold across members: only one of them may work on
    a partition at a time. Adapters whose partitions always have one owner ignore it.
    """


class OutOfRange(StrEnum):
    """Where reading continues if the group's offset is not in the log or not known. An alarm is
    raised in any case.
    """

    EARLIEST = "earliest"
    """At the oldest record: no existing record is skipped."""
    LATEST = "latest"
    """At the end: the existing records are skipped."""
    STOP = "stop"
    """The partition stops until an operator has set an offset."""
