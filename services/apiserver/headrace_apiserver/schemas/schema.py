"""Validates a document against its schema: types, values and alternatives, with the API server's
messages.

A schema is the raw `openAPIV3Schema` of one version, a structural schema as CRDs must have. The
cost of a validation is bounded: by the steps it takes, whatever schema a user applied, and by the
causes it reports. CEL rules are evaluated by `rules`. (pure)
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.formats import has_format, is_checked
from headrace_apiserver.schemas.keywords import EMBEDDED, INT_OR_STRING, Schema
from headrace_apiserver.schemas.list_types import duplicates
from headrace_apiserver.schemas.loop_budget import LOOP_SECONDS, LoopBudgetExceeded, is_on_loop
from headrace_apiserver.schemas.patterns import STEP_SECONDS, match_steps, pattern_weight
from headrace_apiserver.schemas.patterns import STEPS_MAX as PATTERN_STEPS_MAX
from headrace_apiserver.schemas.status_causes import NOWHERE, child
from headrace_apiserver.statuses import StatusCause

STEPS_MAX = 100_000
"""Pairs of a value and a schema that one validation visits; the largest possible object has 20,000
values.
"""
CAUSES_MAX = 100
_LOOP_STEPS = int(LOOP_SECONDS / STEP_SECONDS)
"""Steps of pattern matching that are done on the event loop."""
_CHEAP_STEPS = 8
"""This many values of an enum, or names of required fields, count as a step."""
_SECRET_FORMATS = frozenset(("byte", "password"))
_HIDDEN = "<hidden>"
_INT_MAX = 1 << 63
_EXACT_MAX = (1 << 53) - 1
"""Largest number up to which a double represents all integers exactly."""

Matcher = Callable[[str, str], bool]
"""Whether a regular expression (RE2) is found in a text: (pattern, text)."""


def validate(document: Any, schema: Schema, *, matches: Matcher) -> list[StatusCause]:
    """The problems of a document with its defaults, or of a part of one; paths start at it. Raises
    LoopBudgetExceeded (see `loop_budget`).
    """
    walk = _Walk(matches)
    try:
        walk.value(document, schema, "")
    except _TooLarge:
        detail = (
            f"the object and its schema are too large to be compared in {STEPS_MAX} steps; make the"
            " object smaller"
        )
        return [*walk.causes, status_causes.invalid(NOWHERE, None, detail)]
    return walk.causes + duplicates(document, schema, "")


def wrong_types(document: Mapping[str, Any], schema: Schema) -> list[StatusCause]:
    """Only the values that have another type than the schema's. There must be none before a kind's
    own rules can read the document.
    """
    walk = _Walk(lambda pattern, text: True)
    with suppress(_TooLarge):
        walk.value(document, schema, "")
    return [cause for cause in walk.causes if cause.reason == status_causes.TYPE_INVALID]


def type_name(value: Any) -> str:
    """JSON's name for the type of a value; a number without a fraction is an integer only if it was
    written as one.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer" if -_INT_MAX <= value < _INT_MAX else "number"
        case float():
            return "number"
        case list():
            return "array"
    return "object"


class _TooLarge(Exception):
    """The walk has used all its steps."""


