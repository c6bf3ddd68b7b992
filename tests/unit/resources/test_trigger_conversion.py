"""Triggers in their versions: what each form becomes. The laws are in `tests/property`."""

from typing import Any

import pytest

from headrace.resources.trigger_conversion import convert_spec, todays_spec


def both_ways(old: dict[str, Any], new: dict[str, Any]) -> None:
    """The one form becomes the other."""
    assert convert_spec(old, "v1alpha1", "v1") == new
    assert convert_spec(new, "v1", "v1alpha1") == old


def test_source_and_type_become_attributes() -> None:
    """Empty texts match anything, as an attribute that is not named does."""
    stated = {"type": "dev.x", "source": ""}
    both_ways({"filter": {"sourceAndType": stated}}, {"filter": {"attributes": {"type": "dev.x"}}})


def test_what_attributes_do_not_say_exactly_stays() -> None:
    """Without it, the object would have another form when it is read again."""
    for stated in ({"type": "dev.x"}, {"type": "", "source": ""}, {}):
        attributes = {name: value for name, value in stated.items() if value}
        new = {"filter": {"sourceAndType": stated, "attributes": attributes}}
        both_ways({"filter": {"sourceAndType": stated}}, new)


def test_a_dns_name_becomes_a_url_and_stays() -> None:
    """As 0.5 called it."""
    both_ways(
        {"subscriber": {"dnsName": "till.shop"}},
        {"subscriber": {"dnsName": "till.shop", "uri": "http://till.shop/"}},
    )


def test_other_attributes_stay_attributes() -> None:
    """v1alpha1 had no field for them before 0.8."""
    spec = {"filter": {"attributes": {"type": "a", "subject": "b"}}}
    both_ways(spec, spec)


def test_what_was_changed_through_v1_is_seen_in_v1alpha1() -> None:
    """The retained field is the older one."""
    changed = {
        "filter": {"sourceAndType": {"type": "old"}, "attributes": {"subject": "new"}},
        "subscriber": {"dnsName": "old", "uri": "http://new/"},
    }
    assert convert_spec(changed, "v1", "v1alpha1") == {
        "filter": {"attributes": {"subject": "new"}},
        "subscriber": {"uri": "http://new/"},
    }


@pytest.mark.parametrize("filter_", [{}, {"attributes": {}}, {"attributes": {"type": ""}}, None])
def test_what_both_versions_have_is_not_touched(filter_: Any) -> None:
    """Also what is no object."""
    spec = {"filter": filter_, "broker": "default"}
    assert convert_spec(spec, "v1", "v1alpha1") is spec
    assert todays_spec(spec) is spec
