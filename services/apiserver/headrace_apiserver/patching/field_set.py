"""Sets of field paths, and FieldsV1, the format in which `metadata.managedFields` lists the fields
of a manager. (pure)

A path is a tuple of elements as FieldsV1 spells them: `f:spec` a field, `k:{"name":"x"}` an entry
of a list with keys, `v:"x"` an entry of a set, `i:3` an index. A field set is a plain frozenset of
such paths, so set operations are Python's; a path in it owns that field alone, and fields below it
only if their paths are in the set too.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headrace.codec.objects import DEPTH_MAX

Path = tuple[str, ...]
FieldSet = frozenset[Path]

NOTHING: FieldSet = frozenset()
_SELF = "."
_ORDER = {"f": 0, "k": 1, "v": 2, "i": 3}


class InvalidFields(ValueError):
    """The value is not valid FieldsV1."""


def field(name: str) -> str:
    """The element of a field or map key."""
    return "f:" + name


def key(values: Mapping[str, Any]) -> str:
    """The element of a list entry that is identified by some of its fields."""
    return "k:" + _json(values)


def value(entry: Any) -> str:
    """The element of an entry of a set."""
    return "v:" + _json(entry)


def read_fields(fields: Any) -> FieldSet:
    """Read FieldsV1. Raises InvalidFields for anything else, and for deeper nesting than an object
    may have.
    """
    paths: set[Path] = set()
    waiting: list[tuple[Path, Any]] = [((), fields)]
    while waiting:
        path, node = waiting.pop()
        if not isinstance(node, Mapping) or len(path) > DEPTH_MAX:
            raise InvalidFields(f"{shown(path)[:300]}: not a field set")
        if path and (not node or _SELF in node):
            paths.add(path)
        waiting += (
            ((*path, _normal(element)), below)
            for element, below in node.items()
            if element != _SELF
        )
    return frozenset(paths)


def write_fields(paths: Iterable[Path]) -> dict[str, Any]:
    """Write FieldsV1, with its elements in the order of Kubernetes."""
    root: dict[str, Any] = {}
    for path in sorted(paths, key=_written):
        node = root
        for position, element in enumerate(path):
            below = node.get(element)
            if below is None:
                node[element] = below = {}
            elif not below and position < len(path) - 1:
                # It was a leaf before, so it is a member itself.
                below[_SELF] = {}
            node = below
    return root


def ordered(paths: Iterable[Path]) -> list[Path]:
    """Paths in the order in which conflicts list them: at each level the fields themselves before
    those below others.
    """
    return sorted(
        paths,
        key=lambda path: [
            (level < len(path) - 1, *_rank(element)) for level, element in enumerate(path)
        ],
    )


def below(path: Path, paths: Iterable[Path]) -> Iterator[Path]:
    """Those of `paths` that are `path` or below it."""
    return (each for each in paths if each[: len(path)] == path)


def shown(path: Path) -> str:
    """A path for people: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(map(_shown_element, path))


def _shown_element(element: str) -> str:
    kind, text = element[:1], element[2:]
    match kind:
        case "f":
            return "." + text
        case "k":
            return (
                "["
                + ",".join(f"{name}={_json(part)}" for name, part in json.loads(text).items())
                + "]"
            )
        case "v":
            return f"[={text}]"
    return f"[{text}]"


def _normal(element: Any) -> str:
    """The element in canonical spelling; other writers may use other white space or escapes in its
    JSON.
    """
    if not isinstance(element, str) or element[1:2] != ":" or element[:1] not in _ORDER:
        raise InvalidFields(
            f"{element!s:.100} is not a path element; one starts with f:, k:, v: or i:"
        )
    kind, text = element[0], element[2:]
    if kind == "f":
        return element
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFields(f"{element[:100]} does not contain valid JSON") from error
    if kind == "k":
        if not isinstance(found, dict) or not found:
            raise InvalidFields(f"{element[:100]} does not name a key")
        return key(found)
    if kind == "i":
        if not isinstance(found, int) or isinstance(found, bool):
            raise InvalidFields(f"{element[:100]} is not an index")
        return f"i:{found}"
    return value(found)


def _rank(element: str) -> tuple[int, str]:
    return _ORDER[element[0]], element[2:]


def _written(path: Path) -> list[tuple[int, str]]:
    return [_rank(element) for element in path]


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
