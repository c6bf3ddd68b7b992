"""The law of the index: it gives what each filter alone gives, the keys and the problems, after any
changes.
"""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain import filters
from headrace.domain.cesql import ErrorKind, Problem
from headrace.domain.filter_index import AFFIX_LENGTH_MAX, FilterIndex
from tests.property.test_filters_laws import comparing, nested
from tests.support.held_objects import held_objects

LONG_SOURCE = "a" * 8_000
NAMES = ("type", "subject", "myext")
LONG = "ab" * AFFIX_LENGTH_MAX
COSTLY = f"source LIKE '%{'a_' * 50}b%'"
"""More steps than an evaluation may take, for a long `source`."""
comparisons = comparing(
    NAMES, st.sampled_from(("a", "ab", "b", "1", "true", "a" + LONG, LONG, LONG + "a"))
)
expressions = st.builds(
    lambda text: {"cesql": text},
    st.sampled_from(
        (
            "type = 'a'",
            "type LIKE 'a%' AND subject = 'b'",
            "EXISTS myext",
            "myext",
            "myext = 1",
            "myext = TRUE",
            "subject > 3 OR TRUE",
            "FAIL(type)",
            "FALSE",
        )
    ),
)
older = st.builds(
    lambda asked: {"attributes": asked},
    st.dictionaries(
        st.sampled_from((*NAMES, "dataschema", "datamediatype")),
        st.sampled_from(("", "a", "true")),
        min_size=1,
        max_size=2,
    ),
)
others = st.sampled_from(
    [{}, {"exact": {"type": ""}}, {"all": [{"prefix": {"type": "a"}}, {"cesql": COSTLY}]}]
)
simple = st.one_of(comparisons, comparisons, comparisons, expressions, older, others)
filter_lists = st.one_of(
    st.lists(simple, max_size=2),
    st.lists(nested(simple), min_size=1, max_size=2),
    st.builds(lambda each: [{"any": each}], st.lists(comparisons, min_size=2, max_size=3)),
)
values = st.sampled_from(("a", "ab", "b", LONG, 1, 0, True, ""))
events = st.fixed_dictionaries(
    {"type": values, "subject": values},
    optional={
        "myext": values,
        "source": st.sampled_from(("a", LONG_SOURCE)),
        "schemaurl": values,
        "datacontenttype": st.just("a; b"),
    },
)
keys = st.integers(0, 7)
steps = st.lists(
    st.one_of(events, st.tuples(keys, st.one_of(filter_lists, st.none()))), max_size=10
)
"""Each step evaluates an event, adds or replaces the filter of a key, or removes it (None)."""


class Recorded:
    """A filter that records its problems."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.entries = entries
        self.problems: Counter[Problem] = Counter()
        self.filter = filters.compile(entries, on_error=self.record)

    def record(self, problem: Problem) -> None:
        """Count it."""
        self.problems[problem] += 1


class Indexed:
    """An index, and each of its filters alone."""

    def __init__(self) -> None:
        self.index: FilterIndex[int] = FilterIndex()
        self.pairs: dict[int, tuple[Recorded, Recorded]] = {}

    def change(self, key: int, entries: list[dict[str, Any]] | None) -> None:
        """Add, replace or remove."""
        if entries is not None:
            self.pairs[key] = Recorded(entries), Recorded(entries)
            self.index.add(key, self.pairs[key][0].filter)
        elif self.pairs.pop(key, None) is not None:
            self.index.remove(key)
        assert len(self.pairs) == len(self.index)

    def check(self, event: dict[str, Any]) -> None:
        """Compare the result for one event."""
        found = self.index.matching(event)
        assert len(found) == len(set(found))
        for key, (within, alone) in self.pairs.items():
            assert alone.filter.matches(event) is (key in found), alone.entries
            assert alone.problems == within.problems, alone.entries


@settings(max_examples=400)
@given(
    st.lists(filter_lists, min_size=2, max_size=6),
    steps,
    st.lists(events, min_size=1, max_size=3),
)
def test_the_index_gives_what_each_filter_alone_gives(
    first: list[list[dict[str, Any]]], changes: list[Any], last: list[dict[str, Any]]
) -> None:
    """The same keys, and for each filter the same problems as often. When all filters are removed,
    the index holds what an empty one holds.
    """
    indexed = Indexed()
    for step in [*enumerate(first), *changes]:
        if isinstance(step, dict):
            indexed.check(step)
        else:
            indexed.change(*step)
    for event in last:
        indexed.check(event)
    for key in list(indexed.pairs):
        indexed.change(key, None)
        indexed.check(last[0])
    empty = FilterIndex[int]()
    empty.matching({})
    assert held_objects(empty) == held_objects(indexed.index)


def test_the_costly_expression_may_exceed_its_budget() -> None:
    """Otherwise the law would not include filters that are evaluated with a budget."""
    costly = Recorded([{"cesql": COSTLY}])
    assert costly.filter.budgeted
    assert not costly.filter.matches({"source": LONG_SOURCE})
    assert [ErrorKind.BUDGET] == [problem.kind for problem in costly.problems]
