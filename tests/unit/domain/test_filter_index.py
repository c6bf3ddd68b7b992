"""The index of filters: which keys it finds, what it evaluates, and that a change costs and leaves
nothing for the other filters.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from headrace.domain import filters
from headrace.domain.cesql import ErrorKind, Problem
from headrace.domain.event import Value
from headrace.domain.filter_index import AFFIX_LENGTH_MAX, FilterIndex
from tests.support.held_objects import held_objects

Entries = Sequence[Mapping[str, Any]]
EVENT: Mapping[str, Value] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "orders.created",
    "myint": 10,
    "mybool": True,
}
ORDERS = {"exact": {"type": "orders.created"}}
FAILS = {"cesql": "missing = 'x'"}


def index_of(**entries: Entries) -> FilterIndex[str]:
    """An index of these filters."""
    index: FilterIndex[str] = FilterIndex()
    for key, each in entries.items():
        index.add(key, filters.compile(each))
    return index


def recorded(entries: Mapping[str, Entries]) -> tuple[FilterIndex[str], dict[str, list[Problem]]]:
    """An index of these filters, and the problems that each reports."""
    index: FilterIndex[str] = FilterIndex()
    problems: dict[str, list[Problem]] = {key: [] for key in entries}
    for key, each in entries.items():
        index.add(key, filters.compile(each, on_error=problems[key].append, path=f"spec.{key}"))
    return index, problems


class Reads(dict[str, Value]):
    """Attributes that count how often each is read."""

    def __init__(self, attributes: Mapping[str, Value]) -> None:
        super().__init__(attributes)
        self.of: Counter[str] = Counter()

    def __getitem__(self, name: str) -> Value:
        self.of[name] += 1
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value or the default."""
        self.of[name] += 1
        return super().get(name, default)


@pytest.mark.parametrize(
    ("entries", "passes"),
    [
        ([], True),
        ([{}], True),
        ([ORDERS], True),
        ([{"exact": {"type": "orders.deleted"}}], False),
        ([{"exact": {"type": "orders.created", "source": "/shop"}}], True),
        ([{"exact": {"type": "orders.created", "source": "/other"}}], False),
        ([{"exact": {"missing": "x"}}], False),
        ([{"exact": {"myint": "10", "mybool": "true"}}], True),
        ([{"exact": {"mybool": "True"}}], False),
        ([{"exact": {"type": ""}}], False),
        ([{"prefix": {"type": "orders."}}], True),
        ([{"prefix": {"type": "orders.created.and.more"}}], False),
        ([{"prefix": {"myint": "1"}}], True),
        ([{"suffix": {"type": ".created"}}], True),
        ([{"suffix": {"type": "more.orders.created"}}], False),
        ([{"prefix": {"type": "orders."}}, {"suffix": {"type": ".created"}}], True),
        ([{"prefix": {"type": "orders."}}, {"suffix": {"type": ".deleted"}}], False),
        ([{"any": [ORDERS, {"prefix": {"source": "/"}}]}], True),
        ([{"any": [ORDERS, FAILS]}], True),
        ([{"any": [{"exact": {"type": "x"}}, {"all": [ORDERS, FAILS]}]}], False),
        ([{"any": [{"exact": {"type": "x"}}, {"exact": {"type": ""}}]}], False),
        ([{"not": ORDERS}], False),
        ([{"not": {"not": ORDERS}}], True),
        ([{"attributes": {"type": "orders.created", "source": ""}}], True),
        ([{"attributes": {"type": "orders.created", "subject": ""}}], False),
        ([{"cesql": "type LIKE 'orders.%'"}], True),
        ([ORDERS, {"cesql": "myint > 10"}], False),
    ],
)
def test_it_finds_what_the_filter_matches(entries: Entries, passes: bool) -> None:
    """For a filter alone, and for one among others, which use other attributes or the same."""
    assert filters.compile(entries).matches(EVENT) is passes
    expected = ["key"] if passes else []
    assert expected == [*index_of(key=entries).matching(EVENT)]
    several = index_of(
        other=[{"exact": {"type": "other"}}],
        key=entries,
        longer=[{"prefix": {"type": "orders.created.and"}}],
        never=[{"suffix": {"source": "/never"}}],
    )
    assert expected == [*several.matching(EVENT)]


def test_filters_without_conditions_come_first() -> None:
    """In the order in which they were added."""
    index = index_of(b=[ORDERS], z=[], a=[{}], c=[{"prefix": {"type": "orders."}}])
    found = index.matching(EVENT)
    assert ["z", "a"] == [*found[:2]]
    assert {"b", "c"} == {*found[2:]}


