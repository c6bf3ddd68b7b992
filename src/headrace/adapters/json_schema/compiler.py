"""Compiles JSON Schemas (drafts 4, 6, 7, 2019-09 and 2020-12), and checks data against them.

Neither network nor files are used: a reference to the outside makes a schema invalid. Patterns are
those of Rust's `regex`, which take time in proportion to the data and have no look-around and no
back-references.
"""

import json
from typing import Any, NoReturn

import jsonschema_rs

from headrace.domain.event_schemas import (
    SCHEMA_BYTES_MAX,
    CompiledSchema,
    InvalidSchema,
    Violation,
    json_pointer,
)
from headrace.domain.schema_complexity import cost_of, data_bytes_max

_PATTERN_BYTES_MAX = 262_144
"""Memory of one compiled pattern."""
_ALTERNATIVES_WORK_MAX = 200_000
"""Cost of a schema times bytes of data up to which a violation of `anyOf` or `oneOf` is located."""
_LEFT_OUT = frozenset(("anyOf", "oneOf", "unevaluatedItems", "unevaluatedProperties"))
_SUBSCHEMAS = frozenset(
    (
        *("allOf", "then", "else", "items", "prefixItems", "additionalItems"),
        "additionalProperties",
    )
)
_SCHEMAS_BY_NAME = frozenset(
    (
        *("properties", "patternProperties", "dependentSchemas", "dependencies"),
        *("$defs", "definitions"),
    )
)
_EXPECTED_SHOWN_MAX = 80
_REASON_SHOWN_MAX = 300


def compile_schema(text: str) -> CompiledSchema:
    """Compile the JSON text of a schema. Raises `InvalidSchema`."""
    schema = parse_schema(text)
    cost = cost_of(schema)
    try:
        validator = _validator(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise InvalidSchema(_reason(error)) from None
    except Exception as error:
        raise InvalidSchema(str(error)[:_REASON_SHOWN_MAX]) from error
    return _Checker(schema, validator, cost)


def _validator(schema: Any) -> jsonschema_rs.Validator:
    """Compile a schema. Raises what the library raises."""
    return jsonschema_rs.validator_for(
        # A schema that is true or false is not taken as such.
        schema if isinstance(schema, dict) else ({} if schema else {"not": {}}),
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(
            size_limit=_PATTERN_BYTES_MAX, dfa_size_limit=_PATTERN_BYTES_MAX
        ),
    )


def parse_schema(text: str) -> Any:
    """Return the schema as a value. Raises `InvalidSchema` if the text is not JSON, or too long."""
    try:
        schema = _decode(text)
        size = len(compact(schema).encode())
    except RecursionError:
        raise InvalidSchema("the JSON is nested too deeply") from None
    except UnicodeEncodeError:
        raise InvalidSchema("a string has half of a surrogate pair") from None
    except ValueError as error:
        raise InvalidSchema(f"not JSON: {error}") from None
    if size > SCHEMA_BYTES_MAX:
        raise InvalidSchema(f"{size} bytes; a schema may have {SCHEMA_BYTES_MAX}")
    return schema


def compact(schema: Any) -> str:
    """Return the JSON text of a schema without unnecessary white space."""
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class _Checker:
    """A compiled schema: see `headrace.domain.event_schemas.CompiledSchema`."""

    __slots__ = ("_cost", "_located", "_validator", "data_bytes_max", "text")

    def __init__(self, schema: Any, validator: jsonschema_rs.Validator, cost: int) -> None:
        self.text = compact(schema)
        self.data_bytes_max = data_bytes_max(cost)
        self._cost = cost
        self._validator = validator
        self._located = _without_alternatives(schema, validator)

    def __call__(self, data: bytes) -> Violation | None:
        """Return the first violation; None if the data conforms."""
        if len(data) > self.data_bytes_max:
            return Violation("size", expected=f"of at most {self.data_bytes_max} bytes")
        try:
            value = _decode(data.decode())
        except (ValueError, RecursionError):
            return Violation("json")
        try:
            if self._validator.is_valid(value):
                return None
            # `validate` stops at the first violation; `iter_errors` would collect all of them, of a
            # large event gigabytes.
            is_small = self._cost * len(data) <= _ALTERNATIVES_WORK_MAX
            (self._validator if is_small else self._located).validate(value)
        except jsonschema_rs.ValidationError as error:
            return Violation(
                error.kind.name,
                json_pointer(list(error.instance_path)),
                json_pointer(list(error.schema_path)),
                _expected(error.kind),
            )
        except Exception:
            # A value that the library cannot represent, such as a number beyond its range.
            return Violation("json")
        # All alternatives of an anyOf or oneOf fail, somewhere.
        return Violation("anyOf")


def _without_alternatives(
    schema: Any, validator: jsonschema_rs.Validator
) -> jsonschema_rs.Validator:
    """A validator that locates violations in large data.

    Of an `anyOf` or `oneOf` the library collects every violation of every alternative, which takes
    seconds and gigabytes for large data. So they are left out here, and what depends on them.
    """
    reduced = _reduced(schema)
    if reduced == schema:
        return validator
    try:
        return _validator(reduced)
    except Exception:
        # A reference into one of them: nothing is located.
        return _validator(True)


def _reduced(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_reduced(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for name, value in schema.items():
        if name in _LEFT_OUT:
            continue
        if name in _SCHEMAS_BY_NAME and isinstance(value, dict):
            result[name] = {each: _reduced(inner) for each, inner in value.items()}
        elif name in _SUBSCHEMAS:
            result[name] = _reduced(value)
        else:
            result[name] = value
    return result


def _expected(kind: jsonschema_rs.ValidationErrorKind) -> str:
    """The value of the keyword, if it is a number, a text or a list of these, and not long."""
    value = kind.value
    if kind.name == "type" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and not all(isinstance(each, str | int | float) for each in value):
        return ""
    if not isinstance(value, str | int | float | list):
        return ""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _EXPECTED_SHOWN_MAX and text.isprintable() else ""


def _reason(error: Exception) -> str:
    """The first line of the library's message, with the location in the schema."""
    message = str(getattr(error, "message", error)).partition("\n")[0]
    path = json_pointer(list(getattr(error, "instance_path", ())))
    text = f"{path}: {message}" if path else message
    return text[:_REASON_SHOWN_MAX]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
"""One decoder for all data: `json.loads` with options would create one for each event."""
