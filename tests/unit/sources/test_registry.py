"""Adapters of an operator: what is wrong with one is reported when the service starts."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace_sources.registry import ADAPTERS, adapters_with, check_own_adapters
from headrace_sources.source import SourceFault

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


def test_nothing_is_imported_without_adapters_of_ones_own() -> None:
    """The libraries of the others are imported when a source needs them."""
    with capture_logs() as logs:
        check_own_adapters(adapters_with({}), {})
    assert not logs
    assert adapters_with({}) == ADAPTERS
