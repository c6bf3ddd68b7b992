"""A rejected Kafka connection: one line that names the setting replaces the many lines of the
client library.
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
def test_a_rejected_connection_names_its_setting(said: str, setting: str) -> None:
    """It is an error with an event name; its next step names the setting, and the client's message
    is kept.
    """
    record = _record(HEAD + said)
    assert KafkaLogHints().filter(record)
    fields = vars(record)
    assert ("ERROR", "kafka_connection_rejected") == (record.levelname, record.getMessage())
    assert (True, said) == (setting in fields["next_step"], fields["error"])


def test_a_rejected_connection_is_logged_once_a_minute_for_all_clients() -> None:
    """Lines of other clients, or in other words, with the same reason are dropped until the minute
    is over. Another reason is logged immediately.
    """
    hints = KafkaLogHints(60.0)
    assert hints.filter(_record(HEAD + PASSWORD, at=0.0))
    assert not hints.filter(_record(f"kafka client: {PASSWORD} (_AUTHENTICATION)", at=0.1))
    assert hints.filter(_record(HEAD + AUTHORITY, at=0.2))
    assert not hints.filter(_record(HEAD.replace("producer", "consumer") + PASSWORD, at=59.9))
    assert hints.filter(_record(HEAD + PASSWORD, at=60.1))


def test_other_lines_pass_as_they_are() -> None:
    """Other lines are unchanged; a connection that was closed immediately gets a next step and
    keeps its level.
    """
    other = _record(
        HEAD
        + "k:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state"
        " CONNECT)"
    )
    assert KafkaLogHints().filter(other)
    assert "HEADRACE" not in other.getMessage()
    assert not hasattr(other, "next_step")
    closed = _record(
        HEAD
        + "k:9092/bootstrap: Disconnected: connection closed by peer: receive 0 (after 0ms in state"
        " APIVERSION_QUERY)"
    )
    assert KafkaLogHints().filter(closed)
    assert ("INFO", True) == (
        closed.levelname,
        "HEADRACE_KAFKA_SECURITY_PROTOCOL" in vars(closed)["next_step"],
    )


@pytest.mark.parametrize(("level", "written"), [(logging.INFO, True), (logging.WARNING, False)])
def test_what_passes_by_itself_is_no_warning(
    level: int, written: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A Kafka that has just started: the client repeats its request."""
    caplog.set_level(level, "headrace.kafka")
    usual = _record(
        "GETPID [headrace-dispatcher#producer-10] [thrd:main]: Failed to acquire idempotence PID"
        " from broker 127.0.0.1:9092/1: Broker: Coordinator load in progress: retrying",
        level=logging.WARNING,
    )
    assert written is KafkaLogHints().filter(usual)
    assert "INFO" == usual.levelname
