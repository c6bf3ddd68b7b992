"""The position of an exclusive feed: one owner reads a topic in its order, and stores how far it
has come as a Kafka consumer does.

The owner holds a lease. It reads through a consumer without acknowledgements, from which every
record comes once and in order, so nothing is delivered out of order after a crash, as it would be
by acknowledgements that run out. The done prefix, what is done beyond it, and notes are stored in
the group's entry of a key-value bucket, at most every 100 ms, if nobody else has stored one since.
"""

import asyncio
from typing import Final

from headrace.adapters.nats.consumers import (
    StreamState,
    consumer_state,
    create_consumer,
    create_reader,
    stream_state,
)
from headrace.adapters.nats.errors import ApiError
from headrace.adapters.nats.groups import GroupPosition, position_key
from headrace.adapters.nats.held_records import HeldRecord
from headrace.adapters.nats.lease import Lease
from headrace.adapters.nats.pull_requests import DeliveredMessage
from headrace.adapters.nats.reader_context import ReaderContext
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import AlarmKind, InitialOffset
from headrace.domain.offsets import OffsetTracker

COMMIT_SECONDS: Final = 0.1


class ExclusivePosition:
    """Implements `ReadPosition`."""

    def __init__(self, context: ReaderContext) -> None:
        self._context = context
        self._lease = Lease(
            context.buckets, position_key(context.group, context.topic), context.owner
        )
        self._topic_id = ""
        self._tracker: OffsetTracker | None = None
        self._stored: GroupPosition | None = None
        self._is_stored_unknown = False
        self._dirty = False
        self._committed_at = 0.0
        self._sequence = 0
        self._in_order = True
        self._unconfirmed = False
        self._unread = 0

    @property
    def owned(self) -> bool:
        """Whether the lease is held and the position is known."""
        return self._tracker is not None

    @property
    def unread(self) -> int:
        """As `ReadPosition.unread`."""
        return self._unread

    async def attach(self) -> str | None:
        """Take the lease if it is free, and read on where this or the last owner stopped."""
        context = self._context
        if self._tracker is None and not await self._lease.acquire():
            return None
        stream = await stream_state(context.connection, context.topic)
        if self._tracker is not None and stream.id != self._topic_id:
            self._drop()
        if self._tracker is None:
            self._tracker = await self._find_position(stream)
            self._dirty = True
        tracker = self._tracker
        self._report_expired(stream.first_offset)
        self._sequence, self._in_order = 0, True
        self._unread = stream.end_offset - tracker.next
        return await create_reader(context.connection, context.topic, tracker.next)

    async def _find_position(self, stream: StreamState) -> OffsetTracker:
        context = self._context
        stored = await context.buckets.position(context.group, context.topic)
        consumer = await consumer_state(context.connection, context.group, context.topic)
        known = self._topic_id or (stored.topic_id if stored is not None else "")
        is_recreated = bool(known) and known != stream.id
        usable = stored if stored is not None and stored.topic_id in ("", stream.id) else None
        is_truncated = usable is not None and usable.offset > stream.end_offset
        if is_truncated:
            usable = None
        if is_recreated or is_truncated:
            what = "was recreated" if is_recreated else "has lost its last records"
            context.raise_alarm(
                AlarmKind.TOPIC_RECREATED,
                f"{context.topic} {what}; reading continues at its beginning",
            )
        offset, metadata = stream.first_offset, ""
        if usable is not None:
            offset, metadata = usable.offset, usable.metadata
            if consumer is not None and consumer.committed > offset:
                offset, metadata = consumer.committed, ""
        elif consumer is not None:
            offset = max(offset, consumer.committed)
        elif (
            not is_recreated
            and not is_truncated
            and context.initial_offset is InitialOffset.COMMITTED
        ):
            context.raise_alarm(
                AlarmKind.OFFSET_MISSING,
                f"no position is stored in {context.topic}; reading begins at the oldest record",
            )
        if consumer is None:
            # The controller sees by its consumer that a group exists.
            await create_consumer(context.connection, context.group, context.topic, offset)
        self._topic_id = stream.id
        self._stored, self._is_stored_unknown = stored, False
        return OffsetTracker(offset, metadata)

    def _report_expired(self, first_offset: int) -> None:
        tracker, context = self._tracker, self._context
        if tracker is None or first_offset <= tracker.next:
            return
        count = first_offset - tracker.next
        tracker.reach(first_offset)
        self._dirty = True
        context.raise_alarm(
            AlarmKind.EXPIRED,
            f"{count} records of {context.topic} were removed before they were delivered",
            count,
        )

    def accept(self, delivered: DeliveredMessage) -> bool:
        """As `ReadPosition.accept`. A delivery that is missing was lost with a connection: nothing
        after it is accepted until the reading begins again at the missing one.
        """
        tracker = self._tracker
        if tracker is None or not self._in_order:
            return False
        self._sequence += 1
        if delivered.consumer_sequence != self._sequence:
            self._in_order = False
            return False
        self._report_expired(delivered.offset)
        self._unread = delivered.unread
        return tracker.take(delivered.offset)

    def note(self, offset: int) -> str | None:
        """As `ReadPosition.note`."""
        return self._tracker.note(offset) if self._tracker is not None else None

    def annotate(self, offset: int, note: str | None) -> None:
        """As `ReadPosition.annotate`. The note is stored with the position."""
        if self._tracker is not None and self._tracker.annotate(offset, note):
            self._dirty = True

    def finish(self, held: HeldRecord) -> None:
        """As `ReadPosition.finish`."""
        if self._tracker is not None and self._tracker.finish(held.record.offset):
            self._dirty = True

    def check(self) -> None:
        """Start nothing when the lease was not renewed for long, and stop before it expires."""
        if self._tracker is None:
            return
        if not self._lease.held:
            self._lose("its lease could not be renewed")
        elif self._lease.unconfirmed != self._unconfirmed:
            self._unconfirmed = not self._unconfirmed
            self._context.unconfirmed(self._context.partition, self._unconfirmed)

    async def tick(self, held: list[HeldRecord]) -> bool:
        """Renew the lease and store the position, when it is time."""
        if self._tracker is None or not self._in_order:
            return False
        if self._lease.due and not await self._renew():
            return False
        now = asyncio.get_running_loop().time()
        if self._dirty and now - self._committed_at >= COMMIT_SECONDS:
            self._committed_at = now
            await self._commit()
        return self._tracker is not None

    async def _renew(self) -> bool:
        if await self._lease.renew():
            self.check()
            return True
        self._lose("another process has taken its lease")
        return False

    async def _commit(self) -> None:
        tracker, context = self._tracker, self._context
        if tracker is None:
            return
        if self._is_stored_unknown and not await self._compare():
            return
        revision = self._stored.revision if self._stored is not None else 0
        wanted = GroupPosition(
            topic_id=self._topic_id, offset=tracker.committable, metadata=tracker.metadata()
        )
        self._dirty = False
        try:
            self._stored = await context.buckets.save_position(
                context.group, context.topic, wanted, revision=revision
            )
        except ApiError as error:
            self._dirty = True
            if not error.changed:
                raise
            self._lose("another process has stored a position")
        except LogUnavailable:
            self._dirty = self._is_stored_unknown = True
            raise

    async def _compare(self) -> bool:
        """After a write whose outcome is unknown: nobody else writes while the lease is held."""
        context = self._context
        self._stored = await context.buckets.position(context.group, context.topic)
        self._is_stored_unknown = False
        return self._lease.held

    async def poll(self) -> bool:
        """As `ReadPosition.poll`."""
        stream = await stream_state(self._context.connection, self._context.topic)
        if self._tracker is not None:
            self._unread = max(stream.end_offset - self._tracker.next, 0)
        return stream.id == self._topic_id and self._tracker is not None

    async def confirm(self) -> bool:
        """Renew the lease."""
        return self._tracker is None or await self._renew()

    async def release(self, dropped: list[HeldRecord]) -> None:
        """Store the position and release the lease."""
        try:
            if self._tracker is not None and self._dirty:
                await self._commit()
        finally:
            if self._tracker is not None:
                self._tracker = None
                await self._lease.release()

    def _lose(self, why: str) -> None:
        context = self._context
        self._drop()
        self._lease.forget()
        context.raise_alarm(
            AlarmKind.UNCONFIRMED, f"this process no longer owns {context.topic}: {why}"
        )

    def _drop(self) -> None:
        self._tracker = None
        self._context.lost(self._context.partition)
        if self._unconfirmed:
            self._unconfirmed = False
            self._context.unconfirmed(self._context.partition, False)
