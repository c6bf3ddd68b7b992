"""Settings that several services share: how to reach Kafka, how to log, and the address of the
management port.

The classes contain plain values and their constraints; `loading` reads the values from the command
line and the environment and validates them. Secrets are read from files, because many tools show
environment variables. Each service adds settings under a separate prefix.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, get_type_hints
from urllib.parse import urlsplit

from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import Permanent
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.sockets import LOOPBACK

SECRET_BYTES_MAX = 65_536
PEM_BYTES_MAX: Final = 4 * 1_048_576
WATCHDOG_SECONDS: Final = 30.0
"""Default of the services' `watchdog_seconds`. It is here because the process that reads the
settings would otherwise import the watchdog, and with it structlog and rich.
"""


class BadSettings(Permanent):
    """Invalid settings; the message names each one and what it should be."""

    def __init__(self, message: str, *settings: str) -> None:
        """`settings` are the invalid ones: names of environment variables, or of options."""
        super().__init__(message)
        self.settings = settings


@dataclass(frozen=True, slots=True)
class Ge:
    """Marks a number that must be this or greater."""

    ge: float


@dataclass(frozen=True, slots=True)
class Gt:
    """Marks a number that must be greater than this."""

    gt: float


@dataclass(frozen=True, slots=True)
class Le:
    """Marks a number that must be this or less."""

    le: float


@dataclass(frozen=True, slots=True)
class MinLen:
    """Marks a text that must have this many characters or more."""

    min_length: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """Marks a text that must match a regular expression, from `^` to `$`."""

    expression: str


class Variables:
    """Marks a setting that is read from these environment variables, the first one that is set,
    instead of the variable derived from its name.
    """

    def __init__(self, *names: str) -> None:
        self.names = names


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of settings that an operator can set. Fields are plain values; the marks
    above define what `loading` accepts.

    Constraints across several fields are checked in `__post_init__`, which raises ValueError or
    `BadSettings`.
    """

    env_prefix: ClassVar[str]
    """Prefix of the environment variables; the field name in capitals follows."""

    def certificates(self) -> Mapping[str, Path]:
        """Return the files of the certificates that the process presents to others, by use."""
        return {}


def variables(kind: type[Settings]) -> dict[str, tuple[str, ...]]:
    """Return the environment variables of each field, the first one first."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        field.name: next(
            (mark.names for mark in marks(hints[field.name]) if isinstance(mark, Variables)),
            ((kind.env_prefix + field.name).upper(),),
        )
        for field in fields(kind)
    }


def marks(hint: Any) -> tuple[Any, ...]:
    """Return the marks of an annotation."""
    return getattr(hint, "__metadata__", ())


class SecurityProtocol(StrEnum):
    """The security protocol of connections to Kafka."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.value.endswith("SSL")

    @property
    def authenticated(self) -> bool:
        """Whether connections use SASL."""
        return self.value.startswith("SASL")


