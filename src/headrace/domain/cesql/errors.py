"""What can go wrong in an expression, and the bounds that keep one cheap.

A text that is no expression raises `ParseError`, once, when it is compiled. Everything later is a
`Problem`: a value that an evaluation returns beside its result, for the language is total (CESQL
1.0, 3.3). Inside the evaluator a problem travels as `EvaluationError`, because an operator with a
failed operand gives up at once and that is what exceptions do for free.
"""

from dataclasses import dataclass
from enum import StrEnum

from headrace.domain.event import Value

EXPRESSION_LENGTH_MAX = 8_192
"""Characters of an expression."""
DEPTH_MAX = 64
"""How deep operators, parentheses and calls may nest. A chain of AND, OR and XOR counts as one
level.
"""
NODES_MAX = 1_000
"""Literals, attributes, operators and calls of one expression."""
STRING_LENGTH_MAX = 65_536
"""Characters of a string that a function may build."""
INTEGER_MIN = -(2**31)
INTEGER_MAX = 2**31 - 1


class ErrorKind(StrEnum):
    """The kinds of CESQL 1.0, 3.3, under the names its compatibility kit gives them, and `budget`,
    which is Headrace's own.
    """

    PARSE = "parse"
    MATH = "math"
    CAST = "cast"
    MISSING_FUNCTION = "missingFunction"
    FUNCTION_EVALUATION = "functionEvaluation"
    MISSING_ATTRIBUTE = "missingAttribute"
    GENERIC = "generic"
    BUDGET = "budget"
    """The evaluation took more steps than it may (`headrace.domain.cesql.budget`)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an evaluation has no clean result."""

    kind: ErrorKind
    message: str


class ParseError(ValueError):
    """The text is no expression, or exceeds a bound.

    `position` counts characters from 0; `reason` is the message without it.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} (at character {position + 1})")
        self.reason = reason
        self.position = position

    @property
    def problem(self) -> Problem:
        """The same as a value."""
        return Problem(ErrorKind.PARSE, str(self))


class EvaluationError(Exception):
    """An evaluation ended early.

    `value` is set where the failed function defines a result all the same, and counts only if that
    function is the whole expression; otherwise the result is the zero value of the outermost
    operator's type.
    """

    def __init__(self, problem: Problem, value: Value | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.value = value
