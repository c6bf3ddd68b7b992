"""The production source files, parsed once."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRODUCTION = ("src", "services", "cli")


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax tree of each production module, by its path from the root."""
    paths = sorted(path for folder in PRODUCTION for path in (ROOT / folder).rglob("*.py"))
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in paths
    }


def texts(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of each string that the code uses, except docstrings and logger names; the fixed
    parts of an f-string are separate.
    """
    left_out = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    left_out |= {
        id(node.args[0])
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and node.args and _makes_logger(node)
    }
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in left_out
        ):
            yield node.lineno, node.value


def _makes_logger(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in ("getLogger", "get_logger")


@dataclass(frozen=True, slots=True)
class EnumClass:
    """An enumeration in production code."""

    path: str
    name: str
    members: frozenset[str]
    lines: range
    """Of its definition."""


def enums() -> Iterator[EnumClass]:
    """Every enumeration that is defined in production code."""
    for path, module in modules().items():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith(("Enum", "IntFlag")) for base in node.bases
            ):
                assigned = [each.targets[0] for each in node.body if isinstance(each, ast.Assign)]
                members = frozenset(
                    each.id
                    for each in assigned
                    if isinstance(each, ast.Name) and not each.id.startswith("_")
                )
                yield EnumClass(
                    path,
                    node.name,
                    members,
                    range(node.lineno, (node.end_lineno or node.lineno) + 1),
                )


def uses_of(enum: EnumClass) -> Iterator[tuple[str, int, str]]:
    """(path, line, member) of each `Enum.MEMBER` in production code; the enumeration's package may
    re-export it.
    """
    home = enum.path.removesuffix(".py").rpartition("src/")[2].replace("/", ".")
    home = (
        home.partition("services.")[2].partition(".")[2]
        if home.startswith("services.")
        else home.removeprefix("cli.")
    )
    for path in modules():
        names = {
            name
            for (source, there), name in _imported(path).items()
            if there == enum.name and f"{home}.".startswith(f"{source}.")
        }
        if path == enum.path:
            names = {enum.name}
        yield from (
            (path, line, member) for line, owner, member in _attributes(path) if owner in names
        )


@cache
def _imported(path: str) -> dict[tuple[str, str], str]:
    """Names in a module by where they come from: (module, name there)."""
    return {
        (node.module or "", alias.name): alias.asname or alias.name
        for node in ast.walk(modules()[path])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@cache
def _attributes(path: str) -> list[tuple[int, str, str]]:
    """(line, owner, attribute) of each `owner.attribute`."""
    return [
        (node.lineno, node.value.id, node.attr)
        for node in ast.walk(modules()[path])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]


@cache
def metrics() -> frozenset[str]:
    """The names of metrics as they are scraped; if the first part is a variable, with each possible
    prefix.
    """
    found = set()
    for module in modules().values():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                kind, name = (
                    node.func.attr,
                    ast.unparse(node.args[0]).removeprefix("f").strip("'\""),
                )
                if kind in ("counter", "gauge", "histogram"):
                    total = "_total" if kind == "counter" else ""
                    found |= {
                        f"headrace_{name.replace('{prefix}', prefix)}{total}"
                        for prefix in ("ingress", "management")
                    }
    return frozenset(found)
