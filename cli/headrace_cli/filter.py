"""`headrace filter`: evaluates a filter on events and shows which clause decided.

Events are JSON lines on standard input and are answered one by one, so the command can run in a
pipe for any time. Results go to standard output, messages about invalid lines and invalid filters
to standard error. With `--cesql-cases` the command evaluates CESQL expressions.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, BinaryIO

import typer

from headrace.codec import json_event
from headrace.domain import filters
from headrace.domain.cesql import Attributes, ErrorKind, ParseError, compile_expression
from headrace.domain.event import InvalidEvent, Value
from headrace_cli.filter_file import UnusableFilter, compile_given
from headrace_cli.terminal import ResultFormat, echo, printable

LINE_BYTES_MAX = 2 * 1024 * 1024
_CELL_MAX = 100_000
"""Maximum characters of a column; an attribute may be longer."""
_INTEGER_RANGE = range(-(2**31), 2**31)
_ANY_EVENT: Attributes = {
    "specversion": "1.0",
    "id": "1",
    "source": "/headrace",
    "type": "dev.headrace.case",
}


@dataclass(slots=True)
class MatchCounts:
    """Counts of the results so far."""

    matched: int = 0
    missed: int = 0
    failed: int = 0
    bad: int = 0

    def __str__(self) -> str:
        events = self.matched + self.missed
        return (
            f"{events} events: {self.matched} match, {self.missed} do not; {self.failed} evaluation"
            f" errors, {self.bad} bad lines"
        )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("filter")(filter_events)


def filter_events(
    expression: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPR|FILE",
            help=(
                "A CESQL expression, or a .yaml or .json file with a Trigger, a list of filters, or"
                " one filter."
            ),
        ),
    ] = None,
    *,
    output: Annotated[
        ResultFormat, typer.Option("--output", "-o", help="Output format.")
    ] = ResultFormat.TABLE,
    cesql_cases: Annotated[
        bool,
        typer.Option(
            "--cesql-cases",
            help='Read {"expression", "event"} per line, write {"value", "error"} per line.',
        ),
    ] = False,
) -> None:
    """Show which events a filter matches, and why. Reads JSON CloudEvents from standard input, one
    per line.

    Exits with 0 if at least one event matched, 1 if none did, 2 if a line was not a valid event or
    the filter cannot be used. With --cesql-cases: 0 if every line was a valid case, otherwise 2.
    """
    stdin = typer.get_binary_stream("stdin")
    try:
        if cesql_cases:
            bad = _answer_cases(stdin)
            raise typer.Exit(2 if bad else 0)
        if expression is None:
            raise UnusableFilter("give a CESQL expression in quotes, or a file with filters")
        tally = _explain_events(compile_given(expression, _warn), stdin, output)
    except UnusableFilter as error:
        echo(f"headrace filter: {error}", err=True)
        raise typer.Exit(2) from None
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does. Python must not fail again when it flushes
        # the output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(2) from None
    echo(str(tally), err=True)
    raise typer.Exit(2 if tally.bad else 0 if tally.matched else 1)


def _warn(text: str) -> None:
    echo(f"headrace filter: warning: {text}", err=True)


def _explain_events(filter: filters.Filter, stdin: BinaryIO, output: ResultFormat) -> MatchCounts:
    tally = MatchCounts()
    if output is ResultFormat.TABLE:
        _write(_row("LINE", "MATCH", "ID", "CLAUSE", "SAW"))
    for number, line in _lines(stdin):
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise InvalidEvent(None, f"has more than {LINE_BYTES_MAX} bytes")
            event = json_event.read(line)
        except InvalidEvent as error:
            tally.bad += 1
            echo(f"line {number}: {error}", err=True)
            continue
        explanation = filter.explain(event.attributes)
        tally.matched += explanation.matched
        tally.missed += not explanation.matched
        tally.failed += explanation.problem is not None
        _write(_explained(number, event.attributes, explanation, output))
    return tally


def _explained(
    number: int, attributes: Attributes, explanation: filters.Explanation, output: ResultFormat
) -> str:
    problem = explanation.problem
    if output is ResultFormat.TABLE:
        inputs = ", ".join(f"{name}: {_shown(value)}" for name, value in explanation.inputs)
        saw = f"{_shown(explanation.saw)} for {explanation.wanted}" + (
            f" with {inputs}" if inputs else ""
        )
        if problem is not None:
            saw = f"{problem.kind} error: {problem.message}; {saw}"
        return _row(
            str(number),
            "yes" if explanation.matched else "no",
            str(attributes["id"]),
            explanation.clause,
            saw,
        )
    return json.dumps(
        {
            "line": number,
            "id": attributes["id"],
            "match": explanation.matched,
            "clause": explanation.clause,
            "wanted": explanation.wanted,
            "saw": explanation.saw,
            "inputs": dict(explanation.inputs),
            "error": problem and problem.kind,
            "message": problem and problem.message,
        }
    )


def _row(line: str, match: str, identity: str, clause: str, saw: str) -> str:
    identity, clause, saw = (printable(each, _CELL_MAX) for each in (identity, clause, saw))
    return f"{line:>6}  {match:<5}  {identity:<36}  {clause:<32}  {saw}"


def _shown(value: Value | None) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _write(line: str) -> None:
    """Write one line and flush it, so that the reader of the pipe receives it before the next
    input.
    """
    echo(line)
    sys.stdout.flush()


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield numbered lines as they arrive, with None for a line that is too long."""
    number = 0
    while line := stream.readline(LINE_BYTES_MAX):
        number += 1
        if len(line) < LINE_BYTES_MAX or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LINE_BYTES_MAX)
        yield number, None


