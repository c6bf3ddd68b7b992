"""Reads the argument of `headrace filter`: an expression, or a file with a Trigger, a list of
filters or a single filter.

YAML is read as for manifests: without anchors, aliases and duplicate keys.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.adapters.yaml_text import InvalidYaml, read_yaml
from headrace.codec.objects import DEPTH_MAX, VALUES_MAX
from headrace.domain import filters
from headrace.domain.cesql import ParseError, compile_expression
from headrace.domain.field_errors import FieldError

FILE_BYTES_MAX = 256 * 1024
_SUFFIXES = (".yaml", ".yml", ".json")
_SHOWN_MAX = 120


class UnusableFilter(Exception):
    """The argument is not a usable filter; the message names the place and what to do."""


def compile_given(given: str, warn: Callable[[str], None]) -> filters.Filter:
    """Compile the filter in `given`, an expression or a file name. Calls `warn` with each warning.
    Raises `UnusableFilter`.
    """
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
    except (OSError, ValueError):  # a long expression is not a valid file name
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
        return [
            document
            for _, document in read_yaml(
                text.decode("utf-8-sig"), depth_max=DEPTH_MAX, nodes_max=VALUES_MAX
            )
        ]
    except InvalidYaml as error:
        raise UnusableFilter(f"{path}{f':{error.line}' if error.line else ''}: {error}") from error
    except UnicodeDecodeError as error:
        raise UnusableFilter(f"{path}: not UTF-8 at byte {error.start}") from error


def _entries(documents: list[Any], path: Path) -> list[Any]:
    """Return the filters of the one Trigger in the documents, or of the one document that contains
    filters.
    """
    resources = [
        document for document in documents if isinstance(document, Mapping) and "kind" in document
    ]
    if resources:
        triggers = [resource for resource in resources if resource["kind"] == "Trigger"]
        if len(triggers) != 1:
            raise UnusableFilter(
                f"{path}: {len(triggers)} Triggers in the file; exactly one is needed"
            )
        return _spec_entries(triggers[0].get("spec"), path)
    if len(documents) != 1:
        raise UnusableFilter(
            f"{path}: {len(documents)} documents in the file; exactly one is needed"
        )
    document = documents[0]
    if isinstance(document, list):
        return document
    if isinstance(document, Mapping) and ("filters" in document or "filter" in document):
        return _spec_entries(document, path)
    return [document]


def _spec_entries(spec: Any, path: Path) -> list[Any]:
    """Return `filters` if there are any, else `filter.attributes`, else an empty list."""
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
