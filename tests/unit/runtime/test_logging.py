"""What log lines look like."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from headrace.runtime.logging import RateLimitFilter, configure
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


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_a_terminal_gets_one_line_and_json_when_it_is_asked_for() -> None:
    """By itself a line for people, the next step last and without the name of a module; by the
    setting the lines of programs.
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
    """As https://no-color.org says: the variable counts when it is not empty."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        configure(LogSettings(format=LogFormat.PRETTY), stream)
        structlog.stdlib.get_logger("headrace.x").warning("x", n=1)
    assert (colored, False) == ("\x1b[" in terminal.getvalue(), "\x1b[" in file.getvalue())


def test_a_terminal_obeys_nothing_that_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, lists of them, messages of other libraries and of errors: control characters are
    shown, and no line is forged.
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
    """One line of a kind in ten seconds, and the next one says how many there were; other kinds
    pass.
    """
    sparing = RateLimitFilter(10.0)

    def passes(text: str, at: float) -> str | None:
        record = logging.LogRecord("headrace.kafka", logging.WARNING, "", 0, text, (), None)
        record.created = at
        return record.getMessage() if sparing.filter(record) else None

    assert passes("FAIL [one] refused", 0.0) == "FAIL [one] refused"
    assert passes("FAIL [two] refused", 1.0) is None
    assert passes("GETPID [one] retrying", 1.0) == "GETPID [one] retrying"
    assert passes("FAIL [one] refused", 9.9) is None
    assert passes("FAIL [one] refused", 10.5) == "FAIL [one] refused (and 2 more of this kind)"
