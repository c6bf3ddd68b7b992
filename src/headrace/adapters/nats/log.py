"""Appends records to streams; implements the `Log` port.

A message is published with a reply subject of this log, on which the server acknowledges it once it
is stored. Each append has a message id of its own (`Nats-Msg-Id`): a message whose acknowledgement
was lost is published again, and the server stores it once within the stream's duplicate window.
"""

import asyncio
import json
import time
from typing import Final

import structlog
from nats.aio.msg import Msg

from headrace.adapters.nats.connection import NatsConnection, NatsSubscription
from headrace.adapters.nats.errors import ApiError, write_error
from headrace.adapters.nats.messages import encode, headers_size
from headrace.adapters.nats.names import stream_name, subject
from headrace.adapters.nats.options import (
    RECORD_OVERHEAD_BYTES,
    JetStreamLogOptions,
    NatsOptions,
)
from headrace.domain.errors import (
    HeadraceError,
    LogFull,
    LogUnavailable,
    RecordTooLarge,
    TopicMissing,
    WriteRefused,
)
from headrace.domain.ports import OnStored
from headrace.domain.record import Record

logger = structlog.get_logger(__name__)

_CHECK_SECONDS: Final = 0.1
_REPEAT_SECONDS: Final = 1.0
"""How long an acknowledgement is awaited on a live connection before the message is repeated."""
_LOOKUP_SECONDS: Final = 2.0
_MESSAGE_ID: Final = "Nats-Msg-Id"
_NO_RESPONDERS: Final = "503"


class _OpenRecord:
    """A record that is not acknowledged yet."""

    __slots__ = ("deadline", "headers", "payload", "sent", "size", "stored", "topic")

    def __init__(
        self,
        topic: str,
        headers: dict[str, str],
        payload: bytes,
        *,
        size: int,
        stored: OnStored,
        deadline: float,
    ) -> None:
        self.topic = topic
        self.headers = headers
        self.payload = payload
        self.size = size
        self.stored = stored
        self.deadline = deadline
        self.sent = 0.0
        """When it was published last; 0 if never."""


