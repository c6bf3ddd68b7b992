"""Whether the filter of a subscription has failed lately, why, and about how often: such events
count as not matching, so nothing else shows it.
"""

from collections import deque
from typing import Final, NamedTuple

from headrace.domain.cesql import Problem
from headrace_dispatcher.limits import RECENT_SECONDS

_MARK_SECONDS: Final = 60.0
"""How precise `RECENT_SECONDS` is."""
_EXPRESSION_CHARACTERS_MAX: Final = 120


class FilterFailures(NamedTuple):
    """What is reported of a filter. Without failures it is `NO_FAILURES`."""

    error: str = ""
    """The first error, with the expression and without values of the event."""
    order: int = 0
    """How many evaluations have failed lately, rounded down to a power of ten: each change of what
    is reported is written to the status of the resource.
    """


NO_FAILURES: Final = FilterFailures()


class FailingFilter:
    """The failed evaluations of one filter in this process."""

    __slots__ = ("_count", "_marks", "_order", "_problem")

    def __init__(self) -> None:
        self._problem: Problem | None = None
        self._count = 0
        """Since the last time that none had failed lately."""
        self._order = 0
        self._marks: deque[tuple[float, int]] = deque()
        """Times of reports, at most one in a minute, with the count at that time."""

    def note(self, problem: Problem) -> None:
        """An evaluation has failed. Called for each event, so it does not read the clock."""
        self._count += 1
        if self._problem is None:
            # The first one is kept: a status that changed with every error would be written with
            # every error.
            self._problem = problem

    def clear(self) -> None:
        """Forget all: the filter has changed."""
        self._problem, self._count, self._order = None, 0, 0
        self._marks.clear()

    def current(self, now: float) -> FilterFailures:
        """Return what to report; `now` is monotonic."""
        if self._problem is None:
            return NO_FAILURES
        marks = self._marks
        if not marks:
            marks.append((now, 0))
        elif now - marks[-1][0] >= _MARK_SECONDS:
            marks.append((now, self._count))
        oldest = now - RECENT_SECONDS + _MARK_SECONDS
        while len(marks) > 1 and marks[1][0] <= oldest:
            marks.popleft()
        recent = self._count - marks[0][1]
        if recent == 0:
            self.clear()
            return NO_FAILURES
        order = 10 ** (len(str(recent)) - 1)
        # A rate near a power of ten must not change the status every minute.
        if order > self._order or recent < self._order // 2:
            self._order = order
        return FilterFailures(describe(self._problem), self._order)


def describe(problem: Problem) -> str:
    """Return what has failed and where, without values of the event."""
    if not problem.expression:
        return problem.public
    text = problem.expression
    if len(text) > _EXPRESSION_CHARACTERS_MAX:
        text = f"{text[:_EXPRESSION_CHARACTERS_MAX]}…"
    return f"{problem.public}, in {text}"
