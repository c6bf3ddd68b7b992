"""What a feed may hold, and what it reports to operators: values shared by every adapter of the
`Feed` port.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from headrace.domain.record import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedBounds:
    """How much one feed may have handed out and not yet got back as done.

    `records_max` is never passed. `bytes_max` is passed by one record, or by one hand-over whose
    records are larger than the last one's.
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
    """The group has no committed offset in a topic it should know: nobody can say what was done."""
    TOPIC_MISSING = "topic-missing"
    TOPIC_RECREATED = "topic-recreated"
    """The topic is another one of the same name, or was cut: what was read of it says nothing about
    what is in it now.
    """
    REFUSED = "refused"
    """Authentication or authorization."""
    UNAVAILABLE = "unavailable"
    """No broker answers; work resumes automatically when one does."""
    REBUILT = "rebuilt"
    """The client failed and is replaced."""
    FENCED = "fenced"
    """Another process uses the same instance id."""
    UNCONFIRMED = "unconfirmed"
    """The group has not said for a while that it still counts this member in: nothing is started
    until it does.
    """
    DRAIN_OVERDUE = "drain-overdue"
    """Partitions were revoked before the records held were done: those will be delivered again
    by the next owner.
    """
    COMMIT_FAILED = "commit-failed"
    """What is done could not be committed before partitions were revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAlarm:
    """One thing operators should know about a feed; `detail` is a sentence without payload."""

    kind: AlarmKind
    group: str
    detail: str
    partition: Partition | None = None
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many records wait in groups that were asked about. What did not answer is absent and
    counted, never taken for nothing.
    """

    waiting: Mapping[str, Mapping[Partition, int]]
    """By group and partition, of the partitions that answered."""
    unknown: Mapping[str, int]
    """By group, how many partitions did not answer; without the groups of which all did."""

    def at_least(self, group: str) -> int:
        """Records that certainly wait."""
        return sum(self.waiting.get(group, {}).values())

    def exactly(self, group: str) -> int | None:
        """Records that wait, None when a partition did not answer."""
        return self.at_least(group) if group in self.waiting and group not in self.unknown else None


class InitialOffset(StrEnum):
    """Where reading begins in a topic in which the group has committed nothing.

    A partition without an offset, in a topic where others have one, was added since: it is read
    from its beginning in any case.
    """

    COMMITTED = "committed"
    """A start was committed for every partition before the first feed was opened: the group's
    memory is gone, which is an alarm, and `OutOfRange` says where reading begins.
    """
    EARLIEST = "earliest"
    """At the oldest record there is, as a matter of course: nobody commits a start."""


class OutOfRange(StrEnum):
    """Where reading continues when its offset is not in the log, or not known; always with an
    alarm.
    """

    EARLIEST = "earliest"
    """At the oldest record there is: nothing that still exists is skipped."""
    LATEST = "latest"
    """At the end: what exists now is given up."""
    STOP = "stop"
    """Nowhere: the partition stops until an operator has set an offset."""
