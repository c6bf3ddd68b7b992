"""The specification of each kind of topic.

Retry, delay and dead letter topics never expire by time or size: their events were acknowledged and
are not delivered yet. They take records 64 KiB larger than the channel does, so that every accepted
event can be written there together with its private headers.
"""

from collections.abc import Iterable

from headrace.domain.backend_name import KAFKA
from headrace.domain.control_topics import control_topic_partitions
from headrace.resources.broker_config import (
    BYTES_MAX,
    MAX_MESSAGE_BYTES,
    MIN_INSYNC_REPLICAS,
    OVERHEAD_BYTES,
    TopicConfig,
    effective_replication,
)
from headrace.resources.control_ports import TopicSpec
from headrace.resources.naming import DELAY_PARTITIONS, DELAY_TIERS, delay_topic

_UNLIMITED_RETENTION = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def channel_topic_spec(name: str, config: TopicConfig) -> TopicSpec:
    """The topic of an addressable."""
    return TopicSpec(
        name=name,
        partitions=config.partitions,
        replication=config.replication,
        settings=config.settings,
    )


def retry_or_dead_letter_topic_spec(
    name: str, *, channel_bytes_max: int, brokers: int, partitions: int = 1
) -> TopicSpec:
    """The retry or dead letter topic of a subscription."""
    return TopicSpec(
        name=name,
        partitions=partitions,
        replication=effective_replication(None, brokers)[0],
        settings={
            **_UNLIMITED_RETENTION,
            MAX_MESSAGE_BYTES: str(channel_bytes_max + OVERHEAD_BYTES),
            **_insync(brokers),
        },
    )


def delay_topic_specs(*, bytes_max: int, brokers: int, backend: str = KAFKA) -> list[TopicSpec]:
    """The delay topics. Their records wait from their append time, which must therefore come from
    the broker's clock and not from a producer's.
    """
    return [
        TopicSpec(
            name=delay_topic(label, backend),
            partitions=DELAY_PARTITIONS if backend == KAFKA else 1,
            replication=effective_replication(None, brokers)[0],
            settings={
                **_UNLIMITED_RETENTION,
                "message.timestamp.type": "LogAppendTime",
                MAX_MESSAGE_BYTES: str(bytes_max + OVERHEAD_BYTES),
                **_insync(brokers),
            },
        )
        for label, _ in DELAY_TIERS
    ]


def control_topic_specs(names: Iterable[str], *, brokers: int) -> list[TopicSpec]:
    """Compacted topics: the routing table, the resources and the instances, of one partition; and
    the positions of sources.
    """
    return [
        TopicSpec(
            name=name,
            partitions=control_topic_partitions(name),
            replication=effective_replication(None, brokers)[0],
            settings={
                "cleanup.policy": "compact",
                # A reader that was down for a while must still find removals.
                "delete.retention.ms": str(24 * 3600 * 1000),
                # Leases and heartbeats are written every second or two, and only closed segments
                # are compacted: with Kafka's default of a week per segment, every start would read
                # a week of them.
                "segment.ms": str(10 * 60 * 1000),
                "segment.bytes": str(16 * 1024 * 1024),
                "min.cleanable.dirty.ratio": "0.1",
                MAX_MESSAGE_BYTES: str(BYTES_MAX),
                **_insync(brokers),
            },
        )
        for name in names
    ]


def _insync(brokers: int) -> dict[str, str]:
    return {MIN_INSYNC_REPLICAS: "2"} if effective_replication(None, brokers)[0] >= 3 else {}
