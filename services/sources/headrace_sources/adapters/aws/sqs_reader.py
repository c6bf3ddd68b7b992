"""Reads a queue of SQS and sends its messages: in parallel, and those of one message group one
after the other.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from headrace.domain.backoff import Backoff
from headrace.domain.event import InvalidEvent
from headrace_sources.adapters.aws.deletions import Deletions
from headrace_sources.adapters.aws.faults import AwsFault
from headrace_sources.adapters.aws.held_messages import HeldMessage, HeldMessages
from headrace_sources.adapters.aws.messages import EventForm, event_of
from headrace_sources.adapters.aws.queue import BATCH_MAX, SqsQueue
from headrace_sources.source import DEPLOYED, Emit, NotDelivered, SourceContext

logger = structlog.get_logger(__name__)

HELD_MAX: Final = 100
"""Messages of one source that one process has read and not finished."""
HELD_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of their bodies; one request may go beyond it by its messages."""
HIDE_FRACTION: Final = 1 / 3
"""Messages are hidden again when less than two thirds of the visibility timeout remain."""
FINISH_SECONDS: Final = 2.0
RELEASE_SECONDS: Final = 2.0
"""When the source is stopped: for deleting what was delivered, and for releasing the rest. The
service waits 5 s.
"""
BACKOFF: Final = Backoff((1.0, 2.0, 5.0, 10.0, 20.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling:
    """How a queue is read."""

    messages_max: int
    """Of one poll, at most 10."""
    wait_seconds: int
    """How long a poll waits for a message."""
    pause_seconds: float
    """Between two polls."""
    greedy: bool
    """Whether there is no pause after a poll with messages."""
    delete: bool
    """Whether delivered messages are deleted."""


class SqsReader:
    """Reads an open queue."""

    def __init__(
        self,
        queue: SqsQueue,
        context: SourceContext,
        emit: Emit,
        form: EventForm,
        polling: Polling,
    ) -> None:
        self._queue, self._context, self._emit = queue, context, emit
        self._form, self._polling = form, polling
        self._held = HeldMessages()
        self._lanes: dict[asyncio.Task[None], str] = {}
        self._deletions = Deletions(queue)
        self._room = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Read until cancelled. Raises `AwsFault` for what will not work later either."""
        deleting = asyncio.create_task(self._deletions.run(), name="sqs deletions")
        others = [
            asyncio.create_task(self._poll(), name="sqs poll"),
            asyncio.create_task(self._keep_hidden(), name="sqs visibility"),
        ]
        try:
            done, _ = await asyncio.wait((deleting, *others), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._stopping = True
            await _cancel(others)
            await self._finish_lanes()
            await _cancel([deleting])
            await self._release([each for each in self._held if not each.delivered])

    # Reading.

    async def _poll(self) -> None:
        polling, failures = self._polling, 0
        while True:
            await self._wait_for_room()
            try:
                read = await self._read()
            except AwsFault as fault:
                if not fault.transient:
                    raise
                failures += 1
                self._context.report(DEPLOYED, False, fault.reason, str(fault))
                await asyncio.sleep(BACKOFF.seconds(failures))
                continue
            if failures:
                failures = 0
                self._context.report(DEPLOYED, True)
            if not (polling.greedy and read):
                await asyncio.sleep(polling.pause_seconds)

    async def _wait_for_room(self) -> None:
        held, most = self._held, HELD_MAX - self._polling.messages_max
        while len(held) > most or held.bytes >= HELD_BYTES_MAX:
            self._room.clear()
            await self._room.wait()

    async def _read(self) -> int:
        """Read once, and start what has to be started. Return the number of messages."""
        polling, queue = self._polling, self._queue
        attempt = str(uuid.uuid4()) if queue.address.is_fifo else None
        messages = await queue.receive(polling.messages_max, polling.wait_seconds, attempt)
        hidden_until = self._context.clock.monotonic() + queue.visibility_seconds
        for message in messages:
            lane = self._held.add(message, hidden_until)
            if lane is not None:
                task = asyncio.create_task(self._send_lane(lane), name=f"sqs {lane}")
                self._lanes[task] = lane
                task.add_done_callback(self._lanes.pop)
        return len(messages)

    # Sending.

    async def _send_lane(self, lane: str) -> None:
        """Send the messages of a lane one after the other, until none is left or one was not
        delivered. That one stays hidden until its timeout, and those behind it are released: the
        queue holds them back until it has delivered the first again.
        """
        held = self._held
        while (message := held.first(lane)) is not None and not self._stopping:
            if await self._send(message):
                held.remove_first(lane)
                self._room.set()
                continue
            _, *followers = held.remove_lane(lane)
            self._room.set()
            await self._release(followers)

    async def _send(self, message: HeldMessage) -> bool:
        """Return whether the message behind it may be sent."""
        try:
            await self._emit(event_of(message.content, self._form))
        except NotDelivered:
            return False
        except InvalidEvent as error:
            logger.warning(
                "message_not_sent",
                queue=self._queue.address.name,
                message=message.id,
                error=str(error),
                next_step="the queue delivers it again until its redrive policy removes it",
            )
            return False
        except Exception:
            # A defect; other messages are not affected.
            logger.exception("message_failed", queue=self._queue.address.name, message=message.id)
            return False
        message.delivered = True
        return not self._polling.delete or await self._deletions.delete(message.receipt)

    # Visibility.

    async def _keep_hidden(self) -> None:
        """Hide the held messages again before their visibility timeout is over."""
        timeout = self._queue.visibility_seconds
        while True:
            await asyncio.sleep(timeout * HIDE_FRACTION / 2)
            now = self._context.clock.monotonic()
            due = self._held.visible_before(now + timeout * (1 - HIDE_FRACTION))
            for some in _batches(due):
                await self._hide(some, timeout)

    async def _hide(self, messages: Sequence[HeldMessage], seconds: int) -> None:
        now = self._context.clock.monotonic()
        try:
            failed = await self._queue.hide([each.receipt for each in messages], seconds)
        except AwsFault as fault:
            if not fault.transient:
                raise
            logger.warning("hide_failed", queue=self._queue.address.name, error=str(fault))
            return
        codes = {each.receipt: each.code for each in failed}
        for each in messages:
            # One that cannot be hidden for longer, after 12 hours, is not tried again before
            # the timeout.
            each.hidden_until = now + seconds
        refused = {codes[each.receipt] for each in messages if each.receipt in codes}
        if refused and any(each.receipt in codes and each in self._held for each in messages):
            logger.warning(
                "messages_not_hidden",
                queue=self._queue.address.name,
                codes=sorted(refused),
                next_step="the queue may deliver them again while they are being sent",
            )

    # The end.

    async def _finish_lanes(self) -> None:
        """Let delivered messages be deleted; stop sending the others."""
        delivered = []
        for task, lane in self._lanes.items():
            message = self._held.first(lane)
            if message is not None and message.delivered:
                delivered.append(task)
            else:
                task.cancel()
        if delivered:
            await asyncio.wait(delivered, timeout=FINISH_SECONDS)
        await _cancel(list(self._lanes))

    async def _release(self, messages: Sequence[HeldMessage]) -> None:
        """Let any reader have messages that were not delivered, at once."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                for some in _batches(messages):
                    await self._queue.hide([each.receipt for each in some], 0)
        except (AwsFault, TimeoutError) as error:
            logger.info(
                "messages_not_released",
                queue=self._queue.address.name,
                error=str(error),
                next_step="the queue delivers them again after their visibility timeout",
            )


def _batches(messages: Sequence[HeldMessage]) -> list[Sequence[HeldMessage]]:
    return [messages[i : i + BATCH_MAX] for i in range(0, len(messages), BATCH_MAX)]


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
