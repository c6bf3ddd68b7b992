"""The objects that `kubectl get` prints: lists, single objects and watch events as Tables, and
objects reduced to their metadata.

There is one `Tabulator` per kind, which formats every row, including ages, so that a client needs
to know nothing about the kind. Columns come from a CRD's printer columns (see `json_paths`) or, for
core kinds, from `core_cells`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from headrace.resources.resource import ResourceKind
from headrace_apiserver.statuses import bad_request
from headrace_apiserver.tables.ages import age
from headrace_apiserver.tables.core_cells import AGE, CORE_COLUMNS, NAME, CoreColumn
from headrace_apiserver.tables.json_paths import JsonPath

META_V1 = "meta.k8s.io/v1"


class TableColumn(Protocol):
    """A column as a CRD defines it."""

    @property
    def name(self) -> str:
        """The title."""
        ...

    @property
    def type(self) -> str:
        """One of `string`, `integer`, `number`, `boolean`, `date`."""
        ...

    @property
    def format(self) -> str:
        """A hint such as `int32`, or empty."""
        ...

    @property
    def description(self) -> str:
        """For users; may be empty."""
        ...

    @property
    def priority(self) -> int:
        """A column above 0 is only in wide tables."""
        ...

    @property
    def json_path(self) -> str:
        """The path of the value."""
        ...


class Included(StrEnum):
    """What a row contains of its object: the `includeObject` parameter."""

    NONE = "None"
    METADATA = "Metadata"
    OBJECT = "Object"


def read_included(text: str | None) -> Included:
    """Parse `includeObject`. Raises StatusError 400."""
    try:
        return Included(text or Included.METADATA)
    except ValueError:
        detail = (
            f'includeObject: Invalid value: "{text!s:.40}":'
            " must be 'Metadata', 'Object', 'None', or empty"
        )
        raise bad_request(f"Unable to convert to Table as requested: {detail}") from None


class Tabulator:
    """Formats objects of one kind as Tables."""

    def __init__(self, kind: ResourceKind, columns: Sequence[TableColumn] = ()) -> None:
        core = CORE_COLUMNS.get((kind.group, kind.plural))
        if core is None:
            core = (NAME, *(map(_column, columns) if columns else (AGE,)))
        self._cells = tuple(column.cell for column in core)
        self.definitions = [_definition(column) for column in core]
        """`columnDefinitions` of every table of the kind."""

    def table(
        self,
        documents: Iterable[Mapping[str, Any]],
        *,
        now: datetime,
        included: Included,
        metadata: Mapping[str, Any],
        headed: bool = True,
    ) -> dict[str, Any]:
        """A Table of these objects. `metadata` is the list's; without `headed` it has no columns,
        as in a watch after its first event.
        """
        return {
            "kind": "Table",
            "apiVersion": META_V1,
            "metadata": dict(metadata),
            "columnDefinitions": self.definitions if headed else None,
            "rows": [self.row(document, now=now, included=included) for document in documents],
        }

    def of_one(
        self, document: Mapping[str, Any], *, now: datetime, included: Included, headed: bool = True
    ) -> dict[str, Any]:
        """A Table of one row, with the object's resourceVersion: the response to a get, and the
        object of a watch event.
        """
        version = document["metadata"].get("resourceVersion", "")
        return self.table(
            (document,),
            now=now,
            included=included,
            metadata={"resourceVersion": version},
            headed=headed,
        )

    def row(
        self, document: Mapping[str, Any], *, now: datetime, included: Included
    ) -> dict[str, Any]:
        """One row."""
        return {
            "cells": [cell(document, now) for cell in self._cells],
            "object": _included(document, included),
        }


def partial(document: Mapping[str, Any]) -> dict[str, Any]:
    """An object reduced to its metadata, for clients that ask `as=PartialObjectMetadata`."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": META_V1,
        "metadata": document["metadata"],
    }


def _included(document: Mapping[str, Any], included: Included) -> Any:
    if included is Included.METADATA:
        return partial(document)
    return document if included is Included.OBJECT else None


def _definition(column: CoreColumn) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _column(column: TableColumn) -> CoreColumn:
    description = (
        column.description
        or f"Custom resource definition column (in JSONPath format): {column.json_path}"
    )
    cell = _cell(JsonPath(column.json_path), column.type)
    return CoreColumn(column.name, column.type, cell, column.priority, column.format, description)


def _cell(path: JsonPath, kind: str) -> Callable[[Mapping[str, Any], datetime], Any]:
    first = path.first
    shown = _SHOWN.get(kind)
    if kind == "date":
        return lambda document, now: None if (value := first(document)) is None else age(value, now)
    if shown is None:
        return lambda document, now: None
    return lambda document, now: None if (value := first(document)) is None else shown(value)


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _whole_number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_SHOWN: Mapping[str, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _whole_number,
    "number": _number,
    "boolean": _boolean,
}
