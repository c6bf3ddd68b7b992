"""The configuration of a consumer: its group, topics and limits. Its queues are small, because a
process may have a hundred consumers.
"""

from dataclasses import dataclass, field

from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.domain.feed import FeedBounds, InitialOffset, OutOfRange

_KIB = 1024
_BACKOFF_MS_MIN, _BACKOFF_MS_MAX = 5, 20
_BACKOFF_KIB = 1280
"""Queue size times backoff: 5 ms for a queue of 256 KiB or more, 20 ms for one of 64 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerConfig:
    """One member of a consumer group."""

    options: KafkaOptions
    group: str
    topics: tuple[str, ...]
    bounds: FeedBounds = field(default_factory=FeedBounds)
    instance: str | None = None
    """The `group.instance.id` of a static member. After a crash it gets its partitions back
    immediately, and it keeps them during an absence that is shorter than the session timeout.
    """
    drain_seconds: float = 5.0
    """How long a revocation waits for the records in flight."""
    out_of_range: OutOfRange = OutOfRange.EARLIEST
    initial_offset: InitialOffset = InitialOffset.COMMITTED
    fetch_wait_ms: int = 500
    """How long a broker may hold an empty fetch. A broker that does not wake a waiting fetch (the
    mock cluster) needs a small value.
    """

    @property
    def rejoins(self) -> bool:
        """Whether the member requests a second rebalance after it has joined: a static member of
        the classic protocol does. KIP-848 reconciles assignments without one.
        """
        return self.instance is not None and self.options.group_protocol is GroupProtocol.CLASSIC

    def client_settings(self, *, queue_bytes: int) -> dict[str, object]:
        """Return the librdkafka configuration of the consumer, which may prefetch `queue_bytes`."""
        queue_kib = max(queue_bytes // _KIB, 1)
        fetch_bytes = min(256, queue_kib) * _KIB
        # This is how often the client checks, for each partition, whether a full queue has room
        # again. The queue of a single consumer would become empty between two checks at a longer
        # interval; a hundred consumers that check every 5 ms used a third of the CPU time of the
        # process.
        backoff_ms = min(max(_BACKOFF_KIB // queue_kib, _BACKOFF_MS_MIN), _BACKOFF_MS_MAX)
        settings = self.options.client(
            group_id=self.group,
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            # Reported as an error: the client must never choose another position by itself.
            auto_offset_reset="error",
            # Reports the end of the log, so that transaction markers after the last record do not
            # hold back the commit position.
            enable_partition_eof=True,
            allow_auto_create_topics=False,
            isolation_level="read_committed",
            max_poll_interval_ms=60_000,
            # Prefetched data of one consumer: at most one queue and one fetch response.
            queued_max_messages_kbytes=queue_kib,
            queued_min_messages=1000,
            fetch_queue_backoff_ms=backoff_ms,
            fetch_message_max_bytes=fetch_bytes,
            # A larger record is still fetched, alone (KIP-74). The client requires that a fetch is
            # no smaller than the largest message that it would produce.
            fetch_max_bytes=fetch_bytes,
            message_max_bytes=fetch_bytes,
            fetch_wait_max_ms=self.fetch_wait_ms,
            # How soon the leader of a classic group sees added partitions and new topics.
            topic_metadata_refresh_interval_ms=5000,
            topic_metadata_propagation_max_ms=1000,
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=1000,
        )
        # Otherwise every failed connection attempt of every feed is logged. What an operator must
        # know is reported as an alarm.
        settings["log_level"] = 2
        if self.instance is not None:
            settings["group.instance.id"] = self.instance
        if self.options.group_protocol is GroupProtocol.CONSUMER:
            # Session timeout, heartbeat and assignor are the broker's; the client refuses to start
            # when they are set.
            settings["group.protocol"] = "consumer"
        else:
            session_ms = self.options.session_timeout_ms
            settings["partition.assignment.strategy"] = "cooperative-sticky"
            settings["session.timeout.ms"] = session_ms
            settings["heartbeat.interval.ms"] = session_ms // 4
        return settings
