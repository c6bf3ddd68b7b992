"""How to reach Kafka: one frozen value, made once by a composition root and handed to every adapter
here.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

client_logger = logging.getLogger("headrace.kafka.client")
"""Passed to each client for its own lines, which are sentences of librdkafka."""

HEADERS_BYTES_MAX: Final = 65_536
RECORD_OVERHEAD_BYTES: Final = 512
"""What a queued record costs beside its own bytes, so that a budget of bytes also bounds a flood of
empty records.
"""
"""What a record may have in headers beside what its topic takes in all."""


class GroupProtocol(StrEnum):
    """How consumer groups share partitions."""

    CLASSIC = "classic"
    """Cooperative-sticky assignment, session timeout 6 s."""
    CONSUMER = "consumer"
    """KIP-848; its session timeout is the broker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOptions:
    """Connection settings shared by every client of one process."""

    bootstrap_servers: str
    client_id: str = "headrace"
    group_protocol: GroupProtocol = GroupProtocol.CLASSIC
    session_timeout_ms: int = 6_000
    """How long the coordinator of a classic group waits to hear from a member."""
    health_check_seconds: float = 5.0
    """How often a client that lasts is looked at, whether it still hears a broker
    (`client_health`).
    """
    security: Mapping[str, str] = field(default_factory=dict, repr=False)
    """librdkafka settings for TLS and SASL (`security.protocol`, `sasl.*`, `ssl.*`); never
    shown.
    """

    @property
    def statistics_interval_ms(self) -> int:
        """`health_check_seconds` as the client takes it, for clients whose statistics a
        `ClientHealth` reads.
        """
        return int(self.health_check_seconds * 1000)

    def client(self, **settings: object) -> dict[str, Any]:
        """librdkafka configuration: what all clients share, then `settings` (underscores become
        dots, except in callbacks).
        """
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_id,
            # What brokers may ask clients for (KIP-714) is kept in histograms for each connection:
            # 0.4 MiB for each of a hundred consumers.
            "enable.metrics.push": False,
            # As the Java client has it. A broker that stood still drops what asks for a connection,
            # and the kernel asks again ever later.
            "socket.connection.setup.timeout.ms": 10_000,
            **self.security,
            **{
                name if name.endswith("_cb") else name.replace("_", "."): value
                for name, value in settings.items()
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How records are written."""

    linger_seconds: float = 0.001
    """How long a record waits for company in its batch."""
    delivery_seconds: float = 5.0
    """From `append` to the report, retries included; then `LogUnavailable`."""
    topic_wait_seconds: float = 1.0
    """How long a record waits for the metadata of a topic not seen before; then `TopicMissing`."""
    topic_bytes_max: int = 16 * 1_048_576
    """Open bytes of one topic; one record is always taken."""
    bytes_max: int = 64 * 1_048_576
    """Open bytes of all topics."""
    record_bytes_max: int = 16 * 1_048_576 + HEADERS_BYTES_MAX
    """The largest record of any topic; below it each topic's own limit decides."""
    batch_bytes_max: int = 65_536
    """Records per batch. Not more than the smallest `max.message.bytes` in use, because brokers
    hold a whole batch to that limit.
    """
    compression: str = "none"
    poll_seconds: float = 0.001
