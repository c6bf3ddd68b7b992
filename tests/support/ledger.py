"""The ledger of a run: what was sent, how it was answered, and what arrived where.

An event is a function of (seed, writer, counter), so a receiver can check without the ledger
whether it is intact. Times are `time.monotonic()` seconds, which all processes of one machine
share.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, unquote_to_bytes

TYPES = ("ledger.a", "ledger.b", "ledger.c")
"""Event types, in turn by counter: subscriptions filter on them."""

ADDED = frozenset(
    {
        "knativearrivaltime",
        "knativekafkapartition",
        "knativekafkaoffset",
        "traceparent",
        "tracestate",
    }
)
"""Attributes that the ingress may add to an event; any other difference is damage."""


class Outcome(StrEnum):
    """What a writer knows about one event."""

    OK = "ok"
    """Acknowledged: 2xx was read."""
    FAIL = "fail"
    """Refused permanently: 4xx was read; it must never be delivered."""
    INFO = "info"
    """Unknown: no answer, or 5xx. It may be delivered or not."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """One event of a run."""

    writer: str
    counter: int
    key: str
    type: str
    attributes: Mapping[str, str]
    """Context attributes beside specversion, with the values a receiver must see."""
    data: bytes

    @property
    def id(self) -> str:
        """`writer.counter`: unique in a run."""
        return f"{self.writer}.{self.counter}"


def numbered(seed: int, writer: str, counter: int, *, size: int | None = None) -> Numbered:
    """Create event `counter` of `writer`; `size` is that of its data in bytes, by default one of 64
    to 1,087 that the seed decides.

    A writer has one key, its own name, so that the order of a key is the order of one client that
    waits for each answer.
    """
    proof = hashlib.blake2b(f"{seed}/{writer}/{counter}".encode(), digest_size=32).digest()
    length = 64 + int.from_bytes(proof[:2]) % 1024 if size is None else size
    kind = TYPES[counter % len(TYPES)]
    attributes = {
        "id": f"{writer}.{counter}",
        "source": f"/ledger/{seed}",
        "type": kind,
        "subject": str(length),
        "partitionkey": writer,
        "oddity": f'ünïcode "{proof[2]}" 100% /é',
    }
    return Numbered(
        writer, counter, writer, kind, attributes, (proof * (length // 32 + 1))[:length]
    )


def headers_of(event: Numbered) -> bytes:
    """The event's binary mode header lines, each ended by CRLF."""
    lines = [
        f"ce-{name}: {quote(value, safe=_UNESCAPED)}\r\n"
        for name, value in event.attributes.items()
    ]
    return (
        "ce-specversion: 1.0\r\ncontent-type: application/octet-stream\r\n" + "".join(lines)
    ).encode()


_UNESCAPED = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def damage(
    seed: int, attributes: Mapping[str, str], data: bytes, *, allowed: Collection[str] = ADDED
) -> str | None:
    """The difference between a received event and the one that was sent with its id; None if there
    is none.

    `attributes` are `ce-` header values as received, by name without the prefix.
    """
    writer, _, counter = attributes.get("id", "").rpartition(".")
    if not counter.isdecimal():
        return "its id is not of this run"
    size = attributes.get("subject", "")
    event = numbered(
        seed,
        writer,
        int(counter),
        size=int(size) if size.isdecimal() and int(size) < 1 << 24 else None,
    )
    if event.data != data:
        return f"data differs: {len(data)} bytes came, {len(event.data)} were sent"
    for name, value in event.attributes.items():
        try:
            received = unquote_to_bytes(attributes.get(name, "")).decode()
        except UnicodeDecodeError:
            return f"attribute {name} is not UTF-8"
        if received != value:
            return f"attribute {name} differs"
    foreign = attributes.keys() - event.attributes.keys() - {"specversion"} - set(allowed)
    return f"attributes added: {', '.join(sorted(foreign))}" if foreign else None


@dataclass(slots=True)
class Entry:
    """What is known about one sent event."""

    writer: str
    counter: int
    key: str
    type: str
    sent_at: float
    posts: int = 1
    """How often the writer posted it."""
    outcome: Outcome = Outcome.INFO
    settled_at: float | None = None
    status: int | None = None

    @property
    def id(self) -> str:
        """The event's id."""
        return f"{self.writer}.{self.counter}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that a sink received."""

    sink: str
    event: str
    key: str
    start: float
    end: float
    status: int | None
    """The sink's answer; None if the connection ended first, or the sink closed it."""
    damage: str | None = None
    lag: float = 0.0
    """How much earlier than `end` the connection may have ended, in seconds: a sink without a
    processor notices it late.
    """

    @property
    def accepted(self) -> bool:
        """Whether the sink accepted the event."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """One record found in a subscription's dead letter topic."""

    subscription: str
    event: str
    reason: str
    damage: str | None = None


@dataclass(slots=True)
class Totals:
    """Counts of posts and events so far."""

    attempted: int = 0
    acknowledged: int = 0
    refused: int = 0
    unanswered: int = 0
    """Posts that were sent completely and got no answer in time."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Answers by status."""


class Ledger:
    """Entries in memory and, immediately, as JSON lines in a file that survives a crash of
    the run.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._entries: dict[str, Entry] = {}
        self._file: TextIO | None = path.open("w", buffering=1, encoding="utf-8") if path else None
        self.totals = Totals()

    def sent(self, event: Numbered, at: float) -> None:
        """Record a post of the event, the first or a repeated one."""
        entry = self._entries.get(event.id)
        self.totals.attempted += 1
        if entry is None:
            self._entries[event.id] = Entry(event.writer, event.counter, event.key, event.type, at)
        else:
            entry.posts += 1
        self._line({"op": "send", "event": event.id, "at": at})

    def settled(
        self, event: Numbered, outcome: Outcome, at: float, *, status: int | None = None
    ) -> None:
        """Record the result of the latest post. A later failure never replaces an
        acknowledgement.
        """
        entry = self._entries[event.id]
        if entry.outcome is not Outcome.OK:
            entry.outcome, entry.settled_at, entry.status = outcome, at, status
        self.totals.acknowledged += outcome is Outcome.OK
        self.totals.refused += outcome is Outcome.FAIL
        if status is not None:
            self.totals.statuses[status] += 1
        self._line({"op": outcome.value, "event": event.id, "at": at, "status": status})

    def entries(self) -> list[Entry]:
        """All events, in the order of their first post."""
        return list(self._entries.values())

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    def _line(self, values: Mapping[str, object]) -> None:
        if self._file:
            self._file.write(json.dumps(values) + "\n")


def write_arrivals(arrivals: Iterable[Arrival]) -> str:
    """JSON lines, one per arrival."""
    return "".join(json.dumps(asdict(arrival)) + "\n" for arrival in arrivals)


def read_arrivals(text: str) -> list[Arrival]:
    """Undo `write_arrivals`; a last line cut short by a kill is left out."""
    return [
        Arrival(**json.loads(line))
        for line in text.splitlines(keepends=True)
        if line.endswith("\n")
    ]