def _answer_cases(stdin: BinaryIO) -> int:
    """Write one answer per input line, in order, even for invalid lines: a program that compares
    answers line by line must stay in step.

    The answer to an invalid line has the value null and the error generic; its number and the
    reason are printed on standard error. Returns the number of invalid lines.
    """
    bad = 0
    for number, line in _lines(stdin):
        try:
            value, error = _answer(_case(line))
        except InvalidCase as reason:
            bad += 1
            echo(f"line {number}: {reason}", err=True)
            value, error = None, ErrorKind.GENERIC
        _write(json.dumps({"value": value, "error": error}))
    return bad


class InvalidCase(Exception):
    """A line is not a valid case; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Case:
    """An expression and the attributes on which it is evaluated."""

    expression: str
    attributes: Attributes


def _case(line: bytes | None) -> Case:
    if line is None:
        raise InvalidCase(f"has more than {LINE_BYTES_MAX} bytes")
    try:
        case = json.loads(line.decode())
    except UnicodeDecodeError:
        raise InvalidCase("is not UTF-8") from None
    except RecursionError:
        raise InvalidCase("is nested too deeply") from None
    except ValueError as error:
        raise InvalidCase(f"is not JSON: {error}") from None
    if not isinstance(case, dict):
        raise InvalidCase('is no object with an "expression" and an "event"')
    if "expression" not in case:
        raise InvalidCase('has no "expression"')
    if not isinstance(case["expression"], str):
        raise InvalidCase('"expression" must be a string')
    return Case(case["expression"], _case_attributes(case.get("event")))


def _answer(case: Case) -> tuple[Value | None, ErrorKind | None]:
    """Return the value and the kind of error; (false, parse) if the expression cannot be parsed."""
    try:
        value, problem = _compiled(case.expression).evaluate(case.attributes)
    except ParseError:
        return False, ErrorKind.PARSE
    return value, None if problem is None else problem.kind


_compiled = lru_cache(maxsize=256)(compile_expression)


def _case_attributes(event: Any) -> Attributes:
    """Return the attributes of the event of a case. Required attributes may be missing, because a
    case lists only the attributes it needs.

    Raises InvalidCase for a value that is not a valid attribute.
    """
    if event is None:
        return _ANY_EVENT
    if not isinstance(event, dict):
        raise InvalidCase('"event" is no CloudEvent: give an object in the JSON format')
    attributes = {
        name: value
        for name, value in event.items()
        if value is not None and name not in ("data", "data_base64")
    }
    for name, value in attributes.items():
        if not isinstance(value, str | int):
            raise InvalidCase(
                f'"event" is no CloudEvent: {_shown(name)} must be a string, an integer or a'
                " boolean"
            )
        if not isinstance(value, str) and value not in _INTEGER_RANGE:
            raise InvalidCase(
                f'"event" is no CloudEvent: {_shown(name)} must be an integer of 32 bits'
            )
    return attributes
