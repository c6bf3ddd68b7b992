"""Reads a compacted topic of one partition from its start and follows it. The routing table, the
resources and the instances reach a process in this way.

One thread owns the consumer (assigned, in no group) and hands batches to the loop. Only a few
batches are in flight, so that a long log at the start does not fill the memory. In an outage of
Kafka the loop keeps the last state.

The end of the log is queried by another client: a query waits on its connection behind the current
fetch, which an idle topic answers only after `_FETCH_WAIT_MS`. That client exists only while it is
needed.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from headrace.adapters.kafka.client_health import ClientHealth
from headrace.adapters.kafka.errors import control_topic_error, is_election, is_partition_end
from headrace.adapters.kafka.messages import to_record
from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError, LogUnavailable, NotFound
from headrace.domain.record import StoredRecord

logger = structlog.get_logger(__name__)

START_SECONDS = 50.0
_POLL_SECONDS = 0.05
"""How long a `refresh` may wait until the thread notices it."""
_BATCH_RECORDS = 500
_BATCHES_IN_FLIGHT_MAX = 4
_END_SECONDS = 1.0
_FETCH_WAIT_MS = 1_000
"""How long Kafka holds a fetch that finds no new records. New records end it at once. With 100 ms
an idle Kafka beside `headrace up` used 5.6 % of a processor, with this value it uses 4.0 %.
"""
_END_CLIENT_SECONDS = 10.0
"""How long that client is kept when it is not used, or gets no answer."""
_BACKOFF: Final = Backoff((0.2, 1.0, 5.0))
_HEALTHY_SECONDS = 60.0
_ELECTION_SECONDS = 5.0
"""How long an election of the partition's leader may take without a warning."""
_JOIN_SECONDS = 5.0
SILENT_SECONDS: Final = 4.0
"""Kafka counts as not answering after this time without an answer. A process that does not answer
gives no error: a fetch of a frozen Kafka waits for a minute.
"""


class _Refresh:
    """Callers of `refresh` that share one query for the end of the log."""

    __slots__ = ("done", "end")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self.end = -1


