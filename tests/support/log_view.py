"""Kafka as an external observer sees it: offsets, topics and whole logs, each call with a
deadline.
"""

import contextlib
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewPartitions, NewTopic

from headrace.domain.record import Partition
from tests.support.ledger import Numbered

SECONDS = 15.0
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
QUIET: Mapping[str, str | int | float] = {"log_level": 0}


@dataclass(frozen=True, slots=True)
class Found:
    """One record read back."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]

    def attributes(self) -> dict[str, str]:
        """The context attributes of a CloudEvent record."""
        return {
            name[3:]: value.decode("utf-8", "replace")
            for name, value in self.headers.items()
            if name.startswith("ce_")
        }


class LogView:
    """One Kafka, observed from outside."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, **QUIET})

    def topics(self) -> dict[str, int]:
        """Partitions by topic name."""
        return {
            name: len(topic.partitions)
            for name, topic in self._admin.list_topics(timeout=SECONDS).topics.items()
        }

    def ends(self, topics: Iterable[str], *, seconds: float = SECONDS) -> dict[Partition, int]:
        """End offsets of all partitions of these topics; a topic that does not exist is left out.

        A partition without a leader (just created, or its broker just restarted) is retried until
        `seconds` have passed.
        """
        return self._offsets(set(topics), _LATEST, seconds)

    def begins(self, topics: Iterable[str]) -> dict[Partition, int]:
        """The offsets of the oldest records, as `ends`."""
        return self._offsets(set(topics), _EARLIEST, SECONDS)

    def _offsets(
        self, topics: Collection[str], spec: OffsetSpec, seconds: float
    ) -> dict[Partition, int]:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._list_offsets(topics, spec, seconds)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _list_offsets(
        self, topics: Collection[str], spec: OffsetSpec, seconds: float
    ) -> dict[Partition, int]:
        known = self.topics()
        wanted = {
            TopicPartition(topic, number): spec
            for topic in topics
            for number in range(known.get(topic, 0))
        }
        if not wanted:
            return {}
        futures = self._admin.list_offsets(wanted, request_timeout=seconds)
        return {
            Partition(each.topic, each.partition): future.result(seconds).offset
            for each, future in futures.items()
        }

    def records(self, topic: str, *, seconds: float = 30.0) -> list[Found]:
        """All records of a topic, partition by partition; empty if it does not exist."""
        ends = self._offsets([topic], _LATEST, seconds)
        begins = self._offsets([topic], _EARLIEST, seconds)
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": f"view-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                **QUIET,
            }
        )
        found: list[Found] = []
        try:
            missing = {
                partition for partition, end in ends.items() if begins.get(partition, end) < end
            }
            consumer.assign([TopicPartition(*partition, 0) for partition in missing])
            deadline = time.monotonic() + seconds
            while missing and time.monotonic() < deadline:
                for message in consumer.consume(1000, timeout=0.2):
                    if message.error():
                        continue
                    place = Partition(str(message.topic()), int(message.partition() or 0))
                    offset = int(message.offset() or 0)
                    headers = dict(cast(list[tuple[str, bytes]], message.headers() or []))
                    found.append(Found(place, offset, message.key(), message.value(), headers))
                # A compacted or transactional tail has no record at end - 1: the position shows
                # that it was passed.
                missing = {place for place in missing if _position(consumer, place) < ends[place]}
        finally:
            consumer.close()
        return sorted(found, key=lambda each: (each.partition, each.offset))

    def create(self, topic: str, *, partitions: int = 1) -> None:
        """Create a topic."""
        self._admin.create_topics([NewTopic(topic, partitions, 1)], operation_timeout=SECONDS)[
            topic
        ].result(SECONDS)

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        self._admin.create_partitions(
            [NewPartitions(topic, partitions)], operation_timeout=SECONDS
        )[topic].result(SECONDS)

    def delete(self, topics: Collection[str]) -> None:
        """Delete topics; one that does not exist is no error."""
        for future in (
            self._admin.delete_topics(list(topics), operation_timeout=SECONDS).values()
            if topics
            else ()
        ):
            with contextlib.suppress(KafkaException):
                future.result(SECONDS)

    def groups(self) -> set[str]:
        """All consumer groups."""
        return {
            group.group_id
            for group in self._admin.list_consumer_groups(request_timeout=SECONDS)
            .result(SECONDS)
            .valid
        }


def _position(consumer: Consumer, place: Partition) -> int:
    (position,) = consumer.position([TopicPartition(*place)])
    return int(position.offset)


def write_events(
    bootstrap_servers: str, topic: str, events: Iterable[Numbered], *, partition: int
) -> None:
    """Append events to one partition, as a client that writes to the topic without the ingress.
    Raises RuntimeError if one is not stored.
    """
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", **QUIET})
    for event in events:
        headers: list[tuple[str, str | bytes | None]] = [
            (f"ce_{name}", value.encode()) for name, value in event.attributes.items()
        ]
        headers += [("ce_specversion", b"1.0"), ("content-type", b"application/octet-stream")]
        producer.produce(topic, event.data, event.key.encode(), partition, headers=headers)
    left = producer.flush(SECONDS)
    if left:
        raise RuntimeError(f"{left} events were not stored in {topic} within {SECONDS:g} s")
