"""A consumer in a thread of its own that joins no group: partitions and positions are assigned to
it from outside.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, consumer_alarm, failure_alarm
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.consumer_health import ConsumerHealth
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.errors import is_offset_out_of_range, is_partition_end
from headrace.adapters.kafka.messages import to_record
from headrace.adapters.kafka.options import client_logger
from headrace.domain.feed import FeedBounds
from headrace.domain.record import Partition, StoredRecord

_BOUNDS: Final = FeedBounds(records_max=256, bytes_max=2 * 1024 * 1024)
_POLL_SECONDS: Final = 0.05
_IDLE_SECONDS: Final = 1.0
_KEEP_SECONDS: Final = 30.0
"""How long a consumer is kept that has nothing to read: it has four threads."""
_RESTART_SECONDS: Final = 1.0
_QUEUE_BYTES: Final = 256 * 1024
_QUERY_SECONDS: Final = 5.0

logger = structlog.get_logger(__name__)


class AssignedConsumerListener(Protocol):
    """Receives what is read, on the event loop."""

    def on_records(
        self,
        partition: Partition,
        ticket: int,
        records: Sequence[StoredRecord],
        end: int | None,
    ) -> int:
        """Records of one partition, and its end if that was reached after them. Return the number
        of records that need not be handed over again: the others are kept until `offer_again`, and
        meanwhile no others are handed over.
        """
        ...

    def on_reset(self, partition: Partition, ticket: int, low: int) -> None:
        """The position is not in the log, which begins at `low`. All that was read before was
        handed over.
        """
        ...

    def on_restarted(self) -> None:
        """Nothing is read until `read` is called again."""
        ...

    def on_error(self, partition: Partition | None, alarm: ConsumerAlarm) -> None:
        """This partition (None: any) cannot be read now. This is tried again without a call, unless
        `on_restarted` follows.
        """
        ...


class _Batch:
    """Records of one partition that were read together, or where its log begins (`low`) because it
    does not have the position.
    """

    __slots__ = ("count", "end", "low", "partition", "records", "size", "ticket")

    def __init__(
        self,
        partition: Partition,
        ticket: int,
        records: Sequence[StoredRecord] = (),
        end: int | None = None,
        low: int | None = None,
    ) -> None:
        self.partition, self.ticket, self.records = partition, ticket, records
        self.end, self.low = end, low
        self.count, self.size = len(records), sum(record.size for record in records)
        """Number and bytes of the records that were read."""


class AssignedConsumer(threading.Thread):
    """Reads partitions from given positions. The thread starts with the first of them."""

    def __init__(
        self,
        config: ConsumerConfig,
        shared: SharedConsumerResources,
        listener: AssignedConsumerListener,
        *,
        purpose: str,
    ) -> None:
        """`purpose` and the topic of `config` name it in logs."""
        super().__init__(name=f"{purpose} {config.topics[0]}", daemon=True)
        self._config = config
        self._topic_ids = shared.topic_ids
        self._listener = listener
        self._queue = shared.callback_queues.queue(asyncio.get_running_loop())
        self._flow = FlowControl(_BOUNDS)
        self._commands: deque[tuple[Partition, int | None, int]] = deque()
        self._tickets: dict[Partition, int] = {}
        """What is read now. Thread."""
        self._ticket = 0
        """Of the last `read`; 0 before the thread is started."""
        self._kept: deque[_Batch] = deque()
        """What the loop has not handed over. It counts as long as it is not released."""
        self._closing = False

    # Called by the loop; all return immediately.

    def read(self, partition: Partition, offset: int) -> int:
        """Read this partition from `offset` on; return the ticket that its records have."""
        self._ticket += 1
        self._commands.append((partition, offset, self._ticket))
        self._flow.wake.set()
        if self._ticket == 1:
            self.start()
        return self._ticket

    def stop_reading(self, partition: Partition) -> None:
        """Do not read this partition."""
        self._commands.append((partition, None, 0))
        self._flow.wake.set()

    def offer_again(self) -> None:
        """Hand over what was kept, in the order in which it was read."""
        while self._kept:
            batch = self._kept[0]
            rest: Sequence[StoredRecord] = ()
            try:
                if not self._closing:
                    rest = self._offer(batch)
            finally:
                if not rest:
                    self._kept.popleft()
                    self._flow.release(batch.count, batch.size)
            if rest:
                batch.records = rest
                return

    def _offer(self, batch: _Batch) -> Sequence[StoredRecord]:
        """Hand over a batch; return the records that are to be handed over again."""
        if batch.low is not None:
            self._listener.on_reset(batch.partition, batch.ticket, batch.low)
            return ()
        return batch.records[
            self._listener.on_records(batch.partition, batch.ticket, batch.records, batch.end) :
        ]

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._flow.wake.set()

    def has_ended(self, timeout_seconds: float) -> bool:
        """Wait for the end of the thread; return False if it still runs. Blocks, so never call it
        on the loop.
        """
        if self.is_alive():
            self.join(timeout_seconds)
        return not self.is_alive()

    # Thread.

    def run(self) -> None:
        """Read until `close`. There is a consumer while there is something to read, and for a while
        after that. One that fails, or whose credentials are outdated, is replaced.
        """
        while not self._closing:
            self._flow.wake.clear()
            if not self._commands:
                self._flow.wake.wait(_IDLE_SECONDS)
                continue
            try:
                self._run_consumer()
            except Exception as error:  # An internal error must not end deliveries silently.
                self._report_failure(failure_alarm(error, self.name))
                self._flow.wake.clear()
                self._flow.wake.wait(_RESTART_SECONDS)
            if not self._closing:
                self._commands.clear()
                self._tickets.clear()
                self._call(self._listener.on_restarted)

    def _report_failure(self, alarm: ConsumerAlarm) -> None:
        detail = f"{alarm.detail}; a new consumer is created in {_RESTART_SECONDS:g} s"
        self._call(self._listener.on_error, None, alarm._replace(detail=detail))

    def _run_consumer(self) -> None:
        """Run one consumer. Raises `ConsumerFailed` or KafkaException when it cannot be used any
        longer.
        """
        age = self._config.options.credentials.age(self.name)
        health = ConsumerHealth(self._config, self._topic_ids)
        settings = self._config.client_settings(queue_bytes=_QUEUE_BYTES)
        # Errors of the client are counted only: those that matter are reported by its health.
        consumer = Consumer({**settings, "error_cb": self._count_error}, logger=client_logger)
        used_at = time.monotonic()
        try:
            while not self._closing and not age.due:
                self._run_commands(consumer)
                health.check_when_due(consumer)
                if self._tickets:
                    used_at = time.monotonic()
                    room = self._flow.free_records()
                    if room:
                        messages = consumer.consume(room, _POLL_SECONDS)
                        health.received |= any(each.error() is None for each in messages)
                        self._deliver(consumer, messages)
                    else:
                        self._flow.wait_for_capacity(_POLL_SECONDS)
                elif time.monotonic() - used_at > _KEEP_SECONDS:
                    return
                else:
                    self._flow.wake.clear()
                    if not self._commands and not self._closing:
                        self._flow.wake.wait(_IDLE_SECONDS)
                        consumer.poll(0)
        finally:
            health.close_client(consumer.close)

    def _run_commands(self, consumer: Consumer) -> None:
        while self._commands:
            partition, offset, ticket = self._commands.popleft()
            if self._tickets.pop(partition, None) is not None:
                consumer.incremental_unassign([TopicPartition(*partition)])
            if offset is not None:
                self._tickets[partition] = ticket
                consumer.incremental_assign([TopicPartition(*partition, offset)])

    def _deliver(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        found: dict[Partition, list[StoredRecord]] = {}
        ends: dict[Partition, int] = {}
        for message in messages:
            error = message.error()
            partition = Partition(message.topic() or "", message.partition() or 0)
            if error is None:
                found.setdefault(partition, []).append(to_record(message))
            elif is_partition_end(error):
                ends[partition] = message.offset() or 0
                found.setdefault(partition, [])
            elif is_offset_out_of_range(error):
                # First what was read before it: it is not lost, and of the log as it was then.
                self._pass_on(partition, found.pop(partition, ()), ends.pop(partition, None))
                self._reset(consumer, partition)
            else:
                self._count_error(error)
                if error.fatal():
                    raise KafkaException(error)
                logger.info("consumer_error", consumer=self.name, error=error.str())
                where = partition if partition.topic else None
                self._call(self._listener.on_error, where, consumer_alarm(error))
        for partition, records in found.items():
            self._pass_on(partition, records, ends.get(partition))

    def _count_error(self, error: KafkaError) -> None:
        self._config.options.measurements.count_error("consumer", error.name())

    def _pass_on(
        self, partition: Partition, records: Sequence[StoredRecord], end: int | None
    ) -> None:
        if partition in self._tickets and (records or end is not None):
            batch = _Batch(partition, self._tickets[partition], records, end)
            largest = max((each.size for each in records), default=0)
            self._flow.add_batch(batch.count, batch.size, largest=largest)
            self._call(self._hand_over, batch)

    def _reset(self, consumer: Consumer, partition: Partition) -> None:
        low, _ = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=_QUERY_SECONDS)
        if partition in self._tickets:
            self._flow.add_batch(0, 0, largest=0)
            self._call(self._hand_over, _Batch(partition, self._tickets[partition], low=low))

    def _call(self, callback: Callable[..., object], *arguments: object) -> None:
        try:
            self._queue.call_soon(callback, *arguments)
        except RuntimeError:  # The loop is closed: nobody needs the results.
            self._closing = True

    # Loop.

    def _hand_over(self, batch: _Batch) -> None:
        self._flow.batch_received()
        self._kept.append(batch)
        self.offer_again()
