"""The budget of an evaluation: how many steps it may take, counted while it runs.

A filter comes from one user but runs for every event, on the event loop that all subscriptions
share. Limits on the sizes of expressions and attributes do not limit their product: a thousand
searches in long attributes take hundreds of milliseconds. Therefore the parts of an expression
whose work grows with the length of a string spend steps. An evaluation that has no steps left ends
with a problem of kind `budget`. One step is about a nanosecond on the machine on which the costs
were measured.

For most filters, no event can exceed the budget. This is determined at compile time (`cost`), and
no steps are counted for these filters.
"""

from collections.abc import Mapping

from headrace.domain.cesql.errors import ErrorKind, Problem
from headrace.domain.event import Value

STEPS_MAX = 4_000_000
"""Maximum steps of one evaluation: of one expression, or of all filters of a subscription together.
"""
CALL_STEPS = 250
"""Steps of one search, segment comparison or function call, in addition to the steps for the
characters that it examines.
"""
RUN_STEPS = 120
"""Steps to compare one literal run of a pattern with its position in the text."""


class BudgetExceeded(Exception):
    """An evaluation used all of its steps."""

    problem = Problem(
        ErrorKind.BUDGET,
        f"the evaluation takes more than {STEPS_MAX} steps; use fewer or simpler conditions on long"
        " attributes",
    )


class Metered(dict[str, Value]):
    """The attributes of one event, and the steps that are left for evaluations on them."""

    __slots__ = ("left",)

    def __init__(self, attributes: Mapping[str, Value], steps: int = STEPS_MAX) -> None:
        super().__init__(attributes)
        self.left = steps

    def spend(self, steps: int) -> None:
        """Subtract steps for work. Raises `BudgetExceeded` when fewer are left."""
        self.left -= steps
        if self.left < 0:
            raise BudgetExceeded

    def afford(self, steps: int) -> None:
        """Raise `BudgetExceeded` if the next piece of work could take more steps than are left."""
        if steps > self.left:
            raise BudgetExceeded
