"""Appends records to Kafka: one idempotent producer that implements the `Log` port.

The producer is polled on the event loop, once a millisecond while records are unacknowledged, and
not by a separate thread. A thread needs the interpreter lock for every delivery report while the
loop holds it for requests: in one pair of runs with 1 KiB events it took a fifth more CPU per event
and three times the p99 (a second pair, on a busier machine, did not confirm it). One call serves
all reports that have arrived, so the callers still get them in batches, and no lock is needed.
"""

import asyncio
import contextlib
import time
from functools import partial
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.adapters.kafka.client_health import ClientHealth
from headrace.adapters.kafka.control.durable_append import append_and_wait
from headrace.adapters.kafka.credentials import ClientAge
from headrace.adapters.kafka.errors import call_error, is_fatal, write_error
from headrace.adapters.kafka.options import (
    RECORD_OVERHEAD_BYTES,
    KafkaOptions,
    LogOptions,
    client_logger,
)
from headrace.domain.errors import (
    HeadraceError,
    LogFull,
    LogUnavailable,
    RecordTooLarge,
    TopicMissing,
)
from headrace.domain.ports import OnStored
from headrace.domain.record import Record
from headrace.runtime.tasks import end_task

logger = structlog.get_logger(__name__)

_IDLE_POLL_SECONDS: Final = 0.1
_LOOKUP_SECONDS: Final = 2.0
_REPLACE_SECONDS: Final = 1.0
_RENEWAL_RETRY_SECONDS: Final = 10.0
_REFRESH_MS: Final = 10_000
_CLIENT_ERROR_LOG_SECONDS: Final = 10.0


