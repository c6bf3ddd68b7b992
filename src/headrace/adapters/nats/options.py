"""The options for connecting to NATS: one frozen value, created once by a composition root and
passed to every adapter of this package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace.adapters.authorities import accept_plain_authorities
from headrace.adapters.nats.credentials_file import CredentialsFile
from headrace.adapters.nats.unusable_file import UnusableFile

if TYPE_CHECKING:
    import ssl

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
    password: Callable[[], str] | None = field(default=None, repr=False)
    """Called for each connection."""
    token: Callable[[], str] | None = field(default=None, repr=False)
    """Called for each connection."""
    credentials_file: Path | None = None
    """A `.creds` file (`credentials_file`)."""
    timeout_seconds: float = 5.0
    """Deadline of one request."""

    @property
    def encrypted(self) -> bool:
        """Whether connections must use TLS."""
        return (
            self.ca_file is not None
            or self.certificate_file is not None
            or any(server.startswith("tls://") for server in self.servers)
        )

    def client(self) -> dict[str, Any]:
        """Return the keyword arguments of the client's `connect`. Reads the certificates; raises
        `UnusableFile`.
        """
        settings: dict[str, Any] = {
            "servers": list(self.servers),
            "name": self.client_name,
            "user": self.user,
            "password": self.password,
            "token": self.token,
        }
        if self.credentials_file is not None:
            settings["user_credentials"] = CredentialsFile(self.credentials_file)
        if self.encrypted:
            settings["tls"] = self.tls_context()
        return settings

    def tls_context(self) -> "ssl.SSLContext":
        """Read the certificates. Raises `UnusableFile`."""
        import ssl  # Here, because the process that only reads settings needs none of it.

        ca_file, certificate_file = self.ca_file, self.certificate_file
        if ca_file is None:
            context = ssl.create_default_context()
        else:
            try:
                context = ssl.create_default_context(cafile=str(ca_file))
            except OSError as error:
                raise UnusableFile("HEADRACE_NATS_CA_FILE", ca_file, _reason(error)) from error
        accept_plain_authorities(context)
        if certificate_file is not None:
            setting = "HEADRACE_NATS_CERTIFICATE_FILE with HEADRACE_NATS_KEY_FILE"
            try:
                context.load_cert_chain(str(certificate_file), self.key_file, self._no_password)
            except UnusableFile:
                raise
            except OSError as error:
                raise UnusableFile(setting, certificate_file, _reason(error)) from error
        return context

    def _no_password(self) -> str:
        """Called for an encrypted key: OpenSSL would ask at the terminal, and wait."""
        path = self.key_file or self.certificate_file or Path()
        raise UnusableFile(
            "HEADRACE_NATS_KEY_FILE", path, "it is encrypted, which only keys for Kafka may be"
        )


def _reason(error: OSError) -> str:
    """The reason of OpenSSL, or of the system."""
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()


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
