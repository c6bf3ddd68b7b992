"""Responses: the whole object, a Table, or only the metadata, as the client accepts; and their
encoding.

Lists are encoded in slices, and other tasks run in between: thousands of objects would block the
event loop for a noticeable time, and for a client that reads slowly only one slice is in memory.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any, NamedTuple

from starlette.responses import Response, StreamingResponse

from headrace.codec.objects import write_object
from headrace_apiserver.kinds.catalog import ServedKind
from headrace_apiserver.statuses import StatusError, not_acceptable
from headrace_apiserver.tables.table import META_V1, Included, Tabulator, partial
from headrace_apiserver.watch.frames import Framing, MetadataFraming, PlainFraming, TableFraming

JSON = "application/json"
_META = "meta.k8s.io"
_RANGES_MAX = 16
_SLICE_OBJECTS = 100
"""Objects encoded at once: 2 to 3 ms."""
_SLICE_BYTES = 64 * 1024
"""A slice ends with the object that reaches this size."""
_WARNINGS_MAX = 32
_WARNING_LENGTH_MAX = 500

Document = Mapping[str, Any]
WaitTurn = Callable[[], Awaitable[None]]
"""Returns when other tasks have run."""


class Representation(StrEnum):
    """The form of an object in a response (`as` in the Accept header)."""

    OBJECT = ""
    TABLE = "Table"
    PARTIAL = "PartialObjectMetadata"
    PARTIAL_LIST = "PartialObjectMetadataList"


class MediaRange(NamedTuple):
    """One entry of an Accept header."""

    type: str
    form: str = ""
    group: str = ""
    version: str = ""


class ResponseFormat(NamedTuple):
    """The form of a response, and what the rows of a Table include of their objects."""

    form: Representation
    included: Included = Included.METADATA


def parse_accept(header: str) -> list[MediaRange]:
    """The entries of an Accept header in their order; `*/*` if there is none."""
    found = []
    for entry in header.split(",")[:_RANGES_MAX]:
        type_, *parameters = (part.strip() for part in entry.split(";"))
        values = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if type_:
            found.append(
                MediaRange(
                    type_.lower(), values.get("as", ""), values.get("g", ""), values.get("v", "")
                )
            )
    return found or [MediaRange("*/*")]


def negotiate_representation(header: str) -> Representation:
    """The form of a response with objects. Raises StatusError 406 if the client accepts none of
    them.
    """
    for each in parse_accept(header):
        if each.type not in (JSON, "*/*", "application/*"):
            continue
        if not each.form:
            return Representation.OBJECT
        if (
            each.group == _META
            and each.form in list(Representation)
            and each.version in ("v1", "v1beta1")
        ):
            return Representation(each.form)
    raise not_acceptable(
        (JSON, f"{JSON};as=Table;g={_META};v=v1", f"{JSON};as=PartialObjectMetadata;g={_META};v=v1")
    )


class ResponseFormatter:
    """Formats the objects of one kind in one version. There is one per kind and version of the
    catalog.
    """

    def __init__(self, served: ServedKind, now: Callable[[], datetime]) -> None:
        self.kind = served.kind
        self._served = served
        self._tabulator = Tabulator(served.kind, served.columns)
        self._now = now

    def convert(self, document: Document) -> Document:
        """A stored object, converted to the version of this kind."""
        return self._served.convert(document)

    def format_object(self, stored: Document, shape: ResponseFormat) -> Document:
        """One object."""
        document = self.convert(stored)
        if shape.form is Representation.TABLE:
            return self._tabulator.of_one(document, now=self._now(), included=shape.included)
        return document if shape.form is Representation.OBJECT else partial(document)

    def list_response(
        self,
        stored: Sequence[Document],
        metadata: Document,
        shape: ResponseFormat,
        turn: WaitTurn | None = None,
    ) -> Response:
        """A list of objects; `turn` is awaited between its parts."""
        if shape.form is Representation.TABLE:
            now, row = self._now(), self._tabulator.row
            rows = (row(self.convert(each), now=now, included=shape.included) for each in stored)
            head = {
                "kind": "Table",
                "apiVersion": META_V1,
                "metadata": metadata,
                "columnDefinitions": self._tabulator.definitions,
            }
            return _listed(head, "rows", rows, turn)
        if shape.form is Representation.OBJECT:
            head = {
                "apiVersion": self.kind.api_version,
                "kind": self.kind.list_kind,
                "metadata": metadata,
            }
            return _listed(head, "items", (self.convert(each) for each in stored), turn)
        head = {
            "apiVersion": META_V1,
            "kind": Representation.PARTIAL_LIST.value,
            "metadata": metadata,
        }
        return _listed(head, "items", (partial(self.convert(each)) for each in stored), turn)

    def framing(self, shape: ResponseFormat) -> Framing:
        """How a watch writes objects."""
        if shape.form is Representation.TABLE:
            return TableFraming(
                self.kind,
                self._tabulator,
                included=shape.included,
                now=self._now,
                view=self.convert,
            )
        if shape.form is Representation.OBJECT:
            return PlainFraming(self.kind, self.convert)
        return MetadataFraming(self.kind, self.convert)


def object_response(
    document: Document, code: int = 200, *, warnings: Iterable[str] = ()
) -> Response:
    """The response with one document."""
    return add_warning_headers(
        Response(write_object(document), status_code=code, media_type=JSON), warnings
    )


def status_response(error: StatusError) -> Response:
    """The response of a failure."""
    response = object_response(error.status, error.code)
    if error.retry_after_seconds:
        response.headers["retry-after"] = str(error.retry_after_seconds)
    return response


def add_warning_headers(response: Response, warnings: Iterable[str]) -> Response:
    """Add a `Warning` header with code 299 (RFC 7234, 5.5) per warning; kubectl prints them."""
    for text in list(dict.fromkeys(warnings))[:_WARNINGS_MAX]:
        escaped = "".join(
            character if " " <= character <= "~" else "?"
            for character in text[:_WARNING_LENGTH_MAX]
        )
        escaped = escaped.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.append("warning", f'299 - "{escaped}"')
    return response


def _listed(
    head: Document, name: str, items: Iterable[Document], turn: WaitTurn | None
) -> Response:
    """A document with the list `name` as its last field."""
    slices = _slices(write_object(head)[:-1] + f',"{name}":['.encode(), items)
    first, second = next(slices), next(slices, None)
    if second is None:
        return Response(first, media_type=JSON)
    return StreamingResponse(_cooperatively(chain((first, second), slices), turn), media_type=JSON)


def _slices(start: bytes, items: Iterable[Document]) -> Iterator[bytes]:
    """The document in parts, at least one; each is encoded when it is requested."""
    parts, size, separator = [start], len(start), b""
    for item in items:
        written = write_object(item)
        parts += (separator, written)
        size += len(written)
        separator = b","
        if size >= _SLICE_BYTES or len(parts) >= 2 * _SLICE_OBJECTS:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join((*parts, b"]}"))


async def _cooperatively(slices: Iterator[bytes], turn: WaitTurn | None) -> AsyncIterator[bytes]:
    for each in slices:
        yield each
        await (asyncio.sleep(0) if turn is None else turn())
