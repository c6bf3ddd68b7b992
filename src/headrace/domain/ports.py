"""The interfaces that the services use for I/O and time. Each has an in-memory implementation in
`adapters/memory`.

`tests/contract` runs the same suite on the in-memory and the real adapter of each port, except for
`Feeds`, whose feeds it tests, and `Clock`.

Rules for all ports:

* Callbacks run on the event loop that started the adapter, never on a thread of a library, and
  never inside the call that registered them.
* Every coroutine ends within a deadline from the settings of its adapter. If it fails, it raises an
  error of `headrace.domain.errors`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from headrace.domain.backend_name import KAFKA
from headrace.domain.delivery import Outcome
from headrace.domain.errors import HeadraceError
from headrace.domain.feed import Backlog, FeedAlarm, FeedConfig
from headrace.domain.filters import Filter
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.record import Partition, Record, StoredRecord
from headrace.domain.routing import RoutingTable
from headrace.domain.source_report import SourceReport

OnStored = Callable[[HeadraceError | None], None]
"""Called once for each appended record: with None when all in-sync replicas have it, else with the
error.
"""


class Log(Protocol):
    """Appends records durably."""

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """Queue `record` for the end of `topic` and return immediately; `stored` is called with the
        outcome.

        Raises `LogFull` if the topic's byte budget is used up and `RecordTooLarge` if the record
        can never fit; in both cases, `stored` is not called.
        """
        ...

    async def flush(self, timeout_seconds: float) -> int:
        """Wait until everything appended is stored or refused; return the number of records that
        are still open.
        """
        ...


class FeedListener(Protocol):
    """Receives the records of a feed and works on them."""

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        """Accept these records. Each must be passed to `Feed.done` once. The order within a
        partition is preserved.
        """
        ...

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Stop work on these partitions, and call `drained` when none of their records is in
        flight.

        The feed waits for that call, up to its drain deadline, and then commits.
        """
        ...

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Drop the records in flight: these partitions already belong to another consumer, or the
        drain deadline has passed.

        `done` for these records is ignored.
        """
        ...

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        """Handle a change of the membership's state.

        True: another member may already own the partitions of this process, so start nothing;
        attempts that were started continue. False: this process owns them.
        """
        ...


class Feed(Protocol):
    """The records of one consumer group, and which of them are done.

    The feed hands out no more than its limits allow (records and bytes that are not done yet). A
    record that is not done when its process dies is handed out again.
    """

    def start(self, listener: FeedListener) -> None:
        """Join the group and begin to hand out records."""
        ...

    def done(self, record: StoredRecord) -> None:
        """Mark this record as needing no more work; its offset may be committed. Unknown or
        repeated records are ignored.
        """
        ...

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """Keep `note` (at most 200 ASCII characters) with an unfinished record, best effort, across
        restarts.
        """
        ...

    def pause(self, partition: Partition) -> None:
        """Hand out no more records of this partition until `resume`. Records already handed out are
        not affected.
        """
        ...

    def resume(self, partition: Partition) -> None:
        """Undo `pause`."""
        ...

    def change_filter(self, filter: Filter) -> None:
        """Use this filter for records that are handed out from now on (`FeedConfig.filter`)."""
        ...

    @property
    def skipped(self) -> int:
        """The number of records that were skipped because they did not match."""
        ...

    def verify_membership(self) -> None:
        """Verify the membership after the process was suspended: the listener treats it as
        unconfirmed until the group has confirmed that this process is still a member.
        """
        ...

    def lag(self) -> Mapping[Partition, "Lag"]:
        """Return what is not done yet, for each partition that this process owns. The mapping does
        not change later; the same one may be returned again while everything in it is true.
        """
        ...

    async def stop(self, *, leave: bool = False) -> None:
        """Take no more records, drain as in a revocation, commit, and close. Idempotent.

        A static member keeps its partitions for a while, so that a restart moves none, unless
        `leave` is set.
        """
        ...


class Feeds(Protocol):
    """Opens feeds, and reports how many records wait where no feed is open."""

    async def prepare(self) -> None:
        """Prepare for the first `open`. Raises `LogUnavailable`."""
        ...

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> Feed:
        """Open a feed; `alarm` is called on the event loop with what an operator should know."""
        ...

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """Return, for each group, how many records of its topics it has not committed. Raises
        `LogUnavailable` if nothing answers.
        """
        ...


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in one partition.

    `oldest_ms` is the timestamp of the oldest record that is not done; None if there is none or it
    has not been read yet. `progress_seconds` is the time since the done prefix last moved; 0.0 if
    there is nothing to do.
    """

    records: int
    oldest_ms: int | None
    progress_seconds: float


NO_LAG: Final = Lag(0, None, 0.0)
"""Everything is done."""


class Attempt(Protocol):
    """A request in flight."""

    def cancel(self) -> None:
        """Cancel the request. Its outcome is not reported."""
        ...


