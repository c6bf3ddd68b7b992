"""Errors of expressions, and the limits that bound their cost.

A text that is not an expression raises `ParseError` when it is compiled. Everything later is a
`Problem`, a value that an evaluation returns beside its result, because the language is total
(CESQL 1.0, 3.3). Inside the evaluator a problem is raised as `EvaluationError`, because an operator
with a failed operand fails at once.
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
    """The kinds of error of CESQL 1.0, 3.3, with the names of its compatibility kit, and `budget`,
    which is specific to Headrace.
    """

    PARSE = "parse"
    MATH = "math"
    CAST = "cast"
    MISSING_FUNCTION = "missingFunction"
    FUNCTION_EVALUATION = "functionEvaluation"
    MISSING_ATTRIBUTE = "missingAttribute"
    GENERIC = "generic"
    BUDGET = "budget"
    """The evaluation took more steps than its budget (`headrace.domain.cesql.budget`)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an evaluation failed."""

    kind: ErrorKind
    message: str


class ParseError(ValueError):
    """The text is not an expression, or exceeds a limit.

    `position` counts characters from 0; `reason` is the message without it.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} (at character {position + 1})")
        self.reason = reason
        self.position = position

    @property
    def problem(self) -> Problem:
        """The error as a value."""
        return Problem(ErrorKind.PARSE, str(self))


class EvaluationError(Exception):
    """An evaluation ended early.

    `value` is set where the failed function defines a result, and counts only if that function is
    the whole expression; otherwise the result is the zero value of the outermost
    operator's type.
    """

    def __init__(self, problem: Problem, value: Value | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.value = value
