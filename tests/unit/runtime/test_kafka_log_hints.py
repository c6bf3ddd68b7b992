"""A Kafka that refuses us: one line naming the setting, in the place of the client
library's many.
"""

import logging

import pytest

from headrace.runtime.kafka_log_hints import KafkaLogHints

HEAD = "FAIL [headrace-ingress#producer-1] [thrd:sasl_ssl://k:9092/bootstrap]: "
PASSWORD = (
    "sasl_ssl://k:9092/bootstrap: SASL authentication error: Invalid username or password (after"
    " 243ms in state AUTH_REQ)"
)
AUTHORITY = (
    "sasl_ssl://k:9092/bootstrap: error:0A000086:SSL routines::certificate verify failed (after 5ms"
    " in state SSL_HANDSHAKE)"
)
OURS = (
    "ssl://k:9092/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad"
    " certificate: SSL alert number 42"
)
MECHANISM = (
    "sasl_ssl://k:9092/bootstrap: SASL SCRAM-SHA-256 mechanism handshake failed: Broker:"
    " Unsupported SASL mechanism"
)
PLAIN = (
    "ssl://k:9092/bootstrap: error:0A00010B:SSL routines::wrong version number: connecting to a"
    " PLAINTEXT broker listener?"
)


def _record(text: str, *, at: float = 0.0, level: int = logging.INFO) -> logging.LogRecord:
    record = logging.LogRecord("headrace.kafka", level, "", 0, text, (), None)
    record.created = at
    return record


@pytest.mark.parametrize(
    ("said", "setting"),
    [
        (PASSWORD, "HEADRACE_KAFKA_SASL_PASSWORD_FILE"),
        (AUTHORITY, "HEADRACE_KAFKA_SSL_CA_FILE"),
        (OURS, "HEADRACE_KAFKA_SSL_CERTIFICATE_FILE"),
        (MECHANISM, "HEADRACE_KAFKA_SASL_MECHANISM"),
        (PLAIN, "HEADRACE_KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_a_refusal_names_its_setting(said: str, setting: str) -> None:
    """It is an error, names what to look at and keeps what the client said."""
    record = _record(HEAD + said)
    assert KafkaLogHints().filter(record)
    assert ("ERROR", True) == (record.levelname, setting in record.getMessage())
    assert record.getMessage().endswith(f"It said: {said}")


def test_a_refusal_is_told_once_a_minute_whoever_tells_it() -> None:
    """Other clients, other words for the same reason: all are left out until the minute is over;
    another reason is told at once.
    """
    naming = KafkaLogHints(60.0)
    assert naming.filter(_record(HEAD + PASSWORD, at=0.0))
    assert not naming.filter(_record(f"kafka client: {PASSWORD} (_AUTHENTICATION)", at=0.1))
    assert naming.filter(_record(HEAD + AUTHORITY, at=0.2))
    assert not naming.filter(_record(HEAD.replace("producer", "consumer") + PASSWORD, at=59.9))
    assert naming.filter(_record(HEAD + PASSWORD, at=60.1))


def test_other_lines_pass_as_they_are() -> None:
    """What is no refusal is left alone; a connection closed at once gets a hint behind it, and
    keeps its level.
    """
    other = _record(
        HEAD
        + "k:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state"
        " CONNECT)"
    )
    assert KafkaLogHints().filter(other)
    assert "HEADRACE" not in other.getMessage()
    closed = _record(
        HEAD
        + "k:9092/bootstrap: Disconnected: connection closed by peer: receive 0 (after 0ms in state"
        " APIVERSION_QUERY)"
    )
    assert KafkaLogHints().filter(closed)
    assert ("INFO", True) == (
        closed.levelname,
        "HEADRACE_KAFKA_SECURITY_PROTOCOL" in closed.getMessage(),
    )
