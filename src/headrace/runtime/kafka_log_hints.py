"""Explains failed connections to Kafka in terms of Headrace's settings.

The client library reports a wrong password or an unknown certificate authority only as a failed
connection, and each of its clients repeats it. The messages recognized here are those of
librdkafka 2.x. One log line, `kafka_connection_rejected`, replaces them: the settings to check are
its `next_step`, the original message is its `error`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

REPEAT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ConnectionHint:
    """One reason why a connection fails."""

    signs: Sequence[str]
    """Substrings of the client's message; one match is enough."""
    next_step: str


_USER = "HEADRACE_KAFKA_SASL_USERNAME (or HEADRACE_KAFKA_SASL_USERNAME_FILE)"
CONNECTION_HINTS = (
    ConnectionHint(
        ("Failed to retrieve OIDC token",),
        "no token from the authorization server: check HEADRACE_KAFKA_SASL_TOKEN_ENDPOINT, the"
        f" client id in {_USER} and its secret in HEADRACE_KAFKA_SASL_PASSWORD_FILE",
    ),
    ConnectionHint(
        ("mechanism handshake failed", "Unsupported SASL mechanism"),
        "Kafka does not support this SASL mechanism: set HEADRACE_KAFKA_SASL_MECHANISM to one that"
        " it supports",
    ),
    ConnectionHint(
        ("SASL authentication error", "SASL authentication failed"),
        f"Kafka rejects the user name or password: check {_USER},"
        " HEADRACE_KAFKA_SASL_PASSWORD_FILE and HEADRACE_KAFKA_SASL_MECHANISM",
    ),
    ConnectionHint(
        (
            "alert bad certificate",
            "alert certificate required",
            "alert unknown ca",
            "alert certificate unknown",
            "alert certificate expired",
        ),
        "Kafka rejects the client certificate, or requires one: check"
        " HEADRACE_KAFKA_SSL_CERTIFICATE_FILE and HEADRACE_KAFKA_SSL_KEY_FILE",
    ),
    ConnectionHint(
        ("certificate verify failed", "certificate could not be verified"),
        "Kafka's certificate is not trusted: HEADRACE_KAFKA_SSL_CA_FILE must contain the authority"
        " that signed it, and the certificate must contain the host name used in"
        " KAFKA_BOOTSTRAP_SERVERS",
    ),
    ConnectionHint(
        ("connecting to a PLAINTEXT broker listener", "wrong version number"),
        "this Kafka listener does not use TLS: check HEADRACE_KAFKA_SECURITY_PROTOCOL and"
        " KAFKA_BOOTSTRAP_SERVERS",
    ),
)
_USUAL = ("Coordinator load in progress",)
"""Messages about what passes by itself while Kafka starts: the client repeats the request."""
_CLOSED_AT_ONCE = ("connection closed by peer", "in state APIVERSION_QUERY")
_CLOSED_NEXT_STEP = (
    "if this repeats, the listener may require TLS or SASL: check HEADRACE_KAFKA_SECURITY_PROTOCOL"
)


class KafkaLogHints(logging.Filter):
    """Replaces all lines with the same reason by one error, repeated every minute while the failure
    lasts.

    All loggers of the client share one filter, otherwise each would report the error.
    """

    def __init__(self, seconds: float = REPEAT_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._logged_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write this line. May replace its message, level and fields."""
        text = record.getMessage()
        if any(sign in text for sign in _USUAL):
            record.levelno, record.levelname = logging.INFO, "INFO"
            return logging.getLogger(record.name).isEnabledFor(logging.INFO)
        hint = next(
            (each for each in CONNECTION_HINTS if any(sign in text for sign in each.signs)), None
        )
        if hint is None:
            if all(sign in text for sign in _CLOSED_AT_ONCE):
                record.next_step = _CLOSED_NEXT_STEP
            return True
        if record.created - self._logged_at.get(hint.next_step, float("-inf")) < self._seconds:
            return False
        self._logged_at[hint.next_step] = record.created
        record.levelno, record.levelname = logging.ERROR, "ERROR"
        record.msg, record.args = "kafka_connection_rejected", ()
        record.error, record.next_step = text.rpartition("]: ")[2], hint.next_step
        return True
