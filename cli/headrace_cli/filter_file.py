"""What people give `headrace filter`: an expression, or a file with a Trigger, a list of filters or a single filter.

YAML is read without anchors, aliases and duplicate keys: a few lines of the first unfold into gigabytes, and of the last one would win in
silence.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from headrace.domain import filters
from headrace.domain.cesql import ParseError, compile_expression
from headrace.domain.field_errors import FieldError

FILE_BYTES_MAX = 256 * 1024
_SUFFIXES = (".yaml", ".yml", ".json")
_SHOWN_MAX = 120


class UnusableFilter(Exception):
    """What was given as a filter is none; the message names the place and what to do."""


def compile_given(given: str, warn: Callable[[str], None]) -> filters.Filter:
    """The filter that `given` names or is; `warn` is told of what would surprise. Raises `UnusableFilter`."""
    entries = _file_entries(Path(given)) if _is_file(given) else [_expression(given)]
    try:
        compiled = filters.compile(entries)
    except filters.InvalidFilter as error:
        raise UnusableFilter("\n".join(map(_line, error.errors))) from error
    for surprise in filters.validate(entries, "filters"):
        warn(_line(surprise))
    return compiled


def _line(error: FieldError) -> str:
    return error.headline + (f"\n  {error.details}" if error.details else "")


def _is_file(given: str) -> bool:
    if given.endswith(_SUFFIXES):
        return True
    try:
        return Path(given).is_file()
    except (OSError, ValueError):  # a long expression is no possible name
        return False


def _expression(text: str) -> Mapping[str, Any]:
    try:
        compile_expression(text)
    except ParseError as error:
        start = max(0, error.position - _SHOWN_MAX // 2)
        shown = text[start : start + _SHOWN_MAX].replace("\n", " ").replace("\t", " ")
        raise UnusableFilter(f"{error}\n  {shown}\n  {' ' * (error.position - start)}^") from error
    return {"cesql": text}


def _file_entries(path: Path) -> list[Any]:
    try:
        with path.open("rb") as stream:
            text = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UnusableFilter(f"{path}: {error.strerror or error}") from error
    if len(text) > FILE_BYTES_MAX:
        raise UnusableFilter(f"{path}: the file has more than {FILE_BYTES_MAX} bytes")
    return _entries(_documents(text, path), path)


def _documents(text: bytes, path: Path) -> list[Any]:
    try:
        loader = _Loader(text.decode("utf-8-sig"))
        documents = []
        while loader.check_data():  # type: ignore[no-untyped-call]
            documents.append(loader.get_data())
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UnusableFilter(f"{path}{line}: {error.problem or error.context}") from error
    except RecursionError as error:
        raise UnusableFilter(f"{path}: nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UnusableFilter(f"{path}: {str(error).splitlines()[0]}") from error
    return [document for document in documents if document is not None]


def _entries(documents: list[Any], path: Path) -> list[Any]:
    """The entries of the one Trigger among the documents, or of the one document that is filters itself."""
    resources = [document for document in documents if isinstance(document, Mapping) and "kind" in document]
    if resources:
        triggers = [resource for resource in resources if resource["kind"] == "Trigger"]
        if len(triggers) != 1:
            raise UnusableFilter(f"{path}: {len(triggers)} Triggers in the file; exactly one is needed")
        return _spec_entries(triggers[0].get("spec"), path)
    if len(documents) != 1:
        raise UnusableFilter(f"{path}: {len(documents)} documents in the file; exactly one is needed")
    document = documents[0]
    if isinstance(document, list):
        return document
    if isinstance(document, Mapping) and ("filters" in document or "filter" in document):
        return _spec_entries(document, path)
    return [document]


def _spec_entries(spec: Any, path: Path) -> list[Any]:
    """`filters` when there are any, else `filter.attributes`, else none."""
    if not isinstance(spec, Mapping):
        raise UnusableFilter(f"{path}: the Trigger has no spec")
    if spec.get("filters"):
        if not isinstance(spec["filters"], list):
            raise UnusableFilter(f"{path}: spec.filters must be a list")
        return spec["filters"]
    older = spec.get("filter") or {}
    if not isinstance(older, Mapping):
        raise UnusableFilter(f"{path}: spec.filter must be a mapping")
    return [{"attributes": older["attributes"]}] if older.get("attributes") else []


class _Loader(yaml.SafeLoader):
    """SafeLoader less anchors, aliases and duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not taken", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {str(key.value)[:40]!r} stands twice in one mapping", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep=deep)
