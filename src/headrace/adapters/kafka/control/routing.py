"""The routing table in Kafka: the compacted topic `headrace.routing`, read by every data plane
process, written by the controller.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headrace.adapters.kafka.compacted_topic import START_SECONDS, CompactedTopicReader
from headrace.adapters.kafka.credentials import ClientAge
from headrace.adapters.kafka.errors import write_error
from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.codec.routing import apply
from headrace.domain.control_topics import ROUTING_TOPIC
from headrace.domain.errors import HeadraceError, LogUnavailable
from headrace.domain.record import StoredRecord
from headrace.domain.routing import Delays, RoutingTable

WRITE_SECONDS = 10.0
READINESS_REPORT_SECONDS = 5.0
"""How long a data plane process reads before it first reports why it is not ready. Reading
continues in the background.
"""
RECORD_BYTES_MAX = 1_000_000

logger = structlog.get_logger(__name__)

OnKeysChanged = Callable[[Collection[str]], None]


class KafkaRoutingReader:
    """Implements `headrace.domain.ports.RoutingReader`."""

    def __init__(
        self,
        options: KafkaOptions,
        *,
        topic: str = ROUTING_TOPIC,
        start_seconds: float = START_SECONDS,
        backends: Collection[str] | None = None,
    ) -> None:
        """`backends`: see `RoutingTable`."""
        self._table = RoutingTable(backends)
        self._topic = CompactedTopicReader(
            options, topic, self._on_records, start_seconds=start_seconds
        )
        self._keys: set[str] = set()
        self._watchers: list[OnKeysChanged] = []
        self._complete = False

    @property
    def table(self) -> RoutingTable:
        """See the port."""
        return self._table

    @property
    def problem(self) -> str | None:
        """Why the table cannot be used, for a readiness check. An outage of Kafka is no reason,
        because the last state remains valid.
        """
        return (
            None
            if self._complete
            else self._topic.last_error or "the routing table has not been read to its end"
        )

    async def start(self) -> None:
        """See the port."""
        await self._topic.start()
        self._complete = True
        # Notified once, at the end: before it there are entries that were removed long ago and are
        # not compacted yet.
        self._notify(self._keys)

    async def refresh(self, timeout_seconds: float) -> bool:
        """See the port."""
        return await self._topic.refresh(timeout_seconds)

    def watch(self, changed: OnKeysChanged) -> None:
        """See the port."""
        self._watchers.append(changed)
        if self._complete and self._keys:
            asyncio.get_running_loop().call_soon(changed, set(self._keys))

    async def stop(self) -> None:
        """See the port."""
        await self._topic.stop()

    def _on_records(self, records: Sequence[StoredRecord]) -> None:
        applied = apply(self._table, records)
        for key, reason in applied.ignored.items():
            present = self._table.get(key)
            names = (
                {}
                if present is None or isinstance(present, Delays)
                else {"namespace": present.namespace, "name": present.name}
            )
            logger.warning("routing_record_ignored", **names, key=key, error=str(reason))
        for key in applied.changed:
            if self._table.get(key) is None:
                self._keys.discard(key)
            else:
                self._keys.add(key)
        if self._complete:
            self._notify(applied.changed)

    def _notify(self, keys: Collection[str]) -> None:
        if keys:
            for changed in self._watchers:
                changed(frozenset(keys))


class KafkaRoutingWriter:
    """Implements `headrace.domain.ports.RoutingWriter`. The topic must exist."""

    def __init__(
        self,
        options: KafkaOptions,
        *,
        topic: str = ROUTING_TOPIC,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self._options = options
        self._topic = topic
        self._write_seconds = write_seconds
        self._producer: Producer | None = None
        self._age: ClientAge | None = None
        self._writing = asyncio.Lock()

    async def write(self, records: Mapping[str, bytes | None]) -> int:
        """See the port; -1 when there is nothing to write. Raises `LogUnavailable` after
        `write_seconds`; some records may have been stored.
        """
        if not records:
            return -1
        async with self._writing:
            return await asyncio.get_running_loop().run_in_executor(
                None, self._write, dict(records)
            )

    async def stop(self) -> None:
        """Close the connection. Idempotent."""
        async with self._writing:
            producer, self._producer = self._producer, None
            if producer is not None:
                await asyncio.get_running_loop().run_in_executor(None, producer.flush, 1.0)

    def _write(self, records: Mapping[str, bytes | None]) -> int:
        outdated = self._age is not None and self._age.outdated
        if self._producer is None or outdated:  # It has stored all that it was given.
            self._age = self._options.credentials.age("routing writer")
            self._producer = self._create_producer()
        producer = self._producer
        offsets: list[int] = []
        errors: list[HeadraceError] = []

        def reported(error: KafkaError | None, message: Message) -> None:
            if error is None:
                offsets.append(message.offset() or 0)
            else:
                size = len(message.value() or b"")
                errors.append(
                    write_error(error, topic=self._topic, size=size, size_max=RECORD_BYTES_MAX)
                )

        deadline = time.monotonic() + self._write_seconds
        try:
            for key, value in records.items():
                self._produce(producer, key, value, reported, deadline)
            left = producer.flush(max(deadline - time.monotonic(), 0.1) + 1.0)
        except KafkaException as error:
            self._producer = None
            raise write_error(
                error.args[0], topic=self._topic, size=0, size_max=RECORD_BYTES_MAX
            ) from error
        if errors:
            # An idempotent producer that has failed once may refuse every later record.
            self._producer = None
            raise errors[0]
        if left or len(offsets) != len(records):
            self._producer = None
            raise LogUnavailable(
                f"topic {self._topic} did not store {len(records)} routing records within"
                f" {self._write_seconds:g} s"
            )
        return max(offsets)

    def _produce(
        self, producer: Producer, key: str, value: bytes | None, reported: Any, deadline: float
    ) -> None:
        while True:
            try:
                producer.produce(
                    self._topic, value, key.encode(), partition=0, on_delivery=reported
                )
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"topic {self._topic} takes no more routing records;"
                        f" {self._write_seconds:g} s have passed"
                    ) from None
                producer.poll(0.1)

    def _create_producer(self) -> Producer:
        return Producer(
            self._options.client(
                acks="all",
                enable_idempotence=True,
                linger_ms=2,
                message_timeout_ms=int(self._write_seconds * 1000),
                message_max_bytes=RECORD_BYTES_MAX,
                topic_metadata_propagation_max_ms=2_000,
                allow_auto_create_topics=False,
            ),
            logger=client_logger,
        )