class _TopicBudget:
    """Bytes of one topic that are not stored yet."""

    __slots__ = ("looked_up", "open_bytes", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.open_bytes = 0
        self.looked_up = 0.0


class _TopicBudgets(dict[str, _TopicBudget]):
    """Budgets by topic; `budgets[topic]` adds one that is missing."""

    def __missing__(self, topic: str) -> _TopicBudget:
        budget = self[topic] = _TopicBudget(topic)
        return budget


class KafkaLog:
    """Implements `headrace.domain.ports.Log`. To be created in the process that uses it, because
    librdkafka's threads do not survive a fork.
    """

    def __init__(self, options: KafkaOptions, *, log: LogOptions | None = None) -> None:
        self.options = log or LogOptions()
        self._kafka = options
        self._producer: Producer
        self._retired: list[Producer] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._budgets = _TopicBudgets()
        self._open_records = 0
        self._open_bytes = 0
        self._reports: list[tuple[_TopicBudget, int, OnStored, KafkaError | None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._poll_scheduled = False
        self._fatal: KafkaError | None = None
        self._logged_at: dict[int, float] = {}
        self._health = ClientHealth()
        self._age: ClientAge
        self._renewal: asyncio.Task[None] | None = None
        self._replaced_at = -_REPLACE_SECONDS
        self._renewal_tried_at = -_RENEWAL_RETRY_SECONDS
        self._emptied = asyncio.Event()
        self._measurements = options.measurements
        self._timed_since = 0.0
        """When the record that is timed was appended (monotonic), 0.0 while none is."""
        self._lookups: set[asyncio.Future[Any]] = set()

    @property
    def open_bytes(self) -> int:
        """Bytes of the unacknowledged records, overhead included."""
        return self._open_bytes

    async def start(self) -> None:
        """Create the producer. It connects in the background. Raises a `HeadraceError` for
        settings that the client refuses.
        """
        try:
            self._use(*self._create_producer())
        except KafkaException as error:
            raise call_error(error.args[0], "the client for Kafka") from error
        # Not earlier: without a loop, `stop` has nothing to do.
        self._loop = asyncio.get_running_loop()
        self._poll()

    async def warm_up(self, timeout_seconds: float, *, topic: str | None = None) -> None:
        """Return when the next record is written without a handshake first. Raises
        `LogUnavailable` when that takes longer than `timeout_seconds`.

        A metadata request opens the connection over which the producer id is fetched: 0.1 s instead
        of the 0.5 to 1 s of a retry timer that a first record would wait for (measured). With
        `topic`, a compacted topic of Headrace's own, a tombstone is written and its acknowledgement
        awaited, which checks the whole path. For a topic that does not exist yet, the lookup is
        enough.
        """
        deadline = time.monotonic() + timeout_seconds
        await self._list_topics(None, timeout_seconds)
        if topic is None:
            return
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                with contextlib.suppress(TopicMissing):
                    await append_and_wait(self, topic, Record(b"warm-up", None))
        except TimeoutError:
            raise LogUnavailable(
                f"topic {topic} did not store the first record within {timeout_seconds:g} s"
            ) from None

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """See the port. A missing topic and a failed client are reported through `stored`."""
        if self._loop is None:
            raise LogUnavailable("the log is not running")
        budget = self._budgets[topic]
        size = RECORD_OVERHEAD_BYTES + record.size
        topic_bytes, all_bytes = budget.open_bytes + size, self._open_bytes + size
        options = self.options
        if (
            size > options.record_bytes_max
            or topic_bytes > options.topic_bytes_max
            or all_bytes > options.bytes_max
        ):
            self._check_limits(budget, size)
        headers = record.headers
        fields = headers if type(headers) is list else list(headers)
        if self._timed_since:
            report = partial(self._reported, budget, size, stored)
        else:
            self._timed_since = time.monotonic()
            report = partial(self._reported_timed, budget, size, stored)
        try:
            self._producer.produce(
                topic, record.value, record.key, headers=fields, on_delivery=report
            )
        except BufferError:
            self._end_timing(report)
            raise LogFull(topic, options.bytes_max) from None
        except KafkaException as error:
            self._end_timing(report)
            self._report_later(budget, size, stored, error.args[0])
        budget.open_bytes, self._open_bytes = topic_bytes, all_bytes
        self._open_records += 1
        if not self._poll_scheduled:
            self._poll_soon()

    def _check_limits(self, budget: _TopicBudget, size: int) -> None:
        """Raise an error for a record that is too large, and for one for which there is no room. A
        record alone may take more than its topic's room.
        """
        options = self.options
        if size > options.record_bytes_max:
            raise RecordTooLarge(size - RECORD_OVERHEAD_BYTES, options.record_bytes_max)
        if budget.open_bytes + size > options.topic_bytes_max and budget.open_bytes:
            raise LogFull(budget.topic, options.topic_bytes_max)
        if self._open_bytes + size > options.bytes_max and self._open_bytes:
            raise LogFull(budget.topic, options.bytes_max)

    async def flush(self, timeout_seconds: float) -> int:
        """See the port."""
        if self._open_records:
            self._emptied.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._emptied.wait()
            except TimeoutError:
                return self._open_records
        return 0

    async def stop(self, timeout_seconds: float = 5.0) -> None:
        """Flush, fail the remaining records, close. Idempotent."""
        if self._loop is None:
            return
        left = await self.flush(timeout_seconds)
        if left:
            logger.warning("records_not_stored_at_stop", records=left)
            for producer in (self._producer, *self._retired):
                producer.purge(blocking=False)
            await self.flush(1.0)
        loop, self._loop = self._loop, None
        if self._timer is not None:
            self._timer.cancel()
        await end_task(self._renewal)
        if self._lookups:
            await asyncio.wait(self._lookups, timeout=_LOOKUP_SECONDS)
        for producer in (self._producer, *self._retired):
            await loop.run_in_executor(None, producer.close)
        self._deliver_reports()

    def _use(self, producer: Producer, health: ClientHealth, age: ClientAge) -> None:
        self._producer, self._health, self._age = producer, health, age

    def _create_producer(self) -> tuple[Producer, ClientHealth, ClientAge]:
        options, health = self.options, ClientHealth()
        age = self._kafka.credentials.age(f"producer of {self._kafka.client_id}")
        producer = Producer(
            self._kafka.client(
                acks="all",
                enable_idempotence=True,
                # A broker without state of this producer for a partition accepts a batch with any
                # sequence number. So of two batches in flight, the second may be stored and the
                # first refused (no leader while a broker starts), and the client takes the success
                # of the second for the first as well: an acknowledged event is lost (seen in a
                # ledger run, decision 0010). One batch at a time costs nothing measurable, because
                # waiting records make the next batch larger.
                max_in_flight_requests_per_connection=1,
                linger_ms=options.linger_seconds * 1000,
                batch_size=options.batch_bytes_max,
                message_timeout_ms=int(options.delivery_seconds * 1000),
                message_max_bytes=options.record_bytes_max + RECORD_OVERHEAD_BYTES,
                queue_buffering_max_kbytes=2 * options.bytes_max // 1024,
                queue_buffering_max_messages=options.bytes_max // RECORD_OVERHEAD_BYTES + 1,
                compression_type=options.compression,
                allow_auto_create_topics=False,
                # A broker that has restarted is used again within 1 s instead of 10 s.
                reconnect_backoff_max_ms=1_000,
                topic_metadata_propagation_max_ms=int(options.topic_wait_seconds * 1000),
                partitioner="murmur2_random",  # Partitions keys as other Kafka clients do.
                # Also gives an idle client regular answers, which `ClientHealth` needs.
                topic_metadata_refresh_interval_ms=_REFRESH_MS,
                statistics_interval_ms=self._kafka.statistics_interval_ms,
                stats_cb=health.on_statistics,
                error_cb=self._on_error,
            ),
            logger=client_logger,
        )
        return producer, health, age

    # Reports.

    def _reported(
        self,
        budget: _TopicBudget,
        size: int,
        stored: OnStored,
        error: KafkaError | None,
        message: object,
    ) -> None:
        del message
        self._reports.append((budget, size, stored, error))

    def _end_timing(self, report: "partial[None]") -> None:
        """The client has refused the record of this report: if it is timed, there is no result."""
        if report.func == self._reported_timed:
            self._timed_since = 0.0

    def _reported_timed(
        self,
        budget: _TopicBudget,
        size: int,
        stored: OnStored,
        error: KafkaError | None,
        message: object,
    ) -> None:
        """The report of the record that is timed; the next one to be appended is timed then."""
        if error is None:
            self._measurements.observe_produce(time.monotonic() - self._timed_since)
        self._timed_since = 0.0
        self._reported(budget, size, stored, error, message)

    def _report_later(
        self, budget: _TopicBudget, size: int, stored: OnStored, error: KafkaError
    ) -> None:
        if is_fatal(error):
            self._fatal = error
        self._reports.append((budget, size, stored, error))

    def _on_error(self, error: KafkaError) -> None:
        self._measurements.count_error("producer", error.name())
        if error.fatal():
            self._fatal = error
        else:
            self._log_client_error(error)

    def _log_client_error(self, error: KafkaError) -> None:
        """At most once per code and 10 s: while Kafka is unreachable, the client repeats itself."""
        now = time.monotonic()
        if now - self._logged_at.get(error.code(), -_CLIENT_ERROR_LOG_SECONDS) < (
            _CLIENT_ERROR_LOG_SECONDS
        ):
            return
        self._logged_at[error.code()] = now
        logger.info("kafka_client_error", error=error.str(), code=error.name())

    def _poll_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._poll_scheduled = True
            self._timer = self._loop.call_later(self.options.poll_seconds, self._poll)

    def _poll(self) -> None:
        self._poll_scheduled = False
        try:
            self._producer.poll(0)
            if self._fatal is not None:
                self._replace(f"a fatal error: {self._fatal.str()}")
            elif self._health.failure is not None:
                self._replace(self._health.failure)
            elif self._age.due and self._renewal is None:
                self._start_renewal()
            if self._retired:
                self._poll_retired()
            if self._reports:
                self._deliver_reports()
        finally:  # Later reports must be delivered in any case.
            if self._open_records and not self._poll_scheduled:
                self._poll_soon()
            elif not self._poll_scheduled and self._loop is not None:
                self._timer = self._loop.call_later(_IDLE_POLL_SECONDS, self._poll)

    def _deliver_reports(self) -> None:
        reports, self._reports = self._reports, []
        self._open_records -= len(reports)
        for budget, size, stored, error in reports:
            budget.open_bytes -= size
            self._open_bytes -= size
            try:
                stored(None if error is None else self._translate(error, budget, size))
            except Exception:
                logger.exception("delivery_callback_failed", topic=budget.topic)
        if not self._open_records:
            self._emptied.set()

    def _translate(self, error: KafkaError, budget: _TopicBudget, size: int) -> HeadraceError:
        self._measurements.count_error("producer", error.name())
        size -= RECORD_OVERHEAD_BYTES
        meaning = write_error(
            error, topic=budget.topic, size=size, size_max=self.options.record_bytes_max
        )
        if isinstance(meaning, TopicMissing):
            self._look_up(budget)
        return meaning

    # Missing topics.

    def _look_up(self, budget: _TopicBudget) -> None:
        """Look up the topic again, in the background: the client itself looks for a missing topic
        only every 5 minutes.
        """
        now = time.monotonic()
        if self._loop is None or now - budget.looked_up < 1.0:
            return
        budget.looked_up = now
        task = self._loop.create_task(self._list_topics(budget.topic, _LOOKUP_SECONDS))
        self._lookups.add(task)
        task.add_done_callback(self._looked_up)

    def _looked_up(self, task: asyncio.Future[Any]) -> None:
        self._lookups.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.info("topic_lookup_failed", error=str(error))

    async def _list_topics(self, topic: str | None, timeout_seconds: float) -> None:
        producer = self._producer
        try:
            await asyncio.get_running_loop().run_in_executor(
                None, _metadata, producer, topic, timeout_seconds
            )
        except KafkaException as error:
            raise call_error(error.args[0], "the cluster") from error

    # Failed producers.

    def _replace(self, reason: str) -> None:
        """Replace the producer. Its unacknowledged records fail as temporary, the next record goes
        to the new producer.

        At most once a second: a cluster on which every new producer fails must not be flooded with
        them.
        """
        now = time.monotonic()
        if now - self._replaced_at < _REPLACE_SECONDS:
            return
        self._fatal, self._replaced_at = None, now
        logger.error(
            "kafka_producer_replaced",
            error=reason,
            failed_records=self._open_records,
            next_step="callers retry these records; if it repeats, check the Kafka brokers",
        )
        old = self._producer
        self._use(*self._create_producer())
        old.purge(blocking=False)
        self._retired.append(old)

    # Renewed credentials.

    def _start_renewal(self) -> None:
        now = time.monotonic()
        if self._loop is None or now - self._renewal_tried_at < _RENEWAL_RETRY_SECONDS:
            return
        self._renewal_tried_at = now
        self._renewal = self._loop.create_task(self._renew(), name="renew the producer")

    async def _renew(self) -> None:
        """Replace the producer by one with the renewed credentials: it connects first, and then
        gets all new records. The old one stores those that it has.
        """
        try:
            created = await asyncio.to_thread(self._create_producer)
            try:
                await asyncio.to_thread(_metadata, created[0], None, _LOOKUP_SECONDS)
            except KafkaException:
                await asyncio.to_thread(created[0].close)
                raise
        except KafkaException as error:
            # The old one continues. If it is not connected either, `ClientHealth` notices that.
            logger.info("producer_not_renewed", error=error.args[0].str())
        else:
            self._retired.append(self._producer)
            self._use(*created)
            self._renewal_tried_at = -_RENEWAL_RETRY_SECONDS
            logger.debug("producer_renewed", open_records=self._open_records)
        finally:
            self._renewal = None

    def _poll_retired(self) -> None:
        fatal = self._fatal
        for producer in tuple(self._retired):
            producer.poll(0)
            if not len(producer) and self._loop is not None:
                self._retired.remove(producer)
                closing = self._loop.run_in_executor(None, producer.close)
                self._lookups.add(closing)
                closing.add_done_callback(self._looked_up)
        self._fatal = fatal  # A retired producer reports its own error again.


def _metadata(producer: Producer, topic: str | None, timeout_seconds: float) -> None:
    if topic is None:
        producer.list_topics(timeout=timeout_seconds)
    else:
        producer.list_topics(topic, timeout=timeout_seconds)
