"""The built-in functions (CESQL 1.0, 3.5), and the lookup by name and number of arguments.

A function receives arguments that are already cast. Where the specification defines a result
together with an error, the function raises `EvaluationError` with that result as `value`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from headrace.domain.cesql.budget import CALL_STEPS
from headrace.domain.cesql.casts import Type, can_cast, to_boolean, to_integer, to_string
from headrace.domain.cesql.errors import (
    INTEGER_MAX,
    INTEGER_MIN,
    STRING_LENGTH_MAX,
    ErrorKind,
    EvaluationError,
    Problem,
)
from headrace.domain.event import Value

_SPACE = (
    "\t\n\v\f\r"
    " \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The characters with the Unicode property White_Space. `str.strip()` would remove four control
characters in addition.
"""


_NAME_SHOWN_MAX = 40


@dataclass(frozen=True, slots=True)
class Function:
    """A function that expressions can call.

    `parameters` are the types to which the arguments are cast; None accepts any type. A variadic
    function accepts any number of additional arguments of type `variadic`. `run` is called with the
    arguments and returns a value of type `returns`.
    """

    name: str
    parameters: tuple[Type | None, ...]
    returns: Type
    run: Callable[..., Value]
    variadic: Type | None = None

    def takes(self, count: int) -> bool:
        """Return whether the function can be called with this many arguments."""
        return count == len(self.parameters) or (
            self.variadic is not None and count > len(self.parameters)
        )

    def parameter(self, index: int) -> Type | None:
        """Return the type of the argument at `index`, or None for any type."""
        return self.parameters[index] if index < len(self.parameters) else self.variadic


Functions = Mapping[str, tuple[Function, ...]]
"""Functions by name in upper case. Functions with one name differ in their number of arguments."""


def find_function(functions: Functions, name: str, count: int) -> Function | None:
    """Return the function with this name that accepts this many arguments, or None.

    A function with fixed arity has precedence over a variadic one.
    """
    found = [function for function in functions.get(name, ()) if function.takes(count)]
    return min(found, key=lambda function: function.variadic is not None, default=None)


def why_unknown(functions: Functions, name: str, count: int) -> str:
    """Return a message that says why the function is unknown and which ones exist.

    The message is empty if the function is known.
    """
    if find_function(functions, name, count) is not None:
        return ""
    if name in functions:
        counts = " or ".join(sorted(_arity(each) for each in functions[name]))
        return f"function {name} takes {counts} argument{'' if counts == '1' else 's'}, not {count}"
    near = get_close_matches(name[:_NAME_SHOWN_MAX], functions, 1)
    remedy = f"perhaps {near[0]} is meant" if near else f"there are {', '.join(sorted(functions))}"
    return f"there is no function {name[:_NAME_SHOWN_MAX]}; {remedy}"


def _arity(function: Function) -> str:
    return f"{len(function.parameters)}{' or more' if function.variadic is not None else ''}"


def with_functions(functions: Functions, *more: Function) -> Functions:
    """Return a table with additional functions.

    Raises ValueError if two functions with the same name accept the same number of arguments.
    """
    table = {name: list(overloads) for name, overloads in functions.items()}
    for function in more:
        overloads = table.setdefault(function.name.upper(), [])
        for other in overloads:
            if _confusable(function, other):
                raise ValueError(
                    f"{function.name} with {len(function.parameters)} parameters cannot be"
                    " distinguished from the one that exists"
                )
        overloads.append(function)
    return MappingProxyType({name: tuple(overloads) for name, overloads in table.items()})


def _confusable(one: Function, other: Function) -> bool:
    if one.variadic is not None and other.variadic is not None:
        return True
    return one.takes(len(other.parameters)) or other.takes(len(one.parameters))


def _refused(message: str, value: Value, summary: str) -> EvaluationError:
    return EvaluationError(Problem(ErrorKind.FUNCTION_EVALUATION, message, summary), value)


def _bounded(name: str, size: int) -> None:
    if size > STRING_LENGTH_MAX:
        raise _refused(
            f"{name} would build a string of {size} characters, the limit is {STRING_LENGTH_MAX}",
            "",
            f"{name} would build a string of more than {STRING_LENGTH_MAX} characters",
        )


def _concat(*parts: str) -> str:
    _bounded("CONCAT", sum(map(len, parts)))
    return "".join(parts)


def _concat_with_separator(separator: str, *parts: str) -> str:
    _bounded("CONCAT_WS", sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0))
    return separator.join(parts)


def _lower(text: str) -> str:
    _bounded("LOWER", len(text))
    return text.lower()