class SaslMechanism(StrEnum):
    """The SASL mechanism for authentication."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


@dataclass(frozen=True, kw_only=True)
class KafkaSettings(Settings):
    """`KAFKA_BOOTSTRAP_SERVERS` and `HEADRACE_KAFKA_*`."""

    env_prefix: ClassVar[str] = "HEADRACE_KAFKA_"

    bootstrap_servers: Annotated[
        str, MinLen(1), Variables("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS")
    ] = "127.0.0.1:9092"
    """Host:port of one or more brokers, separated by commas."""
    group_protocol: GroupProtocol | None = None
    """Classic, or consumer (KIP-848); default: consumer where the brokers' consumer session timeout
    is 10 s or less and the dispatcher has no lasting name, else classic.
    """
    security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    ssl_ca_file: Path | None = None
    """CA certificates (PEM) that sign the brokers' certificates; default: the system's."""
    ssl_certificate_file: Path | None = None
    """Our certificate (PEM), for mutual TLS."""
    ssl_key_file: Path | None = None
    """Its private key (PEM)."""
    ssl_key_password_file: Path | None = None
    """File with the password of that key."""
    sasl_mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512
    """PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER."""
    sasl_username: str | None = None
    """User name; with OAUTHBEARER the client id."""
    sasl_username_file: Path | None = None
    """File with the user name, instead."""
    sasl_password_file: Path | None = None
    """File with the password; with OAUTHBEARER the client secret."""
    sasl_token_endpoint: str | None = None
    """URL from which OAUTHBEARER gets its tokens, with the grant client_credentials."""
    sasl_token_scope: str | None = None
    """Scope of these tokens."""
    sasl_token_ca_file: Path | None = None
    """CA certificates (PEM) that sign the certificate of this URL; default: the system's."""

    def __post_init__(self) -> None:
        if (self.ssl_certificate_file is None) != (self.ssl_key_file is None):
            raise ValueError(
                "HEADRACE_KAFKA_SSL_CERTIFICATE_FILE and HEADRACE_KAFKA_SSL_KEY_FILE belong"
                " together: set both or none"
            )
        if self.security_protocol.authenticated:
            if self.sasl_username is None and self.sasl_username_file is None:
                raise ValueError(
                    f"{self.security_protocol} needs HEADRACE_KAFKA_SASL_USERNAME or"
                    " HEADRACE_KAFKA_SASL_USERNAME_FILE"
                )
            if self.sasl_password_file is None:
                raise ValueError(
                    f"{self.security_protocol} needs HEADRACE_KAFKA_SASL_PASSWORD_FILE"
                )
            self._check_token_endpoint()
        # The client library reports this only when the first client is created, and does not name
        # the variable.
        _check_readable((each.setting, each.path) for each in self.files())

    def certificates(self) -> Mapping[str, Path]:
        """See `Settings`."""
        file = self.ssl_certificate_file if self.security_protocol.encrypted else None
        return {} if file is None else {"kafka-client": file}

    def _check_token_endpoint(self) -> None:
        """Raise ValueError unless there is one exactly where it is used."""
        endpoint = self.sasl_token_endpoint
        if self.sasl_mechanism is not SaslMechanism.OAUTHBEARER:
            return
        if endpoint is None:
            raise ValueError("OAUTHBEARER needs HEADRACE_KAFKA_SASL_TOKEN_ENDPOINT, an https URL")
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(
                "HEADRACE_KAFKA_SASL_TOKEN_ENDPOINT must be an http or https URL without"
                " credentials"
            )

    def files(self) -> Iterator[CredentialFile]:
        """Yield the files that the configured security protocol uses."""
        kinds: dict[str, FileKind] = {}
        if self.security_protocol.encrypted:
            kinds |= {
                "ssl_ca_file": FileKind.AUTHORITIES,
                "ssl_certificate_file": FileKind.CERTIFICATE,
                "ssl_key_file": FileKind.KEY,
                "ssl_key_password_file": FileKind.SECRET,
            }
        if self.security_protocol.authenticated:
            if self.sasl_username is None:
                kinds["sasl_username_file"] = FileKind.SECRET
            kinds["sasl_password_file"] = FileKind.SECRET
            if self.sasl_mechanism is SaslMechanism.OAUTHBEARER:
                kinds["sasl_token_ca_file"] = FileKind.AUTHORITIES
        for name, kind in kinds.items():
            path = getattr(self, name)
            if path is not None:
                yield CredentialFile(f"HEADRACE_KAFKA_{name.upper()}", path, kind)

    def options(self, client_id: str, *, security: Mapping[str, str] | None = None) -> KafkaOptions:
        """Return the options for the Kafka adapters, with the settings of `security` if they were
        read before. Raises what `security` does.
        """
        return KafkaOptions(
            bootstrap_servers=self.bootstrap_servers,
            client_id=client_id,
            group_protocol=self.group_protocol or GroupProtocol.CLASSIC,
            credentials=ClientCredentials(self.security() if security is None else security),
        )

    def security(self) -> dict[str, str]:
        """Read the files, and return the settings of the client library for TLS and SASL. They have
        the content of the files, not their paths: a file that is being renewed must not stop a
        client that is created meanwhile. Raises `BadSettings` that names a file that cannot be
        used.
        """
        protocol = self.security_protocol
        if protocol is SecurityProtocol.PLAINTEXT:
            return {}
        security = {"security.protocol": protocol.value}
        if protocol.encrypted:
            security |= self._certificates()
        if protocol.authenticated and self.sasl_password_file is not None:
            security["sasl.mechanism"] = self.sasl_mechanism.value
            password = read_secret(self.sasl_password_file, "HEADRACE_KAFKA_SASL_PASSWORD_FILE")
            if self.sasl_mechanism is SaslMechanism.OAUTHBEARER:
                security.update(self._token_source(password))
            else:
                security.update({"sasl.username": self._username(), "sasl.password": password})
        return security

    def _certificates(self) -> dict[str, str]:
        """Return the authorities, and the client certificate with its key."""
        import ssl  # Here, because a process that only reads settings needs none of it.

        from headrace.runtime.certificates import load_authorities, load_pair

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        found: dict[str, str] = {}
        if self.ssl_ca_file is not None:
            setting = "HEADRACE_KAFKA_SSL_CA_FILE"
            found["ssl.ca.pem"] = _read_pem(self.ssl_ca_file, setting)
            try:
                load_authorities(context, self.ssl_ca_file)
            except ValueError as error:
                raise BadSettings(
                    f"{setting}: cannot use {self.ssl_ca_file}: {error}", setting
                ) from error
        certificate, key = self.ssl_certificate_file, self.ssl_key_file
        if certificate is None or key is None:
            return found
        names = "HEADRACE_KAFKA_SSL_CERTIFICATE_FILE", "HEADRACE_KAFKA_SSL_KEY_FILE"
        found["ssl.certificate.pem"] = _read_pem(certificate, names[0])
        found["ssl.key.pem"] = _read_pem(key, names[1])
        password = _secret(self.ssl_key_password_file, "HEADRACE_KAFKA_SSL_KEY_PASSWORD_FILE")
        if password is not None:
            found["ssl.key.password"] = password
        try:
            load_pair(context, certificate, key, password)
        except ValueError as error:
            raise BadSettings(
                f"{names[0]} and {names[1]}: cannot use {certificate} with {key}: {error}", *names
            ) from error
        return found

    def _token_source(self, secret: str) -> dict[str, str]:
        """Where the client library gets tokens; it gets a new one before one expires."""
        optional = {
            "sasl.oauthbearer.scope": self.sasl_token_scope,
            "https.ca.location": self.sasl_token_ca_file,
        }
        return {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": self._username(),
            "sasl.oauthbearer.client.secret": secret,
            "sasl.oauthbearer.token.endpoint.url": self.sasl_token_endpoint or "",
            **{name: str(value) for name, value in optional.items() if value is not None},
        }

    def _username(self) -> str:
        if self.sasl_username is not None:
            return self.sasl_username
        path = self.sasl_username_file
        return "" if path is None else read_secret(path, "HEADRACE_KAFKA_SASL_USERNAME_FILE")


