"""Feeds for a whole process: what its consumers share, and what waits in groups that no consumer of this process reads."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]

from headrace.adapters.kafka.budget import ByteBudget
from headrace.adapters.kafka.commits import CommitBudget
from headrace.adapters.kafka.consumer import KafkaFeed
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import FeedAlarm, FeedBounds

BACKLOG_SECONDS = 10.0
CONSUMER_SESSION_SECONDS_MAX = 10.0
"""A longer session timeout of the broker makes KIP-848 slower to notice a dead member than the classic protocol's 6 s are worth."""

Answer = TypeVar("Answer")

_client_log = logging.getLogger("headrace.kafka.client")


class KafkaFeeds:
    """Opens the feeds of one process. `instance` is a name that outlives the process, if it has one (static membership)."""

    def __init__(
        self,
        options: KafkaOptions,
        *,
        instance: str | None = None,
        drain_seconds: float = 5.0,
        fetch_wait_ms: int = 500,
        reach: Callable[[str], None] = lambda _name: None,
        choose_protocol: bool = False,
        bytes_max: int = 64 * 1024 * 1024,
    ) -> None:
        """`choose_protocol` lets `prepare` choose the group protocol; else it is that of `options`.

        `bytes_max` bounds what all feeds hold together.
        """
        self._options = options
        self._choose_protocol = choose_protocol
        self._instance = instance
        self._drain_seconds = drain_seconds
        self._fetch_wait_ms = fetch_wait_ms
        self._reach = reach
        self._commits = CommitBudget()
        self._budget = ByteBudget(bytes_max)
        self._admin: AdminClient | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backlog")

    @property
    def group_protocol(self) -> GroupProtocol:
        """Under which feeds are opened."""
        return self._options.group_protocol

    async def prepare(self) -> None:
        """Before the first `open`, once Kafka answers: find out which group protocol suits it. Raises `LogUnavailable`.

        KIP-848 notices a dead member only after the session timeout of the broker, 45 s by default, which no client can lower: it is
        chosen where that is 10 s or less. A static member that comes back under it gets a fatal error, so a lasting name means classic.
        """
        if not self._choose_protocol or self._instance is not None:
            return
        seconds = await self._ask(self._consumer_session_seconds)
        if seconds is not None and seconds <= CONSUMER_SESSION_SECONDS_MAX:
            self._options = replace(self._options, group_protocol=GroupProtocol.CONSUMER)

    def _consumer_session_seconds(self) -> float | None:
        """The session timeout of KIP-848 groups, None where there are none or where it may not be asked for."""
        admin = self._asked()
        broker = next(iter(admin.list_topics(timeout=BACKLOG_SECONDS).brokers))
        resource = ConfigResource(ConfigResource.Type.BROKER, str(broker))
        try:
            settings = _result(admin.describe_configs([resource], request_timeout=BACKLOG_SECONDS)[resource])
        except KafkaException:
            return None
        if "consumer" not in (protocols.value if (protocols := settings.get("group.coordinator.rebalance.protocols")) else ""):
            return None
        timeout = settings.get("group.consumer.session.timeout.ms")
        return int(timeout.value) / 1000 if timeout is not None and timeout.value else None

    def open(self, *, group: str, topics: Sequence[str], bounds: FeedBounds, alarm: Callable[[FeedAlarm], None]) -> KafkaFeed:
        """A feed of these topics for this group."""
        return KafkaFeed(
            self._options,
            group=group,
            topics=topics,
            bounds=bounds,
            commits=self._commits,
            alarm=alarm,
            # Several feeds of one process may be members of one group: the topics tell them apart.
            instance=f"{self._instance}-{topics[0]}" if self._instance else None,
            drain_seconds=self._drain_seconds,
            fetch_wait_ms=self._fetch_wait_ms,
            reach=self._reach,
            budget=self._budget,
        )

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
        """For each group, how many records of its topics it has not committed. Raises `LogUnavailable`.

        Topics that do not exist count as empty; groups whose topics are empty are not asked about.
        """
        wanted = {group: tuple(topics) for group, topics in groups.items()}
        return await self._ask(partial(self._backlog, wanted))

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        try:
            async with asyncio.timeout(2 * BACKLOG_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._executor, question)
        except (KafkaException, TimeoutError) as error:
            raise LogUnavailable(f"Kafka does not say what the dispatcher has to know: {str(error) or 'no answer in time'}") from error

    def _backlog(self, groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
        known = self._asked().list_topics(timeout=BACKLOG_SECONDS).topics
        partitions = {
            topic: [TopicPartition(topic, number) for number in known[topic].partitions]
            for topics in groups.values()
            for topic in topics
            if topic in known
        }
        spans = self._spans([each for some in partitions.values() for each in some])
        waiting: dict[str, int] = {}
        for group, topics in groups.items():
            mine = [each for topic in topics for each in partitions.get(topic, ())]
            mine = [each for each in mine if spans[each.topic, each.partition][1] > spans[each.topic, each.partition][0]]
            waiting[group] = self._uncommitted(group, mine, spans) if mine else 0
        return waiting

    def _spans(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, int], tuple[int, int]]:
        """First and next offset of each partition."""
        if not partitions:
            return {}
        ends = [self._offsets(partitions, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())]  # type: ignore[no-untyped-call]
        return {key: (ends[0][key], ends[1][key]) for key in ends[0]}

    def _offsets(self, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        answers = self._asked().list_offsets(dict.fromkeys(partitions, spec), request_timeout=BACKLOG_SECONDS)
        return {(each.topic, each.partition): _result(answer).offset for each, answer in answers.items()}

    def _uncommitted(self, group: str, partitions: Sequence[TopicPartition], spans: Mapping[tuple[str, int], tuple[int, int]]) -> int:
        asked = ConsumerGroupTopicPartitions(group, list(partitions))
        answers = self._asked().list_consumer_group_offsets([asked], request_timeout=BACKLOG_SECONDS)
        count = 0
        for each in _result(answers[group]).topic_partitions:
            first, end = spans[each.topic, each.partition]
            count += max(0, end - (each.offset if each.offset >= 0 else first))
        return count

    def _asked(self) -> AdminClient:
        """The client, made at the first question; only the one thread of the executor comes here."""
        if self._admin is None:
            self._admin = AdminClient(self._options.client(), logger=_client_log)
        return self._admin

    def close(self) -> None:
        """Let go of the client."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._admin = None


def _result(answer: "Future[Any]") -> Any:
    return answer.result(timeout=BACKLOG_SECONDS)
