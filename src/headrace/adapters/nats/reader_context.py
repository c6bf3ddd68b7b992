"""What the readers of one feed share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.groups import Buckets
from headrace.adapters.nats.held_records import HeldRecord
from headrace.adapters.nats.pull_requests import DeliveredMessage
from headrace.domain.feed import AlarmKind, InitialOffset
from headrace.domain.record import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderContext:
    """The connection, the group and the topic of a reader, and how it reports."""

    connection: NatsConnection
    buckets: Buckets
    group: str
    topic: str
    initial_offset: InitialOffset
    owner: str
    """Identifies this feed in leases."""
    alarm: Callable[[AlarmKind, str, Partition, int], None]
    unconfirmed: Callable[[Partition, bool], None]
    """Reports whether the ownership of the partition is unconfirmed."""
    lost: Callable[[Partition], None]
    """Everything that is held of the partition is to be dropped."""

    @property
    def partition(self) -> Partition:
        """The topic's only partition."""
        return Partition(self.topic, 0)

    def raise_alarm(self, kind: AlarmKind, detail: str, count: int = 0) -> None:
        """Report to operators."""
        self.alarm(kind, detail, self.partition, count)


class ReadPosition(Protocol):
    """What is done of one topic, and how that is remembered: by the durable consumer
    (`SharedPosition`) or by its owner (`ExclusivePosition`).
    """

    @property
    def owned(self) -> bool:
        """Whether this process may work on the partition."""
        ...

    @property
    def unread(self) -> int:
        """Records that were not delivered yet, as far as known."""
        ...

    async def attach(self) -> str | None:
        """Find out where to read and return the name of the consumer to ask; None while another
        process owns the partition. Raises `ApiError`, `LogUnavailable`.
        """
        ...

    def accept(self, delivered: DeliveredMessage) -> bool:
        """Whether a record that is not held has to be handed out."""
        ...

    def note(self, offset: int) -> str | None:
        """Return the note that was kept for a record."""
        ...

    def annotate(self, offset: int, note: str | None) -> None:
        """Keep a note with an unfinished record."""
        ...

    def finish(self, held: HeldRecord) -> None:
        """A record is done."""
        ...

    def check(self) -> None:
        """Called several times a second, also while nothing answers."""
        ...

    async def tick(self, held: list[HeldRecord]) -> bool:
        """Report progress to the server; False if `attach` is necessary. Raises as `attach`."""
        ...

    async def poll(self) -> bool:
        """Compare with the server every few seconds; False if `attach` is necessary. Raises as
        `attach`.
        """
        ...

    async def confirm(self) -> bool:
        """Verify that this process may continue. Raises as `attach`."""
        ...

    async def release(self, dropped: list[HeldRecord]) -> None:
        """Store what is done and give the partition back; `dropped` is not done. Raises as
        `attach`.
        """
        ...
