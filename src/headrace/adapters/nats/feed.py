"""The feed on JetStream: readers of the topics of one group, within common bounds."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.exclusive_position import ExclusivePosition
from headrace.adapters.nats.groups import Buckets
from headrace.adapters.nats.held_records import FeedBudget
from headrace.adapters.nats.membership import Membership
from headrace.adapters.nats.reader_context import ReaderContext
from headrace.adapters.nats.shared_position import SharedPosition
from headrace.adapters.nats.topic_reader import TopicReader
from headrace.domain.errors import HeadraceError, LogUnavailable
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedConfig
from headrace.domain.filters import Filter
from headrace.domain.ports import FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord

logger = structlog.get_logger(__name__)

_FLUSH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedClients:
    """What the feeds of one process share."""

    connection: NatsConnection
    buckets: Buckets
    membership: Membership
    process: str
    """Identifies the process in leases; unique, and new after each start."""


class JetStreamFeed:
    """Records of some topics for one group; implements `headrace.domain.ports.Feed`.

    Members of a group share the records of a topic: a record is handed out to one of them, and
    again to any of them if it is not done in time. With `FeedConfig.exclusive` one member reads a
    topic, and the others wait until it stops or dies.
    """

    def __init__(
        self,
        config: FeedConfig,
        clients: SharedClients,
        alarm: Callable[[FeedAlarm], None],
        *,
        number: int = 0,
        drain_seconds: float = 5.0,
    ) -> None:
        """`number` distinguishes the feeds of one process."""
        self._config = config
        self._clients = clients
        self._alarm = alarm
        self._drain_seconds = drain_seconds
        self._listener: FeedListener | None = None
        self._unconfirmed: set[Partition] = set()
        self._confirming: asyncio.Task[None] | None = None
        self._stopping = False
        self._stopped = asyncio.Event()
        self._abandoned: list[asyncio.Task[None]] = []
        budget = FeedBudget(config.bounds)
        self._readers: dict[str, TopicReader] = {}
        for topic in config.topics:
            context = ReaderContext(
                connection=clients.connection,
                buckets=clients.buckets,
                group=config.group,
                topic=topic,
                initial_offset=config.initial_offset,
                owner=f"{clients.process}.{number}",
                alarm=self._raise_alarm,
                unconfirmed=self._set_unconfirmed,
                lost=self._on_lost,
            )
            self._readers[topic] = TopicReader(
                context,
                ExclusivePosition(context) if config.exclusive else SharedPosition(context),
                budget=budget,
                deliver=self._deliver,
            )

    def start(self, listener: FeedListener) -> None:
        """As `Feed.start`."""
        self._listener = listener
        self._clients.membership.join(self._config.group)
        for reader in self._readers.values():
            reader.start()

    def done(self, record: StoredRecord) -> None:
        """As `Feed.done`."""
        reader = self._readers.get(record.topic)
        if reader is not None and reader.done(record):
            for each in self._readers.values():
                each.schedule()

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`. Notes outlive the process only in an exclusive feed."""
        reader = self._readers.get(record.topic)
        if reader is not None:
            reader.annotate(record, note)

    def pause(self, partition: Partition) -> None:
        """As `Feed.pause`."""
        if partition.topic in self._readers:
            self._readers[partition.topic].set_paused(True)

    def resume(self, partition: Partition) -> None:
        """As `Feed.resume`."""
        if partition.topic in self._readers:
            self._readers[partition.topic].set_paused(False)

    def change_filter(self, filter: Filter) -> None:
        """As `Feed.change_filter`: every record is handed out, matching or not."""

    @property
    def skipped(self) -> int:
        """As `Feed.skipped`."""
        return 0

    def verify_membership(self) -> None:
        """As `Feed.verify_membership`: the server answers, and renews the lease of an exclusive
        feed.
        """
        if self._stopping or self._confirming is not None:
            return
        owned = [reader for reader in self._readers.values() if reader.owned]
        if owned and self._listener is not None:
            self._listener.on_membership_unconfirmed(True)
            self._confirming = asyncio.get_running_loop().create_task(self._confirm(owned))

    async def _confirm(self, readers: Sequence[TopicReader]) -> None:
        try:
            await asyncio.gather(*(reader.confirm() for reader in readers))
        finally:
            self._confirming = None
        if self._listener is not None and not self._unconfirmed:
            self._listener.on_membership_unconfirmed(False)

    def lag(self) -> Mapping[Partition, Lag]:
        """As `Feed.lag`. Records that no member has received yet are in the lag of every member of
        a group that shares a topic.
        """
        return {
            reader.context.partition: reader.lag()
            for reader in self._readers.values()
            if reader.owned
        }

    async def stop(self, *, leave: bool = False) -> None:
        """As `Feed.stop`. Members are never static here, so they leave in both cases."""
        if self._stopping:
            await self._stopped.wait()
            return
        self._stopping = True
        try:
            if self._listener is not None:
                await self._drain(self._listener)
                await self._close()
        finally:
            self._listener = None
            self._stopped.set()

    async def _drain(self, listener: FeedListener) -> None:
        for reader in self._readers.values():
            reader.stop_reading()
        owned = [reader for reader in self._readers.values() if reader.owned]
        if not owned:
            return
        partitions = [reader.context.partition for reader in owned]
        drained = asyncio.Event()
        listener.on_revoked(partitions, drained.set)
        try:
            async with asyncio.timeout(self._drain_seconds):
                await drained.wait()
        except TimeoutError:
            count = sum(reader.unfinished for reader in owned)
            listener.on_lost(partitions)
            self._raise_alarm(
                AlarmKind.DRAIN_OVERDUE,
                f"{count} records were not done when their partitions had to be given back",
                None,
                count,
            )

    async def _close(self) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
        for reader in self._readers.values():
            try:
                await reader.close()
            except HeadraceError as error:
                self._raise_alarm(AlarmKind.COMMIT_FAILED, str(error), reader.context.partition)
        try:
            await self._clients.connection.flush(_FLUSH_SECONDS)
        except LogUnavailable as error:
            logger.info("last_acknowledgements_not_flushed", error=str(error))
        await self._clients.membership.leave(self._config.group)

    def abandon(self) -> None:
        """Stop as in a crash: without draining or committing, and receiving nothing more."""
        self._stopping = True
        self._listener = None
        for reader in self._readers.values():
            self._abandoned.append(reader.abandon())

    # What the readers report.

    def _deliver(self, records: Sequence[StoredRecord]) -> None:
        if self._listener is not None:
            self._listener.on_records(records)

    def _on_lost(self, partition: Partition) -> None:
        self._readers[partition.topic].drop()
        if self._listener is not None:
            self._listener.on_lost([partition])

    def _set_unconfirmed(self, partition: Partition, unconfirmed: bool) -> None:
        before = bool(self._unconfirmed)
        (self._unconfirmed.add if unconfirmed else self._unconfirmed.discard)(partition)
        if self._listener is not None and before != bool(self._unconfirmed):
            self._listener.on_membership_unconfirmed(unconfirmed)
            if unconfirmed:
                self._raise_alarm(
                    AlarmKind.UNCONFIRMED, "the lease was not renewed for 3 s", partition
                )

    def _raise_alarm(
        self, kind: AlarmKind, detail: str, partition: Partition | None = None, count: int = 0
    ) -> None:
        self._alarm(
            FeedAlarm(
                kind=kind,
                group=self._config.group,
                detail=detail,
                partition=partition,
                count=count,
            )
        )
