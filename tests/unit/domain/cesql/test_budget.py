"""The budget of an evaluation: the most expensive filter on the largest event takes milliseconds,
and an evaluation that exceeds the budget does not match.
"""

import time
from typing import Any

import pytest

from headrace.domain import filters
from headrace.domain.cesql import ErrorKind, Problem, compile_expression, parse
from headrace.domain.cesql.budget import STEPS_MAX
from headrace.domain.cesql.nodes import parts

SECONDS_MAX = 0.05
"""CPU time of one evaluation: about 4 ms where the step costs were measured. Without the budget,
the filters below take from 90 ms to 2 s.
"""

LONG = {
    "specversion": "1.0",
    "id": "1",
    "source": "/",
    "type": "t",
    "a": "a" * 8_192,
    "b": "a" * 8_191 + "b",
    "dotted": "\u0130" * 4_096,
    "greek": "\u0390" * 4_096,
    "wide": "\u3000" * 2_730,
    "four": "\U00010400" * 2_048,
    "zeros": "0" * 8_191 + "1",
    "datacontenttype": "a/b; " + "c=d;" * 2_000,
}
"""The values that are slowest to process, each with the maximum length."""
SHORT = {"specversion": "1.0", "id": "1", "source": "/", "type": "t"} | dict.fromkeys(
    LONG.keys() - {"specversion", "id", "source", "type"}, "x"
)

HOSTILE = {
    "one wildcard": "a LIKE '%_b%'",
    "candidates everywhere": "a LIKE '%a_b%'",
    "long anchor": f"a LIKE '%{'a' * 40}_b%'",
    "longer anchor": f"a LIKE '%{'a' * 2_000}_b%'",
    "many runs": f"a LIKE '%{'a_' * 2_000}b%'",
    "many segments": f"a LIKE '{'%a' * 2_000}%b'",
    "many wildcards": f"a LIKE '{'%_' * 2_000}%b'",
    "fixed place": f"a LIKE '{'_a' * 4_000}'",
    "slow needle": f"a LIKE '%{'a' * 49}b{'a' * 49}%'",
    "lower": "LOWER(dotted) = 'x'",
    "upper": "UPPER(UPPER(UPPER(greek))) = 'x'",
    "deep": f"{'LOWER(' * 30}dotted{')' * 30} = 'x'",
    "trim": "TRIM(wide) = 'x'",
    "concat": "CONCAT(four, a, a, a, a, a, a) = 'x'",
    "concat and search": "CONCAT(four, a, a, a, a, a, a) LIKE '%x_y%'",
    "concat and hash": "CONCAT(four, a, a, a, a, a, a) IN ('x', 'y')",
    "separators": "CONCAT_WS(a, '', '', '', '', '', '', '') = 'x'",
    "slices": "SUBSTRING(CONCAT(four, a, a, a, a, a, a), 2, 60000) = 'x'",
    "integers": "zeros + zeros - zeros - zeros = 1",
    "list": "a IN (b, b, b, b, b, 'x')",
    "equal": "a = b",
}


def many(condition: str) -> list[dict[str, Any]]:
    """Return as many copies of one condition as the limits allow (a routing record has 256 KiB), in
    several entries, none of which decides.
    """
    nodes = parts(parse(condition))
    chain = max(1, min(8_000 // (len(condition) + 4), 900 // (nodes + 1)))
    text = " OR ".join([condition] * chain)
    entry = {"any": [{"cesql": text}, {"not": {"exact": {"id": "2"}}}]}
    return [entry] * max(1, min(990 // (parts(parse(text)) + 4), 250_000 // len(text)))


@pytest.mark.parametrize("condition", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_most_expensive_filters_take_milliseconds(condition: str) -> None:
    """Filters on the largest event end with a result or by exceeding the budget, and the same
    filters evaluate on a small event.
    """
    problems: list[Problem] = []
    entries = many(condition)
    compiled = filters.compile(entries, on_error=problems.append)
    least = float("inf")
    for _ in range(3):
        problems.clear()
        begun = time.thread_time()
        matched = compiled.matches(dict(LONG))
        least = min(least, time.thread_time() - begun)
    assert least < SECONDS_MAX
    exceeded = [problem for problem in problems if problem.kind is ErrorKind.BUDGET]
    assert len(exceeded) <= 1
    assert not (matched and exceeded)
    problems.clear()
    compiled.matches(dict(SHORT))
    assert ErrorKind.BUDGET not in [problem.kind for problem in problems]


OVER = " OR ".join(["a LIKE '%a_b%'"] * 100)


@pytest.mark.parametrize(
    "entry",
    [
        {"cesql": OVER},
        {"not": {"cesql": OVER}},
        {"any": [{"cesql": OVER}, {"exact": {"id": "1"}}]},
        {"all": [{"cesql": "a LIKE '%a_b%'"}] * 100},
        {"not": {"any": [{"cesql": "a LIKE '%a_b%'"}] * 100}},
    ],
)
def test_over_budget_is_no_match_whatever_stands_around_it(entry: dict[str, Any]) -> None:
    """All clauses of a filter share one budget. Inside `not`, exceeding it is still no match. The
    error is reported once.
    """
    problems: list[Problem] = []
    one = {"any": [{"cesql": "a LIKE '%a_b%'"}, {"not": {"exact": {"id": "2"}}}]}
    compiled = filters.compile([*[one] * 20, entry], on_error=problems.append)
    assert not compiled.matches(LONG)
    assert [ErrorKind.BUDGET] == [problem.kind for problem in problems]
    assert str(STEPS_MAX) in problems[0].message
    explanation = compiled.explain(LONG)
    assert not explanation.matched
    assert explanation.problem == problems[0]


def test_an_expression_alone_has_a_budget_too() -> None:
    """This protects users of the library who evaluate expressions without filters."""
    assert ErrorKind.BUDGET is getattr(
        compile_expression(OVER).evaluate(LONG).problem, "kind", None
    )
    assert (False, None) == compile_expression(OVER).evaluate(SHORT)


def test_steps_are_counted_for_work_that_is_done() -> None:
    """A condition that AND or OR never evaluates has no cost."""
    guarded = filters.compile([{"cesql": f"type != 't' AND ({OVER})"}])
    assert not guarded.matches(LONG)
    passing = filters.compile([{"cesql": f"type = 't' OR {OVER}"}])
    assert passing.matches(LONG)


def test_usual_filters_are_not_metered() -> None:
    """No event can make them exceed the budget, so steps are not counted."""
    for text in (
        "type = 'a'",
        "type LIKE '%.created' AND source LIKE '/shop/%/x%'",
        "LOWER(type) = 'a' AND subject LIKE '_-%'",
    ):
        assert compile_expression(text).steps_max <= STEPS_MAX
