"""The checks run in three places: `make check`, the hooks before a commit, and CI."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from typing import Any

import yaml

from tests.unit.tree.sources import ROOT


def _steps_of_make() -> list[str]:
    """The commands of `make check`, as a shell would run them from the root."""
    recipe = re.search(
        r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert recipe is not None
    steps = re.search(r"for step in (.*?); do", recipe[1])
    assert steps is not None
    return [
        each.replace("$(BIN)", ".venv/bin").replace("$(UV)", "uv")
        for each in re.findall(r'"([^"]+)"', steps[1])
    ]


def test_the_hooks_run_the_steps_of_make_check() -> None:
    """The same commands in the same order, over the whole tree and from the project's tools."""
    [repository] = _hooks()["repos"]
    assert "local" == repository["repo"]
    assert _steps_of_make() == [hook["entry"] for hook in repository["hooks"]]
    for hook in repository["hooks"]:
        assert ("system", False) == (hook["language"], hook["pass_filenames"])


def test_ci_runs_the_same_targets_as_developers() -> None:
    """`make check`, `docs`, `fuzz` and `test`, in this order."""
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    calls = re.findall(r"^(?:exec )?make (.*)", script, re.MULTILINE)
    words = (word for call in calls for word in shlex.split(call))
    assert ["check", "docs", "fuzz", "test"] == [
        word for word in words if re.fullmatch("[a-z]+", word)
    ]


def test_each_document_is_in_the_navigation_of_the_site() -> None:
    """Once; the builder does not say what it leaves out."""
    documents = {
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    }
    configuration = tomllib.loads((ROOT / "docs/zensical.toml").read_text(encoding="utf-8"))
    assert sorted(documents) == sorted(_pages(configuration["project"]["nav"]))


def _pages(navigation: Any) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
    else:
        for each in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from _pages(each)


def test_code_owners_name_paths_that_exist() -> None:
    """A path that is gone would leave its files without a reviewer."""
    lines = (ROOT / ".github/CODEOWNERS").read_text(encoding="utf-8").splitlines()
    paths = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert [] == [each for each in paths if each != "*" and not (ROOT / each.strip("/")).exists()]


def test_issue_forms_are_complete() -> None:
    """Each has what GitHub demands: a name, a description and a body of known elements."""
    for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")):
        if path.name == "config.yml":
            continue
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"], path
        assert {"markdown", "textarea", "input", "dropdown"} >= {
            each["type"] for each in form["body"]
        }
        identifiers = [each["id"] for each in form["body"] if each["type"] != "markdown"]
        assert len(set(identifiers)) == len(identifiers), path


def _hooks() -> Any:
    return yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
