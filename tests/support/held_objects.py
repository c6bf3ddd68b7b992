"""The objects that an object keeps in memory, to find what it does not release."""

import gc
from types import ModuleType


def held_objects(root: object) -> list[str]:
    """Return the types of all objects that are reachable from `root`, sorted by name.

    Texts, numbers, classes and modules are not included, and functions are not followed.
    """
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, str | int | None | type | ModuleType):
            continue
        seen[id(one)] = one
        if not hasattr(one, "__globals__"):
            waiting.extend(gc.get_referents(one))
    return sorted(type(each).__qualname__ for each in seen.values())