@dataclass(frozen=True, kw_only=True)
class NatsSettings(Settings):
    """`HEADRACE_NATS_*`. NATS is not used when no servers are set."""

    env_prefix: ClassVar[str] = "HEADRACE_NATS_"

    servers: str = ""
    """URLs (nats://host:port, tls://host:port) of one or more servers, separated by commas; empty:
    no NATS. With tls://, a CA or a certificate nothing is sent to a server that does not ask for
    TLS.
    """
    ca_file: Path | None = None
    """CA certificates (PEM) that sign the servers' certificates; default: the system's."""
    certificate_file: Path | None = None
    """Our certificate (PEM), for mutual TLS."""
    key_file: Path | None = None
    """Its private key (PEM), not encrypted."""
    user: str | None = None
    """User name."""
    password_file: Path | None = None
    """File with the password."""
    token_file: Path | None = None
    """File with a token, instead of user and password."""
    credentials_file: Path | None = None
    """Credentials file (.creds) with a JWT and the seed of its key, instead; read at each
    connection.
    """

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError(
                "HEADRACE_NATS_CERTIFICATE_FILE and HEADRACE_NATS_KEY_FILE belong together: set"
                " both or none"
            )
        if (self.user is None) != (self.password_file is None):
            raise ValueError(
                "HEADRACE_NATS_USER and HEADRACE_NATS_PASSWORD_FILE belong together: set both or"
                " none"
            )
        for url in self._urls():
            parts = urlsplit(url)
            if parts.scheme not in ("nats", "tls") or not parts.hostname:
                raise ValueError(
                    "HEADRACE_NATS_SERVERS has URLs of the form nats://host:port or"
                    " tls://host:port, without user and password"
                )
            if parts.username or parts.password:
                raise ValueError(
                    "HEADRACE_NATS_SERVERS has no user and password: set HEADRACE_NATS_USER and"
                    " HEADRACE_NATS_PASSWORD_FILE"
                )
        _check_readable(
            (f"HEADRACE_NATS_{name.upper()}", path)
            for name in _NATS_FILES
            if (path := getattr(self, name)) is not None
        )

    def certificates(self) -> Mapping[str, Path]:
        """See `Settings`."""
        file = self.certificate_file if self.servers else None
        return {} if file is None else {"nats-client": file}

    def _urls(self) -> tuple[str, ...]:
        return tuple(url.strip() for url in self.servers.split(",") if url.strip())

    def options(self, client_name: str) -> NatsOptions | None:
        """Return the options for the NATS adapters, None if no servers are set. Reads the secret
        files. Raises `BadSettings` that names a file that cannot be read.
        """
        if not self._urls():
            return None
        return NatsOptions(
            servers=self._urls(),
            client_name=client_name,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            user=self.user,
            password=_renewed_secret(self.password_file, "HEADRACE_NATS_PASSWORD_FILE"),
            token=_renewed_secret(self.token_file, "HEADRACE_NATS_TOKEN_FILE"),
            credentials_file=self.credentials_file,
        )


