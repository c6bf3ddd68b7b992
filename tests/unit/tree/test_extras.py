"""The extras of the package: each lists what its command imports, no more and no less."""

import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points, packages_distributions
from itertools import chain
from typing import Any

import grimp
import pytest

from headrace_cli.entry_point import LIBRARIES
from headrace_sources.registry import ADAPTERS
from tests.unit.tree.sources import ROOT

PACKAGES = (
    "headrace",
    "headrace_ingress",
    "headrace_dispatcher",
    "headrace_apiserver",
    "headrace_controller",
    "headrace_sources",
    "headrace_cli",
)
START = ("headrace_cli.entry_point", "headrace_cli.main")
COMMANDS = (
    "headrace_cli.dead_letters",
    "headrace_cli.event_types",
    "headrace_cli.filter",
    "headrace_cli.health",
    "headrace_cli.resources",
    "headrace_cli.send",
    "headrace_cli.services",
    "headrace_cli.viewer",
)
ROOTS = {
    "ingress": (*START, "headrace_cli.services", "headrace_ingress.__main__"),
    "dispatcher": (*START, "headrace_cli.services", "headrace_dispatcher.__main__"),
    "controller": (*START, "headrace_cli.services", "headrace_controller.__main__"),
    "sources": (*START, "headrace_cli.services", "headrace_sources.__main__"),
    "cli": (*START, *COMMANDS),
    "all": (
        *START,
        *COMMANDS,
        "headrace_cli.up",
        "headrace_ingress.__main__",
        "headrace_dispatcher.__main__",
        "headrace_controller.__main__",
        "headrace_sources.__main__",
    ),
}
"""The modules that the commands of an extra start from; what they import at run time follows."""
PROVIDERS: dict[str, list[str]] = {}
"""The adapters that need the extra with a provider's SDK. The service imports them by name, so that
nothing above reaches them.
"""
OWN_ADAPTERS = [each.module for each in ADAPTERS.values() if not each.extra]
"""The other adapters, which the service imports by name too."""
for _entry in ADAPTERS.values():
    if _entry.extra:
        PROVIDERS.setdefault(_entry.extra, []).append(_entry.module)
DATA = {"sources": {"tzdata"}, "all": {"tzdata"}}
"""Distributions without code to import: the standard library reads their files."""
TRACING = "tracing"
"""The extra that any service can use. Without it traces cannot be recorded, and a service that is
asked for them says so.
"""
SHARED = {"google": "google-cloud-pubsub"}
"""The distribution that is meant, of packages that several unrelated ones fill."""


@cache
def _project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        *PACKAGES,
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def _libraries(roots: Iterable[str]) -> set[str]:
    """The third-party packages that these modules import, directly and through others."""
    graph, seen, waiting = _graph(), set(), list(roots)
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if module.partition(".")[0] in PACKAGES:
            waiting += graph.find_modules_directly_imported_by(module)
            waiting += [module.rpartition(".")[0]] if "." in module else []
    tops = {module.partition(".")[0] for module in seen}
    return tops - set(PACKAGES) - set(sys.stdlib_module_names) - {"opentelemetry"}


def _distribution(package: str) -> str:
    """The distribution to install for a package; the shortest name where several fill one."""
    if package in SHARED:
        return SHARED[package]
    names = packages_distributions()[package]
    return min((each.lower().replace("_", "-") for each in names), key=len)


def _listed(extra: str) -> set[str]:
    """Distributions of an extra, those of the extras in it included."""
    names: set[str] = set()
    for requirement in _project()["optional-dependencies"][extra]:
        name = requirement.partition(">=")[0]
        if name.startswith("headrace["):
            for other in name.removeprefix("headrace[").removesuffix("]").split(","):
                names |= _listed(other)
        else:
            names.add(name.partition("[")[0])  # the extras of a library are its own affair
    return names


def test_the_library_has_no_dependencies() -> None:
    """`pip install headrace` installs one package."""
    assert [] == _project()["dependencies"]


def test_there_is_an_extra_for_each_service_and_the_command() -> None:
    """And one for all of them."""
    assert set(ROOTS) | set(PROVIDERS) | {TRACING} == set(_project()["optional-dependencies"])


@pytest.mark.parametrize("extra", ROOTS)
def test_an_extra_lists_what_its_command_imports(extra: str) -> None:
    """The distributions of the packages that the import graph reaches at run time."""
    adapters = OWN_ADAPTERS if extra in ("sources", "all") else []
    providers = chain.from_iterable(PROVIDERS.values()) if extra == "all" else ()
    roots = [*ROOTS[extra], *adapters, *providers]
    imported = {_distribution(each) for each in _libraries(roots)}
    tracing = _listed(TRACING) if extra == "all" else set()
    assert imported == _listed(extra) - tracing - DATA.get(extra, set())
    assert _listed(extra) >= DATA.get(extra, set())


@pytest.mark.parametrize("extra", PROVIDERS)
def test_the_extra_of_a_provider_lists_its_sdk(extra: str) -> None:
    """What its adapters import beyond the service itself."""
    own = _libraries(PROVIDERS[extra]) - _libraries([*ROOTS["sources"], *OWN_ADAPTERS])
    assert {_distribution(each) for each in own} == _listed(extra)


def test_the_extra_for_traces_lists_what_one_module_imports() -> None:
    """And the exporter, which is found by its entry point."""
    importers = _graph().find_modules_that_directly_import("opentelemetry")
    assert {"headrace.runtime.tracing"} == importers
    (exporter,) = entry_points(group="opentelemetry_traces_exporter", name="otlp_proto_http")
    assert exporter.dist is not None
    assert {"opentelemetry-api", "opentelemetry-sdk", exporter.dist.name} == _listed(TRACING)


@pytest.mark.parametrize("extra", LIBRARIES)
def test_what_is_looked_for_before_a_service_starts_is_what_it_imports(extra: str) -> None:
    """A library that is missing from the list would be a traceback instead of a sentence."""
    assert _libraries(ROOTS[extra]) == set(LIBRARIES[extra])


def test_one_library_has_the_same_bounds_in_each_extra() -> None:
    """They are written once per extra."""
    bounds: dict[str, set[str]] = {}
    for requirements in _project()["optional-dependencies"].values():
        for each in requirements:
            bounds.setdefault(each.partition(">=")[0], set()).add(each)
    assert {} == {name: each for name, each in bounds.items() if len(each) > 1}
