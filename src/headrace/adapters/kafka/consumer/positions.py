"""Positions, as passed to the consumer's thread, and the rate limit of the commits of a process."""

from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import TopicPartition

from headrace.domain.record import Partition


class Position(NamedTuple):
    """What is committed for one partition: everything below `offset` is done, and `metadata`
    describes what is done beyond it.
    """

    partition: Partition
    offset: int
    metadata: str

    def to_client(self) -> TopicPartition:
        """Return the position as the client's type."""
        return TopicPartition(
            self.partition.topic, self.partition.partition, self.offset, self.metadata
        )


def metadata_of(committed: TopicPartition) -> str:
    """Return the metadata of a committed offset; empty if the client cannot read it.

    The client expects NUL at the end of the text, which it writes itself (2.16.1). After a text of
    another client, bytes of its memory may follow. What they make of the text is ignored where it
    is parsed; bytes that are not UTF-8 raise here.
    """
    try:
        return committed.metadata or ""
    except UnicodeDecodeError:
        return ""


def to_client(positions: Sequence[Position]) -> list[TopicPartition]:
    """Return positions as the client's type."""
    return [position.to_client() for position in positions]


class CommitRateLimiter:
    """Spreads the commit requests of all feeds of one process over time. Used from one event loop
    only.

    A hundred busy feeds would otherwise send a thousand commits per second to the broker, each of
    which is a write to its log.
    """

    def __init__(self, *, per_second: float = 200.0, burst: int = 20) -> None:
        if per_second <= 0 or burst < 1:
            raise ValueError(
                f"a commit rate must be positive: per_second={per_second}, burst={burst}"
            )
        self._interval = 1.0 / per_second
        self._tolerance = (burst - 1) * self._interval
        self._free_at = 0.0

    def reserve(self, now: float) -> float:
        """Reserve the next request; return how many seconds after `now` (monotonic) it may
        be made.
        """
        self._free_at = max(self._free_at, now) + self._interval
        return max(self._free_at - self._interval - self._tolerance - now, 0.0)
