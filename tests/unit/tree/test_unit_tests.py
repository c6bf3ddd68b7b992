"""`tests/unit` mirrors the source tree: a module's tests have its path."""

from pathlib import Path

import pytest

from tests.unit.tree.sources import ROOT, modules

UNIT = ROOT / "tests/unit"
OTHERS = {"bench", "support", "tree"}
"""Directories of tests about the benchmarks, the tests and the tree; test modules directly in
`tests/unit` are about the distribution as a whole.
"""
TOPICS = {
    "apiserver/test_foreign_kinds.py",
    "controller/reconcile/test_legacy_versions.py",
    "controller/test_crash_recovery.py",
    "controller/test_lifecycle.py",
    "controller/test_namespace_termination.py",
    "dispatcher/test_hostile_data.py",
    "dispatcher/test_observed_event_types.py",
    "dispatcher/test_position_extensions.py",
    "ingress/test_observed_event_types.py",
}
"""Test modules whose topic is a whole service, not one of its modules."""


def _test_modules() -> list[str]:
    """Paths below `tests/unit`."""
    paths = [path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")]
    return sorted(
        path.as_posix() for path in paths if len(path.parts) > 1 and path.parts[0] not in OTHERS
    )


def _package(directory: Path) -> Path:
    """The source package whose tests are in a directory of `tests/unit`."""
    top, *rest = directory.parts
    if (ROOT / "services" / top).is_dir():
        return Path("services", top, f"headrace_{top}", *rest)
    return Path("cli/headrace_cli", *rest) if top == "cli" else Path("src/headrace", top, *rest)


def _names_a_module(path: str) -> bool:
    """`test_<module>.py` or `test_<module>_<topic>.py`, where the module may be the package."""
    package = _package(Path(path).parent)
    words = Path(path).stem.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    return package.name in names or any(
        f"{package}/{name}{end}" in modules() for name in names for end in (".py", "/__init__.py")
    )


@pytest.mark.parametrize("directory", sorted({str(Path(each).parent) for each in _test_modules()}))
def test_each_directory_has_a_source_package_of_the_same_path(directory: str) -> None:
    """The path of a test says which package it tests."""
    assert f"{_package(Path(directory))}/__init__.py" in modules()


def test_each_test_module_names_a_source_module() -> None:
    """Unless it is listed as a topic."""
    unknown = {each for each in _test_modules() if not _names_a_module(each)}
    assert unknown == TOPICS
