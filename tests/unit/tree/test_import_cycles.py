"""No two modules of production code import each other, not even for their types."""

from collections.abc import Iterator, Mapping

import grimp

from tests.unit.tree.test_extras import PACKAGES


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside of functions and under `if TYPE_CHECKING` count."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    assert [] == list(_cycles(imports))


def test_cycles_are_found() -> None:
    """Long and short ones, and each once."""
    imports = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert {frozenset("abc"), frozenset("de")} == set(_cycles(imports))
    assert [] == list(_cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}))


def _cycles(imports: Mapping[str, set[str]]) -> Iterator[frozenset[str]]:
    """Strongly connected components of more than one module."""
    reached = {module: _reached(imports, module) for module in imports}
    seen: set[str] = set()
    for module in sorted(imports):
        if module not in seen and module in reached[module]:
            cycle = {each for each in reached[module] if module in reached[each]}
            seen |= cycle
            yield frozenset(cycle)


def _reached(imports: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for each in imports.get(waiting.pop(), ()):
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found
