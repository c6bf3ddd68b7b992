"""Feeds for a whole process: what its consumers share, and what waits in groups that no consumer of
this process reads.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from headrace.adapters.kafka.consumer.budget import ByteBudget
from headrace.adapters.kafka.consumer.callback_queue import CallbackQueues
from headrace.adapters.kafka.consumer.commits import CommitBudget
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.group_lag import GroupLagReader, read_group_lag
from headrace.adapters.kafka.consumer.topic_ids import TOPIC_ID_QUERY_SECONDS, TopicIds
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import Backlog, FeedAlarm, FeedBounds, InitialOffset

LAG_QUERY_SECONDS = 10.0
CONSUMER_SESSION_SECONDS_MAX = 10.0
"""A longer session timeout of the broker makes KIP-848 slower to notice a dead member than the
classic protocol's 6 s are worth.
"""

ResultT = TypeVar("ResultT")

_client_log = logging.getLogger("headrace.kafka.client")


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
        bytes_max: int = 64 * 1024 * 1024,
        topic_ids_seconds: float = TOPIC_ID_QUERY_SECONDS,
    ) -> None:
        """`choose_protocol` lets `prepare` choose the group protocol; else it is that of `options`.

        `bytes_max` bounds what all feeds hold together; `topic_ids_seconds` is how often it is
        looked whether topics are still the same.
        """
        self._options = options
        self._choose_protocol = choose_protocol
        self._instance = instance
        self._drain_seconds = drain_seconds
        self._fetch_wait_ms = fetch_wait_ms
        self._commits = CommitBudget()
        self._budget = ByteBudget(bytes_max)
        self._topic_ids = TopicIds(options, every_seconds=topic_ids_seconds)
        self._callback_queues = CallbackQueues()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backlog")

    @property
    def group_protocol(self) -> GroupProtocol:
        """Under which feeds are opened."""
        return self._options.group_protocol

    async def prepare(self) -> None:
        """Before the first `open`, once Kafka answers: find out which group protocol suits it.
        Raises `LogUnavailable`.

        KIP-848 notices a dead member only after the session timeout of the broker, 45 s by default,
        which no client can lower: it is chosen where that is 10 s or less. A static member that
        comes back under it gets a fatal error, so a lasting name means classic.
        """
        if not self._choose_protocol or self._instance is not None:
            return
        seconds = await self._run_query(self._consumer_session_seconds)
        if seconds is not None and seconds <= CONSUMER_SESSION_SECONDS_MAX:
            self._options = replace(self._options, group_protocol=GroupProtocol.CONSUMER)

    def open(
        self,
        *,
        group: str,
        topics: Sequence[str],
        bounds: FeedBounds,
        alarm: Callable[[FeedAlarm], None],
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
    ) -> KafkaFeed:
        """A feed of these topics for this group; `begin` says where in topics in which the group
        has committed nothing.
        """
        return KafkaFeed(
            self._options,
            group=group,
            topics=topics,
            bounds=bounds,
            commits=self._commits,
            alarm=alarm,
            initial_offset=initial_offset,
            # Several feeds of one process may be members of one group: the topics tell them apart.
            instance=f"{self._instance}-{topics[0]}" if self._instance else None,
            drain_seconds=self._drain_seconds,
            fetch_wait_ms=self._fetch_wait_ms,
            budget=self._budget,
            topic_ids=self._topic_ids,
            callback_queues=self._callback_queues,
        )

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """For each group, how many records of its topics it has not committed; topics that do not
        exist count as empty.

        Partitions that do not answer are left out and counted. Raises `LogUnavailable` when nothing
        answers.
        """
        wanted = {group: tuple(topics) for group, topics in groups.items()}
        return await self._run_query(partial(self._read_backlog, wanted))

    async def _run_query(self, query: Callable[[], ResultT]) -> ResultT:
        try:
            async with asyncio.timeout(2 * LAG_QUERY_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._executor, query)
        except (KafkaException, TimeoutError) as error:
            raise LogUnavailable(
                "Kafka does not say what the dispatcher has to know:"
                f" {str(error) or 'no answer in time'}"
            ) from error

    def _read_backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        reader = GroupLagReader(self._options)
        try:
            return read_group_lag(reader, groups, seconds=LAG_QUERY_SECONDS)
        finally:
            reader.close()

    def _consumer_session_seconds(self) -> float | None:
        """The session timeout of KIP-848 groups, None where there are none or where it may not be
        asked for.
        """
        admin = AdminClient(self._options.client(), logger=_client_log)
        broker = next(iter(admin.list_topics(timeout=LAG_QUERY_SECONDS).brokers))
        resource = ConfigResource(ConfigResource.Type.BROKER, str(broker))
        try:
            settings = admin.describe_configs([resource], request_timeout=LAG_QUERY_SECONDS)[
                resource
            ].result(LAG_QUERY_SECONDS)
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

    def close(self) -> None:
        """Let go of the threads."""
        self._topic_ids.close()
        self._executor.shutdown(wait=False, cancel_futures=True)
