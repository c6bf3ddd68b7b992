"""Adapters of an operator: what is wrong with one is reported when the service starts."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace_sources.registry import ADAPTERS, adapters_with, check_own_adapters
from headrace_sources.source import SourceFault

ROOT = Path(__file__).parents[3]
WORKS = "tests.unit.sources.test_sources"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of modules that Python finds."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("adapter_absent", None, "No module named 'adapter_absent'"),
        ("adapter_unwritten", "x = 1", "module adapter_unwritten has no class Mine"),
        ("adapter_wrong", "class Mine(:", "cannot be imported: SyntaxError"),
        ("adapter_defect", "open('/no/such/file')", "cannot be imported: FileNotFoundError"),
        ("adapter_script", "raise SystemExit(2)", "cannot be imported: SystemExit"),
        ("adapter_needs", "import no_such_library", "No module named 'no_such_library'"),
        ("adapter_plain", "class Mine:\n    pass", "Mine.Config is no SourceConfig"),
        ("adapter_function", "def Mine(): pass", "Mine.Config is no SourceConfig"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_an_error_at_the_start(
    modules: Path, name: str, text: str | None, error: str
) -> None:
    """It names the setting, and what runs all the same; a source of it says the same."""
    if text is not None:
        (modules / f"{name}.py").write_text(text)
    own = {"mine": (name, "Mine"), "good": (WORKS, "StepsSource")}
    adapters = adapters_with(own)
    with capture_logs() as logs:
        check_own_adapters(adapters, own)
    [logged] = logs
    assert ("error", "adapter_not_loaded", "mine") == (
        logged["log_level"],
        logged["event"],
        logged["adapter"],
    )
    assert logged["setting"] == "HEADRACE_SOURCES_ADAPTERS"
    assert error in logged["error"]
    assert "the other adapters run" in logged["next_step"]
    with pytest.raises(SourceFault, match="Mine") as fault:
        adapters["mine"].load()
    assert error in str(fault.value)
    assert adapters["good"].load().__name__ == "StepsSource"  # type: ignore[attr-defined]


WITHOUT = """
import sys

missing = sys.argv[2].split(",")


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Finder())
from headrace_sources.registry import ADAPTERS
from headrace_sources.source import SourceFault

try:
    ADAPTERS[sys.argv[1]].load()
except SourceFault as fault:
    print(fault.reason, fault)
"""


@pytest.mark.parametrize(
    ("adapter", "missing"),
    [
        (name, each)
        for name, entry in ADAPTERS.items()
        if entry.extra
        for each in {",".join(entry.imports): None, **dict.fromkeys(entry.imports)}
    ],
)
def test_a_missing_library_is_named_with_its_extra(adapter: str, missing: str) -> None:
    """Of each adapter that needs one, in a process that does not find it."""
    command = [sys.executable, "-c", WITHOUT, adapter, missing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    extra = ADAPTERS[adapter].extra
    assert done.stdout.startswith("LibraryMissing the sources service lacks ")
    assert done.stdout.strip().endswith(f"install headrace[{extra}]")


def test_an_adapter_without_an_extra_needs_none() -> None:
    """Each extra of a provider belongs to one adapter."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    provided = {name for name in extras if name.startswith("sources-")}
    assert sorted(entry.extra for entry in ADAPTERS.values() if entry.extra) == sorted(provided)


def test_nothing_is_imported_without_adapters_of_ones_own() -> None:
    """The libraries of the others are imported when a source needs them."""
    with capture_logs() as logs:
        check_own_adapters(adapters_with({}), {})
    assert not logs
    assert adapters_with({}) == ADAPTERS
