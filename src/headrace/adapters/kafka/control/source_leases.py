"""The leases of sources in Kafka: the partitions of a compacted topic, which a consumer group
assigns to the processes. The records of a partition are the cursors of its sources.

One thread owns the consumer. When a partition is assigned, it is read from its start to its end,
and only then its leases are held: the cursors are complete. When it is revoked, the group waits
until the work has ended, as it does for events in flight.

A process that was suspended may have lost its partitions without knowing it. So leases count as not
held for a while after the thread has not run for as long as a session lasts; the next heartbeat,
every third of a session, shows whether they are.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from functools import lru_cache, partial
from typing import Any, Final

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from headrace.adapters.kafka.control.durable_append import append_durably
from headrace.adapters.kafka.errors import (
    call_error,
    control_topic_error,
    is_missing,
    is_partition_end,
)
from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.domain.control_topics import SOURCES_PARTITIONS, SOURCES_TOPIC
from headrace.domain.errors import Fenced
from headrace.domain.ports import LeaseListener, Log
from headrace.domain.record import Record

logger = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 0.2
_RELEASE_SECONDS: Final = 5.0
_SAVE_SECONDS: Final = 10.0
_JOIN_SECONDS: Final = 10.0
CURSOR_BYTES_MAX: Final = 65_536


class KafkaSourceLeases:
    """Implements `headrace.domain.ports.SourceLeases`."""

    def __init__(
        self,
        options: KafkaOptions,
        log: Log,
        *,
        topic: str = SOURCES_TOPIC,
        partitions: int = SOURCES_PARTITIONS,
        instance: str | None = None,
    ) -> None:
        """`instance` is the lasting name of the process, for static membership; None: the
        partitions move when it stops.
        """
        self._options = options
        self._log = log
        self._topic = topic
        self._partitions = partitions
        self._instance = instance
        self._session_seconds = options.session_timeout_ms / 1000
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: LeaseListener | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._held: dict[int, dict[str, str]] = {}
        """The cursors of each partition that is held; changed on the loop only."""
        self._polled_at = 0.0
        """When the thread last asked for messages, monotonic. A float is replaced as a whole."""
        self._missing_reported = False
        self._trusted_at = 0.0
        """From when on the assignment may be trusted after a suspension."""

    # The port.

    async def start(self, listener: LeaseListener) -> None:
        """See the port."""
        self._loop, self._listener = asyncio.get_running_loop(), listener
        self._polled_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="source leases", daemon=True)
        self._thread.start()

    def holds(self, uid: str) -> bool:
        """See the port."""
        now = time.monotonic()
        return (
            now - self._polled_at < self._session_seconds
            and now >= self._trusted_at
            and self._partition(uid) in self._held
        )

    def cursor(self, uid: str) -> str | None:
        """See the port."""
        return self._held.get(self._partition(uid), {}).get(uid)

    async def save_cursor(self, uid: str, cursor: str | None) -> None:
        """See the port."""
        if not self.holds(uid):
            raise Fenced("another process of this service may run this source now")
        value = None if cursor is None else cursor.encode()
        if value is not None and len(value) > CURSOR_BYTES_MAX:
            raise ValueError(f"a cursor has at most {CURSOR_BYTES_MAX} bytes, not {len(value)}")
        record = Record(uid.encode(), value, ())
        await append_durably(self._log, self._topic, record, seconds=_SAVE_SECONDS, what="a cursor")
        cursors = self._held.get(self._partition(uid))
        if cursors is not None and cursor is not None:
            cursors[uid] = cursor
        elif cursors is not None:
            cursors.pop(uid, None)

    async def stop(self) -> None:
        """See the port."""
        self._stopping.set()
        self._held.clear()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join, _JOIN_SECONDS)

    def _partition(self, uid: str) -> int:
        return partition_of(uid.encode(), self._partitions)

    # The thread.

    def _run(self) -> None:
        reading: dict[int, dict[str, str]] = {}
        while not self._stopping.is_set():
            try:
                self._consume(reading)
            except KafkaException as error:
                logger.warning("source_leases_failed", error=str(call_error(error.args[0], "")))
                self._stopping.wait(1.0)
            finally:
                reading.clear()
                self._release(list(range(self._partitions)))

    def _consume(self, reading: dict[int, dict[str, str]]) -> None:
        """Hold leases until stopped, or until the credentials of the consumer are outdated."""
        age = self._options.credentials.age("source leases")
        consumer = Consumer(self._settings(), logger=client_logger)

        def assigned(consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
            for each in partitions:
                each.offset = OFFSET_BEGINNING
                reading[each.partition] = {}
            consumer.incremental_assign(list(partitions))

        def revoked(consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
            numbers = [each.partition for each in partitions]
            for number in numbers:
                reading.pop(number, None)
            self._release(numbers)
            consumer.incremental_unassign(list(partitions))

        try:
            consumer.subscribe(
                [self._topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked
            )
            while not self._stopping.is_set() and not age.due:
                self._note_poll()
                message = consumer.poll(_POLL_SECONDS)
                if message is not None:
                    self._handle(message, reading)
        finally:
            with contextlib.suppress(KafkaException, RuntimeError):
                consumer.close()

    def _settings(self) -> dict[str, Any]:
        return self._options.client(
            group_id=self._topic,
            group_protocol="classic",
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=self._options.session_timeout_ms,
            heartbeat_interval_ms=self._options.session_timeout_ms // 3,
            enable_auto_commit=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            queued_max_messages_kbytes=4_096,
            **({} if self._instance is None else {"group_instance_id": self._instance}),
        )

    def _note_poll(self) -> None:
        now = time.monotonic()
        if now - self._polled_at >= self._session_seconds:
            self._trusted_at = now + self._session_seconds
        self._polled_at = now

    def _handle(self, message: Message, reading: dict[int, dict[str, str]]) -> None:
        number = message.partition() or 0
        error = message.error()
        if error is not None:
            if is_partition_end(error):
                read = reading.pop(number, None)
                if read is not None:
                    self._on_loop(partial(self._acquire, number, read))
            elif error.fatal():
                raise KafkaException(error)
            elif is_missing(error):
                self._report_missing(error)
            return
        cursors, key, value = reading.get(number), message.key(), message.value()
        if cursors is None or key is None:
            return  # Written by this process: a partition is read by its holder only.
        uid = key.decode("utf-8", "replace")
        if value is None:
            cursors.pop(uid, None)
        else:
            cursors[uid] = value.decode("utf-8", "replace")

    def _report_missing(self, error: KafkaError) -> None:
        """Say once why no source gets a lease. The client continues by itself when the topic is
        there.
        """
        if not self._missing_reported:
            self._missing_reported = True
            reason = control_topic_error(error, self._topic)
            logger.warning("source_leases_failed", error=str(reason))

    # On the loop.

    def _acquire(self, number: int, cursors: dict[str, str]) -> None:
        if self._stopping.is_set() or self._listener is None:
            return
        self._held[number] = cursors
        self._listener.on_acquired()

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(call)

    def _release(self, numbers: Sequence[int]) -> None:
        """Take the leases away and wait, in the thread, until their work has ended."""
        loop, listener = self._loop, self._listener
        if loop is None or listener is None or self._stopping.is_set():
            return
        ended: ThreadFuture[None] = ThreadFuture()

        async def release() -> None:
            held = [number for number in numbers if self._held.pop(number, None) is not None]
            try:
                if held:
                    await listener.on_released()
            finally:
                ended.set_result(None)

        self._on_loop(lambda: _spawn(release()))
        with contextlib.suppress(TimeoutError):
            ended.result(_RELEASE_SECONDS)


@lru_cache(maxsize=4096)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner (murmur2, as in the Java client)
    chooses for a record with this key.
    """
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    length = len(key)
    state = 0x9747B28C ^ length
    whole = length - length % 4
    for start in range(0, whole, 4):
        part = int.from_bytes(key[start : start + 4], "little") * factor & mask
        state = state * factor & mask ^ (part ^ part >> 24) * factor & mask
    if whole != length:
        state = (state ^ int.from_bytes(key[whole:], "little")) * factor & mask
    state = (state ^ state >> 13) * factor & mask
    return ((state ^ state >> 15) & 0x7FFFFFFF) % partitions


_tasks: set[asyncio.Task[None]] = set()


def _spawn(coroutine: Any) -> None:
    task = asyncio.get_running_loop().create_task(coroutine)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
