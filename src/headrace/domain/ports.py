"""What the services need of the outside world. Every port has an in-memory twin in
`adapters/memory`.

`tests/contract` runs one suite over twin and real adapter, but for `Feeds` (of which it opens the
feeds) and `Clock`.

Rules that hold for all of them:

* Callbacks run on the event loop that started the adapter, never on a library's thread, and never
  inside the call that registered them.
* Every coroutine here ends within a deadline of its adapter's settings and raises an error of
  `headrace.domain.errors`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.domain.delivery import Outcome
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import Backlog, FeedAlarm, FeedBounds, InitialOffset
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.record import Partition, Record, StoredRecord
from headrace.domain.routing import RoutingTable

Matches = Callable[[Mapping[str, str]], bool]
"""Whether an event with these attributes, by name, passes a filter."""

OnStored = Callable[[HeadraceError | None], None]
"""Called once per appended record: None when all in-sync replicas have it, else why not."""


class Log(Protocol):
    """Appends records, durably."""

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """Queue `record` for the end of `topic` and return at once; `stored` is called with the
        outcome of it.

        Raises `LogFull` when the topic's byte budget is used up and `RecordTooLarge` when it can
        never fit; then `stored` is not called.
        """
        ...

    async def flush(self, timeout_seconds: float) -> int:
        """Wait until everything appended is stored or refused; return how many records are still
        open.
        """
        ...


class FeedListener(Protocol):
    """Who works on the records of a feed."""

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Take these: each must come back through `Feed.done` once. Order is kept within a
        partition.
        """
        ...

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Stop work on these partitions and call `drained` when nothing of them is in flight.

        The feed waits for that, up to its drain deadline, then commits.
        """
        ...

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """These partitions belong to another consumer already, or the drain deadline passed: drop
        what is in flight.

        `done` for it is ignored.
        """
        ...

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        """True: these partitions may have another owner by now, so start nothing; what was started
        continues. False: this process owns them.
        """
        ...


class Feed(Protocol):
    """The records of one consumer group, and the memory of which are done.

    The feed hands out no more than its bounds (records and bytes not yet done). A record not done
    when its process dies is handed out again.
    """

    def start(self, listener: FeedListener) -> None:
        """Join and begin to hand out records."""
        ...

    def done(self, record: StoredRecord) -> None:
        """This record needs no more work: it may be forgotten by the group. Unknown or repeated
        ones are ignored.
        """
        ...

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """Remember `note` (at most 200 ASCII characters) with an unfinished record, best effort,
        across restarts.
        """
        ...

    def pause(self, partition: Partition) -> None:
        """Hand out no more of this partition until `resume`; what is already out stays out."""
        ...

    def resume(self, partition: Partition) -> None:
        """Undo `pause`."""
        ...

    def verify_membership(self) -> None:
        """The process was suspended: notify the listener, until the group has said that it still
        counts this member in.
        """
        ...

    def lag(self) -> Mapping[Partition, "Lag"]:
        """What is not done yet, of each partition this process owns."""
        ...

    async def stop(self, *, leave: bool = False) -> None:
        """Take no more, drain (as in a revoke), commit, close. Idempotent.

        A member with a lasting name keeps its partitions for a while, so that a restart moves
        nothing, unless asked to `leave`.
        """
        ...


class Feeds(Protocol):
    """Opens feeds, and knows what waits where none is open."""

    async def prepare(self) -> None:
        """Get ready for the first `open`. Raises `LogUnavailable`."""
        ...

    def open(
        self,
        *,
        group: str,
        topics: Sequence[str],
        bounds: FeedBounds,
        alarm: Callable[[FeedAlarm], None],
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
        matches: Matches | None = None,
    ) -> Feed:
        """A feed of these topics for this group; `alarm` is called, on the loop, with what an
        operator should know.

        `initial_offset` says where reading begins in topics in which the group has committed
        nothing, and whether that is an alarm. `matches` is the filter of the subscription, given
        the attributes of a record in binary mode; it may give another answer later. An adapter may
        skip a record that does not match, as if it were done; one that hands it out anyway is
        correct.
        """
        ...

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """For each group, how many records of its topics it has not committed. Raises
        `LogUnavailable` when nothing answers.
        """
        ...


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in one partition.

    `oldest_ms` is the timestamp of the oldest record not done, None when there is none or it has
    not been read yet. `progress_seconds` is the time since the done prefix last moved, 0.0 when
    there is nothing to do.
    """

    records: int
    oldest_ms: int | None
    progress_seconds: float


