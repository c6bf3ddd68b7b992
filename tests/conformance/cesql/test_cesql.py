"""The CESQL cases of this directory against compiled expressions; the README says which are the
compatibility kit's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.domain.cesql import ParseError, Result, compile_expression

CASES = Path(__file__).parent
ANY_EVENT = {"specversion": "1.0", "id": "1", "source": "/cesql", "type": "case"}


def lines(path: Path) -> list[str]:
    """The lines of a file of cases."""
    return path.read_text(encoding="utf-8").splitlines()


def cases() -> list[Any]:
    """Every line of every file, named by file and line."""
    return [
        pytest.param(json.loads(line), id=f"{path.stem}:{number}")
        for path in sorted(CASES.glob("*.jsonl"))
        for number, line in enumerate(lines(path), start=1)
    ]


def evaluate(expression: str, event: Mapping[str, Any]) -> Result:
    """An engine's result for a text: a parse error is false, like every other result that is not
    available.
    """
    try:
        return compile_expression(expression).evaluate(event)
    except ParseError as error:
        return Result(False, error.problem)


@pytest.mark.clause("CESQL")
@pytest.mark.parametrize("case", cases())
def test_gives_the_stated_value_and_error(case: Mapping[str, Any]) -> None:
    """An expression gives the value, of exactly its type, and the kind of error that the case
    states.
    """
    value, problem = evaluate(case["expression"], case.get("event", ANY_EVENT))
    assert (type(case["value"]), case["value"]) == (type(value), value)
    assert case["error"] == (problem.kind if problem else None)


def test_all_cases_are_present() -> None:
    """240 cases restate those of the kit, and 35 written from the specification replace those that
    could not be read.
    """
    counted = {path.stem: len(lines(path)) for path in CASES.glob("*.jsonl")}
    assert 35 == counted["by_clause"]
    assert 240 == sum(
        count for name, count in counted.items() if name not in ("by_clause", "headrace")
    )
