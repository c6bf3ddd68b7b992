"""Production code uses all that it defines: a name that only tests use would keep dead code."""

import ast
import importlib
from collections.abc import Iterator

from headrace_sources.registry import ADAPTERS
from tests.unit.tree.sources import modules

CALLED_BY_LIBRARIES = {
    "BoundedProtocol.send_400_response",
    "BoundedProtocol.timeout_keep_alive_handler",
    "ClientConnection.eof_received",
    "ServerConnection.eof_received",
    "ServerConnection.on_url",
    "ServerConnection.resume_writing",
    "QuietServer.capture_signals",
    "_NoRedirects.redirect_request",
    "_Loader.construct_yaml_bool",
    "_Loader.construct_yaml_float",
    "_Loader.construct_yaml_int",
    "_Loader.construct_yaml_str",
    "SourceConfig.model_config",
    "_Secret._api_info",
}
FOR_TESTS_AND_DOCUMENTS = {
    "HttpServer.uvicorn_protocol",  # docs/decisions/0006
    "MemoryClock",
    "MemoryClock.advance",
    "MemoryLog.refuse",
    "Metrics.expose",
    "NORMAL",
    "OffsetTracker.is_done",
    "Retry.retry_after",
    "PoisonTracker.descriptors",
    "TERMINAL",
    "Cacher.watching",
    "as_markdown",
}
"""What tests inspect or construct, and what writes tables of documents."""
LIBRARY = ("cesql", "cloudevents", "filters")
"""Modules of `headrace` whose `__all__` is for the users of the library."""
ALLOWED = CALLED_BY_LIBRARIES | FOR_TESTS_AND_DOCUMENTS


def test_each_name_is_used_by_production_code() -> None:
    """Functions, methods, classes, constants and fields; members of enumerations have a test of
    their own.
    """
    assert set() == _unused() - ALLOWED


def test_the_exceptions_are_exceptions() -> None:
    """A name that is used or no longer exists is removed from the lists."""
    assert set() == ALLOWED - _unused()


def _unused() -> set[str]:
    used = {name for module in modules().values() for name in _used(module)}
    used |= {entry.class_name for entry in ADAPTERS.values()}
    for name in LIBRARY:
        used |= set(importlib.import_module(f"headrace.{name}").__all__)
    return {
        title
        for module in modules().values()
        for title, name in _defined(module, "")
        if name not in used and name[:2] != "__"
    }


def _used(module: ast.Module) -> Iterator[str]:
    """Names that are read; an import under another name is a use."""
    for node in ast.walk(module):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.name
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "AdapterEntry":
            # The class of an adapter is imported by its name when a source needs it.
            yield from (
                str(each.value) for each in node.args[1:2] if isinstance(each, ast.Constant)
            )


def _defined(node: ast.AST, owner: str) -> Iterator[tuple[str, str]]:
    """(title, name) of what a module and its classes define; commands are used by their
    decorator.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            if not any(ast.unparse(base).endswith("Enum") for base in child.bases):
                yield f"{owner}{child.name}", child.name
                yield from _defined(child, f"{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if not any(
                "command" in each or "callback" in each or "_validator(" in each
                for each in map(ast.unparse, child.decorator_list)
            ):
                yield f"{owner}{child.name}", child.name
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            for target in child.targets if isinstance(child, ast.Assign) else [child.target]:
                yield from (
                    (f"{owner}{each.id}", each.id)
                    for each in ast.walk(target)
                    if isinstance(each, ast.Name)
                )
