"""The rules of ApiServerSource: what Knative's webhook refuses, with its texts."""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources.api_server_source import FILTERS_DISABLED, RULES
from headrace.resources.features import Features
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.kinds import API_SERVER_SOURCE
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig

RESOURCES = [{"apiVersion": "v1", "kind": "Event"}]
SINK = {"uri": "http://sink.example/"}


def source(**spec: Any) -> Resource:
    """One as a client writes it."""
    metadata = {"name": "x", "namespace": "shop"}
    document = {"metadata": metadata, "spec": {"resources": RESOURCES, "sink": SINK, **spec}}
    return Resource(API_SERVER_SOURCE, document)


def test_defaults() -> None:
    """Those of Knative."""
    found, errors = default_and_validate(source(mode=""), RULES)
    assert errors == []
    assert (found.spec["mode"], found.spec["serviceAccountName"]) == ("Reference", "default")


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"resources": []}, "missing field(s): spec.resources"),
        ({"mode": "Ref"}, "invalid value: Ref: spec.mode"),
        (
            {"resources": [{"apiVersion": "a/b/c", "kind": "Event"}]},
            "invalid value: a/b/c: spec.resources[0].apiVersion",
        ),
        (
            {"resources": [*RESOURCES, {"apiVersion": "v1", "kind": " "}]},
            "missing field(s): spec.resources[1].kind",
        ),
        (
            {"resources": ["events"]},
            "missing field(s): spec.resources[0].apiVersion, spec.resources[0].kind",
        ),
        (
            {"resources": [{**RESOURCES[0], "selector": "app"}]},
            "invalid value: str: spec.resources[0].selector",
        ),
        (
            {"resources": [{**RESOURCES[0], "selector": {"matchLabels": {"a": "-"}}}]},
            "invalid value: -: spec.resources[0].selector.matchLabels.a",
        ),
        ({"owner": {"apiVersion": "apps/v1"}}, "missing field(s): spec.owner.kind"),
        (
            {"namespaceSelector": {"matchLabels": {"a": "-"}}},
            "invalid value: -: spec.namespaceSelector.matchLabels.a",
        ),
        ({"sink": {}}, "expected at least one, got none: spec.sink.ref, spec.sink.uri"),
        ({"filters": [{"exact": {"type": "a"}}]}, f"{FILTERS_DISABLED}: spec.filters"),
    ],
)
def test_what_is_refused(spec: dict[str, Any], error: str) -> None:
    """Each rule."""
    _, errors = default_and_validate(source(**spec), RULES)
    assert error in render(errors)


def test_filters_with_the_feature() -> None:
    """They are those of Triggers."""
    system = SystemConfig(features=Features(api_server_source_filters=True))
    allowed = source(filters=[{"exact": {"type": "a"}}])
    assert default_and_validate(allowed, RULES, system)[1] == []
    _, errors = default_and_validate(source(filters=[{"regex": {"type": "a"}}]), RULES, system)
    assert "spec.filters[0]" in render(errors)
