"""`headrace filter` on events and on CESQL cases, with valid input and with every kind of invalid
input.
"""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from headrace_cli.filter import LINE_BYTES_MAX, register

EVENTS = (
    b'{"specversion":"1.0","id":"1","source":"/s","type":"com.a","subject":"x"}\n'
    b'{"specversion":"1.0","id":"2","source":"/s","type":"org.b","subject":"x","data":{"type":"com.a"}}\n'
    b'{"specversion":"1.0","id":"3","source":"/s","type":"com.c"}'
)


@pytest.fixture
def app() -> typer.Typer:
    """An application with this command and another, as in the real one."""
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    return app


def run(app: typer.Typer, *arguments: str, stdin: bytes = EVENTS) -> Result:
    """Run the command with these arguments and this standard input. A traceback fails the test."""
    result = CliRunner().invoke(app, ["filter", *arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def matches(result: Result) -> list[tuple[int, bool]]:
    """Return line and verdict of each JSON result."""
    return [(row["line"], row["match"]) for row in map(json.loads, result.stdout.splitlines())]


def test_an_expression_is_explained_for_each_event(app: typer.Typer) -> None:
    """Each event gets a verdict, with the deciding part of the expression and its values. Data is
    never read.
    """
    result = run(app, "type LIKE 'com.%' AND subject = 'x'", "-o", "json")
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert (True, "filters[0].cesql", None) == (first["match"], first["clause"], first["error"])
    assert (False, "type LIKE 'com.%'", {"type": "org.b"}) == (
        second["match"],
        second["wanted"],
        second["inputs"],
    )
    assert (False, "missingAttribute", {"subject": None}) == (
        third["match"],
        third["error"],
        third["inputs"],
    )
    assert 0 == result.exit_code
    assert "3 events: 1 match, 2 do not; 1 evaluation errors, 0 bad lines" in result.stderr


def test_a_table_is_for_people(app: typer.Typer) -> None:
    """Without -o there is one line per event under a heading."""
    heading, *rows = run(app, "type = 'com.a'").stdout.splitlines()
    assert ["LINE", "MATCH", "ID", "CLAUSE", "SAW"] == heading.split()
    assert [["1", "yes", "1"], ["2", "no", "2"], ["3", "no", "3"]] == [
        row.split()[:3] for row in rows
    ]


def test_no_match_is_an_exit_code(app: typer.Typer) -> None:
    """Exit code 1 means that no event passed, for use in scripts."""
    assert 1 == run(app, "type = 'nothing'").exit_code


@pytest.mark.parametrize(
    "text",
    [
        (
            "kind: Trigger\nspec:\n  filter: {attributes: {type: org.b}}\n  filters: [{exact:"
            " {type: com.a}}]\n"
        ),
        (
            "kind: Broker\nmetadata: {name: default}\n---\nkind: Trigger\nspec: {filter:"
            " {attributes: {type: com.a}}}\n"
        ),
        "- exact: {type: com.a}\n",
        "exact:\n  type: com.a\n",
        "filters:\n- exact: {type: com.a}\n",
        "filter: {attributes: {type: com.a}}\n",
        '{"cesql": "type = \'com.a\'"}',
    ],
)
def test_a_file_may_hold_a_trigger_or_filters(app: typer.Typer, tmp_path: Path, text: str) -> None:
    """The filters are found in a Trigger (its `filters` before its `filter`), in a list, and in a
    single filter.
    """
    (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
    assert [(1, True), (2, False), (3, False)] == matches(
        run(app, str(tmp_path / "f.yaml"), "-o", "json")
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x\n", "anchors and aliases are not taken"),
        ("exact: {type: a}\nexact: {type: b}\n", 'duplicate key "exact"'),
        ("exact: {type: 5}\n", "put it in quotes"),
        ("exact: {type: a}\nprefix: {type: a}\n", "only one dialect"),
        ("exact: [\n", "f.yaml:2"),
        ("[" * 20_000, "nested deeper than 64 levels"),
        ("kind: Broker\n", "0 Triggers"),
        ("kind: Trigger\n", "no spec"),
        ("{}\n---\n{}\n", "2 documents"),
        ("", "0 documents"),
        ("a: \x00\n", "f.yaml"),
        ("# " + "x" * 300_000, "more than 262144 bytes"),
        (
            "!!python/object/apply:os.system [true]\n",
            "f.yaml:1: the tag tag:yaml.org,2002:python/object/apply:os.system is not taken",
        ),
        ("? {a: b}\n: 1\n", "f.yaml:1: a key must be text"),
        ("exact: {type: !!bool zz}\n", "f.yaml:1"),
    ],
)
def test_a_bad_file_is_named(app: typer.Typer, tmp_path: Path, text: str, words: str) -> None:
    """If the content cannot be a filter, the command exits with code 2 and a message, without a
    traceback.
    """
    (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
    result = run(app, str(tmp_path / "f.yaml"))
    assert (2, "") == (result.exit_code, result.stdout)
    assert words in result.stderr


@pytest.mark.parametrize(
    "arguments", [(), ("nothere.yaml",), ("type =",), ("x" * 100_000,), ("a\x00b",)]
)
def test_an_invalid_filter_is_reported(app: typer.Typer, arguments: tuple[str, ...]) -> None:
    """No filter, a missing file and an expression that does not parse lead to exit code 2 and a
    message.
    """
    result = run(app, *arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert "headrace filter: " in result.stderr


def test_a_parse_error_points_at_its_place(app: typer.Typer) -> None:
    """The expression is shown again with a caret under the error."""
    assert "  type LIKE com\n            ^\n" in run(app, "type LIKE com").stderr


def test_bad_lines_are_counted_and_passed_over(app: typer.Typer) -> None:
    """Lines that are not events are reported by line number. The others still get results."""
    lines = [
        b"nonsense",
        EVENTS.splitlines()[0],
        b"",
        b"\xff\xfe",
        b'{"id":"1"}',
        b"[" * 100_000,
        b"x" * (LINE_BYTES_MAX + 1),
        EVENTS,
    ]
    result = run(app, "type = 'com.a'", "-o", "json", stdin=b"\n".join(lines))
    assert [(2, True), (8, True), (9, False), (10, False)] == matches(result)
    assert [1, 4, 5, 6, 7] == [
        int(line.split()[1].rstrip(":"))
        for line in result.stderr.splitlines()
        if line.startswith("line ")
    ]
    assert 2 == result.exit_code


def test_a_filter_that_surprises_is_warned_of(app: typer.Typer) -> None:
    """The command warns about filters that a cluster would refuse, but still evaluates them."""
    result = run(app, "LENGTH(id)")
    assert "a filter needs a Boolean" in result.stderr
    assert 1 == result.exit_code


def test_cases_are_answered_line_by_line(app: typer.Typer) -> None:
    """Every line gets exactly one result, in order. A line that is not a case gets null and
    generic.
    """
    lines_and_answers = [
        ('{"expression": "1 + 1"}', (2, None)),
        (
            (
                '{"expression": "id", "event": {"specversion": "1.0", "id": "7", "source": "/s",'
                ' "type": "t"}}'
            ),
            ("7", None),
        ),
        ('{"expression": "n + 1", "event": {"n": 41, "data": {"n": 1}}}', (42, None)),
        ('{"expression": "missing"}', (False, "missingAttribute")),
        ('{"expression": "("}', (False, "parse")),
        ('{"expression": "5 / 0"}', (0, "math")),
        ('{"expression": "INT(\'x\')"}', (0, "cast")),
        ('{"expression": "NOPE()"}', (False, "missingFunction")),
        ('{"expression": "LEFT(\'abc\', -1)"}', ("abc", "functionEvaluation")),
        ("", (None, "generic")),
        ("nonsense", (None, "generic")),
        ("[]", (None, "generic")),
        ("null", (None, "generic")),
        ('{"event": {}}', (None, "generic")),
        ('{"expression": 5}', (None, "generic")),
        ('{"expression": "id", "event": []}', (None, "generic")),
        ('{"expression": "id", "event": {"id": 1.5}}', (None, "generic")),
        ('{"expression": "id", "event": {"id": 99999999999}}', (None, "generic")),
        ('{"expression": "id", "event": {"id": {}}}', (None, "generic")),
        ("[" * 100_000, (None, "generic")),
        ("9" * 10_000, (None, "generic")),
        ('{"expression": "\'\\ud800\'"}', ("\ud800", None)),
        ('{"expression": "' + "(" * 5_000 + '"}', (False, "parse")),
        ("x" * (LINE_BYTES_MAX + 1), (None, "generic")),
        ('{"expression": "TRUE"}', (True, None)),
    ]
    result = run(
        app, "--cesql-cases", stdin="\n".join(line for line, _ in lines_and_answers).encode()
    )
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer for _, answer in lines_and_answers] == [
        (answer["value"], answer["error"]) for answer in answers
    ]
    bad = [
        number
        for number, (_, answer) in enumerate(lines_and_answers, 1)
        if answer == (None, "generic")
    ]
    assert bad == [int(line.split()[1].rstrip(":")) for line in result.stderr.splitlines()]
    assert 2 == result.exit_code


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "is not JSON: "),
        ("", "is not JSON: "),
        ("[]", 'no object with an "expression" and an "event"'),
        ('{"event": {}}', 'has no "expression"'),
        ('{"expression": 5}', '"expression" must be a string'),
        ('{"expression": "id", "event": []}', "is no CloudEvent"),
        (
            '{"expression": "id", "event": {"id": 1.5}}',
            '"id" must be a string, an integer or a boolean',
        ),
        ('{"expression": "id", "event": {"n": 99999999999}}', '"n" must be an integer of 32 bits'),
        ("[" * 100_000, "is nested too deeply"),
        ("x" * (LINE_BYTES_MAX + 1), "has more than"),
    ],
)
def test_a_line_that_is_no_case_is_reported_with_its_number(
    app: typer.Typer, line: str, words: str
) -> None:
    """The error is on standard error, the result keeps its position and format, and the exit code
    reports the error.
    """
    result = run(
        app,
        "--cesql-cases",
        stdin=f'{{"expression": "TRUE"}}\n{line}\n{{"expression": "("}}\n'.encode(),
    )
    assert [(True, None), (None, "generic"), (False, "parse")] == [
        tuple(json.loads(each).values()) for each in result.stdout.splitlines()
    ]
    assert result.stderr.startswith("line 2: ")
    assert words in result.stderr
    assert 2 == result.exit_code


def test_cases_that_are_all_cases_end_well(app: typer.Typer) -> None:
    """An expression that does not parse is a case like any other."""
    assert 0 == run(app, "--cesql-cases", stdin=b'{"expression": "("}\n').exit_code