def _upper(text: str) -> str:
    _bounded("UPPER", len(text))
    return text.upper()


def _left(text: str, count: int) -> str:
    if count < 0:
        raise _refused(
            f"LEFT of {count} characters: the count must not be negative",
            text,
            "the count of LEFT is negative",
        )
    return text[:count]


def _right(text: str, count: int) -> str:
    if count < 0:
        raise _refused(
            f"RIGHT of {count} characters: the count must not be negative",
            text,
            "the count of RIGHT is negative",
        )
    return text[max(len(text) - count, 0) :]


def _substring(text: str, position: int, length: int = INTEGER_MAX) -> str:
    if length < 0:
        raise _refused(
            f"SUBSTRING of length {length}: the length must not be negative",
            "",
            "the length of SUBSTRING is negative",
        )
    if abs(position) > len(text):
        raise _refused(
            f"SUBSTRING from {position}: the string has {len(text)} characters",
            "",
            "SUBSTRING begins after the end of the string",
        )
    if position == 0:
        return ""
    start = position - 1 if position > 0 else len(text) + position
    return text[start : start + length]


def _absolute(number: int) -> int:
    if number == INTEGER_MIN:
        raise EvaluationError(
            Problem(
                ErrorKind.MATH,
                f"ABS({INTEGER_MIN}) does not fit 32 bits",
                "a number does not fit 32 bits",
            ),
            INTEGER_MAX,
        )
    return abs(number)


def _is_integer(value: Any) -> bool:
    return can_cast(value, Type.INTEGER)


def _is_boolean(value: Any) -> bool:
    return can_cast(value, Type.BOOLEAN)


BUILT_IN: Functions = with_functions(
    {},
    Function("LENGTH", (Type.STRING,), Type.INTEGER, len),
    Function("CONCAT", (), Type.STRING, _concat, Type.STRING),
    Function("CONCAT_WS", (Type.STRING,), Type.STRING, _concat_with_separator, Type.STRING),
    Function("LOWER", (Type.STRING,), Type.STRING, _lower),
    Function("UPPER", (Type.STRING,), Type.STRING, _upper),
    Function("TRIM", (Type.STRING,), Type.STRING, lambda text: text.strip(_SPACE)),
    Function("LEFT", (Type.STRING, Type.INTEGER), Type.STRING, _left),
    Function("RIGHT", (Type.STRING, Type.INTEGER), Type.STRING, _right),
    Function("SUBSTRING", (Type.STRING, Type.INTEGER), Type.STRING, _substring),
    Function("SUBSTRING", (Type.STRING, Type.INTEGER, Type.INTEGER), Type.STRING, _substring),
    Function("ABS", (Type.INTEGER,), Type.INTEGER, _absolute),
    Function("INT", (None,), Type.INTEGER, to_integer),
    Function("BOOL", (None,), Type.BOOLEAN, to_boolean),
    Function("STRING", (None,), Type.STRING, to_string),
    Function("IS_INT", (None,), Type.BOOLEAN, _is_integer),
    Function("IS_BOOL", (None,), Type.BOOLEAN, _is_boolean),
)
"""The functions that every implementation must have, and IS_INT and IS_BOOL, which come from drafts
of the specification and are still in other libraries.
"""

_PRICES: Mapping[str, tuple[int, int]] = {"LOWER": (1, 40), "UPPER": (1, 40), "TRIM": (8, 12)}
"""Steps per character of a text argument, for ASCII and at worst, of the functions that examine
each character.
"""


def argument_steps(name: str, value: Value) -> int:
    """Return the steps that a built-in function spends on this argument.

    Steps are those of `headrace.domain.cesql.budget`.
    """
    prices = _PRICES.get(name)
    if prices is None or not isinstance(value, str):
        return 0
    ascii_price, price = prices
    return len(value) * (ascii_price if value.isascii() else price)


def result_steps(length: int) -> int:
    """Return the steps that a built-in function spends on a result with this many characters.

    The result is copied, and may be hashed or compared afterwards.
    """
    return length


def steps_at_worst(name: str, lengths: Sequence[int]) -> tuple[int, int]:
    """Return the most steps of a call, and the greatest length of its result.

    `lengths` are the greatest lengths of the text arguments.
    """
    match name:
        case "LOWER" | "UPPER":
            longest = 3 * min(max(lengths, default=0), STRING_LENGTH_MAX)
        case "CONCAT" | "CONCAT_WS":
            longest = STRING_LENGTH_MAX
        case _:
            longest = max(lengths, default=0)
    _, price = _PRICES.get(name, (0, 0))
    return CALL_STEPS + price * sum(lengths) + result_steps(longest), longest
