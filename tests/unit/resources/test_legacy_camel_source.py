"""The CamelSource of Knative 0.5 to 0.7, and what it is today."""

import json
from typing import Any

import pytest

from headrace.resources import legacy_camel_source as legacy
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.kinds import LEGACY_CAMEL_SOURCE
from headrace.resources.resource import Resource

SINK = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "camel-test"}


def resource(source: Any, **more: Any) -> Resource:
    """A CamelSource."""
    spec = {"source": source, "sink": SINK, **more}
    metadata = {"namespace": "shop", "name": "c"}
    return Resource(LEGACY_CAMEL_SOURCE, {"metadata": metadata, "spec": spec})


def test_a_component_is_a_uri() -> None:
    """The reference in `sink` is one in `sink.ref`; what only Camel K used is left out."""
    component = {"uri": "timer:x", "properties": {"a": "b"}, "context": "c"}
    found = legacy.todays(resource({"component": component}, image="i"))
    assert found.spec == {
        "sink": {"ref": {**SINK, "namespace": "shop"}},
        "uri": "timer:x",
        "properties": {"a": "b"},
    }


def test_an_integration_is_files() -> None:
    """With its properties and dependencies; a flow is one more file."""
    integration = {
        "sources": [{"name": "a.yaml", "content": "x"}, {"language": "xml", "content": "y"}],
        "configuration": [{"type": "property", "value": "a = b=c"}],
        "dependencies": ["camel:telegram"],
    }
    flow = {"from": {"uri": "timer:x", "steps": []}}
    todays_sink = {"ref": SINK, "uri": "/x"}
    found = legacy.todays(resource({"integration": integration, "flow": flow}, sink=todays_sink))
    assert found.spec == {
        "sink": {"ref": {**SINK, "namespace": "shop"}, "uri": "/x"},
        "files": [
            {"name": "a.yaml", "content": "x"},
            {"name": "source-1.xml", "content": "y"},
            {"name": "flow.yaml", "content": json.dumps(flow)},
        ],
        "dependencies": ["camel:telegram"],
        "properties": {"a": "b=c"},
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({}, "expected at least one, got none: spec.source.component, spec.source.flow"),
        ({"component": {"properties": {}}}, "missing field(s): spec.source.component.uri"),
        ({"component": {"uri": "timer"}}, "invalid value: timer: spec.source.component.uri"),
        (
            {"integration": {"dependencies": []}, "x": 1},
            "missing field(s): spec.source.integration.sources",
        ),
        (
            {"integration": {"sources": [{"name": "a.yaml"}]}},
            "missing field(s): spec.source.integration.sources[0].content",
        ),
        (
            {
                "flow": {"from": "timer:x"},
                "integration": {"configuration": [{"type": "secret", "value": "s"}]},
            },
            "invalid value: secret: spec.source.integration.configuration[0].type",
        ),
    ],
)
def test_invalid(source: Any, expected: str) -> None:
    """Each error names the field as the user wrote it."""
    (error,) = default_and_validate(resource(source), legacy.RULES)[1]
    assert expected in str(error)


def test_a_sink_is_needed() -> None:
    """With Knative's message."""
    errors = legacy.validate(resource({"component": {"uri": "timer:x"}}, sink={}))
    assert [str(each) for each in errors] == [
        "expected at least one, got none: spec.sink.ref, spec.sink.uri"
    ]
