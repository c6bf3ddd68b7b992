"""The feeds of one process."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.shared_resources import (
    PROCESS_BYTES_MAX,
    SharedConsumerResources,
)
from headrace.adapters.kafka.consumer.topic_ids import TOPIC_ID_QUERY_SECONDS
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions, client_logger
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import FeedAlarm, FeedConfig

QUERY_SECONDS = 10.0
CONSUMER_SESSION_SECONDS_MAX = 10.0
"""With a longer session timeout of the broker, KIP-848 detects a dead member much later than the
classic protocol, which takes 6 s.
"""

OpenFeed = KafkaFeed | SubscriptionFeed
"""What `KafkaFeeds.open` returns."""


class Readers(Protocol):
    """The readers of the topics that several feeds of a process read
    (`headrace.adapters.kafka.channel_reader`).
    """

    def open(
        self,
        config: FeedConfig,
        defaults: ConsumerConfig,
        instance: str | None,
        alarm: Callable[[FeedAlarm], None],
    ) -> SubscriptionFeed:
        """Open a feed with the reader of its topic."""
        ...

    async def close(self) -> None:
        """Close the connections. The feeds were stopped before. Idempotent."""
        ...


class KafkaFeeds:
    """Opens the feeds of one process. `instance` is a name that outlives the process, if it has one
    (static membership).
    """

    def __init__(
        self,
        options: KafkaOptions,
        *,
        instance: str | None = None,
        drain_seconds: float = 5.0,
        fetch_wait_ms: int = 500,
        choose_protocol: bool = False,
        bytes_max: int = PROCESS_BYTES_MAX,
        topic_ids_seconds: float = TOPIC_ID_QUERY_SECONDS,
        create_readers: Callable[[SharedConsumerResources], Readers] | None = None,
    ) -> None:
        """`create_readers` creates the readers that feeds share which have a filter or are assigned
        with a channel; without it, each feed has a consumer of its own.

        `choose_protocol` lets `prepare` choose the group protocol; otherwise it is that of
        `options`.

        `bytes_max` bounds what all feeds hold together. `topic_ids_seconds` is how often the ids of
        topics are queried, to detect topics that were deleted and created again.
        """
        self._defaults = ConsumerConfig(
            options=options,
            group="",
            topics=(),
            drain_seconds=drain_seconds,
            fetch_wait_ms=fetch_wait_ms,
        )
        self._choose_protocol = choose_protocol
        self._instance = instance
        self._shared = SharedConsumerResources.create(
            options, bytes_max=bytes_max, topic_ids_seconds=topic_ids_seconds
        )
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="settings")
        self._readers = create_readers(self._shared) if create_readers is not None else None

    @property
    def options(self) -> KafkaOptions:
        """The options of the clients."""
        return self._defaults.options

    @property
    def group_protocol(self) -> GroupProtocol:
        """The protocol of the groups that `open` joins."""
        return self.options.group_protocol

    async def prepare(self) -> None:
        """Choose the group protocol, before the first `open` and once Kafka answers. Raises
        `LogUnavailable`.

        With KIP-848, a dead member is detected only after the session timeout of the broker, which
        is 45 s by default and which no client can lower. KIP-848 is chosen if that timeout is 10 s
        or less. A static member that returns gets a fatal error with it, so an instance name means
        the classic protocol.
        """
        if not self._choose_protocol or self._instance is not None:
            return
        seconds = await self._query_session_seconds()
        if seconds is not None and seconds <= CONSUMER_SESSION_SECONDS_MAX:
            self._defaults = replace(
                self._defaults,
                options=replace(self.options, group_protocol=GroupProtocol.CONSUMER),
            )

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> OpenFeed:
        """As `headrace.domain.ports.Feeds.open`. Without a shared reader, every record is handed
        out, matching or not.
        """
        if self._readers is not None and (
            config.filter is not None or config.assigned_with is not None
        ):
            return self._readers.open(config, self._defaults, self._instance, alarm)
        consumer = replace(
            self._defaults,
            group=config.group,
            topics=config.topics,
            bounds=config.bounds,
            initial_offset=config.initial_offset,
            # Several feeds of one process may be members of one group: the topic makes the names
            # of their instances different.
            instance=f"{self._instance}-{config.topics[0]}" if self._instance else None,
        )
        return KafkaFeed(consumer, self._shared, alarm)

    async def _query_session_seconds(self) -> float | None:
        try:
            async with asyncio.timeout(2 * QUERY_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(
                    self._executor, self._consumer_session_seconds
                )
        except (KafkaException, TimeoutError) as error:
            raise LogUnavailable(
                "Kafka did not answer a query about its settings: "
                f"{str(error) or 'no answer in time'}"
            ) from error

    def _consumer_session_seconds(self) -> float | None:
        """Return the session timeout of KIP-848 groups; None if the broker does not support them,
        or if this client may not read the configuration.
        """
        admin = AdminClient(self.options.client(), logger=client_logger)
        broker = next(iter(admin.list_topics(timeout=QUERY_SECONDS).brokers))
        resource = ConfigResource(ConfigResource.Type.BROKER, str(broker))
        try:
            settings = admin.describe_configs([resource], request_timeout=QUERY_SECONDS)[
                resource
            ].result(QUERY_SECONDS)
        except KafkaException:
            return None
        if "consumer" not in (
            protocols.value
            if (protocols := settings.get("group.coordinator.rebalance.protocols"))
            else ""
        ):
            return None
        timeout = settings.get("group.consumer.session.timeout.ms")
        return int(timeout.value) / 1000 if timeout is not None and timeout.value else None

    async def close(self) -> None:
        """Stop the threads of this process that belong to no feed, and close the connections.
        Idempotent.
        """
        self._shared.close()
        if self._readers is not None:
            await self._readers.close()
        self._executor.shutdown(wait=False, cancel_futures=True)
