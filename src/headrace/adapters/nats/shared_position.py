"""The position of a group whose members share a topic: the durable consumer knows each record that
is acknowledged.

A record is acknowledged when it is done. The server delivers it again, to any member, when it has
heard nothing of it for the consumer's acknowledgement wait, so records that take longer are
reported as in progress. Notes are kept in this process only.
"""

import asyncio
import json
from typing import Final

from headrace.adapters.nats.consumers import (
    ACK_WAIT_SECONDS,
    SECOND_NS,
    ConsumerState,
    StreamState,
    consumer_state,
    create_consumer,
    stream_state,
)
from headrace.adapters.nats.errors import ApiError
from headrace.adapters.nats.groups import GroupPosition
from headrace.adapters.nats.held_records import HeldRecord
from headrace.adapters.nats.names import durable_name
from headrace.adapters.nats.pull_requests import EXPIRES_SECONDS, DeliveredMessage
from headrace.adapters.nats.reader_context import ReaderContext
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import AlarmKind, InitialOffset

_ACK: Final = b"+ACK"
_NAK_SECONDS: Final = EXPIRES_SECONDS + 1.0
"""Later than the end of any request of the feed that stops. nats-server 2.9 loses a record until
the acknowledgement wait is over, and delivers another one twice, if it would deliver it again while
only requests wait whose inbox nobody reads.
"""
_NAK: Final = b"-NAK " + json.dumps({"delay": int(_NAK_SECONDS * SECOND_NS)}).encode()
_IN_PROGRESS: Final = b"+WPI"
_DONE_MAX: Final = 10_000
"""Records whose acknowledgement may be lost: one that is delivered again is acknowledged again."""


class SharedPosition:
    """Implements `ReadPosition`."""

    def __init__(self, context: ReaderContext) -> None:
        self._context = context
        self._topic_id = ""
        self._attached = False
        self._progress_seconds = ACK_WAIT_SECONDS / 3
        self._done: dict[int, None] = {}
        self._notes: dict[int, str] = {}
        self._last_offset = -1
        self._last_sequence = 0
        self._unread = 0

    @property
    def owned(self) -> bool:
        """Every member may work on what it has received."""
        return self._attached

    @property
    def unread(self) -> int:
        """As `ReadPosition.unread`."""
        return self._unread

    async def attach(self) -> str:
        """Find the durable consumer. If it is missing, it is created at the oldest record, with an
        alarm unless that is normal.
        """
        context = self._context
        stream = await stream_state(context.connection, context.topic)
        position = await context.buckets.position(context.group, context.topic)
        consumer = await consumer_state(context.connection, context.group, context.topic)
        known = self._topic_id or (position.topic_id if position is not None else "")
        recreated = bool(known) and known != stream.id
        if recreated:
            self._forget()
            context.lost(context.partition)
            context.raise_alarm(
                AlarmKind.TOPIC_RECREATED,
                f"{context.topic} was recreated; reading continues at its beginning",
            )
        if consumer is None:
            if not recreated and context.initial_offset is InitialOffset.COMMITTED:
                context.raise_alarm(
                    AlarmKind.OFFSET_MISSING,
                    f"no durable consumer exists in {context.topic}; reading begins at the oldest"
                    " record",
                )
            consumer, position = await self._create(stream)
        self._topic_id = stream.id
        begun = position.offset if position is not None else 0
        delivered = max(consumer.delivered, begun)
        self._last_offset, self._last_sequence = delivered - 1, consumer.deliveries
        self._report_expired(stream, delivered)
        self._apply(consumer)
        self._attached = True
        return durable_name(context.group)

    async def _create(self, stream: StreamState) -> tuple[ConsumerState, GroupPosition]:
        context, offset = self._context, stream.first_offset
        try:
            consumer = await create_consumer(
                context.connection, context.group, context.topic, offset
            )
        except ApiError as error:
            if not error.consumer_exists:
                raise
            found = await consumer_state(context.connection, context.group, context.topic)
            if found is None:
                raise LogUnavailable(f"group {context.group} is being changed") from error
            consumer = found
        position = GroupPosition(topic_id=stream.id, offset=offset)
        return consumer, await context.buckets.save_position(context.group, context.topic, position)

    def _forget(self) -> None:
        self._done.clear()
        self._notes.clear()
        self._last_offset, self._last_sequence = -1, 0

    def _apply(self, consumer: ConsumerState) -> None:
        self._progress_seconds = consumer.ack_wait_seconds / 3
        self._unread = consumer.unread
        for offset in [each for each in self._done if each < consumer.committed]:
            del self._done[offset]

    def _report_expired(self, stream: StreamState, delivered: int) -> None:
        """`delivered` is at least as new as `stream`: what is gone by then was never delivered."""
        count = stream.first_offset - max(delivered, self._last_offset + 1)
        if count > 0:
            self._last_offset = stream.first_offset - 1
            self._expired(count)

    def _expired(self, count: int) -> None:
        context = self._context
        context.raise_alarm(
            AlarmKind.EXPIRED,
            f"{count} records of {context.topic} were removed before they were delivered",
            count,
        )

    def accept(self, delivered: DeliveredMessage) -> bool:
        """As `ReadPosition.accept`. The numbers of deliveries show records that expired: between
        two first deliveries there are at least as many deliveries as records.
        """
        offset = delivered.offset
        self._unread = delivered.unread
        if offset > self._last_offset:
            skipped = (offset - self._last_offset) - (
                delivered.consumer_sequence - self._last_sequence
            )
            self._last_offset, self._last_sequence = offset, delivered.consumer_sequence
            if delivered.deliveries == 1 and skipped > 0:
                self._expired(skipped)
        if offset in self._done:
            self._context.connection.send(delivered.message.reply, _ACK)
            return False
        return True

    def note(self, offset: int) -> str | None:
        """As `ReadPosition.note`."""
        return self._notes.get(offset)

    def annotate(self, offset: int, note: str | None) -> None:
        """As `ReadPosition.annotate`. The note is lost with this process: a member that receives
        the record after a crash does not have it.
        """
        if note is None:
            self._notes.pop(offset, None)
        else:
            self._notes[offset] = note

    def finish(self, held: HeldRecord) -> None:
        """Acknowledge."""
        offset = held.record.offset
        self._context.connection.send(held.reply, _ACK)
        if self._notes:
            self._notes.pop(offset, None)
        self._done[offset] = None
        if len(self._done) > _DONE_MAX:
            del self._done[next(iter(self._done))]

    def check(self) -> None:
        """Nothing expires: a member that is cut off keeps what it holds, and other members may
        receive it too.
        """

    async def tick(self, held: list[HeldRecord]) -> bool:
        """Report what takes long as in progress."""
        now = asyncio.get_running_loop().time()
        for each in held:
            if now - each.touched_at >= self._progress_seconds:
                each.touched_at = now
                self._context.connection.send(each.reply, _IN_PROGRESS)
        return True

    async def poll(self) -> bool:
        """As `ReadPosition.poll`."""
        context = self._context
        stream = await stream_state(context.connection, context.topic)
        consumer = await consumer_state(context.connection, context.group, context.topic)
        if stream.id != self._topic_id or consumer is None:
            return False
        self._report_expired(stream, consumer.delivered)
        self._apply(consumer)
        return True

    async def confirm(self) -> bool:
        """The server answers: what is held can be acknowledged."""
        return await self.poll()

    async def release(self, dropped: list[HeldRecord]) -> None:
        """Other members receive soon what is not done."""
        for held in dropped:
            self._context.connection.send(held.reply, _NAK)
        self._attached = False
