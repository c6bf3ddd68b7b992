"""The rules of today's CamelSource."""

from typing import Any

import pytest

from headrace.resources.camel_source import RULES
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.kinds import CAMEL_SOURCE
from headrace.resources.resource import Resource

SINK = {"uri": "http://sink.example/"}


def errors(**spec: Any) -> list[str]:
    """The errors of a spec."""
    metadata = {"namespace": "shop", "name": "c"}
    source = Resource(CAMEL_SOURCE, {"metadata": metadata, "spec": {"sink": SINK, **spec}})
    return [str(each) for each in default_and_validate(source, RULES)[1]]


@pytest.mark.parametrize(
    "spec",
    [
        {"uri": "timer:tick"},
        {"uri": "{{component}}:x", "dependencies": ["camel:jq", "camel-jq", "mvn:a.b:c:1.0"]},
        {"route": "anything", "propertiesFrom": [{"secretKeyRef": {"name": "a", "key": "b"}}]},
    ],
)
def test_valid(spec: dict[str, Any]) -> None:
    """What Camel thinks of it is a condition."""
    assert errors(**spec) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "expected at least one, got none: spec.route, spec.uri"),
        ({"uri": "timer:a", "route": "b"}, "expected exactly one, got both: spec.route, spec.uri"),
        ({"uri": "timer"}, "invalid value: timer: spec.uri"),
        ({"uri": "timer:a", "dependencies": ["http"]}, "invalid value: http: spec.dependencies[0]"),
        (
            {"uri": "timer:a", "propertiesFrom": [{}]},
            "spec.propertiesFrom[0].secretKeyRef.key, spec.propertiesFrom[0].secretKeyRef.name",
        ),
    ],
)
def test_invalid(spec: dict[str, Any], expected: str) -> None:
    """Each error names the field."""
    (error,) = errors(**spec)
    assert expected in error
