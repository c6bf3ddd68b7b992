"""How much work a check against a JSON Schema can be, and what a schema must not contain so that
there is a bound at all.

The schema of an event type is written by its producer, and the data by any sender; both together
must not occupy an ingress that others use. The cost of a schema is the number of its keywords, with
every `$ref` replaced by what it refers to: at most that many are applied to one value. So a schema
that refers to itself is rejected, and so is `$dynamicRef`. A schema also refers to nothing outside
of itself.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from headrace.domain.event_schemas import InvalidSchema

COST_MAX = 10_000
"""Keywords of a schema, references replaced."""
DEPTH_MAX = 64
"""Nesting of subschemas, references followed."""
WORK_MAX = 1_000_000_000
"""Cost of a schema times bytes of data. An array of one-digit numbers has a value in every second
byte; a keyword takes some nanoseconds.
"""

_SCHEMA_KEYWORDS = frozenset(
    (
        *("not", "if", "then", "else", "items", "additionalItems", "unevaluatedItems", "contains"),
        *("additionalProperties", "unevaluatedProperties", "propertyNames"),
    )
)
_LIST_KEYWORDS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
_MAP_KEYWORDS = frozenset(("properties", "patternProperties", "dependentSchemas", "dependencies"))
_DEFINITIONS = ("$defs", "definitions")
_REJECTED = {
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
}
_VALUES_SHOWN_MAX = 100
_PATTERN_CHARACTERS = 8
"""Characters of a pattern that count as one keyword."""


def data_bytes_max(cost: int) -> int:
    """Return the largest data that is checked against a schema of this cost."""
    return WORK_MAX // cost


def cost_of(schema: Any) -> int:
    """Return the cost of a schema, at least 1. Raises `InvalidSchema`."""
    if isinstance(schema, bool):
        return 1
    if not isinstance(schema, Mapping):
        raise InvalidSchema("a JSON Schema is an object, true or false")
    return _Reader(schema).cost(schema, 0)


class _Reader:
    """Adds up the cost of the parts of one schema; each part once, however often it is used."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._anchors = dict(_anchors(root))
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def cost(self, schema: Any, depth: int) -> int:
        """Return the cost of a subschema."""
        if not isinstance(schema, Mapping):
            return 1
        identity = id(schema)
        if identity in self._known:
            return self._known[identity]
        if identity in self._open:
            raise InvalidSchema("the schema refers to itself, so a check would have no bound")
        if depth > DEPTH_MAX:
            raise InvalidSchema(f"subschemas may nest {DEPTH_MAX} levels deep")
        self._reject(schema)
        self._open.add(identity)
        total = 1 + sum(map(_weight, schema.items()))
        for each in _applied(schema):
            total += self.cost(each, depth + 1)
        if isinstance(reference := schema.get("$ref"), str):
            total += self.cost(self._target(reference), depth + 1)
        self._open.discard(identity)
        if total > COST_MAX:
            raise InvalidSchema(
                f"more than {COST_MAX} keywords would be applied, references included; make the"
                " schema smaller"
            )
        self._known[identity] = total
        return total

    def _reject(self, schema: Mapping[str, Any]) -> None:
        for name, instead in _REJECTED.items():
            if name in schema:
                raise InvalidSchema(f"{name} is not supported; {instead}")
        if schema is not self._root and isinstance(schema.get("$id"), str):
            raise InvalidSchema("$id is supported at the root of a schema only")

    def _target(self, reference: str) -> Any:
        shown = reference[:_VALUES_SHOWN_MAX]
        if not reference.startswith("#"):
            raise InvalidSchema(
                f"$ref {shown}: only references within the schema (#/…) are followed"
            )
        name = unquote(reference[1:])
        if name and not name.startswith("/"):
            if name not in self._anchors:
                raise InvalidSchema(f"$ref {shown}: there is no such anchor")
            return self._anchors[name]
        at: Any = self._root
        for segment in name.split("/")[1:]:
            key = segment.replace("~1", "/").replace("~0", "~")
            try:
                at = at[int(key)] if isinstance(at, list) else at[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise InvalidSchema(f"$ref {shown}: there is no such place") from None
        return at


def _weight(member: tuple[str, Any]) -> int:
    """The work of one keyword: of a list of values, that of each."""
    name, value = member
    if name in ("enum", "required", "const"):
        return _count(value)
    if name == "pattern" and isinstance(value, str):
        return 1 + len(value) // _PATTERN_CHARACTERS
    if name == "patternProperties" and isinstance(value, Mapping):
        return 1 + sum(1 + len(each) // _PATTERN_CHARACTERS for each in value)
    return 1


def _count(value: Any) -> int:
    """The number of values in a JSON value. The text of a schema is bounded, and so is this."""
    count, waiting = 0, [value]
    while waiting:
        at = waiting.pop()
        count += 1
        if isinstance(at, Mapping):
            waiting.extend(at.values())
        elif isinstance(at, list):
            waiting.extend(at)
    return count


def _applied(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the subschemas that a check may apply; definitions are applied where they are referred
    to.
    """
    for name, value in schema.items():
        if name in _LIST_KEYWORDS and isinstance(value, list):
            yield from value
        elif name in _SCHEMA_KEYWORDS and isinstance(value, Mapping):
            yield value
        elif name in _MAP_KEYWORDS and isinstance(value, Mapping):
            yield from (each for each in value.values() if isinstance(each, Mapping))


def _anchors(root: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every `$anchor` with its subschema."""
    waiting: list[Any] = [root]
    while waiting:
        at = waiting.pop()
        if not isinstance(at, Mapping):
            continue
        if isinstance(anchor := at.get("$anchor"), str):
            yield anchor, at
        waiting.extend(_applied(at))
        for name in _DEFINITIONS:
            if isinstance(at.get(name), Mapping):
                waiting.extend(at[name].values())
