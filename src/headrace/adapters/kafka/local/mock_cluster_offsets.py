"""Reads and commits offsets in the embedded Kafka. Its mock cluster does not answer admin requests
about them, but it answers requests of consumers.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace.adapters.kafka.errors import call_error
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import LogUnavailable

CALL_SECONDS = 5.0

T = TypeVar("T")


class MockClusterOffsets:
    """Ends of partitions and committed offsets of groups, queried on a separate thread, because the
    client blocks.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-offsets")

    async def ends(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Return the offset after the last record of each partition. Raises `LogUnavailable`."""

        def query(consumer: Consumer) -> dict[int, int]:
            return {
                each: consumer.get_watermark_offsets(
                    TopicPartition(topic, each), timeout=CALL_SECONDS
                )[1]
                for each in partitions
            }

        return await self._call(f"topic {topic}", f"{topic}.ends", query)

    async def committed(
        self, group: str, topic: str, partitions: Collection[int]
    ) -> Mapping[int, int]:
        """Return what the group has committed, by partition, without partitions that have no
        offset.
        """

        def query(consumer: Consumer) -> dict[int, int]:
            found = consumer.committed(
                [TopicPartition(topic, each) for each in partitions], timeout=CALL_SECONDS
            )
            return {each.partition: each.offset for each in found if each.offset >= 0}

        return await self._call(f"group {group}", group, query)

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit for a group without members."""

        def query(consumer: Consumer) -> None:
            places = [
                TopicPartition(topic, partition, offset) for partition, offset in offsets.items()
            ]
            for each in consumer.commit(offsets=places, asynchronous=False) or ():
                if each.error is not None:
                    raise KafkaException(each.error)

        await self._call(f"group {group}", group, query)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _call(self, what: str, group: str, query: Callable[[Consumer], T]) -> T:
        def call() -> T:
            # This consumer does not join: only the name of its group is used.
            consumer = Consumer(
                {**self._options.client(group_id=group, enable_auto_commit=False), "log_level": 0}
            )
            try:
                return query(consumer)
            finally:
                consumer.close()

        try:
            async with asyncio.timeout(4 * CALL_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except TimeoutError as error:
            raise LogUnavailable(
                f"{what}: the embedded Kafka did not answer within {4 * CALL_SECONDS:g} s"
            ) from error
        except KafkaException as error:
            raise call_error(error.args[0], what) from error
