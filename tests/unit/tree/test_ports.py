"""Every port has an in-memory implementation, as its module says."""

import ast

from tests.unit.tree.sources import modules

PARTS = {"FeedListener", "LeaseListener", "Attempt", "Target"}
"""Protocols that are not ports: what a port calls, and what it returns."""


def test_every_port_has_an_in_memory_implementation() -> None:
    """Named after it: `Feeds` and `MemoryFeeds`."""
    ports, in_memory = set(), set()
    for path, module in modules().items():
        classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
        if path in ("src/headrace/domain/ports.py", "src/headrace/domain/control_ports.py"):
            ports |= {each.name for each in classes if "Protocol" in map(ast.unparse, each.bases)}
        elif path.startswith("src/headrace/adapters/memory/"):
            in_memory |= {each.name for each in classes}
    assert set() == {f"Memory{each}" for each in ports - PARTS} - in_memory
