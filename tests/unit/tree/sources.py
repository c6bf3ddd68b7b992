"""The source files of production, parsed once."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRODUCTION = ("src", "services", "cli")


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax tree of each production module, by its path from the root."""
    paths = sorted(path for folder in PRODUCTION for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def texts(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of each string that the code uses, but for docstrings and names of loggers; an f-string's fixed parts come singly."""
    left_out = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    left_out |= {id(node.args[0]) for node in ast.walk(module) if isinstance(node, ast.Call) and node.args and _makes_logger(node)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.lineno, node.value


def _makes_logger(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in ("getLogger", "get_logger")


def members_named(modules_: dict[str, ast.Module], class_name: str) -> set[str]:
    """The members that code names as `class_name.MEMBER`."""
    return {
        node.attr
        for module in modules_.values()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == class_name
    }
