"""What log lines look like."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from headrace.runtime.logging import Sparing, configure
from headrace.runtime.settings import LogFormat, LogLevel, LogSettings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_are_json_where_nobody_looks() -> None:
    """Our own and the standard library's lines have one shape, with the service's name."""
    stream = io.StringIO()
    configure(LogSettings(), stream, service="ingress")
    structlog.stdlib.get_logger("headrace.x").info("started", port=8080)
    logging.getLogger("uvicorn.error").warning("low %s", "disk")
    ours, theirs = _lines(stream)
    assert ("started", 8080, "info", "ingress") == (ours["event"], ours["port"], ours["level"], ours["service"])
    assert ("low disk", "warning", "uvicorn.error") == (theirs["event"], theirs["level"], theirs["logger"])


def test_lines_below_the_level_are_not_written() -> None:
    """The level holds for both kinds of loggers."""
    stream = io.StringIO()
    configure(LogSettings(level=LogLevel.WARNING), stream)
    structlog.stdlib.get_logger("headrace.x").info("quiet")
    logging.getLogger("x").info("quiet")
    assert "" == stream.getvalue()


def test_bytes_and_long_values_are_cut() -> None:
    """A payload that slips into a log call does not get into the log."""
    stream = io.StringIO()
    configure(LogSettings(), stream)
    structlog.stdlib.get_logger("headrace.x").info("odd", data=b"secret", text="y" * 5000)
    line = _lines(stream)[0]
    assert "<6 bytes>" == line["data"]
    assert str(line["text"]).endswith("… (5000 characters)")


def test_a_traceback_shows_no_local_variables() -> None:
    """Locals hold payloads."""
    stream = io.StringIO()
    configure(LogSettings(), stream)
    secret = "pay" + "load"
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.stdlib.get_logger("headrace.x").exception("failed")
    assert "payload" not in stream.getvalue().replace("no payload", "")
    assert "ValueError" in stream.getvalue()


def test_pretty_lines_are_for_people() -> None:
    """Not JSON, one line."""
    stream = io.StringIO()
    configure(LogSettings(format=LogFormat.PRETTY), stream)
    structlog.stdlib.get_logger("headrace.x").info("started", port=8080)
    assert "port=8080" in stream.getvalue()
    assert 1 == stream.getvalue().count("\n")


def test_repeated_lines_of_the_kafka_client_are_counted_and_not_written() -> None:
    """One line of a kind in ten seconds, and the next one says how many there were; other kinds pass."""
    sparing = Sparing(10.0)

    def passes(text: str, at: float) -> str | None:
        record = logging.LogRecord("headrace.kafka", logging.WARNING, "", 0, text, (), None)
        record.created = at
        return record.getMessage() if sparing.filter(record) else None

    assert passes("FAIL [one] refused", 0.0) == "FAIL [one] refused"
    assert passes("FAIL [two] refused", 1.0) is None
    assert passes("GETPID [one] retrying", 1.0) == "GETPID [one] retrying"
    assert passes("FAIL [one] refused", 9.9) is None
    assert passes("FAIL [one] refused", 10.5) == "FAIL [one] refused (and 2 more of this kind)"
