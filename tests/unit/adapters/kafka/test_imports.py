"""The modules of the Kafka adapters import each other in one direction."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from headrace.adapters import kafka

PACKAGE = Path(next(iter(kafka.__path__)))
PREFIX = "headrace.adapters.kafka."


def imports(path: Path) -> set[str]:
    """Modules of the package that a module imports, for type checking too."""
    return {
        node.module.removeprefix(PREFIX)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PREFIX)
    }


def test_no_import_cycle() -> None:
    """A cycle raises `CycleError`, which names its modules."""
    graph = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): imports(path)
        for path in PACKAGE.rglob("*.py")
    }
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("consumer.assignment") < order.index("consumer.feed")
