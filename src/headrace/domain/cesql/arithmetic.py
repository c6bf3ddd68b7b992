"""Arithmetic on 32-bit integers (CESQL 1.0, 3.4.2).

Division rounds towards zero, and the remainder has the sign of the dividend. A result that does not
fit is a math error with value 0. The specification does not define this case. Wrapping around, as
other libraries do, would silently change which events match.
"""

from collections.abc import Callable

from headrace.domain.cesql.errors import (
    INTEGER_MAX,
    INTEGER_MIN,
    ErrorKind,
    EvaluationError,
    Problem,
)
from headrace.domain.cesql.nodes import Operator


def _bounded(number: int) -> int:
    if INTEGER_MIN <= number <= INTEGER_MAX:
        return number
    raise EvaluationError(
        Problem(ErrorKind.MATH, f"{number} does not fit 32 bits", "a number does not fit 32 bits")
    )


def _add(x: int, y: int) -> int:
    return _bounded(x + y)


def _subtract(x: int, y: int) -> int:
    return _bounded(x - y)


def _multiply(x: int, y: int) -> int:
    return _bounded(x * y)


def _divide(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationError(
            Problem(ErrorKind.MATH, f"{x} cannot be divided by 0", "a number is divided by 0")
        )
    quotient = abs(x) // abs(y)
    return _bounded(quotient if (x < 0) == (y < 0) else -quotient)


def _remainder(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationError(
            Problem(ErrorKind.MATH, f"{x} has no remainder by 0", "a number is divided by 0")
        )
    return abs(x) % abs(y) if x >= 0 else -(abs(x) % abs(y))


ARITHMETIC: dict[Operator, Callable[[int, int], int]] = {
    Operator.MULTIPLY: _multiply,
    Operator.DIVIDE: _divide,
    Operator.REMAINDER: _remainder,
    Operator.ADD: _add,
    Operator.SUBTRACT: _subtract,
}
"""The function for each operator. Each raises `EvaluationError` of kind `math`."""
