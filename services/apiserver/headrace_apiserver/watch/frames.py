"""The lines of a watch: one JSON object per event, with the object itself, a Table of one row or
the object's metadata, as the client accepts.

Framings with the same `key` produce the same bytes for the same event, so that a change that five
hundred clients watch is encoded once.
"""

from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from headrace.codec.objects import write_object
from headrace.resources.resource import ResourceKind
from headrace_apiserver.tables.table import Included, Tabulator, partial

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a watch that asked for one."""

Document = Mapping[str, Any]
View = Callable[[Document], Document]


class EventType(StrEnum):
    """Type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


class Framing(Protocol):
    """Encodes events for one kind of client."""

    @property
    def key(self) -> Hashable:
        """Equal for framings that produce the same bytes."""
        ...

    @property
    def headed(self) -> bool:
        """Whether the first event of a watch is encoded differently from the following ones."""
        ...

    def frame(self, event: EventType, document: Document, *, first: bool) -> bytes:
        """One event as a line. `document` is an object of the watched kind as it is stored, or a
        bookmark of it.
        """
        ...


class PlainFraming:
    """Whole objects. `view` converts a stored object to the version of the request."""

    headed = False

    def __init__(self, kind: ResourceKind, view: View = lambda document: document) -> None:
        self._view = view
        self.key: Hashable = ("plain", kind.api_version)

    def frame(self, event: EventType, document: Document, *, first: bool) -> bytes:
        """See Framing."""
        return _line(event, document if event is EventType.BOOKMARK else self._view(document))


class MetadataFraming:
    """Objects reduced to their metadata."""

    headed = False

    def __init__(self, kind: ResourceKind, view: View = lambda document: document) -> None:
        self._view = view
        self.key: Hashable = ("metadata", kind.api_version)

    def frame(self, event: EventType, document: Document, *, first: bool) -> bytes:
        """See Framing."""
        return _line(
            event, partial(document if event is EventType.BOOKMARK else self._view(document))
        )


class TableFraming:
    """Tables of one row; the first event of a watch carries the columns."""

    headed = True

    def __init__(
        self,
        kind: ResourceKind,
        tabulator: Tabulator,
        *,
        included: Included,
        now: Callable[[], datetime],
        view: View = lambda document: document,
    ) -> None:
        self._tabulator = tabulator
        self._included = included
        self._now = now
        self._view = view
        self._key = ("table", kind.api_version, included)

    @property
    def key(self) -> Hashable:
        """See Framing. Includes the second, because the line contains ages."""
        return (*self._key, int(self._now().timestamp()))

    def frame(self, event: EventType, document: Document, *, first: bool) -> bytes:
        """See Framing."""
        if event is EventType.BOOKMARK:
            # The row carries the bookmark's metadata whatever the client includes, because the
            # annotation is there.
            version = document["metadata"].get("resourceVersion", "")
            table = self._tabulator.table(
                (),
                now=self._now(),
                included=self._included,
                metadata={"resourceVersion": version},
                headed=first,
            )
            table["rows"] = [
                {
                    "cells": ["", *[None] * (len(self._tabulator.definitions) - 1)],
                    "object": partial(document),
                }
            ]
            return _line(event, table)
        return _line(
            event,
            self._tabulator.of_one(
                self._view(document), now=self._now(), included=self._included, headed=first
            ),
        )


def error_frame(status: Document) -> bytes:
    """The event that ends a watch: the error as a Status, whatever form the client asked for."""
    return _line(EventType.ERROR, status)


def bookmark(kind: ResourceKind, version: str, *, initial_end: bool = False) -> dict[str, Any]:
    """The object of a bookmark: it has only the resourceVersion up to which the client has seen
    everything.
    """
    metadata: dict[str, Any] = {"resourceVersion": version}
    if initial_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _line(event: EventType, document: Document) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (event.value.encode(), write_object(document))