_NATS_FILES: Final = (
    "ca_file",
    "certificate_file",
    "key_file",
    "password_file",
    "token_file",
    "credentials_file",
)


def _secret(path: Path | None, setting: str) -> str | None:
    return None if path is None else read_secret(path, setting)


def _renewed_secret(path: Path | None, setting: str) -> Callable[[], str] | None:
    """Return a function that returns the content of a secret file as it is now, or as it was last
    read while it cannot be read. Raises `BadSettings` as `read_secret`.
    """
    if path is None:
        return None
    known = read_secret(path, setting)

    def read() -> str:
        nonlocal known
        if path.is_file():  # The content of a pipe can be read only once.
            with contextlib.suppress(BadSettings):
                known = read_secret(path, setting)
        return known

    return read


class LogFormat(StrEnum):
    """The format of log lines."""

    AUTO = "auto"
    """Pretty on a terminal, JSON elsewhere."""
    PRETTY = "pretty"
    JSON = "json"


class LogLevel(StrEnum):
    """The minimum severity of log lines."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class LogSettings(Settings):
    """`HEADRACE_LOG_LEVEL` and `HEADRACE_LOG_FORMAT`."""

    env_prefix: ClassVar[str] = "HEADRACE_LOG_"

    level: LogLevel = LogLevel.INFO
    """Debug, info, warning or error."""
    format: LogFormat = LogFormat.AUTO
    """Auto, pretty or json."""


@dataclass(frozen=True, kw_only=True)
class ManagementSettings(Settings):
    """`HEADRACE_MANAGEMENT_*`; the port's default is the service's."""

    env_prefix: ClassVar[str] = "HEADRACE_MANAGEMENT_"

    host: str = LOOPBACK
    """Address of the management port."""
    port: Annotated[int | None, Ge(0), Le(65_535)] = None
    """Management port (health, metrics); 0 for any free one."""
    hosts: str = ""
    """Names, separated by commas, that are allowed in Host on a loopback address, in addition to
    `localhost` and loopback addresses.
    """
    knative_metrics: bool = False
    """Export measurements under Knative's names too, for dashboards that query them."""


def _unreadable(path: Path) -> str:
    """Return why a file cannot be read, or an empty string if it can. Does not open the file: the
    content of a pipe can be read only once.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or "no such path"
    if stat.S_ISDIR(mode):
        return "Is a directory"
    return "" if os.access(path, os.R_OK) else "Permission denied"


def _check_readable(files: Iterable[tuple[str, Path]]) -> None:
    """Raise `BadSettings` for the settings whose file cannot be read."""
    faults = {
        setting: f"{setting}: cannot read {path}: {fault}"
        for setting, path in files
        if (fault := _unreadable(path))
    }
    if faults:
        raise BadSettings("; ".join(faults.values()), *faults)


def read_secret(path: Path, setting: str) -> str:
    """Return the content of a secret file, without the newline at its end. Raises `BadSettings`
    that names `setting`.
    """
    try:
        text = _read(path, setting, SECRET_BYTES_MAX, "secret").decode()
    except UnicodeDecodeError as error:
        raise BadSettings(f"{setting}: cannot read {path}: not UTF-8", setting) from error
    return text.rstrip("\r\n")


def _read_pem(path: Path, setting: str) -> str:
    # Comments between the certificates are in any encoding.
    return _read(path, setting, PEM_BYTES_MAX, "file of certificates").decode(errors="replace")


def _read(path: Path, setting: str, bytes_max: int, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise BadSettings(f"{setting}: cannot read {path}: {error.strerror}", setting) from error
    if len(content) > bytes_max:
        raise BadSettings(
            f"{setting}: {path} has more than {bytes_max} bytes, which is no {what}", setting
        )
    return content
