"""Filters through the public functions; the dialects have their tests in tests/unit/domain."""

from typing import Any

import pytest

from headrace import filters
from headrace.cesql import Problem

PAID = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "paid"}


@pytest.mark.parametrize(
    ("spec", "matches"),
    [
        ({}, True),
        ({"filter": {"attributes": {"type": "paid"}}}, True),
        ({"filter": {"attributes": {"type": "sent"}}}, False),
        ({"filter": {"attributes": {"type": "paid"}}, "filters": [{"exact": {"id": "2"}}]}, False),
        ({"filter": {"attributes": {"type": "paid"}}, "filters": []}, True),
        ({"filters": [{"cesql": "type = 'paid'"}]}, True),
    ],
)
def test_a_trigger_matches_by_filters_else_by_filter(spec: dict[str, Any], matches: bool) -> None:
    """As Knative does it."""
    assert matches is filters.compile_trigger({"spec": spec}).matches(PAID)


def test_a_trigger_without_spec_matches_every_event() -> None:
    """There is no filter in it."""
    assert filters.compile_trigger({}).matches(PAID)


def test_failed_evaluations_are_reported() -> None:
    """And do not match."""
    problems: list[Problem] = []
    trigger = {"spec": {"filters": [{"cesql": "INT(amount) > 1"}]}}
    assert not filters.compile_trigger(trigger, on_error=problems.append).matches(PAID)
    assert 1 == len(problems)


def test_invalid_filters_name_the_field() -> None:
    """By its path in the manifest."""
    with pytest.raises(filters.InvalidFilter) as raised:
        filters.compile_trigger({"spec": {"filters": [{"cesql": "type ="}]}})
    assert (("spec.filters[0].cesql",),) == tuple(each.paths for each in raised.value.errors)
