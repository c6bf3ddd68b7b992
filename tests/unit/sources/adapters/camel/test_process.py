"""The files of a Camel process, and what its output says."""

import json
import stat
from pathlib import Path

import pytest

from headrace_sources.adapters.camel.process import (
    CamelFiles,
    fault_of,
    properties_text,
    read_properties,
    without_secrets,
)
from headrace_sources.adapters.camel.routes import Routes

DIRECTORY = Path("/tmp/headrace-camel-x")


def test_only_this_user_reads_the_files() -> None:
    """And removing them leaves nothing."""
    files = CamelFiles()
    routes = Routes({"uri.yaml": "[]"}, frozenset(), frozenset(), frozenset())
    files.write(routes, {"token": "s3cret", "camel.main.shutdownTimeout": "99"}, "http://x/")
    found = [files.directory, *files.directory.rglob("*")]
    modes = {stat.S_IMODE(each.stat().st_mode) for each in found}
    assert modes == {0o700, 0o600}
    text = (files.directory / "application.properties").read_text()
    assert "token=s3cret\n" in text
    assert "99" not in text, "a source does not change what the adapter needs"
    sink = json.loads((files.directory / "routes/sink.yaml").read_text())
    assert sink[0]["route"]["from"]["steps"][-1] == {"to": "http://x/"}
    files.remove()
    assert not files.directory.exists()


def test_properties_are_written_as_java_reads_them() -> None:
    """In ASCII, with everything that has a meaning escaped."""
    text = properties_text({"a b": "c=d:#!\\\n é😀", "": " x"})
    assert text.isascii()
    assert text.splitlines() == [
        "a\\u0020b=c\\u003dd\\u003a\\u0023\\u0021\\u005c\\u000a\\u0020\\u00e9\\ud83d\\ude00",
        "=\\u0020x",
    ]


def test_a_file_of_properties_is_read() -> None:
    """Without comments and other lines."""
    text = "# no\n! no\n\na = b = c\nonly a name\nempty=\n"
    assert read_properties(text) == {"a": "b = c", "empty": ""}


def test_secrets_are_not_shown() -> None:
    """Except ones so short that they would be everywhere."""
    assert without_secrets("token=s3cret&x=1", ["s3cret", "1"]) == "token=***&x=1"


@pytest.mark.parametrize(
    ("code", "lines", "started", "reason", "message"),
    [
        (
            1,
            [
                'Exception in thread "main" org.apache.camel.X: outer',
                "\tat a.b",
                "Caused by: java.lang.IllegalArgumentException: inner",
                "\t... 3 more",
            ],
            False,
            "InvalidRoute",
            "Camel does not run these routes: inner",
        ),
        (
            1,
            [f'Exception in thread "main" bad in file:{DIRECTORY}/routes/route.yaml, line 3'],
            False,
            "InvalidRoute",
            "Camel does not run these routes: bad in route.yaml, line 3",
        ),
        (3, ["java.lang.OutOfMemoryError: x"], True, "OutOfMemory", "Camel used all of its memory"),
        (137, ["INFO x"], True, "CamelEnded", "Camel has ended by SIGKILL"),
        (1, [], False, "CamelEnded", "Camel has ended with exit code 1"),
    ],
)
def test_the_end_of_camel_is_explained(
    code: int, lines: list[str], started: bool, reason: str, message: str
) -> None:
    """By the innermost cause."""
    fault = fault_of(code, lines, DIRECTORY, started=started)
    assert fault.reason == reason
    assert str(fault).startswith(message)
