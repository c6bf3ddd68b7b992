"""The format of log lines."""

import io
import json
import logging
from collections.abc import Iterator

import httpx2
import pytest
import structlog

from headrace.runtime.logging import RateLimitFilter, configure
from headrace.runtime.settings import LogFormat, LogLevel, LogSettings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**config)


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_are_json_without_a_terminal() -> None:
    """Lines of structlog and of the standard library have the same format, with the name of the
    service.
    """
    stream = io.StringIO()
    configure(LogSettings(), stream, service="ingress")
    structlog.stdlib.get_logger("headrace.x").info("started", port=8080)
    logging.getLogger("uvicorn.error").warning("low %s", "disk")
    ours, theirs = _lines(stream)
    assert ("started", 8080, "info", "ingress") == (
        ours["event"],
        ours["port"],
        ours["level"],
        ours["service"],
    )
    assert ("low disk", "warning", "uvicorn.error") == (
        theirs["event"],
        theirs["level"],
        theirs["logger"],
    )


def test_lines_below_the_level_are_not_written() -> None:
    """The level applies to both kinds of loggers."""
    stream = io.StringIO()
    configure(LogSettings(level=LogLevel.WARNING), stream)
    structlog.stdlib.get_logger("headrace.x").info("quiet")
    logging.getLogger("x").info("quiet")
    assert "" == stream.getvalue()


def test_requests_of_the_kubernetes_client_are_not_written() -> None:
    """The leader renews its Lease every 2 s: two requests, each a line of the library."""
    stream = io.StringIO()
    configure(LogSettings(), stream)
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200))
    with httpx2.Client(transport=answer) as client:
        client.get("https://10.96.0.1/apis")
    assert "" == stream.getvalue()


def test_bytes_and_long_values_are_cut() -> None:
    """A payload that is accidentally passed to a log call does not reach the log."""
    stream = io.StringIO()
    configure(LogSettings(), stream)
    structlog.stdlib.get_logger("headrace.x").info("odd", data=b"secret", text="y" * 5000)
    line = _lines(stream)[0]
    assert "<6 bytes>" == line["data"]
    assert str(line["text"]).endswith("… (5000 characters)")


def test_a_traceback_shows_no_local_variables() -> None:
    """Local variables may contain payloads."""
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
    """A line is not JSON, but the event name, its fields and the next step as plain text."""
    stream = io.StringIO()
    configure(LogSettings(format=LogFormat.PRETTY), stream)
    structlog.stdlib.get_logger("headrace.x").warning(
        "topic_missing", next_step="create it, or check its name", topic="t", port=8080
    )
    line = stream.getvalue()
    assert 1 == line.count("\n")
    assert line[9:] == (
        "[warning  ] topic_missing            topic=t port=8080"
        "  next_step: create it, or check its name\n"
    )


def test_the_next_step_is_on_the_line_of_the_event() -> None:
    """A traceback follows this line."""
    stream = io.StringIO()
    configure(LogSettings(format=LogFormat.PRETTY), stream)
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.stdlib.get_logger("headrace.x").exception("failed", next_step="report it")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("next_step: report it")
    assert "ValueError: bad" == rest[-1]


def test_a_stack_follows_the_line() -> None:
    """The watchdog logs the stack of a blocked event loop as a list."""
    stream = io.StringIO()
    configure(LogSettings(format=LogFormat.PRETTY), stream)
    structlog.stdlib.get_logger("headrace.x").critical(
        "event_loop_stalled", limit_seconds=3, stack=["app.py, in f", "b\x1b.py, in g"]
    )
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("event_loop_stalled       limit_seconds=3")
    assert ["app.py, in f", "b\\x1b.py, in g"] == rest


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_a_terminal_gets_one_line_and_json_when_it_is_asked_for() -> None:
    """By default a line for people, with the next step last and without the name of the module;
    with the setting, JSON.
    """
    people, programs = Terminal(), Terminal()
    configure(LogSettings(), people)
    structlog.stdlib.get_logger("headrace.x").warning(
        "filter_failed", name="bad", next_step="look", detail="no attribute"
    )
    configure(LogSettings(format=LogFormat.JSON), programs)
    structlog.stdlib.get_logger("headrace.x").warning("filter_failed", name="bad")
    (line,) = people.getvalue().splitlines()
    assert not line.startswith("{")
    assert "headrace.x" not in line
    assert line.index("detail") < line.index("next_step")
    assert "filter_failed" == _lines(programs)[0]["event"]


@pytest.mark.parametrize(
    ("variables", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colors_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colored: bool
) -> None:
    """https://no-color.org: the variable counts when it is not empty."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        configure(LogSettings(format=LogFormat.PRETTY), stream)
        structlog.stdlib.get_logger("headrace.x").warning("x", n=1)
    assert (colored, False) == ("\x1b[" in terminal.getvalue(), "\x1b[" in file.getvalue())


def test_control_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """In values, lists of values, messages of other libraries and of errors; no line can be
    forged.
    """
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure(LogSettings(), stream)
    hostile = "\x1b]0;gone\x07\u202e\x9b2J\r\n12:00:00 [info] forged"
    log = structlog.stdlib.get_logger("headrace.x")
    log.warning(
        "bad\x1b[2J",
        value=hostile,
        values=[hostile],
        error=ValueError(hostile),
        next_step=hostile,
        **{"odd\x1b": 1},
    )
    logging.getLogger("other").warning("said %s", hostile)
    assert 2 == len(stream.getvalue().splitlines())
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception("failed")
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(stream.getvalue())
    assert "Traceback" in stream.getvalue()


def test_repeated_lines_of_the_kafka_client_are_counted_and_not_written() -> None:
    """One line of each kind is written in ten seconds, and the next one has the number of dropped
    lines. Other kinds are not affected.
    """
    limit = RateLimitFilter(10.0)

    def passes(text: str, at: float) -> tuple[str, int | None] | None:
        record = logging.LogRecord("headrace.kafka", logging.WARNING, "", 0, text, (), None)
        record.created = at
        if not limit.filter(record):
            return None
        return record.getMessage(), getattr(record, "suppressed", None)

    assert passes("FAIL [one] refused", 0.0) == ("FAIL [one] refused", None)
    assert passes("FAIL [two] refused", 1.0) is None
    assert passes("GETPID [one] retrying", 1.0) == ("GETPID [one] retrying", None)
    assert passes("FAIL [one] refused", 9.9) is None
    assert passes("FAIL [one] refused", 10.5) == ("FAIL [one] refused", 2)


def test_fields_of_the_kafka_client_lines_are_written() -> None:
    """The event name, the client's message and the next step are fields of the JSON line."""
    stream = io.StringIO()
    configure(LogSettings(), stream)
    logging.getLogger("headrace.kafka").info(
        "FAIL [rdkafka#producer-1] [thrd:x]: x: SASL authentication error: wrong password"
    )
    (line,) = _lines(stream)
    assert ("kafka_connection_rejected", "error") == (line["event"], line["level"])
    assert "x: SASL authentication error: wrong password" == line["error"]
    assert "HEADRACE_KAFKA_SASL_PASSWORD_FILE" in str(line["next_step"])
