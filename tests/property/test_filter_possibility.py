"""The law of partial evaluation: what it says of a type is true of every event of the type."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain import filters
from headrace.domain.filter_possibility import Verdict, possibility
from tests.property.test_filters_laws import entries, events, texts

terms = st.one_of(
    st.builds(lambda n, t: f"{n} = '{t}'", st.sampled_from(["type", "subject", "myext"]), texts),
    st.builds(lambda n: f"EXISTS {n}", st.sampled_from(["type", "subject"])),
    st.builds(lambda n, t: f"{n} LIKE '{t}%'", st.sampled_from(["source", "subject"]), texts),
    st.sampled_from(["subject", "myext > 3", "NOPE(type)", "TRUE", "FALSE"]),
)
expressions = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(lambda a: f"NOT ({a})", inner),
        st.builds(
            lambda a, c, b: f"({a}) {c} ({b})", inner, st.sampled_from(["AND", "OR", "XOR"]), inner
        ),
    ),
    max_leaves=5,
)
filter_lists = st.lists(
    st.one_of(entries, st.builds(lambda text: {"cesql": text}, expressions)), max_size=3
)


@settings(max_examples=400)
@given(filter_lists, texts, texts, events)
def test_no_event_of_the_type_contradicts_the_verdict(
    entry: list[dict[str, Any]], type_: str, source: str, others: dict[str, Any]
) -> None:
    """Yes: every event passes. No: none does. Maybe: it names attributes that are not known."""
    known = {"type": type_, "source": source}
    compiled = filters.compile(entry)
    found = possibility(compiled, known)
    event = {"id": "1", "specversion": "1.0", **others, **known}
    if found.verdict is Verdict.MAYBE:
        assert found.depends_on
        assert not set(found.depends_on) & known.keys()
    else:
        assert compiled.matches(event) is (found.verdict is Verdict.YES)


@given(filter_lists, events)
def test_it_is_exact_when_everything_is_known(
    entry: list[dict[str, Any]], others: dict[str, Any]
) -> None:
    """With all attributes that the filter reads, there is no maybe."""
    event = {
        **dict.fromkeys(("type", "source", "subject", "myext"), "x"),
        "id": "1",
        "specversion": "1.0",
        **others,
    }
    compiled = filters.compile(entry)
    found = possibility(compiled, event)
    assert found.verdict is (Verdict.YES if compiled.matches(event) else Verdict.NO)
