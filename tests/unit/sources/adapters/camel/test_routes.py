"""Routes: what they use, and how they get to the sink."""

import json

import pytest

from headrace_sources.adapters.camel.config import CamelConfig
from headrace_sources.adapters.camel.routes import Routes, routes_of
from headrace_sources.source import SourceFault


def read(**config: object) -> Routes:
    """The routes of a configuration."""
    return routes_of(CamelConfig.model_validate({"source": "/x", **config}))


@pytest.mark.parametrize(
    "text",
    [
        "from: {uri: 'timer:x', steps: [{log: a}]}",
        "- from: {uri: 'timer:x', steps: [{log: a}]}",
        "- from: {uri: 'timer:x'}\n  steps: [{log: a}]",
        "- route: {from: {uri: 'timer:x', steps: [{log: a}]}}",
    ],
)
def test_a_route_that_does_not_name_the_sink_ends_there(text: str) -> None:
    """In all forms that Camel reads."""
    (entry,) = json.loads(read(route=text).files["route.yaml"])
    route = entry.get("route", entry)
    steps = route.get("steps") or route["from"]["steps"]
    assert steps == [{"log": "a"}, {"to": "direct:sink"}]


@pytest.mark.parametrize("sink", ["direct:sink", "knative:endpoint/sink"])
def test_a_route_that_names_the_sink_is_left_alone(sink: str) -> None:
    """It may filter, and another route may go elsewhere."""
    routes = read(route=f"- from: {{uri: 'timer:x', steps: [{{to: '{sink}'}}]}}")
    (entry,) = json.loads(routes.files["route.yaml"])
    assert entry["from"]["steps"] == [{"to": sink}]
    assert ("knative.yaml" in routes.files) == sink.startswith("knative")
    assert "knative" not in routes.schemes


def test_a_route_that_continues_another_one_is_left_alone() -> None:
    """It starts at `direct` or `seda`."""
    text = "- from: {uri: 'direct:a', steps: []}\n- from: {uri: 'timer:x', steps: []}"
    inner, outer = json.loads(read(route=text).files["route.yaml"])
    assert inner["from"]["steps"] == []
    assert outer["from"]["steps"] == [{"to": "direct:sink"}]


def test_what_routes_use_is_found() -> None:
    """Components of every step, and names that may be languages or data formats."""
    text = """
- from:
    uri: aws2-s3:bucket
    steps:
      - unmarshal: {csv: {}}
      - choice:
          when:
            - jq: .a
              steps: [{toD: "https://example.com/${body}"}]
      - wireTap: {uri: "kafka:x"}
      - setBody: {constant: "mailto:orders"}
"""
    routes = read(route=text)
    assert routes.schemes == {"aws2-s3", "https", "kafka"} | {"direct"}
    assert {"csv", "jq"} <= routes.names


def test_steps_in_kebab_case_are_translated() -> None:
    """As Camel wrote them in Knative's time; headers and parameters are not."""
    text = "- from: {uri: 'timer:x', parameters: {a-b: 1}, steps: [{set-header: {name: a-b}}]}"
    (entry,) = json.loads(read(route=text).files["route.yaml"])
    assert entry["from"]["parameters"] == {"a-b": 1}
    assert entry["from"]["steps"][0] == {"setHeader": {"name": "a-b"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- from: [", "spec.route, line 1: "),
        ("a: &x 1\nb: *x", "spec.route, line 1: "),
        ("hello", "spec.route: a route is a mapping with `from` or `route`, not 'hello'"),
        ("- beans: []", "spec.route has no route"),
        ("", "spec.route has no route"),
    ],
)
def test_what_is_no_route_is_named(text: str, message: str) -> None:
    """With field and line."""
    config = {"route": text} if text else {"files": [{"name": "spec.route.yaml", "content": text}]}
    with pytest.raises(SourceFault) as found:
        read(**config)
    assert str(found.value).replace(".yaml", "").startswith(message)
