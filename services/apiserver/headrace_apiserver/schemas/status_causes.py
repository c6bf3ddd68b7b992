"""The causes of a 422 Status: what is wrong with a field, in the words of the Kubernetes API
server.

Scripts and people know these texts, and `kubectl` prints them line by line, so each function here
produces one of them exactly. (pure)
"""

import json
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from typing import Any

from headrace_apiserver.statuses import VALUE_INVALID, StatusCause

TYPE_INVALID = "FieldValueTypeInvalid"
REQUIRED = "FieldValueRequired"
NOT_SUPPORTED = "FieldValueNotSupported"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
DUPLICATE = "FieldValueDuplicate"
FORBIDDEN = "FieldValueForbidden"

NOWHERE = "<nil>"
"""Field of a cause that concerns no single field: several alternatives failed, or checks were
skipped.
"""

_SHOWN_MAX = 2_000
"""Characters of an invalid value that a cause repeats; an object may contain 256 KiB of it."""

_SUPPORTED_MAX = 100
"""Number of allowed values that a cause lists."""


def child(path: str, name: str) -> str:
    """Path of the field `name` of the object at `path`."""
    return f"{path}.{name}" if path else name


def invalid(path: str, value: Any, detail: str) -> StatusCause:
    """The value breaks a rule, which `detail` states."""
    return StatusCause(path, f"Invalid value: {shown(value)}: {detail}", VALUE_INVALID)


def type_invalid(path: str, value: Any, detail: str) -> StatusCause:
    """The value has another type than the schema's; `value` is the name of its type."""
    return StatusCause(path, f"Invalid value: {shown(value)}: {detail}", TYPE_INVALID)


def required(path: str, detail: str = "") -> StatusCause:
    """The field is missing."""
    return StatusCause(path, f"Required value: {detail}" if detail else "Required value", REQUIRED)


def not_supported(path: str, value: Any, supported: Iterable[Any]) -> StatusCause:
    """The value is not one of the allowed ones."""
    choices = ", ".join(
        _quoted(each if isinstance(each, str) else _json(each))
        for each in islice(supported, _SUPPORTED_MAX)
    )
    return StatusCause(
        path, f"Unsupported value: {shown(value)}: supported values: {choices}", NOT_SUPPORTED
    )


def too_long(path: str, length_max: int) -> StatusCause:
    """The text has more than `length_max` characters."""
    return StatusCause(
        path,
        f"Too long: may not be more than {length_max} {'byte' if length_max == 1 else 'bytes'}",
        TOO_LONG,
    )


def too_many(path: str, count: int, count_max: int) -> StatusCause:
    """The list or map has more than `count_max` entries."""
    return StatusCause(
        path,
        f"Too many: {count}: must have at most {count_max} {'item' if count_max == 1 else 'items'}",
        TOO_MANY,
    )


def duplicate(path: str, value: Any) -> StatusCause:
    """An entry that must be unique is repeated."""
    return StatusCause(path, f"Duplicate value: {shown(value)}", DUPLICATE)


def forbidden(path: str, detail: str) -> StatusCause:
    """The field must not be set like this."""
    return StatusCause(path, f"Forbidden: {detail}" if detail else "Forbidden", FORBIDDEN)


def shown(value: Any) -> str:
    """An invalid value as the API server prints it, truncated if it is long."""
    if isinstance(value, str):
        return _quoted(value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}...")
    if isinstance(value, bool) or value is None or not isinstance(value, float):
        text = _json(value)
        return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
    return number(value)


def number(value: float) -> str:
    """A number as Go prints it: no fraction if it is whole, and an exponent for a fraction below
    0.0001 or from a million on.
    """
    if isinstance(value, int):
        return str(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    if value and not -4 <= power < 6:
        first, *rest = map(str, digits)
        mantissa = first + ("." + "".join(rest) if rest else "")
        return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02}"
    text = f"{value:.10f}".rstrip("0")
    return text.rstrip(".")


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in quoted)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
