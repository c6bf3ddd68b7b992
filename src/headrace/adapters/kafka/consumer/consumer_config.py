"""How a feed's consumer is set up: membership of its group, and small queues, since a process may
hold a hundred of them.
"""

from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions

_KIB = 1024
_BACKOFF_MS_MIN, _BACKOFF_MS_MAX = 5, 20
_BACKOFF_KIB = 1280
"""Queue times back-off: 5 ms for a queue of 256 KiB or more, 20 ms for one of 64 KiB."""


def consumer_config(
    options: KafkaOptions,
    *,
    group: str,
    instance: str | None,
    queue_bytes: int,
    fetch_wait_ms: int = 500,
) -> dict[str, object]:
    """librdkafka configuration of one consumer.

    `queue_bytes` is what it may prefetch. `fetch_wait_ms` is how long a broker may hold an empty
    fetch; a broker that does not wake a waiting fetch (the mock cluster) needs it small.
    """
    queue_kib = max(queue_bytes // _KIB, 1)
    fetch_bytes = min(256, queue_kib) * _KIB
    # The client looks this often whether a full queue has room again, by the clock and for each
    # partition. A lone consumer would run dry between two looks; a hundred that look every 5 ms
    # made a third of the whole process's CPU time.
    backoff_ms = min(max(_BACKOFF_KIB // queue_kib, _BACKOFF_MS_MIN), _BACKOFF_MS_MAX)
    settings = options.client(
        group_id=group,
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        # Told as an error instead: reading from the wrong place must never happen by itself.
        auto_offset_reset="error",
        # Tells that the log's end was reached: transaction markers behind the last record do not
        # hold the prefix back.
        enable_partition_eof=True,
        allow_auto_create_topics=False,
        isolation_level="read_committed",
        max_poll_interval_ms=60_000,
        # Prefetched data of one consumer: at most one queue and one fetch response.
        queued_max_messages_kbytes=queue_kib,
        queued_min_messages=1000,
        fetch_queue_backoff_ms=backoff_ms,
        fetch_message_max_bytes=fetch_bytes,
        # A larger record still comes, alone (KIP-74). The client insists that a fetch is no smaller
        # than what it would produce.
        fetch_max_bytes=fetch_bytes,
        message_max_bytes=fetch_bytes,
        fetch_wait_max_ms=fetch_wait_ms,
        # How soon added partitions and new topics are seen by a classic group's leader.
        topic_metadata_refresh_interval_ms=5000,
        topic_metadata_propagation_max_ms=1000,
        reconnect_backoff_ms=50,
        reconnect_backoff_max_ms=1000,
    )
    # Every failed connection attempt of every feed would be a line otherwise; what people must know
    # comes as an alarm.
    settings["log_level"] = 2
    if instance is not None:
        settings["group.instance.id"] = instance
    if options.group_protocol is GroupProtocol.CONSUMER:
        # Session, heartbeat and assignor are the broker's; the client refuses to start when they
        # are set.
        settings["group.protocol"] = "consumer"
    else:
        settings["partition.assignment.strategy"] = "cooperative-sticky"
        settings["session.timeout.ms"] = options.session_timeout_ms
        settings["heartbeat.interval.ms"] = options.session_timeout_ms // 4
    return settings
