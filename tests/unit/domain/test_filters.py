"""The filter dialects: which events pass, which entries have no condition, what an explanation
contains, and how errors are reported.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.domain import filters
from headrace.domain.cesql import ErrorKind, Problem

EVENT: Mapping[str, str | int | bool] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "com.example.order",
    "datacontenttype": "application/json; charset=utf-8",
    "myint": 10,
    "mybool": True,
}


@pytest.mark.clause("filters")
@pytest.mark.parametrize(
    ("entry", "passes"),
    [
        ({"exact": {"type": "com.example.order"}}, True),
        ({"exact": {"type": "com.example.ORDER"}}, False),
        ({"exact": {"type": "com.example.order", "source": "/shop"}}, True),
        ({"exact": {"type": "com.example.order", "source": "/other"}}, False),
        ({"exact": {"missing": "x"}}, False),
        ({"exact": {"myint": "10", "mybool": "true"}}, True),
        ({"exact": {"mybool": "True"}}, False),
        ({"prefix": {"type": "com."}}, True),
        ({"prefix": {"type": "om."}}, False),
        ({"prefix": {"myint": "1"}}, True),
        ({"prefix": {"missing": "x"}}, False),
        ({"suffix": {"type": ".order"}}, True),
        ({"suffix": {"mybool": "ue"}}, True),
        ({"suffix": {"missing": "x"}}, False),
        ({"all": [{"prefix": {"type": "com."}}, {"suffix": {"type": ".order"}}]}, True),
        ({"all": [{"prefix": {"type": "com."}}, {"suffix": {"type": ".x"}}]}, False),
        (
            {
                "any": [
                    {"exact": {"type": "x"}},
                    {"exact": {"type": "y"}},
                    {"exact": {"source": "/shop"}},
                ]
            },
            True,
        ),
        ({"any": [{"exact": {"type": "x"}}, {"exact": {"type": "y"}}]}, False),
        ({"not": {"exact": {"type": "x"}}}, True),
        ({"not": {"exact": {"source": "/shop"}}}, False),
        ({"not": {"exact": {"missing": "x"}}}, True),
        ({"cesql": "type LIKE '%.order' AND myint > 9"}, True),
        ({"cesql": "myint"}, False),
        ({"cesql": "mybool"}, True),
        ({"cesql": "type"}, False),
        ({"cesql": "missing = 'x'"}, False),
        ({"cesql": "TRUE OR missing = 'x'"}, True),
        ({"not": {"cesql": "missing = 'x'"}}, True),
    ],
)
def test_dialects(entry: Mapping[str, Any], passes: bool) -> None:
    """Each dialect follows the Subscriptions API and compares values as text."""
    assert passes is filters.compile([entry]).matches(EVENT)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{}],
        [{"exact": {}}],
        [{"exact": None}],
        [{"all": []}],
        [{"any": []}],
        [{"not": {}}],
        [{"not": {"not": {}}}],
        [{"any": [{"exact": {"type": "x"}}, {}]}],
        [{"any": [{}, {"exact": {"type": "x"}}]}],
        [{"all": [{}, {"exact": {"source": "/shop"}}]}],
        [{"attributes": {}}],
    ],
)
def test_no_opinion_passes(entries: list[Mapping[str, Any]]) -> None:
    """Entries without a condition pass, also inside `not` and `any`."""
    compiled = filters.compile(entries)
    assert compiled.matches(EVENT)
    assert compiled.explain(EVENT).matched


@pytest.mark.parametrize("dialect", ["exact", "prefix", "suffix"])
def test_an_empty_text_matches_nothing(dialect: str) -> None:
    """The Subscriptions API forbids an empty text. It must not make every event pass."""
    assert not filters.compile([{dialect: {"type": ""}}]).matches(EVENT)
    assert not filters.compile([{dialect: {"missing": ""}}]).matches(EVENT)


@pytest.mark.clause("F4")
@pytest.mark.parametrize(
    ("attributes", "passes"),
    [
        ({"type": "com.example.order"}, True),
        ({"type": "com.example.order", "source": "/other"}, False),
        ({"type": ""}, True),
        ({"type": "", "source": ""}, True),
        ({"subject": ""}, False),
        ({"time": ""}, False),
        ({"myint": "10"}, True),
        ({"datamediatype": "application/json"}, True),
        ({"datamediatype": ""}, True),
        ({"dataschema": ""}, False),
    ],
)
def test_the_older_filter(attributes: Mapping[str, str], passes: bool) -> None:
    """In `filter.attributes`, an empty text requires that the attribute is present; any other text
    requires equality.
    """
    assert passes is filters.compile([{"attributes": attributes}]).matches(EVENT)


def test_the_older_filter_knows_both_names_of_the_schema() -> None:
    """The `schemaurl` of a 0.3 event matches a filter for `dataschema`, and vice versa."""
    older, newer = {"schemaurl": "http://s"}, {"dataschema": "http://s"}
    for name in ("schemaurl", "dataschema"):
        compiled = filters.compile([{"attributes": {name: "http://s"}}])
        assert compiled.matches(older)
        assert compiled.matches(newer)


@pytest.mark.parametrize(
    ("entries", "matched", "clause", "saw"),
    [
        ([{"exact": {"type": "x"}}], False, "filters[0].exact.type", "com.example.order"),
        (
            [{"exact": {"type": "x", "source": "/shop"}}],
            False,
            "filters[0].exact.type",
            "com.example.order",
        ),
        (
            [{"any": [{"exact": {"type": "x"}}, {"exact": {"source": "/shop"}}]}],
            True,
            "filters[0].any[1].exact.source",
            "/shop",
        ),
        (
            [{"prefix": {"type": "com."}}, {"not": {"suffix": {"myint": "0"}}}],
            False,
            "filters[1].not.suffix.myint",
            10,
        ),
        ([{"exact": {"missing": "x"}}], False, "filters[0].exact.missing", None),
        ([{"attributes": {"source": ""}}], True, "filters[0].attributes.source", "/shop"),
        ([], True, "filters", None),
    ],
)
def test_an_explanation_names_the_clause_and_the_value(
    entries: list[Mapping[str, Any]], matched: bool, clause: str, saw: str | int | None
) -> None:
    """An explanation contains the clause that decided and the value it saw."""
    explanation = filters.compile(entries).explain(EVENT)
    assert (matched, clause, saw) == (explanation.matched, explanation.clause, explanation.saw)


def test_an_explanation_shows_what_an_expression_read() -> None:
    """For CESQL it contains the part that decided, the attributes that part read, and any error."""
    explanation = filters.compile([{"cesql": "type LIKE 'com.%' AND subject = 'x'"}]).explain(EVENT)
    assert (False, "filters[0].cesql", "subject = 'x'") == (
        explanation.matched,
        explanation.clause,
        explanation.wanted,
    )
    assert (("subject", None),) == explanation.inputs
    assert explanation.problem is not None
    assert ErrorKind.MISSING_ATTRIBUTE is explanation.problem.kind


def test_errors_of_evaluation_are_reported_to_the_caller() -> None:
    """Every failed evaluation of `matches` is reported, including a result that is not a Boolean.
    Explanations are not.
    """
    seen: list[Problem] = []
    compiled = filters.compile(
        [{"any": [{"cesql": "missing = 1"}, {"cesql": "myint"}, {"cesql": "TRUE"}]}],
        on_error=seen.append,
    )
    assert compiled.matches(EVENT)
    compiled.explain(EVENT)
    assert [ErrorKind.MISSING_ATTRIBUTE, ErrorKind.GENERIC] == [problem.kind for problem in seen]
