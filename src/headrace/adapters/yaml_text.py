"""Reads YAML strictly: without anchors, aliases, merge keys, duplicate keys or dates, and with
limits on the result.

Numbers are those of YAML 1.1 without base 60, as in Kubernetes: `1:30` is a string. Tags other than
the core tags are refused. A tag that does not match its value is an error with a line number, like
every other error.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml

_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset(
    ("!", *(f"{_CORE}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")))
)
_INTEGER = re.compile(r"[-+]?(?:0b[01_]++|0x[0-9a-fA-F_]++|0[0-7_]++|0|[1-9][0-9_]*+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]*+)\.[0-9_]*+(?:[eE][-+][0-9]++)?|\.[0-9][0-9_]*+(?:[eE][-+][0-9]++)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER_CHARACTERS_MAX = 1_024
_INTEGER_LIMIT = 1 << 63
_SHOWN_MAX = 100


class InvalidYaml(ValueError):
    """The text is not valid YAML, or exceeds a limit."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.line = line
        """The line, counted from 1; None if it is not known."""


class YamlDocument(NamedTuple):
    """One document of a text."""

    line: int
    value: Any


def read_yaml(text: str, *, depth_max: int, nodes_max: int) -> Iterator[YamlDocument]:
    """Yield the documents of a text, except empty ones. Values are objects, lists, strings,
    booleans, nulls, and numbers that JSON can represent.

    Raises InvalidYaml, possibly after some documents.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text, depth_max, nodes_max)
        while loader.check_data():  # type: ignore[no-untyped-call]
            line = loader.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            value = loader.get_data()
            if value is not None:
                yield YamlDocument(line, value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidYaml(
            str(error.problem or error.context), mark.line + 1 if mark else None
        ) from error
    except RecursionError as error:
        raise InvalidYaml("nested too deeply", None) from error
    except yaml.YAMLError as error:
        raise InvalidYaml(next(iter(str(error).splitlines()), "no YAML"), None) from error
    finally:
        if loader is not None:
            loader.dispose()


class _Loader(yaml.SafeLoader):
    """The strict loader of this module."""

    def __init__(self, text: str, depth_max: int, nodes_max: int) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0
        self._depth_max = depth_max
        self._nodes_max = nodes_max

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _problem("anchors and aliases are not taken", event)
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _TAGS:
            raise _problem(f"the tag {str(tag)[:_SHOWN_MAX]} is not taken", event)
        self._depth += 1
        self._nodes += 1
        if self._depth > self._depth_max:
            raise _problem(f"nested deeper than {self._depth_max} levels", event)
        if self._nodes > self._nodes_max:
            raise _problem(f"more than {self._nodes_max} nodes", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Check the depth before the scanner searches for a key that begins at an outer level,
        which it does for each open bracket.
        """
        if self.flow_level >= self._depth_max:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {self._depth_max} levels", problem_mark=self.get_mark()
            )
        super().fetch_flow_collection_start(TokenClass)

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _problem("expected a mapping", node)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a key must be text", key)
            if key.value in seen:
                raise _problem(f'duplicate key "{key.value[:_SHOWN_MAX]}"', key)
            seen.add(key.value)
            # In a manifest, a key such as `1:` or `yes:` means the string.
            key.tag = f"{_CORE}str"
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_str(self, node: yaml.Node) -> str:
        """Return a string. A lone surrogate, which only an escape can produce, cannot be encoded in
        UTF-8 and is an error.
        """
        text = self._scalar(node)
        if _SURROGATE.search(text):
            raise _problem("half of a character (a lone surrogate) in a text", node)
        return text

    def construct_yaml_int(self, node: yaml.Node) -> int:
        """Return a 64-bit integer."""
        text = self._scalar(node)
        number = (
            _integer(text) if len(text) <= _NUMBER_CHARACTERS_MAX and _INTEGER.match(text) else None
        )
        if number is None or not -_INTEGER_LIMIT <= number < _INTEGER_LIMIT:
            raise _problem(f'"{text[:_SHOWN_MAX]}" is no integer of 64 bits', node)
        return number

    def construct_yaml_float(self, node: yaml.Node) -> float:
        """Return a double; one that JSON cannot represent is an error."""
        text = self._scalar(node)
        if len(text) <= _NUMBER_CHARACTERS_MAX:
            try:
                number = float(text.replace("_", ""))
                if abs(number) < float("inf"):
                    return number
            except ValueError:
                pass
        raise _problem(f'"{text[:_SHOWN_MAX]}" is no number that JSON can write', node)

    def construct_yaml_bool(self, node: yaml.Node) -> bool:
        """Return a boolean."""
        found = self.bool_values.get(self._scalar(node).lower())
        if found is None:
            raise _problem(f'"{self._scalar(node)[:_SHOWN_MAX]}" is neither true nor false', node)
        return found

    def _scalar(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _problem("expected a single value", node)
        return str(node.value)


def _integer(text: str) -> int | None:
    digits = text.replace("_", "")
    plain = digits.lstrip("+-")
    base = {"0b": 2, "0x": 16}.get(plain[:2], 8 if plain[:1] == "0" and len(plain) > 1 else 10)
    try:
        return int(digits, base)
    except ValueError:
        return None


def _problem(text: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=at.start_mark)


def _prepare() -> None:
    """Configure the loader: numbers without base 60, and no dates, so that a timestamp stays a
    string.
    """
    left_out = {f"{_CORE}{name}" for name in ("timestamp", "int", "float", "merge", "value")}
    _Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in left_out]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    add: Callable[..., None] = _Loader.add_implicit_resolver
    add(f"{_CORE}float", _FLOAT, list("-+0123456789."))
    add(f"{_CORE}int", _INTEGER, list("-+0123456789"))
    for name in ("str", "int", "float", "bool"):
        _Loader.add_constructor(f"{_CORE}{name}", getattr(_Loader, f"construct_yaml_{name}"))


_prepare()
