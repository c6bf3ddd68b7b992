"""Errors of expressions, and the limits that bound their cost.

Text that is not an expression raises `ParseError` at compile time. Every later error is a `Problem`
that an evaluation returns together with its result, because a CESQL evaluation always has a result
(CESQL 1.0, 3.3). Inside the evaluator, a problem is raised as `EvaluationError`, because an
operator with a failed operand fails immediately.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from headrace.domain.event import Value

EXPRESSION_LENGTH_MAX = 8_192
"""Maximum number of characters of an expression."""
DEPTH_MAX = 64
"""Maximum nesting of operators, parentheses and calls. A chain of AND, OR and XOR is one level."""
NODES_MAX = 1_000
"""Maximum number of literals, attributes, operators and calls of one expression."""
STRING_LENGTH_MAX = 65_536
"""Maximum number of characters of a string that a function builds."""
INTEGER_MIN = -(2**31)
INTEGER_MAX = 2**31 - 1


class ErrorKind(StrEnum):
    """The kinds of error of CESQL 1.0, 3.3, and `budget`, which is specific to Headrace.

    The names are those of the CESQL compatibility kit.
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


_NAMES_ONLY = frozenset(
    {
        ErrorKind.MISSING_ATTRIBUTE,
        ErrorKind.MISSING_FUNCTION,
        ErrorKind.GENERIC,
        ErrorKind.BUDGET,
    }
)
"""Errors whose messages hold only names, types and limits; others may contain data of an event."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an evaluation failed."""

    kind: ErrorKind
    message: str
    summary: str = field(default="", compare=False)
    """The message without values of the event; empty if nothing is known that has none."""
    expression: str = field(default="", compare=False)
    """The text of the expression that failed; empty if several together did."""

    @property
    def public(self) -> str:
        """What may be logged: no value of the event."""
        if self.summary:
            return self.summary
        return self.message if self.kind in _NAMES_ONLY else f"an error of kind {self.kind.value}"

    def within(self, expression: str) -> "Problem":
        """The same problem, of this expression."""
        return Problem(self.kind, self.message, self.summary, expression)


class ParseError(ValueError):
    """The text is not an expression, or exceeds a limit.

    `position` counts characters from 0. `reason` is the message without the position.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} (at character {position + 1})")
        self.reason = reason
        self.position = position

    @property
    def problem(self) -> Problem:
        """The error as a `Problem`."""
        return Problem(ErrorKind.PARSE, str(self))


class EvaluationError(Exception):
    """An evaluation failed.

    `value` is set if the failed function defines a result for this error. It is used only if that
    function is the whole expression. Otherwise, the result is the zero value of the outermost
    operator's type.
    """

    def __init__(self, problem: Problem, value: Value | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.value = value