class Attempt(Protocol):
    """A request on its way."""

    def cancel(self) -> None:
        """Cancel it; its outcome is not reported."""
        ...


class Target(Protocol):
    """One URL that events are posted to, with its connections."""

    @property
    def denied(self) -> str:
        """Why our own address policy lets nothing be posted there, empty when it does or is not
        known yet. For people.
        """
        ...

    def post(
        self,
        headers: bytes,
        body: bytes,
        *,
        timeout_seconds: float,
        answered: Callable[[Outcome], None],
    ) -> Attempt:
        """Send one POST. `headers` are complete lines (`name: value` CRLF) beside Host,
        Content-Length and what the target itself adds.

        `timeout_seconds` is total: from this call, over connecting, to the last byte read.
        Redirects are never followed; never raises: whatever happens becomes an `Outcome`.
        """
        ...

    def close(self) -> None:
        """Close idle connections now and busy ones after their answer."""
        ...


class Sender(Protocol):
    """Makes targets."""

    def target(
        self,
        url: str,
        *,
        connections_max: int,
        ca_certs: str | None = None,
        reply_bytes_max: Callable[[], int] | None = None,
    ) -> Target:
        """A target for an absolute http or https URL. Raises ValueError, naming what is wrong with
        it.

        `ca_certs` is PEM text of authorities trusted beside the system's. `reply_bytes_max` says
        how many bytes of a response may be read that may be a reply event; it is asked when more
        come than are read of any. None: no reply is wanted.
        """
        ...


class RoutingReader(Protocol):
    """Reads the routing table and keeps it current."""

    @property
    def table(self) -> RoutingTable:
        """The table as applied so far; the object stays the same and is changed in place, on the
        loop.
        """
        ...

    async def start(self) -> None:
        """Read to the log's end, then follow. Returns when the end was reached."""
        ...

    async def refresh(self, timeout_seconds: float) -> bool:
        """Read to what is the log's end now; shared by concurrent callers. False when that took too
        long.
        """
        ...

    def watch(self, changed: Callable[[Collection[str]], None]) -> None:
        """Call `changed` with the keys that changed, after each batch is applied (and once per key
        found at start).
        """
        ...

    async def stop(self) -> None:
        """Stop following."""
        ...


class RoutingWriter(Protocol):
    """The controller's side of the routing table."""

    async def write(self, records: Mapping[str, bytes | None]) -> int:
        """Write records by key (None removes); return the log position a reader must have applied
        to have seen them all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Instance:
    """A live data plane process and how much of the routing table it has applied (a log position as
    of `RoutingWriter.write`).
    """

    id: str
    service: str
    applied: int
    seen_ms: int
    groups: Mapping[str, str] = field(default_factory=dict)
    """State of each subscription it works on, by uid, where there is something to say (for example
    `breaker-open`).
    """
    types: Sequence[ObservedEventType] = ()
    """Some of the types of events it has seen, where it was asked to report them; another part of
    them with the next report.
    """


class Instances(Protocol):
    """Who is alive."""

    async def report(self, instance: Instance) -> None:
        """Report that this process is alive, repeatedly (at least every 2 s)."""
        ...

    async def deregister(self, instance_id: str) -> None:
        """Deregister it."""
        ...

    def live(self) -> Sequence[Instance]:
        """Every process heard of within the last 10 s that has not left."""
        ...


class Clock(Protocol):
    """Time, passed in so that tests can own it."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for durations and deadlines."""
        ...
