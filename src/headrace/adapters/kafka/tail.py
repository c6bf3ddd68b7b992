"""Reads a topic from its end backwards, in no group and without side effects, to show its records
to a user.

Blocking, with one deadline for everything: for the command line, not for services.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace.adapters.kafka.errors import call_error, is_partition_end, is_unreachable
from headrace.adapters.kafka.messages import to_record
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import LogUnavailable, TopicMissing
from headrace.domain.record import StoredRecord

POLL_SECONDS = 0.2
CONTACT_SECONDS = 8.0
"""Time limit for the first answer. Without one, there is probably no Kafka at the address."""

KeptT = TypeVar("KeptT")


class KafkaTail:
    """A view of Kafka that ends after `seconds`. After that, every method raises
    `LogUnavailable`.

    The constructor raises a `HeadraceError` for settings that the client refuses.
    """

    def __init__(self, options: KafkaOptions, *, seconds: float) -> None:
        self._where = options.bootstrap_servers
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        try:
            self._consumer = Consumer(self._settings(options))
        except KafkaException as error:
            raise call_error(error.args[0], "the client for Kafka") from error

    def _settings(self, options: KafkaOptions) -> dict[str, object]:
        return {
            **options.client(
                group_id="headrace-look",  # Required by the client; nothing is joined or committed.
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                fetch_message_max_bytes=1_048_576,
                queued_max_messages_kbytes=16_384,
                fetch_wait_max_ms=100,
            ),
            # Otherwise every failed connection attempt is printed on the terminal. The deadline
            # reports the failure once.
            "log_level": 0,
        }

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(KafkaException):
            self._consumer.close()

    def record_counts(self, suffix: str) -> dict[str, int]:
        """Return the topics whose names end with `suffix`, each with the number of its records."""
        with self._translated_errors("the list of topics"):
            topics = self._consumer.list_topics(
                timeout=min(CONTACT_SECONDS, self._remaining())
            ).topics
        return {
            name: sum(end - first for first, end in self.watermarks(name).values())
            for name in sorted(topics)
            if name.endswith(suffix)
        }

    def watermarks(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return the first offset of each partition and the offset after its last record. Also
        raises `TopicMissing`.
        """
        with self._translated_errors(f"topic {topic}"):
            # All topics, because a query for one may create it.
            found = self._consumer.list_topics(
                timeout=min(CONTACT_SECONDS, self._remaining())
            ).topics.get(topic)
            if found is None:
                raise TopicMissing(topic)
            return {
                number: self._consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=self._remaining()
                )
                for number in found.partitions
            }

    def read_newest_first(
        self, topic: str, records: int, keep: Callable[[StoredRecord], KeptT | None]
    ) -> Iterator[list[KeptT]]:
        """Yield the results of `keep` for the records, newest first, in windows of `records`
        records of each partition.

        Only the results of `keep` are in memory, not the events of a window. The first window
        contains the newest `records` records of the topic.
        """
        watermarks = dict(self.watermarks(topic))
        while watermarks := {
            number: span for number, span in watermarks.items() if span[1] > span[0]
        }:
            window = {
                number: (max(first, end - records), end)
                for number, (first, end) in watermarks.items()
            }
            found: list[tuple[int, int, KeptT]] = []
            for record in self._read_ranges(topic, window):
                kept = keep(record)
                if kept is not None:
                    found.append((record.timestamp_ms, record.offset, kept))
            found.sort(key=lambda each: each[:2], reverse=True)
            yield [kept for _, _, kept in found]
            watermarks = {
                number: (watermarks[number][0], begun) for number, (begun, _) in window.items()
            }

    def _read_ranges(
        self, topic: str, window: Mapping[int, tuple[int, int]]
    ) -> Iterator[StoredRecord]:
        """Yield the records of these ranges, partition by partition in order."""
        open_ends = {number: end for number, (_, end) in window.items()}
        with self._translated_errors(f"topic {topic}"):
            self._consumer.assign(
                [TopicPartition(topic, number, begin) for number, (begin, _) in window.items()]
            )
        while open_ends:
            if self._remaining() <= 0:
                raise self._timeout_error(f"topic {topic}", self._seconds)
            message = self._consumer.poll(min(POLL_SECONDS, self._remaining()))
            if message is None:
                continue
            number, offset = message.partition() or 0, message.offset() or 0
            error = message.error()
            if error is not None:
                if is_partition_end(error):
                    # The client may report an end before it has read up to the watermark. That
                    # end is not the window's, and the records follow.
                    if offset >= open_ends.get(number, 0):
                        open_ends.pop(number, None)
                elif error.fatal():
                    raise call_error(error, f"topic {topic}")
                continue
            end = open_ends.get(number)
            if end is None:
                continue
            if offset + 1 >= end:
                del open_ends[number]
            if offset < end:
                yield to_record(message)

    def _remaining(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _timeout_error(self, what: str, seconds: float) -> LogUnavailable:
        return LogUnavailable(f"{what} at {self._where}: no answer within {seconds:.0f} s")

    @contextlib.contextmanager
    def _translated_errors(self, what: str) -> Iterator[None]:
        """Translate errors of the client into errors of the domain."""
        began = time.monotonic()
        try:
            yield
        except KafkaException as error:
            if self._remaining() <= 0 or is_unreachable(error.args[0]):
                raise self._timeout_error(what, time.monotonic() - began) from error
            raise call_error(error.args[0], what) from error
