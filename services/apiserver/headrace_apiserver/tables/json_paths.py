"""The paths of printer columns: the subset of kubectl's JSONPath that CRDs use to locate the value
of a cell.

`.spec.broker`, `.metadata.annotations.example\\.com/class`, `['key']`, `[0]`, `[-1]`, `[*]`,
`.conditions[?(@.type=="Ready")].status`. A path is compiled once per kind and evaluated for every
row; an unsupported path finds nothing, and its cell stays empty: a table must not fail because of
one column.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

PATH_MAX = 1024
"""Characters of a path; a longer one finds nothing."""

Step = Callable[[list[Any]], list[Any]]

_FIELD = re.compile(r"\.?((?:\\.|[^.\[\]\\])++)")
_INDEX = re.compile(r"\[(-?\d{1,9})\]")
_WILDCARD = re.compile(r"\[\*\]|\.\*")
_QUOTED = re.compile(r"""\[(?:'((?:\\.|[^'\\])*+)'|"((?:\\.|[^"\\])*+)")\]""")
_FILTER = re.compile(
    r"""\[\?\(\s*+@\.((?:\\.|[^.\[\]\\=!()\s])++)\s*+"""
    r"""(?:(==|!=)\s*+(?:'([^']*+)'|"([^"]*+)"|(true|false|-?[0-9]{1,20})))?\s*+\)\]"""
)
_ESCAPE = re.compile(r"\\(.)")


class JsonPath:
    """One compiled path."""

    __slots__ = ("_fields", "_steps")

    def __init__(self, text: str) -> None:
        steps, fields = _compiled(
            text.strip().removeprefix("{").removesuffix("}").removeprefix("$")
        )
        self._steps = steps
        self._fields = fields

    def first(self, document: Any) -> Any:
        """The first value at the path; None if there is none."""
        if self._fields is not None:
            for field in self._fields:
                document = document.get(field) if isinstance(document, Mapping) else None
            return document
        found = self.find(document)
        return found[0] if found else None

    def find(self, document: Any) -> list[Any]:
        """All values at the path, without nulls."""
        if self._steps is None:
            return []
        values = [document]
        for step in self._steps:
            values = step(values)
        return values


def _compiled(text: str) -> tuple[tuple[Step, ...] | None, tuple[str, ...] | None]:
    """The steps of a path (None: not supported), and its fields if it consists only of fields."""
    steps: list[Step] = []
    fields: list[str] | None = []
    position = 0
    if len(text) > PATH_MAX:
        return None, None
    while position < len(text):
        matches = ((pattern.match(text, position), make) for pattern, make in _SYNTAX)
        match, make = next(((match, make) for match, make in matches if match), (None, None))
        if match is None or make is None:
            return None, None
        steps.append(make(match))
        if fields is not None:
            fields = [*fields, _unescaped(match.group(1))] if make is _field else None
        position = match.end()
    return tuple(steps), tuple(fields) if fields is not None else None


def _field(match: re.Match[str]) -> Step:
    return _field_step(_unescaped(match.group(1)))


def _quoted(match: re.Match[str]) -> Step:
    return _field_step(_unescaped(match.group(1) if match.group(1) is not None else match.group(2)))


def _field_step(name: str) -> Step:
    return lambda values: [
        value[name]
        for value in values
        if isinstance(value, Mapping) and value.get(name) is not None
    ]


def _index(match: re.Match[str]) -> Step:
    index = int(match.group(1))
    return lambda values: [
        value[index]
        for value in values
        if isinstance(value, list) and -len(value) <= index < len(value)
    ]


def _wildcard(_: re.Match[str]) -> Step:
    return lambda values: [each for value in values for each in _members(value) if each is not None]


def _filter(match: re.Match[str]) -> Step:
    field, operator, *texts = match.groups()
    field = _unescaped(field)
    wanted = next((text for text in texts if text is not None), None)

    def chosen(each: Any) -> bool:
        if not isinstance(each, Mapping) or field not in each:
            return False
        return operator is None or (_compared(each[field]) == wanted) is (operator == "==")

    return lambda values: [each for value in values for each in _members(value) if chosen(each)]


_SYNTAX: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Step]], ...] = (
    (_WILDCARD, _wildcard),
    (_FIELD, _field),
    (_INDEX, _index),
    (_QUOTED, _quoted),
    (_FILTER, _filter),
)


def _members(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _compared(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)
