"""Label selectors: what is refused, and their form in a URL."""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources.label_selector import selector_text, validate_selector


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({}, ""),
        ({"matchLabels": {"app": "shop", "example.com/tier": ""}}, "app=shop,example.com/tier="),
        (
            {
                "matchLabels": {"app": "shop"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["b", "a"]},
                    {"key": "zone", "operator": "NotIn", "values": ["x"]},
                    {"key": "old", "operator": "DoesNotExist"},
                    {"key": "new", "operator": "Exists", "values": []},
                ],
            },
            "!old,app=shop,new,tier in (a,b),zone notin (x)",
        ),
    ],
)
def test_the_form_in_a_url(selector: dict[str, Any], text: str) -> None:
    """In one order, so that the same selector is the same text."""
    assert validate_selector(selector, "s") == []
    assert selector_text(selector) == text


def requirement(**fields: Any) -> dict[str, Any]:
    """A selector with one requirement."""
    return {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"], **fields}]}


@pytest.mark.parametrize(
    ("selector", "error"),
    [
        ({"matchLabels": {"-app": "a"}}, "invalid value: -app: s.matchLabels"),
        ({"matchLabels": {"A.com/app": "a"}}, "invalid value: A.com/app: s.matchLabels"),
        ({"matchLabels": {"app": "a b"}}, "invalid value: a b: s.matchLabels.app"),
        ({"matchLabels": {"app": "x" * 64}}, f"invalid value: {'x' * 64}: s.matchLabels.app"),
        (requirement(key=""), "invalid value: : s.matchExpressions[0].key"),
        (requirement(operator="Is"), "invalid value: Is: s.matchExpressions[0].operator"),
        (requirement(values=[]), "missing field(s): s.matchExpressions[0].values"),
        (requirement(values=["a,b"]), "invalid value: a,b: s.matchExpressions[0].values[0]"),
        (
            requirement(operator="Exists"),
            "must not set the field(s): s.matchExpressions[0].values",
        ),
        ({"matchExpressions": ["app"]}, "invalid value: app: s.matchExpressions[0]"),
    ],
)
def test_what_is_refused(selector: dict[str, Any], error: str) -> None:
    """As the API server would, which is asked later."""
    assert error in render(validate_selector(selector, "s"))
