"""A record of a log, before and after it is stored.

The hot paths use both classes: plain slotted values, created once per event and never copied. They
are not frozen, because `__init__` of a frozen class takes four times as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]
"""Record headers in order; names may repeat."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(slots=True)
class Record:
    """A record to append; nothing changes it. `value=None` is a tombstone in a compacted topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    header_bytes: int = field(default=-1, compare=False, repr=False)
    """Bytes of the headers, if its creator has counted them; else -1."""

    @property
    def size(self) -> int:
        """Bytes of key, value and headers, without the log's own framing."""
        size = self.header_bytes
        if size < 0:
            size = sum(len(name) + len(value) for name, value in self.headers)
        if self.key is not None:
            size += len(self.key)
        if self.value is not None:
            size += len(self.value)
        return size


@dataclass(slots=True)
class StoredRecord:
    """A record that was read, with its position in the log.

    `timestamp_ms` is the log's (append time where the topic is configured so), in Unix
    milliseconds. `note` is the text that `Feed.annotate` stored for the record before a restart,
    else None.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    note: str | None = None
    size: int = 0
    """Bytes that the feed counts for this record until it is done."""
    examined: bool = False
    """Whether the feed has applied its filter to this record, which is in binary mode then."""
    attributes: Mapping[str, str] | None = None
    """The attributes of the event; None unless a filter has needed them."""
    header_lines: bytes | None = None
    """The headers of the event as lines of an HTTP request in binary mode, if they are known: they
    are the same for all subscribers.
    """

    @property
    def origin(self) -> str:
        """`topic/partition/offset`: identifies this record in logs and private headers."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def copy(self) -> "StoredRecord":
        """Return an equal record with an identity of its own. Faster than `dataclasses.replace`."""
        return StoredRecord(
            self.topic,
            self.partition,
            self.offset,
            self.timestamp_ms,
            self.key,
            self.value,
            self.headers,
            self.note,
            self.size,
            self.examined,
            self.attributes,
            self.header_lines,
        )
