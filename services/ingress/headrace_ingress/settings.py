"""The settings of the ingress: `HEADRACE_INGRESS_*`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from headrace.adapters.http.server_limits import ServerLimits
from headrace.adapters.kafka.options import RECORD_OVERHEAD_BYTES, LogOptions
from headrace.domain.record import Record
from headrace.runtime.settings import WATCHDOG_SECONDS, Ge, Gt, Le, Pattern, Settings
from headrace.runtime.sockets import INGRESS_PORT, LOOPBACK

_MEBIBYTE = 1_048_576


@dataclass(frozen=True, kw_only=True)
class IngressSettings(Settings):
    """The settings of one ingress."""

    env_prefix: ClassVar[str] = "HEADRACE_INGRESS_"

    host: str = LOOPBACK
    """Address to listen on."""
    port: Annotated[int, Ge(0), Le(65_535)] = INGRESS_PORT
    """Port to listen on; 0 for any free port."""
    hosts: str = ""
    """Names that are allowed in Host on a loopback address, separated by commas, in addition to
    loopback addresses and the hosts of Channels and Brokers.
    """
    workers: Annotated[int, Ge(1), Le(64)] = 1
    """Processes that share the port."""
    tls_certificate_file: Path | None = None
    """Certificate chain (PEM); when set, the ingress serves HTTPS."""
    tls_key_file: Path | None = None
    """Private key of the certificate (PEM)."""

    produce_seconds: Annotated[float, Gt(0), Le(60)] = 5.0
    """Time limit for Kafka to store an event; then 503."""
    route_seconds: Annotated[float, Gt(0), Le(10)] = 1.0
    """Time limit to confirm that a path is unknown; then 503, not 404."""
    retry_after_seconds: Annotated[int, Ge(0), Le(3600)] = 1
    """Retry-After of every 503."""
    topic_bytes_max: Annotated[int, Ge(2 * _MEBIBYTE)] = 16 * _MEBIBYTE
    """Unacknowledged bytes of one topic; above it, 503."""
    bytes_max: Annotated[int, Ge(2 * _MEBIBYTE)] = 64 * _MEBIBYTE
    """Unacknowledged bytes of all topics; above it, 503."""
    compression: Annotated[str, Pattern("^(none|gzip|snappy|lz4|zstd)$")] = "none"
    """Compression of records written to Kafka."""

    batch_events_max: Annotated[int, Ge(1), Le(100_000)] = 1000
    """Events in one batch; above it, 413."""
    batch_bytes_max: Annotated[int, Ge(65_536), Le(256 * _MEBIBYTE)] = _MEBIBYTE
    """Bytes of one batch; above it, 413."""
    connections_max: Annotated[int, Ge(1), Le(1_000_000)] = 4096
    """Open connections of one process, TLS handshakes included; fewer if the limit of open files
    requires it.
    """
    connections_per_peer_max: Annotated[int, Ge(1), Le(1_000_000)] = 4096
    """Open connections from one address."""
    unread_bytes_max: Annotated[int, Ge(2 * _MEBIBYTE)] = 64 * _MEBIBYTE
    """Bytes of unfinished bodies, of all connections; above it, 503."""
    heads_bytes_max: Annotated[int, Ge(131_072)] = 16 * _MEBIBYTE
    """Bytes of unfinished heads and of pipelined requests, of all connections; above it, 503."""
    write_seconds: Annotated[float, Gt(0), Le(300)] = 10.0
    """How long a client may read nothing of its responses before its connection is closed."""
    head_seconds: Annotated[float, Gt(0), Le(300)] = 10.0
    """Time limit for the headers of a request."""
    body_seconds: Annotated[float, Gt(0), Le(3600)] = 60.0
    """Time limit for the body of a request."""
    body_bytes_per_second_min: Annotated[int, Ge(1)] = 1024
    """Minimum rate of a body that takes longer than 5 s."""
    idle_seconds: Annotated[float, Gt(0), Le(3600)] = 75.0
    """How long a connection may be idle between two requests."""

    shutdown_delay_seconds: Annotated[float, Ge(0), Le(300)] = 0.0
    """How long to keep serving after readiness fails, at shutdown."""
    drain_seconds: Annotated[float, Gt(0), Le(300)] = 20.0
    """Time limit to answer requests in flight, at shutdown."""
    watchdog_seconds: Annotated[float, Ge(0), Le(3600)] = WATCHDOG_SECONDS
    """How long the event loop may be blocked before the process is ended (exit code 27); 0 for no
    limit.
    """

    def certificates(self) -> Mapping[str, Path]:
        """See `Settings`."""
        file = self.tls_certificate_file
        return {} if file is None else {"server": file}

    def __post_init__(self) -> None:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError(
                "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE and HEADRACE_INGRESS_TLS_KEY_FILE belong"
                " together: set both or none"
            )
        # The events of a batch are unacknowledged at the same time: a batch that is accepted but
        # never fits would get a 503 on every attempt.
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
        """The limit of the bytes of all records of one batch, including the overhead that the log
        counts for each record.

        Passed-on headers are copied into every event, so a small body can become large. Half of the
        smaller budget leaves room for other senders. If the limit of the body is larger than that,
        it applies instead.
        """
        return max(min(self.topic_bytes_max, self.bytes_max) // 2, self.batch_bytes_max)

    def limits(self) -> ServerLimits:
        """Return the limits for the HTTP server."""
        return ServerLimits(
            # `admit` lowers it to the limit of the addressable.
            body_bytes_max=max(256 * _MEBIBYTE, self.batch_bytes_max),
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
        """Return how many bytes of the log's budgets a batch uses."""
        return sum(record.size for record in records) + RECORD_OVERHEAD_BYTES * len(records)

    def log_options(self) -> LogOptions:
        """Return the options for the Kafka log."""
        return LogOptions(
            delivery_seconds=self.produce_seconds,
            topic_wait_seconds=min(1.0, self.produce_seconds),
            topic_bytes_max=self.topic_bytes_max,
            bytes_max=self.bytes_max,
            compression=self.compression,
        )
