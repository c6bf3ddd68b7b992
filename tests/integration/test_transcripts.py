"""The transcripts in documents: each command is run, and answers what the document shows.

A block of the language `console` in `docs/addressable-and-callable.md` has commands after `$ ` and
what they print. Of an answer the document shows the lines that matter, in their order.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.headrace_under_test import lasting_port
from tests.support.processes import Processes
from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "addressable-and-callable.md"
EXAMPLES = ROOT / "examples" / "legacy"
UP_SECONDS = 40.0


class Command(NamedTuple):
    """A command and the lines that it prints."""

    text: str
    lines: tuple[str, ...]


def commands(page: str) -> Iterator[Command]:
    """The commands in the `console` blocks of a page, in order."""
    for block in page.split("```console\n")[1:]:
        for part in block.partition("```")[0].split("$ ")[1:]:
            command, *lines = part.strip().splitlines()
            yield Command(command, tuple(line.strip() for line in lines if line.strip()))


def missing(command: Command, printed: str) -> list[str]:
    """The lines that the document shows and the output does not have, in this order."""
    output = iter(line.strip() for line in printed.splitlines())
    return [
        line for line in command.lines if not any(line.lower() in each.lower() for each in output)
    ]


@pytest.mark.timeout(120)
def test_an_addressable_takes_events_and_a_callable_answers(
    processes: Processes, tmp_path: Path
) -> None:
    """The page on both, with the walk-through that it names; in the end the viewer has the
    answers.
    """
    ports = {usual: str(lasting_port()) for usual in ("8080", "8090", "8091")}

    def moved(text: str) -> str:
        for usual, port in ports.items():
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
        return text.replace("port: 8090", f"port: {ports['8090']}")

    manifest = tmp_path / "walk-through.yaml"
    manifest.write_text(moved((EXAMPLES / "walk-through.yaml").read_text()))
    processes.start("function", [sys.executable, str(EXAMPLES / "function.py"), ports["8091"]])
    up = processes.headrace(
        *("up", "--port", ports["8080"], "--viewer-port", ports["8090"], "--controller-port", "0"),
        *("--management-port", "0", "--kubeconfig-out", "-", "-f", str(manifest)),
        env={"KAFKA_BOOTSTRAP_SERVERS": ""},
    )
    up.wait_for("Ctrl-C ends.", UP_SECONDS)
    found = list(commands(moved(PAGE.read_text())))
    assert len(found) == 4
    for command in found:
        done = subprocess.run(
            ["bash", "-c", command.text],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert [] == missing(command, done.stdout), done.stdout
    for number in (1, 2):
        answer = f"id answer-to-{number}"
        wait_until(lambda answer=answer: answer in up.output(), 20, answer)  # type: ignore[misc]
    assert up.stop() == 0


@pytest.mark.timeout(120)
def test_a_source_of_ones_own_by_its_tutorial(processes: Processes, tmp_path: Path) -> None:
    """Each way on the page: its own code, run as the page says."""
    page = (ROOT / "docs" / "tutorials" / "custom-source.md").read_text()
    custom = ROOT / "examples" / "sources" / "custom"
    shown = page.partition("```python\n")[2].partition("```")[0]
    assert shown in (custom / "weather.py").read_text()
    ports = {usual: str(lasting_port()) for usual in ("8080", "8001", "8090")}

    def moved(text: str) -> str:
        for usual, port in ports.items():
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
        return text

    [start] = [block for block in page.split("```") if "HEADRACE_SOURCES_ADAPTERS" in block]
    given = dict(each.split("=", 1) for each in start.split() if "=" in each)
    manifest = tmp_path / "broker.yaml"
    manifest.write_text(moved((custom / "broker.yaml").read_text()))
    headrace = str(Path(sys.executable).with_name("headrace"))
    up = processes.start(
        "up",
        [
            *("sh", "-c", 'cd "$0" && exec "$@"', str(custom), headrace, "up"),
            *("-f", str(manifest)),
            *("--port", ports["8080"], "--controller-port", ports["8001"]),
            *("--viewer-port", ports["8090"], "--management-port", "0"),
            *("--kubeconfig-out", str(tmp_path / "kubeconfig")),
        ],
        env={"KAFKA_BOOTSTRAP_SERVERS": "", **given},
    )
    up.wait_for("Ctrl-C ends.", UP_SECONDS)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HEADRACE_SERVER": f"http://127.0.0.1:{ports['8001']}",
        "HEADRACE_INGRESS": f"http://127.0.0.1:{ports['8080']}",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }
    for command in commands(moved(page)):
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=custom,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command.text, done.stdout, done.stderr)
        assert [] == missing(command, done.stdout), (command.text, done.stdout)
    for type_ in ("com.example.hello", "com.example.number", "com.example.weather"):
        wait_until(lambda type_=type_: type_ in up.output(), 20, type_)  # type: ignore[misc]
    assert up.stop() == 0


def test_a_line_that_is_not_printed_is_noticed() -> None:
    """Also one that is printed earlier than the document shows it."""
    [command] = commands("```console\n$ say\nHTTP/1.1 200 OK\nbody\n```\n")
    assert command == Command("say", ("HTTP/1.1 200 OK", "body"))
    assert [] == missing(command, "HTTP/1.1 200 OK\r\ndate: x\r\n\r\nthe body")
    assert ["body"] == missing(command, "body\nHTTP/1.1 200 OK")
