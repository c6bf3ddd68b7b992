"""The command when libraries are missing: it prints one sentence that names the extra, and exits
with code 1.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace_cli.entry_point import EXTRAS
from headrace_cli.main import COMMANDS

ROOT = Path(__file__).parents[3]
RUN = f"""
import sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "cli")!r}]
from headrace_cli.entry_point import main
main()
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an interpreter without site packages."""
    return subprocess.run(
        [sys.executable, "-S", "-I", "-c", RUN, *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "headrace needs the library typer, which is not installed: "),
        (["filter", "--help"], "headrace filter needs the library typer, "),
        (["ingress"], "headrace ingress needs the library confluent_kafka, "),
        (["up"], "headrace up needs the library confluent_kafka, "),
    ],
)
def test_without_libraries_one_sentence_names_the_extra(
    arguments: list[str], sentence: str
) -> None:
    """There is no traceback, and nothing on standard output."""
    done = _run(*arguments)
    extra = EXTRAS.get(arguments[0], "cli") if arguments else "cli"
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(sentence), done.stderr
    assert done.stderr.endswith(f': pip install "headrace[{extra}]"\n')


def test_an_extra_belongs_to_a_command() -> None:
    """The named command exists."""
    assert set(EXTRAS) <= {name for names in COMMANDS.values() for name in names}


def test_an_error_of_an_own_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an error is a bug and keeps its traceback."""
    monkeypatch.setattr(sys, "argv", ["headrace", "filter"])
    monkeypatch.setitem(sys.modules, "headrace_cli.main", None)
    from headrace_cli.entry_point import main

    with pytest.raises(ModuleNotFoundError, match="headrace_cli"):
        main()
