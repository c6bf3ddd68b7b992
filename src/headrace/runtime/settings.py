"""Settings that several services share: how to reach Kafka, how to log, where the management port is.

Values come from the command line (given by the composition root), then the environment, then the defaults here. Secrets come by
file: an environment is shown by too many tools. Each service adds settings of its own under its own prefix.
"""

import difflib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.domain.errors import Permanent
from headrace.runtime.ports import LOOPBACK

SECRET_BYTES_MAX = 65_536


class BadSettings(Permanent):
    """Settings that cannot be; the message names each one and what it should be."""


class SecurityProtocol(StrEnum):
    """How connections to Kafka are protected."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.value.endswith("SSL")

    @property
    def authenticated(self) -> bool:
        """Whether SASL is spoken."""
        return self.value.startswith("SASL")


class SaslMechanism(StrEnum):
    """How we prove who we are."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class KafkaSettings(BaseSettings):
    """`KAFKA_BOOTSTRAP_SERVERS` and `HEADRACE_KAFKA_*`."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_KAFKA_", frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True
    )

    bootstrap_servers: str = Field(
        default="127.0.0.1:9092",
        min_length=1,
        validation_alias=AliasChoices("bootstrap_servers", "HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"),
        description="host:port of one or more brokers, separated by commas",
    )
    group_protocol: GroupProtocol | None = Field(
        default=None,
        description="classic, or consumer (KIP-848); default: consumer where the brokers' consumer session timeout is 10 s or less and "
        "the dispatcher has no lasting name, else classic",
    )
    security_protocol: SecurityProtocol = Field(
        default=SecurityProtocol.PLAINTEXT, description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    ssl_ca_file: Path | None = Field(
        default=None, description="CA certificates (PEM) that sign the brokers' certificates; default: the system's"
    )
    ssl_certificate_file: Path | None = Field(default=None, description="our certificate (PEM), for mutual TLS")
    ssl_key_file: Path | None = Field(default=None, description="its private key (PEM)")
    ssl_key_password_file: Path | None = Field(default=None, description="file with the password of that key")
    sasl_mechanism: SaslMechanism = Field(default=SaslMechanism.SCRAM_SHA_512, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    sasl_username: str | None = Field(default=None, description="user name")
    sasl_username_file: Path | None = Field(default=None, description="file with the user name, instead")
    sasl_password_file: Path | None = Field(default=None, description="file with the password")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.ssl_certificate_file is None) != (self.ssl_key_file is None):
            raise ValueError("HEADRACE_KAFKA_SSL_CERTIFICATE_FILE and HEADRACE_KAFKA_SSL_KEY_FILE belong together: set both or none")
        if self.security_protocol.authenticated:
            if self.sasl_username is None and self.sasl_username_file is None:
                raise ValueError(f"{self.security_protocol} needs HEADRACE_KAFKA_SASL_USERNAME or HEADRACE_KAFKA_SASL_USERNAME_FILE")
            if self.sasl_password_file is None:
                raise ValueError(f"{self.security_protocol} needs HEADRACE_KAFKA_SASL_PASSWORD_FILE")
        faults = [f"{setting}: cannot read {path}: {fault}" for setting, path in self._files() if (fault := _unreadable(path))]
        if faults:
            # The client library would say so only when the first client is made, and name no variable.
            raise BadSettings("; ".join(faults))
        return self

    def _files(self) -> Iterator[tuple[str, Path]]:
        """The files that the security protocol in force makes use of, with the variables that name them."""
        fields: list[str] = []
        if self.security_protocol.encrypted:
            fields += ["ssl_ca_file", "ssl_certificate_file", "ssl_key_file", "ssl_key_password_file"]
        if self.security_protocol.authenticated:
            fields += ["sasl_password_file"] if self.sasl_username is not None else ["sasl_username_file", "sasl_password_file"]
        for name in fields:
            path = getattr(self, name)
            if path is not None:
                yield f"HEADRACE_KAFKA_{name.upper()}", path

    def options(self, client_id: str) -> KafkaOptions:
        """What the Kafka adapters take. Reads the secret files; raises `BadSettings` naming the one that cannot be read."""
        return KafkaOptions(
            bootstrap_servers=self.bootstrap_servers,
            client_id=client_id,
            group_protocol=self.group_protocol or GroupProtocol.CLASSIC,
            security=self._security(),
        )

    def _security(self) -> dict[str, str]:
        protocol = self.security_protocol
        if protocol is SecurityProtocol.PLAINTEXT:
            return {}
        security = {"security.protocol": protocol.value}
        if protocol.encrypted:
            files = {
                "ssl.ca.location": self.ssl_ca_file,
                "ssl.certificate.location": self.ssl_certificate_file,
                "ssl.key.location": self.ssl_key_file,
            }
            security.update({name: str(path) for name, path in files.items() if path is not None})
            if self.ssl_key_password_file is not None:
                security["ssl.key.password"] = read_secret(
                    self.ssl_key_password_file, "HEADRACE_KAFKA_SSL_KEY_PASSWORD_FILE"
                ).get_secret_value()
        if protocol.authenticated and self.sasl_password_file is not None:
            security["sasl.mechanism"] = self.sasl_mechanism.value
            security["sasl.username"] = self._username()
            security["sasl.password"] = read_secret(self.sasl_password_file, "HEADRACE_KAFKA_SASL_PASSWORD_FILE").get_secret_value()
        return security

    def _username(self) -> str:
        if self.sasl_username is not None:
            return self.sasl_username
        path = self.sasl_username_file
        return "" if path is None else read_secret(path, "HEADRACE_KAFKA_SASL_USERNAME_FILE").get_secret_value()


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    """Pretty on a terminal, JSON elsewhere."""
    PRETTY = "pretty"
    JSON = "json"


class LogLevel(StrEnum):
    """From which severity on lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettings(BaseSettings):
    """`HEADRACE_LOG_LEVEL` and `HEADRACE_LOG_FORMAT`."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_LOG_", frozen=True, extra="forbid", env_ignore_empty=True)

    level: LogLevel = Field(default=LogLevel.INFO, description="debug, info, warning or error")
    format: LogFormat = Field(default=LogFormat.AUTO, description="auto, pretty or json")


class ManagementSettings(BaseSettings):
    """`HEADRACE_MANAGEMENT_HOST` and `HEADRACE_MANAGEMENT_PORT`; the port's default is the service's."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_MANAGEMENT_", frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field(default=LOOPBACK, description="address of the management port")
    port: int | None = Field(default=None, ge=0, le=65_535, description="management port (health, metrics); 0 for any free one")