class JetStreamLog:
    """Implements `headrace.domain.ports.Log`, with a connection of its own."""

    def __init__(self, options: NatsOptions, *, log: JetStreamLogOptions | None = None) -> None:
        self.options = log or JetStreamLogOptions()
        self._connection = NatsConnection(options)
        self._running = False
        self._inbox = ""
        self._id = ""
        self._subscription: NatsSubscription | None = None
        self._number = 0
        self._open: dict[int, _OpenRecord] = {}
        self._open_bytes = 0
        self._topic_bytes: dict[str, int] = {}
        self._failed: list[tuple[_OpenRecord, HeadraceError]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._emptied = asyncio.Event()

    @property
    def open_bytes(self) -> int:
        """Bytes of the unacknowledged records, overhead included."""
        return self._open_bytes

    async def start(self) -> None:
        """Connect in the background. Records that are appended meanwhile wait."""
        self._running = True
        self._connection.watch(self._on_connected)
        self._connection.start()
        self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check)

    async def warm_up(self, timeout_seconds: float) -> None:
        """Return when the next record is written without a handshake first. Raises
        `LogUnavailable` when that takes longer than `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        await self._connection.wait_connected(timeout_seconds)
        if self._starting is not None:
            await asyncio.wait({self._starting}, timeout=max(0.001, deadline - time.monotonic()))
        if not self._inbox:
            raise LogUnavailable(f"NATS did not accept a subscription within {timeout_seconds:g} s")

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """See the port. A missing topic is reported through `stored`."""
        if not self._running:
            raise LogUnavailable("the log is not running")
        size = len(record.key or b"") + len(record.value or b"") + headers_size(record.headers)
        counted = size + RECORD_OVERHEAD_BYTES
        options = self.options
        if counted > options.record_bytes_max:
            raise RecordTooLarge(size, options.record_bytes_max)
        waiting = self._topic_bytes.get(topic, 0)
        if waiting and waiting + counted > options.topic_bytes_max:
            raise LogFull(topic, options.topic_bytes_max)
        if self._open_bytes and self._open_bytes + counted > options.bytes_max:
            raise LogFull(topic, options.bytes_max)
        headers, payload = encode(record)
        limit = self._connection.message_bytes_max
        # Three bytes separate names and values; the first line and the message id need a hundred.
        if limit is not None and (len(payload) > limit or size + 256 + 64 * len(headers) > limit):
            message = len(payload) + sum(len(n) + len(v) + 4 for n, v in headers.items()) + 100
            if message > limit:
                raise RecordTooLarge(size, size - (message - limit))
        self._topic_bytes[topic] = waiting + counted
        self._open_bytes += counted
        number = self._number = self._number + 1
        self._open[number] = entry = _OpenRecord(
            topic,
            headers,
            payload,
            size=counted,
            stored=stored,
            deadline=time.monotonic() + options.delivery_seconds,
        )
        if self._inbox and self._connection.is_connected:
            self._publish(number, entry)

    async def flush(self, timeout_seconds: float) -> int:
        """See the port."""
        if self._open:
            self._emptied.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._emptied.wait()
            except TimeoutError:
                return len(self._open)
        return 0

    async def stop(self, timeout_seconds: float = 5.0) -> None:
        """Flush, fail the remaining records, close. Idempotent."""
        if not self._running:
            return
        left = await self.flush(timeout_seconds)
        self._running = False
        if left:
            logger.warning("records_not_stored_at_stop", records=left)
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._starting, *self._lookups.values()):
            if task is not None:
                task.cancel()
        await self._connection.close()
        for number in list(self._open):
            self._end(number, LogUnavailable("the log has stopped"))

    # Publishing.

    def _publish(self, number: int, entry: _OpenRecord) -> None:
        entry.sent = time.monotonic()
        try:
            name = subject(entry.topic)
        except WriteRefused as error:
            asyncio.get_running_loop().call_soon(self._end, number, error)
            return
        entry.headers[_MESSAGE_ID] = f"{self._id}.{number}"
        self._connection.send(
            name, entry.payload, reply=f"{self._inbox}.{number}", headers=entry.headers
        )

    def _on_connected(self) -> None:
        """Publish everything again that is not acknowledged: what was under way is lost."""
        if not self._inbox:
            if self._starting is None or self._starting.done():
                self._starting = asyncio.get_running_loop().create_task(self._subscribe())
            return
        for number, entry in self._open.items():
            self._publish(number, entry)

    async def _subscribe(self) -> None:
        inbox = self._connection.new_inbox()
        try:
            self._subscription = await self._connection.subscribe(f"{inbox}.*", self._on_answer)
        except LogUnavailable as error:
            logger.info("nats_subscription_failed", error=str(error))
            return
        self._id, self._inbox = inbox.rpartition(".")[2], inbox
        for number, entry in self._open.items():
            self._publish(number, entry)

    async def _on_answer(self, message: Msg) -> None:
        number = int(message.subject[len(self._inbox) + 1 :])
        entry = self._open.get(number)
        if entry is None:
            return
        data = message.data
        if b'"error"' in data:
            error = ApiError(json.loads(data).get("error", {}))
            size = entry.size - RECORD_OVERHEAD_BYTES
            self._end(
                number,
                write_error(
                    error, topic=entry.topic, size=size, size_max=self.options.record_bytes_max
                ),
            )
        elif data:
            self._end(number, None)
        elif message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            self._look_up(entry.topic)

    def _end(self, number: int, error: HeadraceError | None) -> None:
        entry = self._open.pop(number, None)
        if entry is None:
            return
        self._open_bytes -= entry.size
        left = self._topic_bytes[entry.topic] - entry.size
        if left:
            self._topic_bytes[entry.topic] = left
        else:
            del self._topic_bytes[entry.topic]
        try:
            entry.stored(error)
        except Exception:
            logger.exception("delivery_callback_failed", topic=entry.topic)
        if not self._open:
            self._emptied.set()

    def _check(self) -> None:
        """End what is overdue, repeat what was not acknowledged for long."""
        try:
            now = time.monotonic()
            repeated = now - _REPEAT_SECONDS if self._connection.is_connected else 0.0
            seconds = self.options.delivery_seconds
            for number, entry in list(self._open.items()):
                if entry.deadline <= now:
                    reason = self._connection.last_error
                    text = f"topic {entry.topic}: JetStream did not store it within {seconds:g} s"
                    self._end(number, LogUnavailable(f"{text} ({reason})" if reason else text))
                elif entry.sent < repeated and self._inbox:
                    self._publish(number, entry)
        finally:
            if self._running:
                self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check)

    # Missing topics.

    def _look_up(self, topic: str) -> None:
        """Find out why nobody takes the messages of a topic: it does not exist, or JetStream is
        not ready yet.
        """
        if topic not in self._lookups:
            self._lookups[topic] = asyncio.get_running_loop().create_task(self._missing(topic))

    async def _missing(self, topic: str) -> None:
        sent_before = time.monotonic()
        try:
            await self._connection.call(
                f"STREAM.INFO.{stream_name(topic)}",
                timeout_seconds=_LOOKUP_SECONDS,
                what=f"topic {topic}",
            )
        except ApiError as error:
            if error.stream_missing:
                for number, entry in list(self._open.items()):
                    if entry.topic == topic and 0.0 < entry.sent <= sent_before:
                        self._end(number, TopicMissing(topic))
        except LogUnavailable as error:
            logger.info("topic_lookup_failed", error=str(error))
        finally:
            del self._lookups[topic]
