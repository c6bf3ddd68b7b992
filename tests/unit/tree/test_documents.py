"""Documents are correct: files, links, settings and metrics that they name exist, and each setting
is documented.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from headrace.runtime.loading import known_variables
from tests.unit.tree.settings_page import KINDS, PAGE, page
from tests.unit.tree.sources import PRODUCTION, ROOT, metrics, modules, texts

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("services/*/README.md"),
        *ROOT.glob("charts/**/*.md"),
    ]
)
CURRENT = [each for each in DOCUMENTS if each.name != "CHANGELOG.md"]
"""Those that describe the current state."""
_TOPS = ("src", "services", "cli", "tests", "docs", "bench", "charts", "examples", ".ci", ".github")
_SUFFIXES = (".py", ".md", ".yaml", ".yml", ".toml", ".lock", ".json", ".sh", ".lua", ".conf")
_MADE_BY_RUNS = {".headrace/"}
_SHORTENED = re.compile(r"[<>*{}$… ]")
"""Characters of a path pattern."""
_CODE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _title(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _code(path: Path) -> Iterator[str]:
    """The text in backticks in a document, outside of code blocks."""
    yield from _CODE.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))


@cache
def _files(within: Path = ROOT) -> frozenset[str]:
    """Every file and directory of the project with all suffixes of its path: `c.py`, `b/c.py`,
    `a/b/c.py`.
    """
    tops = [ROOT / top for top in _TOPS] if within == ROOT else [within]
    found = [
        path for top in tops for path in (top, *top.rglob("*")) if "__pycache__" not in path.parts
    ]
    paths = [
        each.relative_to(ROOT).parts
        for each in [*found, *(each for each in ROOT.iterdir() if each.is_file())]
    ]
    return frozenset("/".join(parts[start:]) for parts in paths for start in range(len(parts)))


def _is_path(code: str) -> bool:
    whole = re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", code) is not None
    return (
        whole
        and not _SHORTENED.search(code)
        and (code.endswith("/") or code.endswith(_SUFFIXES))
        and code not in _MADE_BY_RUNS
    )


@pytest.mark.parametrize("document", CURRENT, ids=_title)
def test_each_file_that_a_document_names_exists(document: Path) -> None:
    """By its path or a suffix of it; a bare name in the README of a service is of that service."""
    own = document.parent if document.parent.parent == ROOT / "services" else ROOT
    named = [code for code in _code(document) if _is_path(code)]
    assert [] == [
        code
        for code in named
        if code.removesuffix("/") not in _files(ROOT if "/" in code.removesuffix("/") else own)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=_title)
def test_each_link_has_a_target(document: Path) -> None:
    """A file of the project, and a heading of it if one is named."""
    broken = []
    for link in re.findall(
        r"\]\(([^)\s]+)\)", _FENCE.sub("", document.read_text(encoding="utf-8"))
    ):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (heading and heading not in _headings(target)):
            broken.append(link)
    assert [] == broken


def _headings(document: Path) -> set[str]:
    """The anchors of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", CURRENT, ids=_title)
def test_each_setting_that_a_document_names_exists(document: Path) -> None:
    """As a setting, or as a variable that code or tests read."""
    named = set(
        re.findall(
            r"\b(?:HEADRACE|KAFKA)_[A-Z0-9_]*[A-Z0-9]\b(?!_?\*)",
            document.read_text(encoding="utf-8"),
        )
    )
    assert set() == named - known_variables(KINDS) - _variables_in_code()


@cache
def _variables_in_code() -> frozenset[str]:
    variable = re.compile(r"\b(?:HEADRACE|KAFKA)_[A-Z0-9_]+")
    folders = (ROOT / name for name in (*PRODUCTION, "tests"))
    paths = (path for folder in folders for path in folder.rglob("*.py") if path != Path(__file__))
    sources = (path.read_text(encoding="utf-8") for path in paths)
    # Most files name none: only the others are parsed.
    named = (ast.parse(source) for source in sources if variable.search(source))
    return frozenset(
        name for module in named for _, text in texts(module) for name in variable.findall(text)
    )


def test_the_page_of_settings_shows_each_of_them() -> None:
    """docs/settings.md is the output of `python -m tests.unit.tree.settings_page`."""
    assert page() == PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("document", CURRENT, ids=_title)
def test_each_metric_that_a_document_names_exists(document: Path) -> None:
    """A name in backticks that starts with `headrace_`, is no package, and is no pattern."""
    wrong = [
        code
        for code in _code(document)
        if re.fullmatch(r"headrace_[a-z_]*[a-z]", code)
        and code not in metrics() | _headers()
        and not _is_package(code)
    ]
    assert [] == wrong


@cache
def _headers() -> frozenset[str]:
    """Names of record headers, which have the same prefix."""
    return frozenset(
        text
        for _, text in texts(modules()["src/headrace/codec/delivery_state.py"])
        if text.startswith("headrace_")
    )


def _is_package(name: str) -> bool:
    return any(f"/{name}/" in path for path in modules())
