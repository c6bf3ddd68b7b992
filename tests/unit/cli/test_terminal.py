"""How commands print text from other parties: it cannot move the cursor, change colours or change
the direction of a line.
"""

import ast
import json
import unicodedata
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import headrace_cli
from headrace_cli.client import ApiClient, Kind
from headrace_cli.console import EscapingConsole
from headrace_cli.dead_letter_output import print_dead_letter, print_dead_letters
from headrace_cli.dead_letter_view import DeadLetterView
from headrace_cli.main import application
from headrace_cli.resource_output import OutputFormat, print_document, print_table
from headrace_cli.terminal import ResultFormat, escape_controls, escape_json_controls, printable
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b31m\r\x00\x7f\u202e\u2066\u200f\u2028\U000e0041é日"
KIND = Kind("v1", "Event", "events", True, frozenset())


def _is_harmless(text: str) -> bool:
    return all(
        each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        for each in text
    )


@given(text=st.text(st.characters()))
def test_neutral_text_obeys_nobody(text: str) -> None:
    """This holds for any text. Harmless text is unchanged, and JSON keeps its meaning."""
    assert _is_harmless(escape_controls(text))
    assert _is_harmless(printable(text, 1_000))
    if _is_harmless(text):
        assert text == escape_controls(text)
    document = json.dumps({"a": text}, ensure_ascii=False)
    assert _is_harmless(escape_json_controls(document))
    assert {"a": text} == json.loads(escape_json_controls(document))


def test_letters_of_all_languages_stay() -> None:
    """Only characters that a terminal interprets are escaped."""
    assert "é日本\u3000ﷺ\t😀\n" == escape_controls("é日本\u3000ﷺ\t😀\n")


@pytest.mark.parametrize("output", list(OutputFormat))
def test_objects_are_printed_harmlessly(
    output: OutputFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    """This holds for tables, names, JSON and YAML; JSON and YAML keep their meaning."""
    document = {"metadata": {"name": HOSTILE, "namespace": HOSTILE}, HOSTILE: [HOSTILE, "a\u202eb"]}
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        print_document(document, output)
        shown = capsys.readouterr().out
        assert document == (
            json.loads(shown) if output is OutputFormat.JSON else yaml.safe_load(shown)
        )
    else:
        columns = [{"name": HOSTILE, "priority": 0}, {"name": "b", "priority": 1}]
        table = {
            "columnDefinitions": columns,
            "rows": [{"cells": [HOSTILE, HOSTILE], "object": document}],
        }
        print_table(table, KIND, output, with_namespace=True)
        shown = capsys.readouterr().out
    assert _is_harmless(shown)
    assert "é日" in shown or "\\" in shown


@pytest.mark.parametrize("output", list(ResultFormat))
def test_dead_letters_are_printed_harmlessly(
    output: ResultFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    """This holds for one dead letter and for a list."""
    attributes = {"id": HOSTILE, "type": HOSTILE, HOSTILE: HOSTILE, "datacontenttype": HOSTILE}
    letter = DeadLetterView(
        HOSTILE,
        0,
        attributes,
        {"knativeerrordest": HOSTILE},
        {"reason": HOSTILE},
        3,
        HOSTILE.encode(),
    )
    print_dead_letter(letter, output)
    print_dead_letters([letter], output)
    assert _is_harmless(capsys.readouterr().out)


def test_a_console_prints_plain_text_harmlessly() -> None:
    """`headrace up` and the viewer print in this way."""
    stream = StringIO()
    EscapingConsole(file=stream, width=500).print(HOSTILE, markup=False)
    assert _is_harmless(stream.getvalue())


def test_a_filter_explains_harmlessly() -> None:
    """This holds for attributes of events, and for lines that are not events."""
    event = json.dumps({"specversion": "1.0", "id": "a\u202eb", "source": "/s", "type": "t\u2066"})
    result = CliRunner().invoke(
        application(["filter"]), ["filter", "type = 'x\u202e'"], input=f"{event}\n{{\x1b[2J}}\n"
    )
    assert _is_harmless(result.output)
    assert "a\\u202eb" in result.output


def _printing_calls() -> Iterator[str]:
    for path in sorted(Path(headrace_cli.__file__).parent.glob("*.py")):
        if path.name in ("terminal.py", "console.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in (
                    "typer.echo",
                    "typer.secho",
                    "click.echo",
                    "print",
                    "Console",
                    "sys.stdout.write",
                    "sys.stderr.write",
                ):
                    yield f"{path.name}: {called}"


def test_every_command_prints_through_one_place() -> None:
    """A new command therefore cannot omit the escaping. Exceptions are the sentence about a missing
    library, which is printed without any library, the version, and a table whose cells are escaped
    already.
    """
    assert [
        "entry_point.py: sys.stderr.write",
        "main.py: typer.echo",
        "resource_output.py: Console",
        "resource_output.py: Console",
    ] == list(_printing_calls())


@pytest.fixture(scope="module")
def api() -> Iterator[ApiUnderTest]:
    """A controller."""
    with running_api() as running:
        yield running


def test_every_kind_that_is_served_has_its_names(api: ApiUnderTest) -> None:
    """Kinds are found by plural, singular, qualified and short names, also those that the preferred
    version of their group lacks.
    """
    client = ApiClient(api.url)
    listed: list[tuple[str, dict[str, Any]]] = []
    group_versions = [
        each["groupVersion"]
        for group in client.call("GET", "/apis")[1]["groups"]
        for each in group["versions"]
    ]
    for version in ["v1", *group_versions]:
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        listed += [
            (version, each)
            for each in client.call("GET", path)[1]["resources"]
            if "/" not in each["name"]
        ]
    assert "eventtypes" in {each["name"] for _, each in listed}
    for version, each in listed:
        group = version.rpartition("/")[0]
        names = {
            each["name"],
            each["singularName"],
            each["kind"],
            *(each.get("shortNames") or ()),
        } - {""}
        for name in names:
            assert name.lower() in client.kind_called(name).words
        found = client.kind_called(f"{each['name']}.{group}" if group else each["name"])
        assert (each["name"], each["kind"]) == (found.plural, found.kind)


def test_get_shows_event_types_and_events(api: ApiUnderTest) -> None:
    """These are the commands that users type."""
    for kind in ("eventtypes", "eventtype", "events", "eventtypes.eventing.knative.dev"):
        result = CliRunner().invoke(application(["get"]), ["get", kind, "-A", "--server", api.url])
        assert 0 == result.exit_code, result.output
