"""No task of the services ignores its cancellation.

In Python 3.11, `asyncio.wait_for` returns a result that is there at the moment of the cancellation
and drops the cancellation: a loop that waits for an event with it never ends. `async with
asyncio.timeout(...)` does not.
"""

import ast

import pytest

from tests.unit.tree.sources import modules


@pytest.mark.parametrize("path", modules())
def test_wait_for_is_not_used(path: str) -> None:
    """In any module of the product."""
    found = [
        node.lineno
        for node in ast.walk(modules()[path])
        if isinstance(node, ast.Attribute) and node.attr == "wait_for"
        if ast.unparse(node.value) == "asyncio"
    ]
    assert found == []
