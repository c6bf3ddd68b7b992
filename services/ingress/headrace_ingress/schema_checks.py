"""Checks the data of events against the schemas of the routing table, for addressables that ask for
it.

A schema applies to the events of its type, and of its source if it names one. Where several apply,
those whose `dataschema` is that of the event take precedence, then those that name its source; an
event must conform to one of them. Events of a type without a schema are not checked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from headrace.domain.attributes import is_json
from headrace.domain.event_schemas import (
    CompiledSchema,
    InvalidSchema,
    LoadSchemaCompiler,
    Violation,
)
from headrace.domain.record import Record
from headrace.domain.routing import EventSchema

logger = structlog.get_logger(__name__)

_SHOWN_MAX: Final = 200
_NOT_JSON: Final = Violation("json")


class SchemaFailure(NamedTuple):
    """An event does not conform to the schema of its type."""

    schema: EventSchema
    """The schema it comes closest to by the rules of precedence."""
    violation: Violation
    media_type: str = ""
    """The event's `datacontenttype`, if that is why."""

    @property
    def attribute(self) -> str:
        """The part of the event that is wrong."""
        return "datacontenttype" if self.media_type else "data"

    @property
    def resource(self) -> str:
        """Namespace and name of the resource that has the schema."""
        return f"{self.schema.namespace}/{self.schema.name}"

    def __str__(self) -> str:
        reason = (
            f"datacontenttype {self.media_type} is not JSON, which the schema describes"
            if self.media_type
            else str(self.violation)
        )
        return f"type {_shown(self.schema.type)}: {reason} (schema of EventType {self.resource})"


class CompiledSchemas:
    """Compiles schemas when the first event needs them, and keeps the results as long as the
    schemas are in use.
    """

    def __init__(self, load: LoadSchemaCompiler) -> None:
        self._load = load
        self._compiled: dict[str, CompiledSchema | None] = {}
        """By the text of the schema; None for one that this process cannot compile."""

    def __call__(self, schema: EventSchema) -> CompiledSchema | None:
        """Return the compiled schema; None if that is not possible."""
        text = schema.schema
        if text not in self._compiled:
            try:
                self._compiled[text] = self._load()(text)
            except InvalidSchema as error:
                # The controller has compiled it before it wrote the record, with another version of
                # the library or of the limits.
                self._compiled[text] = None
                logger.error(
                    "schema_not_compiled",
                    namespace=schema.namespace,
                    name=schema.name,
                    error=str(error),
                    next_step="run the same version of the ingress and the controller; events of"
                    " this type are not checked",
                )
        return self._compiled[text]

    def keep(self, schemas: Sequence[EventSchema]) -> None:
        """Drop what is compiled of all others."""
        texts = {each.schema for each in schemas}
        self._compiled = {text: each for text, each in self._compiled.items() if text in texts}


class SchemaChecks:
    """The schemas of one addressable."""

    __slots__ = ("_by_type", "_compiled")

    def __init__(self, schemas: Sequence[EventSchema], compiled: CompiledSchemas) -> None:
        by_type: dict[bytes, list[tuple[_SourcePattern | None, EventSchema]]] = defaultdict(list)
        for each in schemas:
            source = _SourcePattern(each.source) if each.source else None
            by_type[each.type.encode()].append((source, each))
        self._by_type = dict(by_type)
        self._compiled = compiled

    def failure_of(self, record: Record) -> SchemaFailure | None:
        """Return why the event in a record does not conform; None if it does, or if no schema
        applies.
        """
        headers = dict(record.headers)
        of_type = self._by_type.get(headers.get("ce_type", b""))
        if of_type is None:
            return None
        applicable = _applicable(of_type, headers)
        first: SchemaFailure | None = None
        for schema in applicable:
            compiled = self._compiled(schema)
            if compiled is None:
                return None
            media_type = headers.get("content-type", b"").decode("latin-1")
            if media_type and not is_json(media_type):
                return SchemaFailure(schema, _NOT_JSON, _shown(media_type))
            violation = compiled(record.value or b"")
            if violation is None:
                return None
            first = first or SchemaFailure(schema, violation)
        return first


def _applicable(
    of_type: Sequence[tuple["_SourcePattern | None", EventSchema]], headers: Mapping[str, bytes]
) -> Sequence[EventSchema]:
    """Return the schemas that apply, of those of the event's type."""
    source = headers.get("ce_source", b"").decode("utf-8", "replace")
    fitting = [
        (pattern, schema)
        for pattern, schema in of_type
        if pattern is None or pattern.matches(source)
    ]
    dataschema = headers.get("ce_dataschema")
    if dataschema is not None:
        meant = [pair for pair in fitting if pair[1].dataschema.encode() == dataschema]
        fitting = meant or fitting
    own = [schema for pattern, schema in fitting if pattern is not None]
    return own or [schema for _, schema in fitting]


class _SourcePattern:
    """A source in which parts in braces stand for any text. A match takes time in proportion to
    the source: each part is searched for once, from left to right.
    """

    __slots__ = ("_first", "_middle", "_rest")

    def __init__(self, text: str) -> None:
        parts, rest = [], text
        while "{" in rest and "}" in rest[rest.index("{") :]:
            before, _, after = rest.partition("{")
            parts.append(before)
            rest = after.partition("}")[2]
        self._first = parts[0] if parts else None
        self._middle = parts[1:]
        self._rest = rest

    def matches(self, source: str) -> bool:
        """Whether the source has this form."""
        if self._first is None:
            return source == self._rest
        if not source.startswith(self._first):
            return False
        at = len(self._first)
        for part in self._middle:
            found = source.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return source.endswith(self._rest) and len(source) - len(self._rest) >= at


def _shown(text: str) -> str:
    shown = text if text.isprintable() else repr(text)[1:-1]
    return shown if len(shown) <= _SHOWN_MAX else f"{shown[:_SHOWN_MAX]}…"
