"""The rules of GitHubSource, of today and of Knative 0.5."""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources import github_source as rules
from headrace.resources.kinds import GITHUB_SOURCE, LEGACY_GITHUB_SOURCE
from headrace.resources.resource import Resource, ResourceKind

SINK = {"uri": "http://sink.example/"}
LEGACY_SINK = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "name": "x"}
SECRETS = {
    "accessToken": {"secretKeyRef": {"name": "github", "key": "token"}},
    "secretToken": {"secretKeyRef": {"name": "github", "key": "secret"}},
}


def source(kind: ResourceKind = GITHUB_SOURCE, names: str = "", **spec: Any) -> Resource:
    """An object as a client writes it."""
    annotations = {rules.NAMES_ANNOTATION: names} if names else {}
    metadata = {"name": "x", "namespace": "shop", "annotations": annotations}
    full = {"ownerAndRepository": "a/b", "eventTypes": ["push"], **SECRETS, **spec}
    return Resource(kind, {"metadata": metadata, "spec": full})


@pytest.mark.parametrize(
    ("checked", "message"),
    [
        (source(sink=SINK), ""),
        (source(), ""),
        (source(sink=SINK, ownerAndRepository="organization"), ""),
        (source(LEGACY_GITHUB_SOURCE, sink=LEGACY_SINK), ""),
        (source(names="cloudevents"), ""),
        (
            source(ownerAndRepository="https://github.com/a/b"),
            "invalid value: https://github.com/a/b: spec.ownerAndRepository",
        ),
        (source(ownerAndRepository="a/b/c"), "invalid value: a/b/c: spec.ownerAndRepository"),
        (source(sink={}), "expected at least one, got none: spec.sink.ref, spec.sink.uri"),
        (
            source(LEGACY_GITHUB_SOURCE, sink={"kind": "Channel"}),
            "missing field(s): spec.sink.ref.apiVersion, spec.sink.ref.name",
        ),
        (source(names="own"), "invalid value: own: metadata.annotations"),
    ],
)
def test_what_is_valid(checked: Resource, message: str) -> None:
    """The sink may be missing, as in Knative; the condition says so then."""
    found = render(rules.validate(rules.RULES.set_defaults(checked)))
    assert message in found
    assert bool(message) == bool(found)


def test_the_types_of_its_events() -> None:
    """One for each event that GitHub is asked for; with the other names they are not known."""
    several = source(eventTypes=["push", "issues", "push"])
    assert rules.event_types(several) == (
        ("dev.knative.source.github.push", "https://github.com/a/b"),
        ("dev.knative.source.github.issues", "https://github.com/a/b"),
    )
    assert rules.event_types(source(names="cloudevents")) == ()
