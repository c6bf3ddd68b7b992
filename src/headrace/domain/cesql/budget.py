"""The budget of an evaluation: how many steps it may take, counted while it runs.

A filter comes from one user and runs for every event on the loop that all subscriptions share.
Bounds on the sizes of expressions and attributes do not bound their product: a thousand searches
through long attributes take hundreds of milliseconds. So the parts of an expression whose work
grows with the length of a string spend steps, and an evaluation that has none left ends in a
problem of the kind `budget`. One step is about a nanosecond of the machine that the prices were
measured on.

Most filters cannot reach the budget with any event, and are known for it when they are compiled
(`cost`): nothing is counted for them.
"""

from collections.abc import Mapping

from headrace.domain.cesql.errors import ErrorKind, Problem
from headrace.domain.event import Value

STEPS_MAX = 4_000_000
"""Steps of one evaluation: of an expression, or of all filters of a subscription together."""
CALL_STEPS = 250
"""Steps of one search, comparison of a segment or call of a function, beside those for the
characters that it looks at.
"""
RUN_STEPS = 120
"""Steps of comparing one run of a pattern with its place in the text."""


class BudgetExceeded(Exception):
    """An evaluation used up its steps."""

    problem = Problem(
        ErrorKind.BUDGET,
        f"the evaluation takes more than {STEPS_MAX} steps; use fewer or simpler conditions on long"
        " attributes",
    )


class Metered(dict[str, Value]):
    """The attributes of one event, and the steps that are left for the evaluation on them."""

    __slots__ = ("left",)

    def __init__(self, attributes: Mapping[str, Value], steps: int = STEPS_MAX) -> None:
        super().__init__(attributes)
        self.left = steps

    def spend(self, steps: int) -> None:
        """Account for work. Raises `BudgetExceeded` when no steps are left."""
        self.left -= steps
        if self.left < 0:
            raise BudgetExceeded

    def afford(self, steps: int) -> None:
        """Raise `BudgetExceeded` when work that is about to be done could take more steps than are
        left.
        """
        if steps > self.left:
            raise BudgetExceeded