def test_a_key_has_one_filter() -> None:
    """Adding replaces, also by an equal filter; removing what is not there is an error."""
    index = index_of(a=[ORDERS], b=[ORDERS])
    index.add("a", filters.compile([{"exact": {"type": "x"}}]))
    assert ["b"] == [*index.matching(EVENT)]
    index.add("b", filters.compile([ORDERS]))
    assert ["b"] == [*index.matching(EVENT)]
    assert 2 == len(index)
    index.remove("b")
    assert [] == [*index.matching(EVENT)]
    assert 1 == len(index)
    with pytest.raises(KeyError):
        index.remove("b")


def test_a_result_is_not_changed_by_a_later_change() -> None:
    """The caller may keep it."""
    index = index_of(a=[], b=[])
    found = index.matching(EVENT)
    index.remove("a")
    assert ["a", "b"] == [*found]
    assert ["b"] == [*index.matching(EVENT)]


TEMPLATES: Mapping[str, Callable[[int], Entries]] = {
    "exact": lambda i: [{"exact": {"type": f"type.{i}"}}],
    "older": lambda i: [{"attributes": {"type": f"type.{i}"}}],
    "prefix": lambda i: [{"prefix": {"type": f"type.{i}."}}],
    "suffix": lambda i: [{"suffix": {"type": f".{i}.type"}}],
    "any": lambda i: [{"any": [{"exact": {"type": f"a.{i}"}}, {"suffix": {"type": f"b.{i}"}}]}],
    "never": lambda i: [{"not": {"not": {"exact": {"type": "", "source": f"{i}"}}}}],
    "an equal attribute first": lambda i: [
        {"exact": {"source": "/shop"}},
        {"exact": {"type": f"type.{i}"}},
    ],
    "an equal prefix first": lambda i: [
        {"prefix": {"source": "/"}},
        {"suffix": {"type": f".{i}.type"}},
    ],
    "CESQL after it": lambda i: [{"exact": {"type": f"type.{i}"}}, {"cesql": "source = '/shop'"}],
    "CESQL in it": lambda i: [
        {"any": [{"all": [{"exact": {"type": f"a.{i}"}}, FAILS]}, {"exact": {"type": f"b.{i}"}}]}
    ],
    "the same CESQL": lambda i: [{"cesql": "type = 'x' OR source = 'y'"}],
    "each its attribute": lambda i: [{"exact": {f"extension{i}": "x"}}],
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_filters_that_do_not_match_cost_nothing(template: Callable[[int], Entries]) -> None:
    """The number of attributes read does not grow with their number."""
    index: FilterIndex[int] = FilterIndex()
    for number in range(1_000):
        index.add(number, filters.compile(template(number)))
    attributes = Reads(EVENT)
    assert [] == [*index.matching(attributes)]
    assert attributes.of.total() <= 6


def test_equal_filters_are_evaluated_once() -> None:
    """Also if they are at different paths and in other dialects of the same meaning, and each
    reports the error.
    """
    first: Entries = [{}, {"exact": {"source": "/shop"}}, FAILS]
    second: Entries = [{"all": [{"attributes": {"source": "/shop"}}, {"all": [FAILS]}]}]
    index, problems = recorded({str(number): (first, second)[number % 2] for number in range(20)})
    attributes = Reads(EVENT)
    assert [] == [*index.matching(attributes)]
    assert 1 == attributes.of["missing"]
    for each in problems.values():
        assert [ErrorKind.MISSING_ATTRIBUTE] == [problem.kind for problem in each]


def test_an_expression_of_several_filters_is_evaluated_once_for_each_event() -> None:
    """Also after one of them is removed; each filter that would evaluate it alone reports the
    error.
    """
    index, problems = recorded(
        {
            "a": [FAILS],
            "b": [ORDERS, {"not": FAILS}],
            "c": [{"any": [FAILS, {"exact": {"source": "/shop"}}]}],
            "d": [{"exact": {"type": "other"}}, FAILS],
        }
    )
    attributes = Reads(EVENT)
    for events in (1, 2):
        assert {"b", "c"} == {*index.matching(attributes)}
        assert events == attributes.of["missing"]
        assert [events, events, events, 0] == [len(each) for each in problems.values()]
    assert {"a", "c"} == {*index.matching({"missing": "x"})}
    for removed, expected in (("a", {"b", "c"}), ("c", {"b"}), ("d", {"b"})):
        index.remove(removed)
        attributes.of.clear()
        assert expected == {*index.matching(attributes)}
        assert 1 == attributes.of["missing"]
    assert [2, 5, 3, 0] == [len(each) for each in problems.values()]


def test_an_expression_is_shared_with_a_filter_that_is_added_later() -> None:
    """Events before the change do not matter."""
    index = index_of(a=[FAILS], other=[])
    index.matching(EVENT)
    index.add("b", filters.compile([ORDERS, FAILS]))
    attributes = Reads(EVENT)
    index.matching(attributes)
    assert 1 == attributes.of["missing"]


def test_literals_of_different_types_are_different_expressions() -> None:
    """In Python, 1 and True are equal."""
    index = index_of(number=[{"cesql": "text = 1"}], boolean=[{"cesql": "text = TRUE"}])
    assert ["number"] == [*index.matching({"text": "1"})]
    assert ["boolean"] == [*index.matching({"text": "true"})]


def test_an_expression_before_the_attribute_may_fail_for_every_event() -> None:
    """Then the filter is evaluated for every event; the other way around it is not."""
    index, problems = recorded(
        {
            "before": [FAILS, {"exact": {"type": "x"}}],
            "after": [{"exact": {"type": "x"}}, FAILS],
        }
    )
    assert [] == [*index.matching(EVENT)]
    assert {"before": 1, "after": 0} == {key: len(each) for key, each in problems.items()}


def test_an_event_found_on_two_paths_is_evaluated_once() -> None:
    """Its key is in the result once, and its error is reported once."""
    paths = {"any": [ORDERS, {"prefix": {"type": "orders."}}, {"suffix": {"source": "/shop"}}]}
    index, problems = recorded({"a": [paths], "b": [paths, FAILS]})
    for events in (1, 2):
        assert ["a"] == [*index.matching(EVENT)]
        assert events == len(problems["b"])


def test_filters_with_a_budget_have_one_each() -> None:
    """Steps of one filter do not count for another that contains the same expression."""
    costly = {"cesql": f"source LIKE '%{'a_' * 50}b%'"}
    entries: Mapping[str, Entries] = {
        "a": [costly],
        "b": [costly],
        "c": [ORDERS, {"not": costly}],
        "d": [{"exact": {"type": "other"}}, costly],
    }
    assert all(filters.compile(each).budgeted for each in entries.values())
    index, problems = recorded(entries)
    assert {"c"} == {*index.matching({**EVENT, "source": "/shop"})}
    assert not any(problems.values())
    assert [] == [*index.matching({**EVENT, "source": "a" * 8_000})]
    for key, expected in {"a": 1, "b": 1, "c": 1, "d": 0}.items():
        assert [ErrorKind.BUDGET] * expected == [problem.kind for problem in problems[key]]


@pytest.mark.parametrize("dialect", ["prefix", "suffix"])
def test_a_long_text_is_compared_to_its_end(dialect: str) -> None:
    """Only a part of it is looked up."""
    same = "x" * AFFIX_LENGTH_MAX

    def text(last: str) -> str:
        return f"{same}{last}" if dialect == "prefix" else f"{last}{same}"

    index = index_of(
        a=[{dialect: {"subject": text("a")}}],
        b=[{dialect: {"subject": text("b")}}],
        same=[{dialect: {"subject": same}}],
    )
    assert {"a", "same"} == {*index.matching({"subject": text("a")})}
    assert {"same"} == {*index.matching({"subject": same})}
    assert set() == {*index.matching({"subject": same[1:]})}


def test_removed_filters_leave_nothing_behind() -> None:
    """In whatever order they are removed."""
    empty = FilterIndex[str]()
    empty.matching(EVENT)
    entries = {
        f"{name} {number}": [*template(number), FAILS]
        for name, template in TEMPLATES.items()
        for number in range(20)
    } | {"": [], "not": [{"not": ORDERS}]}
    for keys in (list(entries), list(reversed(entries))):
        index = index_of(**entries)
        index.matching(EVENT)
        for number, key in enumerate(keys):
            index.remove(key)
            if number % 10 == 0:
                index.matching(EVENT)
        assert 0 == len(index)
        assert held_objects(empty) == held_objects(index)


def test_without_conditions_no_attributes_are_needed() -> None:
    """The reader of a channel does not decode the attributes then."""
    index = index_of(one=[], two=[])
    seen = [index.conditional]
    index.add("three", filters.compile([ORDERS]))
    seen.append(index.conditional)
    index.remove("three")
    assert [False, True, False] == [*seen, index.conditional]
    assert ["one", "two"] == list(index.matching({}))
