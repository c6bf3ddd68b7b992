"""An Apache Kafka with secured listeners: SASL over TLS by password, and TLS by client certificate;
it has a plain one for the test.

The plain listener is for `ApacheKafka` itself and for a test's observer; services of a test use one
of the others.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from tests.support.certificates import Authority, Certificate
from tests.support.kafka_listeners import kafka_with_listeners

USER = "headrace"
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """The running broker, its listeners, and a user's settings for them."""

    apache: ApacheKafka
    authority: Authority
    password: Path
    """File with the password of `USER`, for SCRAM-SHA-512 and PLAIN."""
    client: Certificate
    sasl_address: str
    tls_address: str

    def by_password(self, mechanism: str) -> dict[str, str]:
        """Environment of a service that authenticates with user and password."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.sasl_address,
            "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "HEADRACE_KAFKA_SSL_CA_FILE": str(self.authority.file),
            "HEADRACE_KAFKA_SASL_MECHANISM": mechanism,
            "HEADRACE_KAFKA_SASL_USERNAME": USER,
            "HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(self.password),
        }

    def by_certificate(self) -> dict[str, str]:
        """Environment of a service that authenticates with a certificate."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.tls_address,
            "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SSL",
            "HEADRACE_KAFKA_SSL_CA_FILE": str(self.authority.file),
            "HEADRACE_KAFKA_SSL_CERTIFICATE_FILE": str(self.client.certificate),
            "HEADRACE_KAFKA_SSL_KEY_FILE": str(self.client.key),
        }


@contextlib.contextmanager
def secured_kafka(directory: Path) -> Iterator[SecuredKafka]:
    """Start it, set the password of `USER`, stop it at the end."""
    authority = Authority(directory / "certificates")
    password = directory / "password"
    password.write_text(secrets.token_urlsafe(24) + "\n", encoding="ascii")
    protocols = {"BYPASSWORD": "SASL_SSL", "BYCERTIFICATE": "SSL"}
    settings = _settings(authority, password.read_text(encoding="ascii").strip())
    with kafka_with_listeners(directory, protocols, settings) as started:
        give_password(started.apache, password.read_bytes().strip())
        yield SecuredKafka(
            started.apache,
            authority,
            password,
            authority.sign("headrace"),
            started.addresses["BYPASSWORD"],
            started.addresses["BYCERTIFICATE"],
        )


def _settings(authority: Authority, password: str) -> dict[str, str]:
    modules = "org.apache.kafka.common.security"
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.sign("kafka").store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.bycertificate.ssl.client.auth": "required",
        "listener.name.bypassword.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "listener.name.bypassword.scram-sha-512.sasl.jaas.config": (
            f"{modules}.scram.ScramLoginModule required;"
        ),
        "listener.name.bypassword.plain.sasl.jaas.config": (
            f'{modules}.plain.PlainLoginModule required user_{USER}="{password}";'
        ),
    }


def give_password(apache: ApacheKafka, password: bytes, user: str = USER) -> None:
    """Set the password of a user for SCRAM-SHA-512."""
    admin = AdminClient({"bootstrap.servers": apache.bootstrap_servers, "log_level": 0})
    wanted = UserScramCredentialUpsertion(
        user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password
    )
    for future in admin.alter_user_scram_credentials([wanted]).values():
        future.result(SECONDS)