class _Walk:
    """One validation: the causes found, and the remaining steps."""

    __slots__ = ("_matches", "_on_event_loop", "_pattern_steps", "_steps", "causes")

    def __init__(self, matches: Matcher) -> None:
        self.causes: list[StatusCause] = []
        self._steps = STEPS_MAX
        self._pattern_steps = PATTERN_STEPS_MAX
        self._matches = matches
        self._on_event_loop = is_on_loop()

    def value(self, value: Any, schema: Schema, path: str) -> None:
        """Check one value and everything in it."""
        if len(self.causes) >= CAUSES_MAX:
            return
        self._step(1)
        self._type(value, schema, path)
        if value is None:
            return
        self._alternatives(value, schema, path)
        match value:
            case bool():
                pass
            case str():
                self._text(value, schema, path)
            case int() | float():
                self._number(value, schema, path)
            case list():
                self._list(value, schema, path)
        allowed = schema.get("enum")
        if allowed:
            self._step(len(allowed) // _CHEAP_STEPS)
        if allowed and not any(_same(value, each) for each in allowed):
            self.causes.append(status_causes.not_supported(path, value, allowed))
        if isinstance(value, dict):
            self._object(value, schema, path)

    def _step(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _TooLarge

    def _type(self, value: Any, schema: Schema, path: str) -> None:
        wanted: Sequence[str] = (
            ("integer", "string")
            if schema.get(INT_OR_STRING)
            else (schema["type"],)
            if schema.get("type")
            else ()
        )
        if not wanted:
            return
        found = type_name(value)
        if found in wanted or (found == "integer" and "number" in wanted):
            return
        if value is None and schema.get("nullable"):
            return
        if isinstance(value, float) and value.is_integer() and "integer" in wanted:
            return
        name = ",".join(wanted)
        layout = schema.get("format", "")
        if (
            value is not None
            and not isinstance(value, str | list)
            and layout
            and is_checked(layout)
            and wanted == ("string",)
        ):
            # A string with a format is named by its format.
            name, found = layout, {"integer": "int64", "number": "double"}.get(found, "")
        self.causes.append(
            status_causes.type_invalid(
                path, found, f"{path} in body must be of type {name}: {status_causes.shown(found)}"
            )
        )

    def _alternatives(self, value: Any, schema: Schema, path: str) -> None:
        if "anyOf" in schema:
            self._any(value, schema["anyOf"], path)
        if "oneOf" in schema:
            self._one(value, schema["oneOf"], path)
        if "allOf" in schema:
            valid = 0
            for each in schema["allOf"]:
                found = len(self.causes)
                self.value(value, each, path)
                valid += found == len(self.causes)
            if valid < len(schema["allOf"]):
                none = ". None validated" if not valid else ""
                self.causes.append(
                    _together(f'"{path}" must validate all the schemas (allOf){none}')
                )
        if "not" in schema and not self._try(value, schema["not"], path):
            self.causes.append(_together(f'"{path}" must not validate the schema (not)'))

    def _any(self, value: Any, schemas: Sequence[Schema], path: str) -> None:
        best: list[StatusCause] | None = None
        for each in schemas:
            found = self._try(value, each, path)
            if not found:
                return
            if best is None or len(found) < len(best):
                best = found
        self.causes += [
            _together(f'"{path}" must validate at least one schema (anyOf)'),
            *(best or ()),
        ]

    def _one(self, value: Any, schemas: Sequence[Schema], path: str) -> None:
        best: list[StatusCause] | None = None
        valid = 0
        for each in schemas:
            found = self._try(value, each, path)
            if not found:
                valid += 1
            elif best is None or len(found) < len(best):
                best = found
        if valid == 1:
            return
        count = f"Found {valid} valid alternatives" if valid else "Found none valid"
        self.causes.append(
            _together(f'"{path}" must validate one and only one schema (oneOf). {count}')
        )
        if not valid:
            self.causes += best or ()

    def _try(self, value: Any, schema: Schema, path: str) -> list[StatusCause]:
        """The problems of the value under another schema."""
        kept, self.causes = self.causes, []
        self.value(value, schema, path)
        found, self.causes = self.causes, kept
        return found

    def _text(self, value: str, schema: Schema, path: str) -> None:
        longest, shortest, pattern = (
            schema.get("maxLength"),
            schema.get("minLength"),
            schema.get("pattern"),
        )
        if longest is not None and len(value) > longest:
            self.causes.append(status_causes.too_long(path, longest))
        elif shortest is not None and len(value) < shortest:
            self.causes.append(
                status_causes.invalid(
                    path, value, f"{path} in body should be at least {shortest} chars long"
                )
            )
        elif pattern:
            self._pattern(value, pattern, path)
        layout = schema.get("format")
        if layout and schema.get("type") == "string" and not has_format(value, layout):
            # A value with the format byte or password may be a secret that was not encoded.
            shown = _HIDDEN if layout in _SECRET_FORMATS else value
            self.causes.append(
                status_causes.type_invalid(
                    path,
                    shown,
                    f"{path} in body must be of type {layout}: {status_causes.shown(shown)}",
                )
            )

    def _pattern(self, value: str, pattern: str, path: str) -> None:
        self._pattern_steps -= match_steps(pattern_weight(pattern), len(value))
        if self._pattern_steps < 0:
            detail = (
                f"{path} in body is too long for its pattern: cost budget exceeded; make the texts"
                " of the object shorter"
            )
            self.causes.append(status_causes.invalid(path, value, detail))
            return
        if self._on_event_loop and self._pattern_steps < PATTERN_STEPS_MAX - _LOOP_STEPS:
            raise LoopBudgetExceeded
        if not self._matches(pattern, value):
            self.causes.append(
                status_causes.invalid(path, value, f"{path} in body should match '{pattern}'")
            )

    def _number(self, value: float, schema: Schema, path: str) -> None:
        if isinstance(value, int) and not -_INT_MAX <= value < _INT_MAX:
            value = float(value)
        multiple, highest, lowest = (
            schema.get("multipleOf"),
            schema.get("maximum"),
            schema.get("minimum"),
        )
        if multiple and not _is_multiple(value, multiple):
            self.causes.append(
                status_causes.invalid(
                    path,
                    value,
                    f"{path} in body should be a multiple of {status_causes.number(multiple)}",
                )
            )
        if lowest is not None:
            strict = bool(schema.get("exclusiveMinimum"))
            if value < lowest or (strict and value == lowest):
                rule = "greater than" if strict else "greater than or equal to"
                self.causes.append(
                    status_causes.invalid(
                        path,
                        value,
                        f"{path} in body should be {rule} {status_causes.number(lowest)}",
                    )
                )
        if highest is not None:
            strict = bool(schema.get("exclusiveMaximum"))
            if value > highest or (strict and value == highest):
                rule = "less than" if strict else "less than or equal to"
                self.causes.append(
                    status_causes.invalid(
                        path,
                        value,
                        f"{path} in body should be {rule} {status_causes.number(highest)}",
                    )
                )

    def _list(self, value: list[Any], schema: Schema, path: str) -> None:
        items = schema.get("items")
        if items:
            for index, each in enumerate(value):
                self.value(each, items, f"{path}[{index}]")
        fewest, most = schema.get("minItems"), schema.get("maxItems")
        if fewest is not None and len(value) < fewest:
            self.causes.append(
                status_causes.invalid(
                    path, len(value), f"{path} in body should have at least {fewest} items"
                )
            )
        if most is not None and len(value) > most:
            self.causes.append(status_causes.too_many(path, len(value), most))

    def _object(self, value: Mapping[str, Any], schema: Schema, path: str) -> None:
        fewest, most = schema.get("minProperties"), schema.get("maxProperties")
        if fewest is not None and len(value) < fewest:
            self.causes.append(
                status_causes.invalid(
                    path, len(value), f"{path} in body should have at least {fewest} properties"
                )
            )
        if most is not None and len(value) > most:
            self.causes.append(status_causes.too_many(path, len(value), most))
        if schema.get(EMBEDDED):
            self._embedded(value, path)
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, each in value.items():
            if name in properties:
                self.value(each, properties[name], child(path, name))
            elif isinstance(extra, Mapping):
                self.value(each, extra, child(path, name))
        required = schema.get("required") or ()
        self._step(len(required) // _CHEAP_STEPS)
        for name in required:
            if name not in value:
                self.causes.append(status_causes.required(child(path, name)))

    def _embedded(self, value: Mapping[str, Any], path: str) -> None:
        for name in ("apiVersion", "kind"):
            if name not in value:
                self.causes.append(status_causes.required(child(path, name)))


def _together(text: str) -> StatusCause:
    return status_causes.invalid(NOWHERE, "", text)


def _same(value: Any, other: Any) -> bool:
    """Equality of JSON values, where true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _is_multiple(value: float, of: float) -> bool:
    quotient = value / of
    return abs(quotient) <= _EXACT_MAX and abs(quotient - round(quotient)) < 1e-9
