"""The three types and how a value of one becomes a value of another (CESQL 1.0, 3.7).

Casts are total functions of the value; the two that can fail raise `EvaluationError` with kind
cast.
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
"""What stands for a result that could not be had; Boolean's where the type is not known (3.2)."""

_DIGITS_MAX = 10
_ZEROS = "0" * STRING_LENGTH_MAX
_SHOWN_MAX = 40


def type_of(value: Value) -> Type:
    """The type of a value."""
    if isinstance(value, str):
        return Type.STRING
    return Type.BOOLEAN if isinstance(value, bool) else Type.INTEGER


def to_string(value: Value) -> str:
    """Decimal without leading zeros; `true` or `false`; a string as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def to_integer(value: Value) -> int:
    """The number a string spells in base 10, with an optional sign; 1 and 0 for true and false.

    Raises `EvaluationError` when it spells none, or one that does not fit 32 bits.
    """
    if not isinstance(value, str):
        return int(value)
    digits = value[1:] if value[:1] in ("+", "-") else value
    if len(digits) > _DIGITS_MAX:
        # A comparison is faster than a look at each digit, and an expression may do this a thousand
        # times to one long attribute.
        digits = digits[-_DIGITS_MAX:] if _ZEROS.startswith(digits[:-_DIGITS_MAX]) else ""
    if digits.isascii() and digits.isdigit():
        number = -int(digits) if value[0] == "-" else int(digits)
        if INTEGER_MIN <= number <= INTEGER_MAX:
            return number
    raise _failed(value, Type.INTEGER)


def to_boolean(value: Value) -> bool:
    """False for 0, true for any other number; a string must be `true` or `false`, in any case.

    Raises `EvaluationError` for every other string.
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
    """Whether the cast would succeed."""
    try:
        CASTS[target](value)
    except EvaluationError:
        return False
    return True


def _failed(value: str, target: Type) -> EvaluationError:
    shown = value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}…"
    return EvaluationError(Problem(ErrorKind.CAST, f"{shown!r} is no {target.value}"))
