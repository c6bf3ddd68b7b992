"""The options for connecting to Kafka: one frozen value, created once by a composition root and
passed to every adapter of this package.
"""

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from headrace.adapters.kafka.client_measurements import ClientMeasurements
from headrace.adapters.kafka.credentials import ClientCredentials

client_logger = logging.getLogger("headrace.kafka.client")
"""Passed to each client for its log messages, which are texts of librdkafka."""

HEADERS_BYTES_MAX: Final = 65_536
"""How many bytes the headers of a record may add to the largest record of its topic."""
RECORD_OVERHEAD_BYTES: Final = 512
"""Memory of a queued record in addition to its own bytes, so that a byte budget also limits large
numbers of empty records.
"""


class GroupProtocol(StrEnum):
    """How consumer groups assign partitions."""

    CLASSIC = "classic"
    """Cooperative-sticky assignment, session timeout 6 s."""
    CONSUMER = "consumer"
    """KIP-848; the broker sets the session timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOptions:
    """Connection settings shared by every client of one process."""

    bootstrap_servers: str
    client_id: str = "headrace"
    group_protocol: GroupProtocol = GroupProtocol.CLASSIC
    session_timeout_ms: int = 6_000
    """How long the coordinator of a classic group waits for a heartbeat of a member."""
    health_check_seconds: float = 5.0
    """How often a long-lived client is checked for answers from brokers (`client_health`)."""
    credentials: ClientCredentials = field(
        default_factory=ClientCredentials, repr=False, compare=False
    )
    """TLS and SASL. Shared by all clients that are created with these options."""
    measurements: ClientMeasurements = field(
        default_factory=ClientMeasurements, repr=False, compare=False
    )
    """Shared by all clients that are created with these options."""

    @property
    def statistics_interval_ms(self) -> int:
        """`health_check_seconds` in milliseconds, for clients whose statistics a `ClientHealth`
        reads.
        """
        return int(self.health_check_seconds * 1000)

    def client(self, **settings: object) -> dict[str, Any]:
        """Return a librdkafka configuration: the settings of all clients, then `settings`
        (underscores become dots, except in callbacks).
        """
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_id,
            # Metrics that brokers may request (KIP-714) are kept in histograms per connection: 0.4
            # MiB for each of a hundred consumers.
            "enable.metrics.push": False,
            # The default of the Java client. A broker that was frozen drops connection attempts,
            # and the kernel retries with growing delays.
            "socket.connection.setup.timeout.ms": 10_000,
            **self.credentials.settings,
            **{
                name if name.endswith("_cb") else name.replace("_", "."): value
                for name, value in settings.items()
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Options for writing records."""

    linger_seconds: float = 0.001
    """How long a record waits for more records in its batch."""
    delivery_seconds: float = 5.0
    """Time limit from `append` to the report, including retries; then `LogUnavailable`."""
    topic_wait_seconds: float = 1.0
    """How long a record waits for the metadata of a topic not seen before; then `TopicMissing`."""
    topic_bytes_max: int = 16 * 1_048_576
    """Unacknowledged bytes of one topic; one record is always accepted."""
    bytes_max: int = 64 * 1_048_576
    """Unacknowledged bytes of all topics."""
    record_bytes_max: int = 16 * 1_048_576 + HEADERS_BYTES_MAX
    """The largest record of any topic; below it, the limit of each topic applies."""
    batch_bytes_max: int = 65_536
    """Bytes of one batch. Not more than the smallest `max.message.bytes` in use, because brokers
    apply that limit to a whole batch.
    """
    compression: str = "none"
    poll_seconds: float = 0.001
