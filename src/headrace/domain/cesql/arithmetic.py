"""Integers of 32 bits (CESQL 1.0, 3.4.2): division rounds towards zero, the remainder has the sign
of the dividend.

A result that does not fit is a math error with value 0. The specification leaves it open; wrapping
round, as the libraries do, would let an event through, or not, without a word.
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
    raise EvaluationError(Problem(ErrorKind.MATH, f"{number} does not fit 32 bits"))


def _add(x: int, y: int) -> int:
    return _bounded(x + y)


def _subtract(x: int, y: int) -> int:
    return _bounded(x - y)


def _multiply(x: int, y: int) -> int:
    return _bounded(x * y)


def _divide(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationError(Problem(ErrorKind.MATH, f"{x} cannot be divided by 0"))
    quotient = abs(x) // abs(y)
    return _bounded(quotient if (x < 0) == (y < 0) else -quotient)


def _remainder(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationError(Problem(ErrorKind.MATH, f"{x} has no remainder by 0"))
    return abs(x) % abs(y) if x >= 0 else -(abs(x) % abs(y))


ARITHMETIC: dict[Operator, Callable[[int, int], int]] = {
    Operator.MULTIPLY: _multiply,
    Operator.DIVIDE: _divide,
    Operator.REMAINDER: _remainder,
    Operator.ADD: _add,
    Operator.SUBTRACT: _subtract,
}
"""The operation of each operator; each raises `EvaluationError` of kind math."""
