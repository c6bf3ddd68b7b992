"""How to reach Kafka: one frozen value, made once by a composition root and handed to every adapter here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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
    look_seconds: float = 5.0
    """How often a client that lasts is looked at, whether it still hears a broker (`hearing`)."""
    security: Mapping[str, str] = field(default_factory=dict, repr=False)
    """librdkafka settings for TLS and SASL (`security.protocol`, `sasl.*`, `ssl.*`); never shown."""

    @property
    def statistics_interval_ms(self) -> int:
        """`look_seconds` as the client takes it, for clients whose statistics a `Hearing` reads."""
        return int(self.look_seconds * 1000)

    def client(self, **settings: object) -> dict[str, Any]:
        """librdkafka configuration: what all clients share, then `settings` (underscores become dots, except in callbacks)."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_id,
            # What brokers may ask clients for (KIP-714) is kept in histograms for each connection: 0.4 MiB for each of a hundred consumers.
            "enable.metrics.push": False,
            # As the Java client has it. A broker that stood still drops what asks for a connection, and the kernel asks again ever later.
            "socket.connection.setup.timeout.ms": 10_000,
            **self.security,
            **{name if name.endswith("_cb") else name.replace("_", "."): value for name, value in settings.items()},
        }
