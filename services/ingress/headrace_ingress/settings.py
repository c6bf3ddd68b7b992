"""The settings of the ingress: `HEADRACE_INGRESS_*`."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.adapters.http.server import Limits
from headrace.adapters.kafka.producer import LogOptions
from headrace.runtime.ports import INGRESS_PORT, LOOPBACK

_MEBIBYTE = 1_048_576


class IngressSettings(BaseSettings):
    """What an operator may set for one ingress."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_INGRESS_", frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field(default=LOOPBACK, description="address that events are posted to")
    port: int = Field(default=INGRESS_PORT, ge=0, le=65_535, description="its port; 0 for any free one")
    workers: int = Field(default=1, ge=1, le=64, description="processes that share the port")
    tls_certificate_file: Path | None = Field(default=None, description="certificate chain (PEM); speaks HTTPS when set")
    tls_key_file: Path | None = Field(default=None, description="its private key (PEM)")

    produce_seconds: float = Field(default=5.0, gt=0, le=60, description="time Kafka has to store an event; then 503")
    route_seconds: float = Field(default=1.0, gt=0, le=10, description="time to make sure that a path is unknown; then 503, not 404")
    retry_after_seconds: int = Field(default=1, ge=0, le=3600, description="Retry-After of every 503")
    topic_bytes_max: int = Field(default=16 * _MEBIBYTE, ge=2 * _MEBIBYTE, description="bytes on their way to one topic; past it, 503")
    bytes_max: int = Field(default=64 * _MEBIBYTE, ge=2 * _MEBIBYTE, description="bytes on their way to Kafka in all; past it, 503")
    compression: str = Field(default="none", pattern="^(none|gzip|snappy|lz4|zstd)$", description="of what is written to Kafka")

    batch_events_max: int = Field(default=1000, ge=1, le=100_000, description="events in one batch; past it, 413")
    batch_bytes_max: int = Field(default=_MEBIBYTE, ge=65_536, le=256 * _MEBIBYTE, description="bytes of one batch; past it, 413")
    connections_max: int = Field(default=4096, ge=1, le=1_000_000, description="open connections of one process")
    connections_per_peer_max: int = Field(default=4096, ge=1, le=1_000_000, description="of them, from one address")
    unread_bytes_max: int = Field(default=64 * _MEBIBYTE, ge=2 * _MEBIBYTE, description="bytes of bodies still arriving; past it, 503")
    head_seconds: float = Field(default=10.0, gt=0, le=300, description="time for the headers of a request")
    body_seconds: float = Field(default=60.0, gt=0, le=3600, description="time for its body")
    body_bytes_per_second_min: int = Field(default=1024, ge=1, description="rate of a body that lasts longer than 5 s")
    idle_seconds: float = Field(default=75.0, gt=0, le=3600, description="time between two requests of a connection")

    shutdown_delay_seconds: float = Field(default=0.0, ge=0, le=300, description="time to serve on after readiness failed, at the end")
    drain_seconds: float = Field(default=20.0, gt=0, le=300, description="time to answer what is in hand, at the end")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("HEADRACE_INGRESS_TLS_CERTIFICATE_FILE and HEADRACE_INGRESS_TLS_KEY_FILE belong together: set both or none")
        return self

    @model_validator(mode="after")
    def _a_batch_fits(self) -> Self:
        """The events of a batch are on their way together: one that is let in and never fits would be answered with 503 for ever."""
        for name, budget in (("TOPIC_BYTES_MAX", self.topic_bytes_max), ("BYTES_MAX", self.bytes_max)):
            if self.batch_bytes_max > budget:
                raise ValueError(
                    f"HEADRACE_INGRESS_BATCH_BYTES_MAX ({self.batch_bytes_max}) is above HEADRACE_INGRESS_{name} ({budget}): "
                    "such a batch would never fit; lower the one or raise the other"
                )
        return self

    def limits(self) -> Limits:
        """As the HTTP server takes them."""
        return Limits(
            body_bytes_max=max(256 * _MEBIBYTE, self.batch_bytes_max),  # admission lowers it to what the address takes
            unread_bytes_max=self.unread_bytes_max,
            connections_max=self.connections_max,
            connections_per_peer_max=self.connections_per_peer_max,
            head_seconds=self.head_seconds,
            body_seconds=self.body_seconds,
            body_bytes_per_second_min=self.body_bytes_per_second_min,
            answer_seconds=self.produce_seconds + self.route_seconds + 1.0,
            idle_seconds=self.idle_seconds,
            drain_seconds=self.drain_seconds,
        )

    def log_options(self) -> LogOptions:
        """As the Kafka log takes them."""
        return LogOptions(
            delivery_seconds=self.produce_seconds,
            topic_wait_seconds=min(1.0, self.produce_seconds),
            topic_bytes_max=self.topic_bytes_max,
            bytes_max=self.bytes_max,
            compression=self.compression,
        )
