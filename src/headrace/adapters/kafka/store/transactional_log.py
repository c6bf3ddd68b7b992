"""The writing side of the resource store: batches of records, each stored whole or not at all, by
one writer at a time.

Every batch is a transaction under one transactional id. A writer that initialises that id fences
the earlier one, which can store nothing from then on. Calls block and must run on a dedicated
thread.
"""

import contextlib
import time
from collections.abc import Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headrace.adapters.kafka.client_health import ClientHealth
from headrace.adapters.kafka.credentials import ClientAge
from headrace.adapters.kafka.errors import call_error, is_writer_fenced
from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.domain.errors import Fenced, LogUnavailable, OutcomeUnknown, WriteRefused

TRANSACTION_SECONDS = 15.0
_CLOSE_SECONDS = 2.0
_CHECK_SECONDS = 0.5
"""How often a call that waits for Kafka checks the health of its client."""


class TransactionalLog:
    """Writes batches of records to one partition of one topic."""

    def __init__(
        self,
        options: KafkaOptions,
        topic: str,
        *,
        transactional_id: str,
        timeout_seconds: float = 10.0,
    ) -> None:
        self._options = options
        self._topic = topic
        self._transactional_id = transactional_id
        self._timeout = timeout_seconds
        self._producer: Producer | None = None
        self._health = ClientHealth()
        self._age: ClientAge | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the credentials were renewed since `open`: it should be opened again."""
        return self._age is not None and self._age.due

    def open(self) -> None:
        """Fence every earlier writer and abort its open transaction. Raises LogUnavailable."""
        self.close()
        self._health = ClientHealth()
        age = self._options.credentials.age(self._transactional_id)
        producer = Producer(
            self._options.client(
                transactional_id=self._transactional_id,
                transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
                # Less than the timeout of the transaction, so that a record that cannot be stored
                # fails first.
                delivery_timeout_ms=int(self._timeout * 1000),
                linger_ms=1,
                statistics_interval_ms=self._options.statistics_interval_ms,
                stats_cb=self._health.on_statistics,
                allow_auto_create_topics=False,
            ),
            logger=client_logger,
        )
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                producer.init_transactions(max(0.1, deadline - time.monotonic()))
            except KafkaException as error:
                if error.args[0].retriable() and time.monotonic() < deadline:
                    continue
                raise LogUnavailable(f"topic {self._topic}: {error.args[0].str()}") from error
            self._producer, self._age = producer, age
            return

    def close(self) -> None:
        """Close the producer. An open transaction is abandoned."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # A fenced producer may raise once more, which changes nothing.
            with contextlib.suppress(KafkaException, SystemError):
                producer.purge()
                self._health.close_client(partial(producer.flush, _CLOSE_SECONDS))

    def store(self, records: Sequence[tuple[str, bytes | None]]) -> list[int]:
        """Store all of these or none; return their offsets.

        Raises Fenced, LogUnavailable or WriteRefused (nothing is stored), or OutcomeUnknown (it may
        be stored).
        """
        producer = self._producer
        if producer is None:
            raise LogUnavailable(f"topic {self._topic}: the writer is closed")
        offsets: list[int] = [-1] * len(records)
        refused: list[KafkaError] = []
        try:
            producer.begin_transaction()
            for index, (key, value) in enumerate(records):
                on_delivery = partial(_on_delivery, offsets, refused, index)
                producer.produce(
                    self._topic, key=key.encode(), value=value, partition=0, on_delivery=on_delivery
                )
            self._flush(producer)
        except (KafkaException, BufferError, SystemError) as error:
            # SystemError: the client raises a fatal error (such as being fenced) inside a call that
            # continues to report deliveries.
            raise self._abort_transaction(error) from error
        if refused or -1 in offsets:
            raise self._abort_transaction(
                KafkaException(refused[0]) if refused else BufferError("not stored in time")
            )
        self._commit(producer)
        return offsets

    def _flush(self, producer: Producer) -> None:
        """Wait until each record is stored or refused, the deadline has passed, or the client has
        failed.
        """
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0 and self._health.failure is None:
            if producer.flush(min(left, _CHECK_SECONDS)) == 0:
                return

    def _commit(self, producer: Producer) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                left = deadline - time.monotonic()
                producer.commit_transaction(min(max(0.1, left), _CHECK_SECONDS))
            except KafkaException as error:
                kafka_error = error.args[0]
                if is_writer_fenced(kafka_error):
                    raise Fenced(f"another controller writes topic {self._topic} now") from error
                if kafka_error.txn_requires_abort():
                    raise self._abort_transaction(error) from error
                producer.poll(0)  # Calls `on_statistics`, which a commit alone does not.
                if (
                    kafka_error.retriable()
                    and time.monotonic() < deadline
                    and self._health.failure is None
                ):
                    continue
                reason = self._health.failure or kafka_error.str()
                raise OutcomeUnknown(f"topic {self._topic}: {reason}") from error
            except SystemError as error:
                raise self._abort_transaction(error) from error
            return

    def _abort_transaction(self, error: Exception) -> Exception:
        """Abort the open transaction and return the error. Readers never see its records."""
        kafka_error = error.args[0] if isinstance(error, KafkaException) else None
        if kafka_error is not None and is_writer_fenced(kafka_error):
            return Fenced(f"another controller writes topic {self._topic} now")
        if self._health.failure is not None:
            # The client reaches no broker, so it cannot abort the transaction. The next `open`
            # aborts the transaction.
            return OutcomeUnknown(f"topic {self._topic}: {self._health.failure}")
        try:
            if self._producer is not None:
                self._producer.abort_transaction(self._timeout)
        except KafkaException as failed:
            if is_writer_fenced(failed.args[0]):
                return Fenced(f"another controller writes topic {self._topic} now")
            # Not committed, so not visible, and the next start aborts it. Only this producer cannot
            # be used any longer.
            return OutcomeUnknown(f"topic {self._topic}: {failed.args[0].str()}")
        if kafka_error is None:
            return LogUnavailable(f"topic {self._topic}: {error}")
        found = call_error(kafka_error, f"topic {self._topic}")
        return (
            found
            if isinstance(found, WriteRefused | LogUnavailable)
            else LogUnavailable(str(found))
        )


def _on_delivery(
    offsets: list[int],
    refused: list[KafkaError],
    index: int,
    error: KafkaError | None,
    message: Message,
) -> None:
    if error is not None:
        refused.append(error)
        return
    offsets[index] = message.offset() or 0
