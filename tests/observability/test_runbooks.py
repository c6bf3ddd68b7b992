"""Each alert has a page that says what it means and what to do."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from headrace_cli.main import application
from tests.observability.alerts import RUNBOOKS, Alert, alerts
from tests.unit.tree.sources import ROOT, modules, texts

NAMES = [each.name for each in alerts()]
SECTIONS = ("## What it means", "## How to look", "## What to do", "## What not to do")


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_each_alert_leads_to_its_page(alert: Alert) -> None:
    """The page is about this alert, and the index and the navigation have it."""
    page = ROOT / alert.annotations["runbook_url"]
    assert RUNBOOKS / f"{alert.name}.md" == page
    assert page.read_text(encoding="utf-8").startswith(f"# {alert.name}\n")
    assert f"]({page.name})" in (RUNBOOKS / "index.md").read_text(encoding="utf-8")
    navigation = (ROOT / "docs/zensical.toml").read_text(encoding="utf-8")
    assert f'"runbooks/{page.name}"' in navigation


def test_each_page_is_about_an_alert() -> None:
    """No alert has two rules, and no page is left over."""
    assert [] == [name for name, count in Counter(NAMES).items() if count > 1]
    assert sorted(NAMES) == sorted(
        page.stem for page in RUNBOOKS.glob("*.md") if page.name != "index.md"
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_page_has_the_same_sections(name: str) -> None:
    """In the same order."""
    lines = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8").splitlines()
    assert list(SECTIONS) == [line for line in lines if line.startswith("## ")]


PAGES = sorted(RUNBOOKS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_headrace_command_of_a_page_exists(page: Path) -> None:
    """With its options."""
    for words in _headrace_commands(page.read_text(encoding="utf-8")):
        command, arguments = _command(words)
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        assert {each for each in arguments if each.startswith("-")} <= options, words


def _headrace_commands(text: str) -> Iterator[list[str]]:
    """The words after `headrace`, of each command in a code block."""
    for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "headrace":
                yield words[1:]


def _command(words: list[str]) -> tuple[Any, list[str]]:
    command: Any = get_command(application(words[:1]))
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_log_event_and_reason_of_a_page_exists(page: Path) -> None:
    """Names in snake_case that are no metrics, and reasons of conditions."""
    named = re.findall(r"`([a-z]+(?:_[a-z]+)+|[A-Z][a-z]+(?:[A-Z][a-z]+)+)`", _prose(page))
    known = {*_texts(), *NAMES}
    assert [] == [
        each
        for each in named
        if each not in known and not each.startswith(("headrace_", "process_"))
    ]


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.DOTALL)


@cache
def _texts() -> frozenset[str]:
    return frozenset(text for module in modules().values() for _, text in texts(module))
