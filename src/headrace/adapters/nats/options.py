"""The options for connecting to NATS: one frozen value, created once by a composition root and
passed to every adapter of this package.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RECORD_OVERHEAD_BYTES: Final = 512
"""Memory of a queued record in addition to its own bytes, so that a byte budget also limits large
numbers of empty records.
"""
ENCODING_BYTES_MAX: Final = 131_072
"""How many bytes a message may have in addition to its record, for headers that had to be encoded
(`messages`).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """Connection settings shared by every client of one process. Secrets are never displayed."""

    servers: tuple[str, ...]
    """URLs, `nats://host:port` or `tls://host:port`."""
    client_name: str = "headrace"
    ca_file: Path | None = None
    """CA certificates (PEM) that sign the servers' certificates; with None, the system's."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    """A `.creds` file with a JWT and the seed of its key."""
    timeout_seconds: float = 5.0
    """Deadline of one request."""

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return (
            self.ca_file is not None
            or self.certificate_file is not None
            or any(server.startswith("tls://") for server in self.servers)
        )

    def client(self) -> dict[str, Any]:
        """Return the keyword arguments of the client's `connect`. Reads the certificates; raises
        OSError for one that cannot be read.
        """
        settings: dict[str, Any] = {
            "servers": list(self.servers),
            "name": self.client_name,
            "user": self.user,
            "password": self.password,
            "token": self.token,
        }
        if self.credentials_file is not None:
            settings["user_credentials"] = str(self.credentials_file)
        if self.encrypted:
            import ssl  # Here, because the process that only reads settings needs none of it.

            context = ssl.create_default_context(
                cafile=None if self.ca_file is None else str(self.ca_file)
            )
            if self.certificate_file is not None:
                context.load_cert_chain(str(self.certificate_file), self.key_file)
            settings["tls"] = context
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamLogOptions:
    """Options for writing records."""

    delivery_seconds: float = 5.0
    """Time limit from `append` to the report, including retries; then `LogUnavailable`."""
    topic_bytes_max: int = 16 * 1_048_576
    """Unacknowledged bytes of one topic; one record is always accepted."""
    bytes_max: int = 64 * 1_048_576
    """Unacknowledged bytes of all topics."""
    record_bytes_max: int = 16 * 1_048_576 + 65_536
    """The largest record of any topic; below it, the limits of each stream and of the server
    (`max_payload`) apply.
    """