class Target(Protocol):
    """One URL that events are posted to, with its connections."""

    @property
    def denied(self) -> str:
        """Why the egress policy denies this URL, for operators; empty if it does not or this is not
        known yet.
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
        """Send one POST.

        `headers` are complete lines (`name: value` CRLF), in addition to Host, Content-Length and
        the headers that the target itself adds. `timeout_seconds` is the total time from this call,
        including connecting, to the last byte read. Redirects are never followed. Never raises:
        every failure is reported as an `Outcome`.
        """
        ...

    def close(self) -> None:
        """Close idle connections now, and busy ones after their answer."""
        ...


class Sender(Protocol):
    """Creates targets."""

    def target(
        self,
        url: str,
        *,
        connections_max: int,
        ca_certs: str | None = None,
        reply_bytes_max: Callable[[], int] | None = None,
    ) -> Target:
        """Create a target for an absolute http or https URL. Raises ValueError with the reason if
        the URL is not valid.

        `ca_certs` is PEM text of authorities that are trusted in addition to the system's.
        `reply_bytes_max` returns how many bytes of a response that may be a reply event may be
        read. It is called when a response is larger than the amount that is always read. None: no
        reply is wanted.
        """
        ...


class RoutingReader(Protocol):
    """Reads the routing table and keeps it current."""

    @property
    def table(self) -> RoutingTable:
        """The table as applied so far. It is always the same object, and changes in place on the
        event loop.
        """
        ...

    async def start(self) -> None:
        """Read to the end of the log, then follow it. Returns when the end was reached."""
        ...

    async def refresh(self, timeout_seconds: float) -> bool:
        """Read to the current end of the log; return False if that takes longer than
        `timeout_seconds`. Concurrent callers share one read.
        """
        ...

    def watch(self, changed: Callable[[Collection[str]], None]) -> None:
        """Call `changed` with the changed keys after each batch is applied, and once for each key
        found at start.
        """
        ...

    async def stop(self) -> None:
        """Stop following."""
        ...


class RoutingWriter(Protocol):
    """The controller's side of the routing table."""

    async def write(self, records: Mapping[str, bytes | None]) -> int:
        """Write records by key (None removes one). Return the log position up to which a reader
        must have applied the log to have seen them all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Instance:
    """A live data plane process, and how much of the routing table it has applied (a log position
    as returned by `RoutingWriter.write`).
    """

    id: str
    service: str
    applied: int
    seen_ms: int
    groups: Mapping[str, str] = field(default_factory=dict)
    """State of the subscriptions that it serves, by uid, for those with a state to report (for
    example `breaker-open`).
    """
    types: Sequence[ObservedEventType] = ()
    """Some of the event types that it has seen, where it was asked to report them. The next report
    contains others.
    """
    backends: Sequence[str] = (KAFKA,)
    """The backends that it serves (see `headrace.domain.backend_name`)."""
    schema_faults: Mapping[str, str] = field(default_factory=dict)
    """By uid of an addressable that only warns, the newest event that did not conform to its
    schema, as a text for users.
    """
    sources: Mapping[str, SourceReport] = field(default_factory=dict)
    """By uid, the sources that it runs."""


class Instances(Protocol):
    """The live data plane processes."""

    async def report(self, instance: Instance) -> None:
        """Report that this process is live. Call it repeatedly, at least every 2 s."""
        ...

    async def deregister(self, instance_id: str) -> None:
        """Remove the process from the live ones."""
        ...

    def live(self) -> Sequence[Instance]:
        """Return every process that has reported within the last 10 s and was not deregistered."""
        ...


class LeaseListener(Protocol):
    """Learns which leases this process holds."""

    def on_acquired(self) -> None:
        """This process holds more leases than before."""
        ...

    async def on_released(self) -> None:
        """This process holds fewer leases than before. Return when the work that needs them has
        ended; another process waits for that, for some seconds.
        """
        ...


class SourceLeases(Protocol):
    """Which process runs a source that one process runs at a time, and where that source is.

    There is a lease for every uid. The processes share them, and no two hold the same one.
    """

    async def start(self, listener: LeaseListener) -> None:
        """Begin to take part. Returns at once; leases are held some time later."""
        ...

    def holds(self, uid: str) -> bool:
        """Whether this process holds the lease of this source, as far as is known for sure."""
        ...

    def cursor(self, uid: str) -> str | None:
        """Return what was saved last for a source whose lease is held; None if nothing was."""
        ...

    async def save_cursor(self, uid: str, cursor: str | None) -> None:
        """Save where a source is; None removes it. Raises `LogUnavailable`, and `Fenced` if the
        lease is not held.
        """
        ...

    async def stop(self) -> None:
        """Release all leases. The listener is not called."""
        ...


class Clock(Protocol):
    """The time, as a port so that tests can control it."""

    def now(self) -> float:
        """Return the Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never decrease, for durations and deadlines."""
        ...
