"""Reads one topic for a feed: asks for records, hands them out within the feed's bounds, and keeps
the position current. One task for each topic does everything that waits.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from headrace.adapters.nats.errors import ApiError, call_error
from headrace.adapters.nats.held_records import FeedBudget, HeldRecord, HeldRecords
from headrace.adapters.nats.messages import decode
from headrace.adapters.nats.names import stream_name
from headrace.adapters.nats.pull_requests import DeliveredMessage, PullRequests
from headrace.adapters.nats.reader_context import ReaderContext, ReadPosition
from headrace.domain.errors import HeadraceError, Permanent
from headrace.domain.feed import AlarmKind
from headrace.domain.ports import Lag
from headrace.domain.record import StoredRecord
from headrace.runtime.tasks import end_task

logger = structlog.get_logger(__name__)

POLL_SECONDS: Final = 5.0
"""How often stream and consumer are compared with what is known."""
_TICK_SECONDS: Final = 0.1
_IDLE_TICK_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 0.5
_STANDBY_SECONDS: Final = 1.0
_ASK_MAX: Final = 256
_ASK_MIN: Final = 32
"""A request for fewer records waits until more are done, unless nothing is held."""


class TopicReader:
    """The reading of one topic."""

    def __init__(
        self,
        context: ReaderContext,
        position: ReadPosition,
        *,
        budget: FeedBudget,
        deliver: Callable[[Sequence[StoredRecord]], None],
    ) -> None:
        self.context = context
        self.position = position
        self._budget = budget
        self._deliver = deliver
        self._held = HeldRecords(budget)
        self._pull = PullRequests(context.connection, self._received, self._woken)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._checks: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._attached = False
        self._paused = False
        self._stopping = False
        self._progress_at = 0.0
        self._reported: AlarmKind | None = None

    def start(self) -> None:
        """Begin to read."""
        loop = asyncio.get_running_loop()
        self._progress_at = loop.time()
        self.context.connection.watch(self._reattach)
        self._task = loop.create_task(self._run())
        self._check()

    # What the feed calls.

    @property
    def owned(self) -> bool:
        """Whether this process works on the partition."""
        return self.position.owned

    @property
    def unfinished(self) -> int:
        """Records that are held and not done."""
        return len(self._held)

    def done(self, record: StoredRecord) -> bool:
        """As `Feed.done`; False for a record that is not handed out."""
        oldest = self._held.oldest is record
        held = self._held.finish(record)
        if held is None:
            return False
        if oldest:
            self._progress_at = asyncio.get_running_loop().time()
        self.position.finish(held)
        if not self._pull.outstanding:
            self._woken()
        return True

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`."""
        held = self._held.get(record.offset)
        if held is not None and held.record is record:
            self.position.annotate(record.offset, note)

    def set_paused(self, paused: bool) -> None:
        """As `Feed.pause` and `Feed.resume`."""
        self._paused = paused
        self.schedule()

    def lag(self) -> Lag:
        """As `Feed.lag`. `records` counts what no member of the group has received, and what this
        feed holds.
        """
        now = asyncio.get_running_loop().time()
        records = max(self.position.unread, 0) + len(self._held)
        if not records:
            self._progress_at = now
        oldest = self._held.oldest
        return Lag(records, oldest.timestamp_ms if oldest else None, now - self._progress_at)

    def drop(self) -> None:
        """Forget what is held: it belongs to another process, or no longer exists. A pause ends."""
        self._held.clear()
        self._paused = False
        self._reattach()

    def stop_reading(self) -> None:
        """Ask for nothing and hand out nothing more; what is handed out can be done."""
        self._stopping = True

    async def confirm(self) -> None:
        """Return when the server has answered whether this process may continue."""
        while not self._stopping and self.position.owned:
            try:
                if not await self.position.confirm():
                    self._reattach()
                return
            except (ApiError, HeadraceError):
                await asyncio.sleep(_RETRY_SECONDS)

    async def close(self) -> None:
        """Store what is done and give the partition back. Raises `LogUnavailable`."""
        await self.abandon()
        # It would take the lease again.
        await end_task(self._task)
        try:
            await self.position.release(self._held.clear())
        except ApiError as error:
            raise call_error(error, f"group {self.context.group}") from error

    def abandon(self) -> asyncio.Task[None]:
        """Stop as in a crash, and return the task that leaves the inbox."""
        self._stopping = True
        self.context.connection.unwatch(self._reattach)
        if self._checks is not None:
            self._checks.cancel()
        if self._task is not None:
            self._task.cancel()
        return asyncio.get_running_loop().create_task(self._pull.close())

    # Handing out.

    def schedule(self) -> None:
        """Hand out soon what the bounds allow."""
        if not self._scheduled and self._held.waiting:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._hand_out)

    def _hand_out(self) -> None:
        self._scheduled = False
        if self._paused or self._stopping:
            return
        batch = self._held.take_batch()
        if batch:
            if self._held.waiting and self._budget.has_room:
                self.schedule()
            self._deliver(batch)

    def _received(self, delivered: DeliveredMessage) -> None:
        now = asyncio.get_running_loop().time()
        message = delivered.message
        held = self._held.get(delivered.offset)
        if held is not None:
            held.reply, held.touched_at = message.reply, now
            return
        if not self.position.accept(delivered):
            return
        record = decode(message.headers, message.data)
        stored = StoredRecord(
            self.context.topic,
            0,
            delivered.offset,
            delivered.timestamp_ms,
            record.key,
            record.value,
            record.headers,
            self.position.note(delivered.offset),
            record.size,
        )
        self._held.add(HeldRecord(stored, message.reply, now))
        if not self._scheduled:
            self.schedule()

    # The task.

    def _woken(self) -> None:
        self._wake.set()

    def _reattach(self) -> None:
        self._attached = False
        self._wake.set()

    def _check(self) -> None:
        try:
            self.position.check()
        finally:
            self._checks = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._check)

    async def _run(self) -> None:
        while True:
            seconds = _RETRY_SECONDS
            try:
                if await self._attach():
                    await self._read()
                    continue
                seconds = _STANDBY_SECONDS
            except ApiError as error:
                if error.stream_missing:
                    detail = f"{self.context.topic} does not exist"
                    self._report(AlarmKind.TOPIC_MISSING, detail)
                else:
                    self._report_error(call_error(error, f"topic {self.context.topic}"))
            except HeadraceError as error:
                self._report_error(error)
            except Exception as error:
                logger.exception("reader_failed", topic=self.context.topic, error=str(error))
                self._report(AlarmKind.REBUILT, f"reading failed and starts again: {error}")
            await asyncio.sleep(seconds)

    async def _attach(self) -> bool:
        connection = self.context.connection
        await connection.wait_connected(connection.timeout_seconds)
        self._attached = True
        consumer = await self.position.attach()
        self._reported = None
        if consumer is None:
            return False
        await self._pull.open(stream_name(self.context.topic), consumer)
        return True

    async def _read(self) -> None:
        """Read until there is a reason to attach again."""
        loop = asyncio.get_running_loop()
        polled_at, ticked_at = loop.time(), 0.0
        while self._attached:
            self._wake.clear()
            if self._pull.consumer_gone or self._pull.unanswered:
                return
            if loop.time() - ticked_at >= _TICK_SECONDS:
                ticked_at = loop.time()
                if not await self.position.tick(list(self._held)):
                    return
            if loop.time() - polled_at >= POLL_SECONDS:
                polled_at = loop.time()
                if not await self.position.poll():
                    return
            self._ask()
            seconds = _TICK_SECONDS if len(self._held) else _IDLE_TICK_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _ask(self) -> None:
        if self._pull.outstanding or self._paused or self._stopping:
            return
        records, size = self._held.room()
        if self._pull.next_too_large:
            if not len(self._held):
                self._pull.ask(1, None)
            return
        least = min(_ASK_MIN, max(1, self._budget.bounds.records_max // 4))
        if size > 0 and (records >= least or (records > 0 and not len(self._held))):
            self._pull.ask(min(records, _ASK_MAX), size)

    # Alarms.

    def _report_error(self, error: HeadraceError) -> None:
        refused = self.context.connection.refused or isinstance(error, Permanent)
        self._report(AlarmKind.REFUSED if refused else AlarmKind.UNAVAILABLE, str(error))

    def _report(self, kind: AlarmKind, detail: str) -> None:
        """Once, until it is over."""
        if kind is not self._reported:
            self._reported = kind
            self.context.raise_alarm(kind, detail)
