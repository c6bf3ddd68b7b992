"""Triggers in their versions: one that is converted to the other version and back is the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.resources.trigger_conversion import attributes_of, convert_spec, todays_spec

TEXTS = st.sampled_from(["", "a", "dev.x"])
URIS = st.sampled_from(["http://a/", "http://b/x", "/relative"])
REFS = st.just({"apiVersion": "v1", "kind": "Service", "name": "s"})
SOURCE_AND_TYPE = st.fixed_dictionaries({}, optional={"type": TEXTS, "source": TEXTS})
ATTRIBUTES = st.dictionaries(st.sampled_from(["type", "source", "subject"]), TEXTS)
OTHERS = {"broker": st.just("default"), "filters": st.just([{"exact": {"type": "x"}}])}


def specs(filters: list[dict[str, Any]], subscribers: list[dict[str, Any]]) -> Any:
    """Specs with one of these filters and of these subscribers, each a mapping of strategies."""
    return st.fixed_dictionaries(
        {},
        optional={
            **OTHERS,
            "filter": st.one_of(*map(st.fixed_dictionaries, filters)),
            "subscriber": st.one_of(*map(st.fixed_dictionaries, subscribers)),
        },
    )


V1 = specs(
    [{}, {"attributes": ATTRIBUTES}],
    [{}, {"uri": URIS}, {"ref": REFS}, {"ref": REFS, "uri": URIS}],
)
V1ALPHA1 = specs(
    [{}, {"attributes": ATTRIBUTES}, {"sourceAndType": SOURCE_AND_TYPE}],
    [{}, {"uri": URIS}, {"ref": REFS}, {"dnsName": st.sampled_from(["a", "b.svc"])}],
)


@given(V1ALPHA1)
def test_a_trigger_of_2019_is_itself_after_a_visit_to_today(spec: dict[str, Any]) -> None:
    """v1alpha1, v1, v1alpha1."""
    assert spec == convert_spec(convert_spec(spec, "v1alpha1", "v1"), "v1", "v1alpha1")


@given(V1)
def test_a_trigger_of_today_is_itself_after_a_visit_to_2019(spec: dict[str, Any]) -> None:
    """v1, v1alpha1, v1."""
    assert spec == convert_spec(convert_spec(spec, "v1", "v1alpha1"), "v1alpha1", "v1")


@given(V1ALPHA1)
def test_both_modes_see_the_same_filter_and_subscriber(spec: dict[str, Any]) -> None:
    """What conversion stores, and what is read from a store without conversion."""
    converted, read = convert_spec(spec, "v1alpha1", "v1"), todays_spec(spec)
    for seen in (converted, read):
        given_filter = spec.get("filter", {})
        wanted = given_filter.get("attributes") or attributes_of(
            given_filter.get("sourceAndType", {})
        )
        assert (seen.get("filter", {}).get("attributes") or {}) == wanted
        assert "dnsName" not in spec.get("subscriber", {}) or seen["subscriber"]["uri"]
    assert todays_spec(converted) == converted
