"""The rules of CloudPubSubSource, and of GcpPubSubSource of Knative 0.5."""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources import cloud_pubsub_source, gcp_pubsub_source
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.kinds import CLOUD_PUBSUB_SOURCE, LEGACY_GCP_PUBSUB_SOURCE
from headrace.resources.naming import SUBSCRIPTION_ID_MAX, pubsub_subscription
from headrace.resources.resource import Resource

SINK = {"uri": "http://sink.example/"}
KEY = {"name": "google-cloud-key", "key": "key.json"}
UID = "0c6eb5a4-3c7e-4b6f-9f5e-2f5f9f3f8a11"


def source(status: dict[str, Any] | None = None, **spec: Any) -> Resource:
    """A CloudPubSubSource."""
    metadata = {"name": "s", "namespace": "default", "uid": UID}
    given = {"topic": "laconia", "sink": SINK, **spec}
    return Resource(
        CLOUD_PUBSUB_SOURCE, {"metadata": metadata, "spec": given, "status": status or {}}
    )


def legacy(**spec: Any) -> Resource:
    """A GcpPubSubSource."""
    given = {"topic": "laconia", "googleCloudProject": "shop-42", **spec}
    metadata = {"name": "s", "namespace": "default"}
    return Resource(LEGACY_GCP_PUBSUB_SOURCE, {"metadata": metadata, "spec": given})


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, ""),
        ({"secret": KEY}, ""),
        ({"secret": {}, "serviceAccountName": "reader"}, ""),
        ({"topic": ""}, "missing field(s): spec.topic"),
        ({"topic": 5}, "spec.topic"),
        ({"sink": None}, "missing field(s): spec.sink"),
        ({"secret": {"name": "a"}}, "missing field(s): spec.secret.key"),
        ({"ackDeadline": "10m0s", "retentionDuration": "10m"}, ""),
        ({"ackDeadline": "0s"}, ""),
        ({"ackDeadline": "11m"}, "expected 0s <= 11m <= 10m0s: spec.ackDeadline"),
        ({"ackDeadline": "soon"}, "invalid value: soon: spec.ackDeadline"),
        (
            {"retentionDuration": "169h"},
            "expected 10m0s <= 169h <= 168h0m0s: spec.retentionDuration",
        ),
        (
            {"secret": KEY, "serviceAccountName": "reader"},
            "Can't have spec.serviceAccountName and spec.secret at the same time",
        ),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], said: str) -> None:
    """In the messages of knative-gcp."""
    _, errors = default_and_validate(source(**spec), cloud_pubsub_source.RULES)
    assert said in render(errors)
    assert bool(errors) == bool(said)


def test_defaults_are_those_of_knative_gcp() -> None:
    """In the form in which Go writes them; given ones are kept."""
    defaulted, _ = default_and_validate(source(), cloud_pubsub_source.RULES)
    assert defaulted.spec["ackDeadline"] == "30s"
    assert defaulted.spec["retentionDuration"] == "168h0m0s"
    kept, _ = default_and_validate(source(ackDeadline="1m"), cloud_pubsub_source.RULES)
    assert kept.spec["ackDeadline"] == "1m"


@pytest.mark.parametrize(("text", "seconds"), [("0s", 10), ("9s", 10), ("1m30s", 90)])
def test_a_deadline_is_one_that_pubsub_takes(text: str, seconds: int) -> None:
    """Knative allows less."""
    assert cloud_pubsub_source.ack_deadline_seconds(source(ackDeadline=text)) == seconds


def test_project_and_topic_do_not_change() -> None:
    """Everything else may."""
    old = source(project="shop-42")
    rules = cloud_pubsub_source.RULES
    assert rules.validate_update(source(project="shop-42", ackDeadline="1m", secret=KEY), old) == []
    for changed in (source(project="shop-43"), source(project="shop-42", topic="arcadia")):
        said = render(rules.validate_update(changed, old))
        assert said.startswith("Immutable fields changed (-old +new): spec\n")
        assert "shop-42" in said or "laconia" in said


def test_the_types_of_events_are_known_with_the_project() -> None:
    """It is in the spec, or the adapter has published it."""
    origin = "//pubsub.googleapis.com/projects/p/topics/laconia"
    expected = (("google.cloud.pubsub.topic.v1.messagePublished", origin),)
    assert cloud_pubsub_source.event_types(source()) == ()
    assert cloud_pubsub_source.event_types(source(project="p")) == expected
    assert cloud_pubsub_source.event_types(source({"projectId": "p"})) == expected


def test_a_service_account_has_no_effect() -> None:
    """A warning says where the credentials are from."""
    assert cloud_pubsub_source.RULES.warnings(source()) == []
    [said] = cloud_pubsub_source.RULES.warnings(source(serviceAccountName="reader"))
    assert "spec.serviceAccountName has no effect" in said


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, ""),
        ({"sink": {"apiVersion": "v1", "kind": "Service", "name": "a"}}, ""),
        ({"sink": {"kind": "Service", "name": "a"}}, "missing field(s): spec.sink.ref.apiVersion"),
        ({"topic": "", "googleCloudProject": ""}, "spec.googleCloudProject, spec.topic"),
        ({"gcpCredsSecret": {"key": "a"}}, "missing field(s): spec.gcpCredsSecret.name"),
    ],
)
def test_what_is_wrong_with_one_of_2019_is_named(spec: dict[str, Any], said: str) -> None:
    """Its sink may be missing: a condition says so."""
    _, errors = default_and_validate(legacy(**spec), gcp_pubsub_source.RULES)
    assert said in render(errors)
    assert bool(errors) == bool(said)


def test_nothing_of_one_of_2019_changes() -> None:
    """As in 0.5."""
    rules = gcp_pubsub_source.RULES
    assert rules.validate_update(legacy(), legacy()) == []
    assert "Immutable fields changed" in render(rules.validate_update(legacy(topic="b"), legacy()))
    assert rules.warnings(legacy()) == []
    assert "spec.transformer has no effect" in rules.warnings(legacy(transformer={"kind": "a"}))[0]


@pytest.mark.parametrize("name", ["a", "a" * 253])
def test_the_subscription_has_an_id_that_pubsub_takes(name: str) -> None:
    """Unique by the uid."""
    found = pubsub_subscription("default", name, UID)
    assert found.startswith("knative-eventing-default-a")
    assert found.endswith(f"-{UID}")
    assert len(found) <= SUBSCRIPTION_ID_MAX
