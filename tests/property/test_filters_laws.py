"""Laws of the filter dialects, compared with a simple model of the entries, and with equivalent
CESQL expressions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.domain import filters

NAMES = ("type", "source", "subject", "myext")
texts = st.text("abx.", min_size=1, max_size=3)
values = st.one_of(texts, st.integers(-2, 12), st.booleans())
events = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)


def comparing(
    names: Sequence[str], asked: st.SearchStrategy[str]
) -> st.SearchStrategy[dict[str, Any]]:
    """Comparisons of these attributes with these texts."""
    return st.builds(
        lambda dialect, asked: {dialect: asked},
        st.sampled_from(["exact", "prefix", "suffix"]),
        st.dictionaries(st.sampled_from(names), asked, min_size=1, max_size=2),
    )


def nested(simple: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """These entries, and entries that combine them."""
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.builds(lambda each: {"not": each}, inner),
            st.builds(lambda each: {"all": each}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda each: {"any": each}, st.lists(inner, min_size=1, max_size=3)),
        ),
        max_leaves=8,
    )


comparisons = comparing(NAMES, st.one_of(texts, st.sampled_from(["1", "tr", "true", "e"])))
entries = nested(comparisons)


def matches(entry: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """The compiled filter's result."""
    return filters.compile([entry]).matches(event)


def compare(dialect: str, value: str, text: str) -> bool:
    """One value and one text."""
    return (
        value == text
        if dialect == "exact"
        else value.startswith(text)
        if dialect == "prefix"
        else value.endswith(text)
    )


def model(entry: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """The definition of the Subscriptions API, literally."""
    [(dialect, asked)] = entry.items()
    match dialect:
        case "all":
            return all(model(each, event) for each in asked)
        case "any":
            return any(model(each, event) for each in asked)
        case "not":
            return not model(asked, event)
    seen = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in event.items()
    }
    return all(name in seen and compare(dialect, seen[name], text) for name, text in asked.items())


@given(entries, events)
def test_agrees_with_the_model(entry: dict[str, Any], event: dict[str, Any]) -> None:
    """Every combination of dialects gives what its definition gives."""
    assert model(entry, event) is matches(entry, event)


@given(entries, events)
def test_the_explanation_agrees_with_the_result(
    entry: dict[str, Any], event: dict[str, Any]
) -> None:
    """An explanation has the same result as the compiled filter, and names a clause of
    this filter.
    """
    compiled = filters.compile([entry])
    explanation = compiled.explain(event)
    assert compiled.matches(event) is explanation.matched
    assert explanation.clause.startswith("filters[0].")


@given(entries, events)
def test_double_negation(entry: dict[str, Any], event: dict[str, Any]) -> None:
    """Inverting twice changes nothing."""
    assert matches(entry, event) is matches({"not": {"not": entry}}, event)


@given(st.lists(entries, min_size=1, max_size=3), events)
def test_de_morgan(several: list[dict[str, Any]], event: dict[str, Any]) -> None:
    """Not any is all not, not all is any not."""
    inverted = [{"not": each} for each in several]
    assert matches({"not": {"any": several}}, event) is matches({"all": inverted}, event)
    assert matches({"not": {"all": several}}, event) is matches({"any": inverted}, event)


@given(st.lists(entries, min_size=1, max_size=3), events)
def test_a_list_of_filters_is_a_conjunction(
    several: list[dict[str, Any]], event: dict[str, Any]
) -> None:
    """The entries of `filters` are combined as those of `all` are."""
    assert matches({"all": several}, event) is filters.compile(several).matches(event)


def recreated(entry: Mapping[str, Any]) -> str:
    """The same filter in CESQL. A missing attribute is an error there, so it is tested
    for first.
    """
    [(dialect, asked)] = entry.items()
    match dialect:
        case "all":
            return " AND ".join(f"({recreated(each)})" for each in asked)
        case "any":
            return " OR ".join(f"({recreated(each)})" for each in asked)
        case "not":
            return f"NOT ({recreated(asked)})"
    test = {"exact": "{0} = '{1}'", "prefix": "{0} LIKE '{1}%'", "suffix": "{0} LIKE '%{1}'"}[
        dialect
    ]
    return " AND ".join(
        f"(EXISTS {name} AND {test.format(name, text)})" for name, text in asked.items()
    )


# In CESQL `type` and `source` always exist.
whole_events = st.builds(
    lambda required, rest: {**rest, **required},
    st.fixed_dictionaries({"type": texts, "source": texts}),
    events,
)


@given(entries, whole_events)
def test_dialects_and_their_cesql_equivalents_agree(
    entry: dict[str, Any], event: dict[str, Any]
) -> None:
    """Every dialect can be expressed in CESQL, with the same result for every event."""
    assert matches(entry, event) is matches({"cesql": recreated(entry)}, event)


keys = st.one_of(
    st.text(max_size=3),
    st.sampled_from(["exact", "any", "all", "not", "cesql", "attributes", "prefix"]),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=10,
)


@given(st.lists(json_values, max_size=3), events)
def test_any_json_is_compiled_or_rejected(several: list[Any], event: dict[str, Any]) -> None:
    """An invalid filter is rejected with fields and reasons, and `validate` reports at least the
    same.
    """
    found = filters.validate(several, "spec.filters")
    try:
        compiled = filters.compile(several)
    except filters.InvalidFilter as error:
        assert len(error.errors) <= len(found)
        return
    assert compiled.matches(event) is compiled.explain(event).matched