def _unreadable(path: Path) -> str:
    """Why a file cannot be read, empty when it can. It is not opened: a pipe would give its content away only once."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or "no such path"
    if stat.S_ISDIR(mode):
        return "Is a directory"
    return "" if os.access(path, os.R_OK) else "Permission denied"


def read_secret(path: Path, setting: str) -> SecretStr:
    """The content of a secret file, without the newline at its end. Raises `BadSettings` naming `setting`."""
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadSettings(f"{setting}: cannot read {path}: {reason}") from error
    if len(content) > SECRET_BYTES_MAX:
        raise BadSettings(f"{setting}: {path} has more than {SECRET_BYTES_MAX} bytes, which is no secret")
    return SecretStr(text.rstrip("\r\n"))


Model = TypeVar("Model", bound=BaseSettings)


def load(model: type[Model], **given: Any) -> Model:
    """Make settings from what the command line gave (None: not given), the environment and the defaults.

    Raises `BadSettings`, naming every setting that cannot be.
    """
    try:
        return model(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise BadSettings(explain(error)) from error


def explain(error: ValidationError) -> str:
    """One line per bad setting: its name, what is wrong; never its value, which may be a secret."""
    lines = []
    for each in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in each["loc"]) or "settings"
        lines.append(f"{name}: {each['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def known_variables(models: Iterable[type[BaseSettings]]) -> set[str]:
    """The environment variables that these settings read."""
    names = set()
    for model in models:
        prefix = str(model.model_config.get("env_prefix", ""))
        for name, field in model.model_fields.items():
            names.add((prefix + name).upper())
            if isinstance(field.validation_alias, AliasChoices):
                names.update(str(choice).upper() for choice in field.validation_alias.choices)
    return names


def refuse_unknown_variables(
    models: Iterable[type[BaseSettings]], environ: Mapping[str, str] = os.environ, *, prefixes: Iterable[str] = ()
) -> None:
    """Raise `BadSettings` for a variable under one of the models' own prefixes that none of them reads: a typo must not pass silently.

    `prefixes` adds more (default: those of the models).
    """
    models = list(models)
    known = known_variables(models)
    checked = tuple({str(model.model_config.get("env_prefix", "")).upper() for model in models} | set(prefixes))
    for name in environ:
        upper = name.upper()
        if upper in known or not any(prefix and upper.startswith(prefix) for prefix in checked):
            continue
        close = difflib.get_close_matches(upper, known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadSettings(f"environment variable {name} is not a setting of Headrace{hint}")
