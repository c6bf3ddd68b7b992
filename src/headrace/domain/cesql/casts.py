"""The three types, and the casts between them (CESQL 1.0, 3.7).

The result of a cast depends only on the value. The two casts that can fail raise `EvaluationError`
of kind `cast`.
"""

from collections.abc import Callable
from enum import Enum

from headrace.domain.cesql.errors import (
    INTEGER_MAX,
    INTEGER_MIN,
    STRING_LENGTH_MAX,
    ErrorKind,
    EvaluationError,
    Problem,
)
from headrace.domain.event import Value


class Type(Enum):
    """The types of values."""

    STRING = "String"
    INTEGER = "Integer"
    BOOLEAN = "Boolean"


ZERO: dict[Type | None, Value] = {
    Type.STRING: "",
    Type.INTEGER: 0,
    Type.BOOLEAN: False,
    None: False,
}
"""The value that replaces a failed result. Boolean's is used if the type is not known (3.2)."""

_DIGITS_MAX = 10
_ZEROS = "0" * STRING_LENGTH_MAX
_SHOWN_MAX = 40


def type_of(value: Value) -> Type:
    """Return the type of a value."""
    if isinstance(value, str):
        return Type.STRING
    return Type.BOOLEAN if isinstance(value, bool) else Type.INTEGER


def to_string(value: Value) -> str:
    """Return a value as text: a decimal without leading zeros, `true` or `false`, or the string."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def to_integer(value: Value) -> int:
    """Return a value as an integer.

    A string must be a number in base 10 with an optional sign; true is 1 and false is 0. Raises
    `EvaluationError` for any other string, or a number that does not fit 32 bits.
    """
    if not isinstance(value, str):
        return int(value)
    digits = value[1:] if value[:1] in ("+", "-") else value
    if len(digits) > _DIGITS_MAX:
        # One comparison is faster than checking each digit, and an expression may cast one long
        # attribute a thousand times.
        digits = digits[-_DIGITS_MAX:] if _ZEROS.startswith(digits[:-_DIGITS_MAX]) else ""
    if digits.isascii() and digits.isdigit():
        number = -int(digits) if value[0] == "-" else int(digits)
        if INTEGER_MIN <= number <= INTEGER_MAX:
            return number
    raise _failed(value, Type.INTEGER)


def to_boolean(value: Value) -> bool:
    """Return a value as a Boolean: 0 is false, every other number is true.

    A string must be `true` or `false`, in any case. Raises `EvaluationError` for every other
    string.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value != 0
    spelled = value.lower() if len(value) <= 5 else ""
    if spelled == "true":
        return True
    if spelled == "false":
        return False
    raise _failed(value, Type.BOOLEAN)


CASTS: dict[Type, Callable[[Value], Value]] = {
    Type.STRING: to_string,
    Type.INTEGER: to_integer,
    Type.BOOLEAN: to_boolean,
}
"""The cast to each type."""


def can_cast(value: Value, target: Type) -> bool:
    """Return whether the cast would succeed."""
    try:
        CASTS[target](value)
    except EvaluationError:
        return False
    return True


def _failed(value: str, target: Type) -> EvaluationError:
    shown = value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}…"
    return EvaluationError(
        Problem(ErrorKind.CAST, f"{shown!r} is no {target.value}", f"a value is no {target.value}")
    )
