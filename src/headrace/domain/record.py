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


@dataclass(slots=True, init=False)
class Record:
    """A record to append; nothing changes it. `value=None` is a tombstone in a compacted topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    size: int = field(compare=False, repr=False)
    """Bytes of key, value and headers, without the log's own framing."""

    def __init__(
        self, key: bytes | None, value: bytes | None, headers: Headers = (), size: int = -1
    ) -> None:
        """`size` is given by a creator that has counted it."""
        self.key = key
        self.value = value
        self.headers = headers
        self.size = size if size >= 0 else _size(key, value, headers)


def _size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    size = sum(len(name) + len(value) for name, value in headers)
    if key is not None:
        size += len(key)
    if value is not None:
        size += len(value)
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
