"""What a Kafka that refuses us means for the settings: the client library's words, which name none
of ours, become one line that does.

The library knows a wrong password or an unknown certificate authority only as a connection that
failed, and each of its clients says so again and again. The words recognized here are those of
librdkafka 2.x; what they say stays behind the advice.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ConnectionHint:
    """One reason for which no connection comes about."""

    signs: Sequence[str]
    """What the client's line holds; any of them."""
    advice: str


_USER = "HEADRACE_KAFKA_SASL_USERNAME (or HEADRACE_KAFKA_SASL_USERNAME_FILE)"
CONNECTION_HINTS = (
    ConnectionHint(
        ("mechanism handshake failed", "Unsupported SASL mechanism"),
        "Kafka does not offer this way of logging in: set HEADRACE_KAFKA_SASL_MECHANISM to one that"
        " it does",
    ),
    ConnectionHint(
        ("SASL authentication error", "SASL authentication failed"),
        f"Kafka refuses our user name or password: look at {_USER},"
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
        "Kafka refuses our certificate, or misses it: look at HEADRACE_KAFKA_SSL_CERTIFICATE_FILE"
        " and HEADRACE_KAFKA_SSL_KEY_FILE",
    ),
    ConnectionHint(
        ("certificate verify failed", "certificate could not be verified"),
        "Kafka's certificate cannot be trusted: HEADRACE_KAFKA_SSL_CA_FILE must hold the authority"
        " that signed it, and the certificate the name that KAFKA_BOOTSTRAP_SERVERS calls it by",
    ),
    ConnectionHint(
        ("connecting to a PLAINTEXT broker listener", "wrong version number"),
        "Kafka does not speak TLS there: look at HEADRACE_KAFKA_SECURITY_PROTOCOL and"
        " KAFKA_BOOTSTRAP_SERVERS",
    ),
)
_CLOSED_AT_ONCE = ("connection closed by peer", "in state APIVERSION_QUERY")
_POSSIBLE_CAUSES = (
    "; if this goes on, that listener may want TLS or a login: look at"
    " HEADRACE_KAFKA_SECURITY_PROTOCOL"
)


class KafkaLogHints(logging.Filter):
    """Puts one error in the place of all lines that tell of the same refusal, and again every
    minute while it lasts.

    One for all loggers of the client: each of them would say it once more.
    """

    def __init__(self, seconds: float = AGAIN_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write this line, which may be another one afterwards."""
        text = record.getMessage()
        refusal = next(
            (each for each in CONNECTION_HINTS if any(sign in text for sign in each.signs)), None
        )
        if refusal is None:
            if all(sign in text for sign in _CLOSED_AT_ONCE):
                record.msg, record.args = text + _POSSIBLE_CAUSES, ()
            return True
        if record.created - self._said.get(refusal.advice, float("-inf")) < self._seconds:
            return False
        self._said[refusal.advice] = record.created
        record.levelno, record.levelname = logging.ERROR, "ERROR"
        record.msg, record.args = f"{refusal.advice}. It said: {text.rpartition(']: ')[2]}", ()
        return True