class _LogEnd:
    """Queries the end of the log. Its client is created by the first query, and closed when there
    was none for a while. Of one thread.
    """

    def __init__(self, settings: dict[str, object], topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._client: Consumer | None = None
        self._created_at = 0.0
        self._used_at = 0.0

    def query(self) -> int:
        """Return the offset after the last record. Raises KafkaException."""
        self._used_at = time.monotonic()
        if self._client is None:
            self._client = Consumer(self._settings, logger=client_logger)
            self._created_at = self._used_at
        try:
            _, end = self._client.get_watermark_offsets(
                TopicPartition(self._topic, 0), timeout=_END_SECONDS
            )
        except KafkaException:
            # It may have lost its brokers (decision 0011): a later query is sent by a new one.
            if self._used_at - self._created_at > _END_CLIENT_SECONDS:
                self.close()
            raise
        return int(end)

    def close_if_idle(self) -> None:
        """Close the client when it was not used for a while."""
        if self._client and time.monotonic() - self._used_at > _END_CLIENT_SECONDS:
            self.close()

    def close(self) -> None:
        """Close the client. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class CompactedTopicReader:
    """Follows `topic`: `apply` is called on the loop with each batch, in log order.

    A topic that was deleted and created again is read from its start.
    """

    def __init__(
        self,
        options: KafkaOptions,
        topic: str,
        apply: Callable[[Sequence[StoredRecord]], None],
        *,
        read_committed: bool = False,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """`read_committed` hides records of open and aborted transactions. `start_seconds` limits
        `start`.
        """
        self._options = options
        self._topic = topic
        self._apply = apply
        self._read_committed = read_committed
        self._start_seconds = start_seconds
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._batch_slots = threading.Semaphore(_BATCHES_IN_FLIGHT_MAX)
        self._lock = threading.Lock()
        self._next_refresh: _Refresh | None = None
        self._requested: list[_Refresh] = []
        self._pending: list[_Refresh] = []
        self._next_offset = 0
        self._last_error: str | None = None
        self._failing_since = 0.0
        self._error_logged = False
        """Whether a warning about the present failure was logged."""
        self._answered_at = time.monotonic()
        self._answering_since = -math.inf
        self.position = -1
        """Offset of the newest record applied, -1 before the first."""

    @property
    def last_error(self) -> str | None:
        """Why nothing can be read at the moment; None when reading works. The applied state
        remains in use.
        """
        return self._last_error

    @property
    def silent_seconds(self) -> float:
        """For how long Kafka has answered nothing that shows here: a record, the end of the log, a
        `refresh`. An idle topic alone shows nothing.
        """
        return time.monotonic() - self._answered_at

    @property
    def answering_seconds(self) -> float:
        """For how long Kafka has answered without an error or a silence of `SILENT_SECONDS`: 0
        during them, infinity if there was none since the start.

        Only for an owner that calls `refresh` before a quiet topic looks silent.
        """
        if self._last_error is not None or self.silent_seconds >= SILENT_SECONDS:
            return 0.0
        return time.monotonic() - self._answering_since

    async def start(self) -> None:
        """Read to the current end of the log, then follow. Raises `LogUnavailable` when that takes
        longer than `start_seconds`.

        Reading then continues in the background, and `start` may be called again.
        """
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._answered_at = time.monotonic()
            self._thread = threading.Thread(
                target=self._run, name=f"follow {self._topic}", daemon=True
            )
            self._thread.start()
        if not await self.refresh(self._start_seconds):
            reason = f": {self._last_error}" if self._last_error else ""
            where = f"topic {self._topic} at {self._options.bootstrap_servers}"
            raise LogUnavailable(
                f"{where} could not be read to its end within {self._start_seconds:g} s{reason}"
            )

    async def refresh(self, timeout_seconds: float) -> bool:
        """Read to the end of the log at the time of this call or later; False when that took too
        long. Concurrent callers share the work.
        """
        if self._loop is None or self._stopping.is_set():
            return False
        with self._lock:
            if self._next_refresh is None:
                self._next_refresh = _Refresh(self._loop)
            shared = self._next_refresh.done
        done, _ = await asyncio.wait({shared}, timeout=timeout_seconds)
        return bool(done) and not shared.cancelled()

    async def stop(self) -> None:
        """Stop reading. Idempotent."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, thread.join, _JOIN_SECONDS)
        with self._lock:
            left = [
                *self._requested,
                *self._pending,
                *([self._next_refresh] if self._next_refresh is not None else []),
            ]
            self._next_refresh = None
        for each in left:
            each.done.cancel()

    def _run(self) -> None:
        """Run one consumer after another, until stopped. Thread."""
        failures = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._read()
                # The client has failed, or its credentials are outdated. A new one continues at the
                # same offset, as after a lost connection.
                continue
            except KafkaException as error:
                self._set_error(control_topic_error(error.args[0], self._topic))
            # No exception may end this thread: the process would use a stale table without notice.
            except Exception:
                logger.exception("topic_reader_failed", topic=self._topic)
            self._next_offset = 0
            failures = 1 if time.monotonic() - begun > _HEALTHY_SECONDS else failures + 1
            self._stopping.wait(_BACKOFF.seconds(failures))

    def _read(self) -> None:
        health = ClientHealth()
        age = self._options.credentials.age(f"follower of {self._topic}")
        end = _LogEnd(self._settings(), self._topic)
        consumer = Consumer(
            {
                **self._settings(),
                "fetch.wait.max.ms": _FETCH_WAIT_MS,
                "statistics.interval.ms": self._options.statistics_interval_ms,
                "stats_cb": health.on_statistics,
            },
            logger=client_logger,
        )
        try:
            consumer.assign([TopicPartition(self._topic, 0, self._next_offset or OFFSET_BEGINNING)])
            while not self._stopping.is_set():
                if health.failure is not None:
                    self._set_error(LogUnavailable(f"{health.failure}; a new client is created"))
                    return
                if age.due:
                    logger.debug("follower_renewed", topic=self._topic)
                    return
                self._query_log_end(end)
                first = consumer.poll(_POLL_SECONDS)
                if first is not None:
                    health.received |= first.error() is None
                    self._collect([first, *consumer.consume(_BATCH_RECORDS, 0)])
                elif self._pending:
                    self._deliver([])
                else:
                    end.close_if_idle()
        finally:
            end.close()
            health.close_client(consumer.close)

    def _settings(self) -> dict[str, object]:
        return self._options.client(
            # Required by the client; nothing is ever committed and no group is joined.
            group_id=f"{self._options.client_id}.follower",
            enable_auto_commit=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if self._read_committed else "read_uncommitted",
            fetch_message_max_bytes=1_048_576,
            queued_max_messages_kbytes=4_096,
            allow_auto_create_topics=False,
            # A topic that the controller creates should be found soon after, not at the default
            # refresh after 5 minutes.
            topic_metadata_refresh_interval_ms=10_000,
            reconnect_backoff_max_ms=1_000,
        )

    def _query_log_end(self, log_end: _LogEnd) -> None:
        """Query the end of the log for the callers since the last query. Later callers cannot
        share the result: it could be too old.
        """
        with self._lock:
            asked, self._next_refresh = self._next_refresh, None
        if asked is not None:
            self._requested.append(asked)
        if not self._requested:
            return
        try:
            end = log_end.query()
        except KafkaException as error:
            self._on_error(error.args[0])
            self._stopping.wait(_POLL_SECONDS)
            return
        for each in self._requested:
            each.end = end
        self._pending += self._requested
        self._requested = []
        self._set_readable()

    def _collect(self, messages: Sequence[Message]) -> None:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                record = to_record(message)
                records.append(record)
                self._next_offset = record.offset + 1
                self._note_answer()
            elif is_partition_end(error):
                # Also counts transaction markers and compacted records, for which there is no
                # message.
                self._next_offset = message.offset() or 0
                self._set_readable()
            elif error.fatal():
                raise KafkaException(error)
            else:
                self._on_error(error)
        if records or self._pending:
            self._deliver(records)

    def _deliver(self, records: Sequence[StoredRecord]) -> None:
        reached = [each for each in self._pending if each.end <= self._next_offset]
        if not records and not reached:
            return
        self._pending = [each for each in self._pending if each not in reached]
        while not self._batch_slots.acquire(timeout=_POLL_SECONDS):
            if self._stopping.is_set():
                return
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
                self._loop.call_soon_threadsafe(self._apply_batch, records, reached)

    def _apply_batch(self, records: Sequence[StoredRecord], reached: Sequence[_Refresh]) -> None:
        """Apply a batch, then complete the refreshes that it ends. Loop."""
        self._batch_slots.release()
        if self._stopping.is_set():
            return
        if records:
            self._apply(records)
            self.position = records[-1].offset
        for each in reached:
            if not each.done.done():
                each.done.set_result(None)

    def _set_readable(self) -> None:
        self._note_answer()
        self._last_error, self._error_logged = None, False

    def _note_answer(self) -> None:
        now = time.monotonic()
        if self._last_error is not None or now - self._answered_at >= SILENT_SECONDS:
            self._answering_since = now
        self._answered_at = now

    def _on_error(self, error: KafkaError) -> None:
        now = time.monotonic()
        if self._last_error is None:
            self._failing_since = now
        known = control_topic_error(error, self._topic)
        if is_election(error) and now - self._failing_since < _ELECTION_SECONDS:
            # Usual after a topic was created. It is not ready meanwhile, and says why.
            self._last_error = str(known)
        else:
            self._set_error(known)

    def _set_error(self, error: HeadraceError) -> None:
        if not self._error_logged:
            self._error_logged = True
            kept = "the last state read stays in use"
            logger.warning(
                "topic_not_readable",
                topic=self._topic,
                error=str(error),
                next_step=kept if isinstance(error, NotFound) else f"check Kafka; {kept}",
            )
        self._last_error = str(error)
