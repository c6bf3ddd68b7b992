"""The settings of the ingress: `HEADRACE_INGRESS_*`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from headrace.adapters.http.server_limits import ServerLimits
from headrace.adapters.kafka.options import RECORD_OVERHEAD_BYTES, LogOptions
from headrace.domain.record import Record
from headrace.runtime.settings import Pattern, Settings
from headrace.runtime.sockets import INGRESS_PORT, LOOPBACK
from headrace.runtime.watchdog import DEFAULT_SECONDS

_MEBIBYTE = 1_048_576


@dataclass(frozen=True, kw_only=True)
class IngressSettings(Settings):
    """What an operator may set for one ingress."""

    env_prefix: ClassVar[str] = "HEADRACE_INGRESS_"

    host: str = LOOPBACK
    """Address that events are posted to."""
    port: Annotated[int, Ge(0), Le(65_535)] = INGRESS_PORT
    """Its port; 0 for any free one."""
    hosts: str = ""
    """Names, separated by commas, that Host may have on a loopback address, beside loopback
    addresses and those of Channels.
    """
    workers: Annotated[int, Ge(1), Le(64)] = 1
    """Processes that share the port."""
    tls_certificate_file: Path | None = None
    """Certificate chain (PEM); speaks HTTPS when set."""
    tls_key_file: Path | None = None
    """Its private key (PEM)."""

    produce_seconds: Annotated[float, Gt(0), Le(60)] = 5.0
    """Time Kafka has to store an event; then 503."""
    route_seconds: Annotated[float, Gt(0), Le(10)] = 1.0
    """Time to make sure that a path is unknown; then 503, not 404."""
    retry_after_seconds: Annotated[int, Ge(0), Le(3600)] = 1
    """Retry-After of every 503."""
    topic_bytes_max: Annotated[int, Ge(2 * _MEBIBYTE)] = 16 * _MEBIBYTE
    """Bytes on their way to one topic; past it, 503."""
    bytes_max: Annotated[int, Ge(2 * _MEBIBYTE)] = 64 * _MEBIBYTE
    """Bytes on their way to Kafka in all; past it, 503."""
    compression: Annotated[str, Pattern("^(none|gzip|snappy|lz4|zstd)$")] = "none"
    """Of what is written to Kafka."""

    batch_events_max: Annotated[int, Ge(1), Le(100_000)] = 1000
    """Events in one batch; past it, 413."""
    batch_bytes_max: Annotated[int, Ge(65_536), Le(256 * _MEBIBYTE)] = _MEBIBYTE
    """Bytes of one batch; past it, 413."""
    connections_max: Annotated[int, Ge(1), Le(1_000_000)] = 4096
    """Open connections of one process, TLS handshakes included; fewer where the limit of open files
    does not allow so many.
    """
    connections_per_peer_max: Annotated[int, Ge(1), Le(1_000_000)] = 4096
    """Of them, from one address."""
    unread_bytes_max: Annotated[int, Ge(2 * _MEBIBYTE)] = 64 * _MEBIBYTE
    """Bytes of bodies still arriving; past it, 503."""
    heads_bytes_max: Annotated[int, Ge(131_072)] = 16 * _MEBIBYTE
    """Bytes of unfinished heads and of requests sent ahead, of all connections; past it, 503."""
    write_seconds: Annotated[float, Gt(0), Le(300)] = 10.0
    """Time in which a client must read something of its answers."""
    head_seconds: Annotated[float, Gt(0), Le(300)] = 10.0
    """Time for the headers of a request."""
    body_seconds: Annotated[float, Gt(0), Le(3600)] = 60.0
    """Time for its body."""
    body_bytes_per_second_min: Annotated[int, Ge(1)] = 1024
    """Rate of a body that lasts longer than 5 s."""
    idle_seconds: Annotated[float, Gt(0), Le(3600)] = 75.0
    """Time between two requests of a connection."""

    shutdown_delay_seconds: Annotated[float, Ge(0), Le(300)] = 0.0
    """Time to serve on after readiness failed, at the end."""
    drain_seconds: Annotated[float, Gt(0), Le(300)] = 20.0
    """Time to answer requests in flight, at shutdown."""
    watchdog_seconds: Annotated[float, Ge(0), Le(3600)] = DEFAULT_SECONDS
    """How long the event loop may stand still before the process is ended (exit code 27); 0: as
    long as it likes.
    """

    def __post_init__(self) -> None:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError(
                "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE and HEADRACE_INGRESS_TLS_KEY_FILE belong"
                " together: set both or none"
            )
        # The events of a batch are on their way together: one that is let in and never fits would
        # be answered with 503 forever.
        for name, budget in (
            ("TOPIC_BYTES_MAX", self.topic_bytes_max),
            ("BYTES_MAX", self.bytes_max),
        ):
            if self.batch_bytes_max > budget:
                raise ValueError(
                    f"HEADRACE_INGRESS_BATCH_BYTES_MAX ({self.batch_bytes_max}) is above"
                    f" HEADRACE_INGRESS_{name} ({budget}): such a batch would never fit; lower the"
                    " one or raise the other"
                )

    @property
    def batch_stored_bytes_max(self) -> int:
        """Bytes of all records of one batch, each with what the log counts beside it.

        Headers that travel are copied into every event, so a small body can become large. Half of
        the smallest budget leaves room for other senders; a batch whose body is allowed to be
        larger than that may use what it needs.
        """
        return max(min(self.topic_bytes_max, self.bytes_max) // 2, self.batch_bytes_max)

    def limits(self) -> ServerLimits:
        """As the HTTP server takes them."""
        return ServerLimits(
            body_bytes_max=max(
                256 * _MEBIBYTE, self.batch_bytes_max
            ),  # admission lowers it to what the address takes
            unread_bytes_max=self.unread_bytes_max,
            heads_bytes_max=self.heads_bytes_max,
            write_seconds=self.write_seconds,
            handshake_seconds=self.head_seconds,
            connections_max=self.connections_max,
            connections_per_peer_max=self.connections_per_peer_max,
            head_seconds=self.head_seconds,
            body_seconds=self.body_seconds,
            body_bytes_per_second_min=self.body_bytes_per_second_min,
            answer_seconds=self.produce_seconds + self.route_seconds + 1.0,
            idle_seconds=self.idle_seconds,
            drain_seconds=self.drain_seconds,
        )

    def batch_stored_bytes(self, records: Sequence[Record]) -> int:
        """What a batch takes of the log's budgets."""
        return sum(record.size for record in records) + RECORD_OVERHEAD_BYTES * len(records)

    def log_options(self) -> LogOptions:
        """As the Kafka log takes them."""
        return LogOptions(
            delivery_seconds=self.produce_seconds,
            topic_wait_seconds=min(1.0, self.produce_seconds),
            topic_bytes_max=self.topic_bytes_max,
            bytes_max=self.bytes_max,
            compression=self.compression,
        )
