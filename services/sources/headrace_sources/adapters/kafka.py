"""KafkaSource: the records of topics of any Kafka, read as a consumer group.

Every process that runs the source has members of the group. The offset of a record is committed
after the sink has taken its event.
"""

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final, Literal

import structlog
from pydantic import Field

from headrace.adapters.kafka.consumer.feeds import KafkaFeeds, OpenFeed
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds, FeedConfig, InitialOffset
from headrace_sources.adapters.kafka_cluster import Cluster, Sasl, Tls
from headrace_sources.adapters.kafka_delivery import Delivery
from headrace_sources.adapters.kafka_events import KeyType, RecordReader
from headrace_sources.source import Emit, SourceConfig, SourceContext, SourceFault

logger = structlog.get_logger(__name__)

CONNECTION_ESTABLISHED: Final = "ConnectionEstablished"
INITIAL_OFFSETS_COMMITTED: Final = "InitialOffsetsCommitted"
KEY_TYPE_CORRECT: Final = "KeyTypeCorrect"
SCHEDULED: Final = "Scheduled"
MEMBERS_MAX: Final = 16
"""Members of the group in one process."""
DRAIN_SECONDS: Final = 2.0
STOP_SECONDS: Final = 4.5
CHECK_SECONDS: Final = 5.0
BYTES_MAX: Final = 32 * 1024 * 1024
"""Of records that one source holds in one process."""
_BOUNDS: Final = FeedBounds(records_max=2000, bytes_max=8 * 1024 * 1024)
_CONNECTION_ALARMS: Final = (AlarmKind.TOPIC_MISSING, AlarmKind.REFUSED, AlarmKind.UNAVAILABLE)


class KafkaConfig(SourceConfig):
    """The spec of a KafkaSource."""

    bootstrap_servers: tuple[str, ...] = Field(min_length=1)
    topics: tuple[str, ...] = Field(min_length=1)
    consumer_group: str = Field(min_length=1)
    consumers: int = Field(1, ge=1)
    initial_offset: Literal["earliest", "latest"] = "latest"
    ordering: Literal["ordered", "unordered"] = "ordered"
    key_type: KeyType = KeyType.STRING
    source: str
    """The attribute of the events, without `#` and the topic."""
    sasl: Sasl | None = None
    tls: Tls | None = None


class KafkaSource:
    """The adapter."""

    Config: ClassVar[type[SourceConfig]] = KafkaConfig

    def __init__(self, config: KafkaConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._cluster = Cluster(config.bootstrap_servers, config.sasl, config.tls, context)
        self._troubled = asyncio.Event()
        """Set by an alarm about the connection, until a check has shown that all is well."""

    async def run(self, emit: Emit) -> None:
        """Read and emit, until cancelled."""
        config = self._config
        options = await self._cluster.options()
        partitions = await self._cluster.check(options, config.topics)
        self._context.report(CONNECTION_ESTABLISHED, True)
        self._context.report(KEY_TYPE_CORRECT, True)
        initial = InitialOffset(config.initial_offset)
        await self._cluster.commit_initial_offsets(
            options, config.consumer_group, config.topics, initial
        )
        self._context.report(INITIAL_OFFSETS_COMMITTED, True)
        # A member more than there are partitions would have nothing to do.
        members = min(config.consumers, MEMBERS_MAX, max(1, sum(partitions.values())))
        feeds = KafkaFeeds(options, drain_seconds=DRAIN_SECONDS, bytes_max=BYTES_MAX)
        running: list[tuple[OpenFeed, Delivery]] = []
        try:
            running.extend(self._open(feeds, initial, emit) for _ in range(members))
            self._context.report(SCHEDULED, True)
            await self._watch(options)
        finally:
            await _stop(running)
            await feeds.close()

    def _open(
        self, feeds: KafkaFeeds, initial: InitialOffset, emit: Emit
    ) -> tuple[OpenFeed, Delivery]:
        config = self._config
        feed = feeds.open(
            FeedConfig(
                group=config.consumer_group,
                topics=config.topics,
                bounds=_BOUNDS,
                initial_offset=initial,
            ),
            self._on_alarm,
        )
        delivery = Delivery(
            emit,
            RecordReader(config.source, config.key_type),
            ordered=config.ordering == "ordered",
        )
        delivery.feed = feed
        feed.start(delivery)
        return feed, delivery

    def _on_alarm(self, alarm: FeedAlarm) -> None:
        logger.warning(
            "kafka_source_alarm",
            namespace=self._context.namespace,
            name=self._context.name,
            kind=alarm.kind.value,
            detail=alarm.detail,
        )
        if alarm.kind in _CONNECTION_ALARMS:
            self._troubled.set()

    async def _watch(self, options: KafkaOptions) -> None:
        """Show what is wrong with the connection as long as it is. The consumers continue by
        themselves.
        """
        while True:
            await self._troubled.wait()
            self._troubled.clear()
            try:
                await self._cluster.check(options, self._config.topics)
            except SourceFault as fault:
                self._context.report(CONNECTION_ESTABLISHED, False, fault.reason, str(fault))
                self._troubled.set()
                await asyncio.sleep(CHECK_SECONDS)
            else:
                self._context.report(CONNECTION_ESTABLISHED, True)


async def _stop(running: Sequence[tuple[OpenFeed, Delivery]]) -> None:
    """Drain and commit, and leave the group, so that the other members need not wait for the end of
    a session.
    """
    if not running:
        return
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*(feed.stop(leave=True) for feed, _ in running))
    except TimeoutError:
        for feed, _ in running:
            feed.abandon()
    for _, delivery in running:
        delivery.close()
