"""`headrace filter`: try a filter on events by hand, and see which clause decided.

Events come as JSON lines on standard input and are answered one by one, so it can sit in a pipe for
as long as it likes. Results go to standard output, everything about bad lines and bad filters to
standard error. With `--cesql-cases` it is a plain CESQL calculator.
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
"""Characters of a column; an attribute may be longer."""
_INTEGER_RANGE = range(-(2**31), 2**31)
_ANY_EVENT: Attributes = {
    "specversion": "1.0",
    "id": "1",
    "source": "/headrace",
    "type": "dev.headrace.case",
}


@dataclass(slots=True)
class MatchCounts:
    """What has been seen so far."""

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
                "A CESQL expression, or a .yaml or .json file: a Trigger, a list of filters, one"
                " filter."
            ),
        ),
    ] = None,
    *,
    output: Annotated[
        ResultFormat, typer.Option("--output", "-o", help="How to write the results.")
    ] = ResultFormat.TABLE,
    cesql_cases: Annotated[
        bool,
        typer.Option(
            "--cesql-cases",
            help='Read {"expression", "event"} per line, write {"value", "error"} per line.',
        ),
    ] = False,
) -> None:
    """Show which events (JSON CloudEvents, one a line, on standard input) a filter lets pass, and
    why.

    Ends with 0 when at least one event passed, 1 when none did, 2 when a line was no event or the
    filter cannot be used. With --cesql-cases: 0 when every line was a case, else 2.
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
        # The reader left, as `head` does: nobody reads the output, and Python must not find out
        # again when it flushes at exit.
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
    """One line out, at once: a reader of the pipe sees it before the next one comes in."""
    echo(line)
    sys.stdout.flush()


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines as they come, None for one that is too long to be held."""
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
    """One answer a line, in order, whatever the line is: who compares answers line by line must not
    get out of step.

    A line that is no case is answered with null and generic, its number and the error are printed
    on standard error. Returns how many were.
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
    """A line is no case; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Case:
    """An expression, and what it is evaluated on."""

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
    """The value and the kind of error; false and parse for what is no expression."""
    try:
        value, problem = _compiled(case.expression).evaluate(case.attributes)
    except ParseError:
        return False, ErrorKind.PARSE
    return value, None if problem is None else problem.kind


_compiled = lru_cache(maxsize=256)(compile_expression)


def _case_attributes(event: Any) -> Attributes:
    """The attributes of a case's event; an event that lacks required ones will do, for a case
    states what it needs.

    Raises InvalidCase for what no attribute can be.
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
