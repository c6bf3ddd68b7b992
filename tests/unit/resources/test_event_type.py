"""EventTypes: names, both forms in every version, refusals, and those that are created from
events.
"""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.field_errors import render
from headrace.domain.observed_event_types import ObservedEventType
from headrace.resources.event_type import RULES, auto_created, event_type_name, reference_of
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.kinds import BROKER, EVENT_TYPE
from headrace.resources.resource import Resource, ResourceKind
from tests.support.api_admission import admit, is_legal_name, refusal

V1BETA3 = ResourceKind(
    group=EVENT_TYPE.group,
    version="v1beta3",
    kind="EventType",
    plural="eventtypes",
    singular="eventtype",
)
ALL_FOUR = [{"name": name, "required": True} for name in ("type", "source", "specversion", "id")]
REF = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}


def event_type(kind: ResourceKind, spec: dict[str, Any]) -> Resource:
    """An EventType named `x` in `ns`."""
    return Resource(
        kind,
        {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": "x", "namespace": "ns"},
            "spec": spec,
        },
    )


def refused(resource: Resource) -> str:
    """Why it is refused, empty if it is accepted."""
    return render(default_and_validate(resource, RULES)[1])


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        (EVENT_TYPE, {}, "missing field(s): spec.type"),
        (EVENT_TYPE, {"source": "/s"}, "missing field(s): spec.type"),
        (EVENT_TYPE, {"type": "t"}, ""),
        (EVENT_TYPE, {"attributes": ALL_FOUR}, ""),
        (V1BETA3, {"attributes": ALL_FOUR}, ""),
        (V1BETA3, {"type": "t"}, ""),
        (
            V1BETA3,
            {},
            (
                "missing field(s): spec.attributes.id, spec.attributes.source,"
                " spec.attributes.specversion, spec.attributes.type"
            ),
        ),
        (V1BETA3, {"attributes": ALL_FOUR[:3]}, "missing field(s): spec.attributes.id"),
        (
            V1BETA3,
            {"attributes": ALL_FOUR[2:]},
            "missing field(s): spec.attributes.source, spec.attributes.type",
        ),
        (
            EVENT_TYPE,
            {"type": "t", "reference": {"kind": "Broker"}},
            "missing field(s): spec.reference.apiVersion, spec.reference.name",
        ),
        (EVENT_TYPE, {"type": 1}, "Invalid value: 'integer': must be of type string: spec.type"),
    ],
)
def test_what_is_refused(kind: ResourceKind, spec: dict[str, Any], message: str) -> None:
    """A type is required, or the attributes that every event has; either form is accepted in every
    version.
    """
    assert message == refused(event_type(kind, spec))


def test_the_reference_is_to_an_object_of_its_namespace() -> None:
    """Only the namespace is set; an old `broker` is a reference too."""
    admitted = admit(event_type(EVENT_TYPE, {"type": "t", "reference": REF}))
    assert {**REF, "namespace": "ns"} == admitted.spec["reference"] == reference_of(admitted)
    assert {**REF, "namespace": "ns"} == reference_of(
        event_type(EVENT_TYPE, {"type": "t", "broker": "b"})
    )
    assert reference_of(event_type(EVENT_TYPE, {"type": "t"})) is None


def test_an_invalid_one_cannot_be_admitted() -> None:
    """By the same rules as at reconcile."""
    assert "missing field(s): spec.type" == refusal(event_type(EVENT_TYPE, {"source": "/s"}))


def test_the_name_is_knatives() -> None:
    """The example of Knative's own tests: hash over type, source, namespace and addressable, in
    this order.
    """
    assert "et-example-eaed2996d719048dfae11b607d68b7ad" == event_type_name(
        "example", "default", "events.type", "events.source"
    )


def named(name: str) -> Resource:
    """An EventType of that name."""
    return Resource(EVENT_TYPE, {"metadata": {"name": name, "namespace": "ns"}})


ADDRESSABLE = st.text(
    alphabet=string.ascii_lowercase + string.digits + "-.", min_size=1, max_size=253
).filter(lambda name: is_legal_name(named(name)))


@given(ADDRESSABLE, st.text(max_size=50), st.text(max_size=50))
def test_every_name_is_valid(addressable: str, type_: str, source: str) -> None:
    """Whatever the event contains and however long the addressable's name is: an RFC 1123 subdomain
    that ends in the hash.
    """
    name = event_type_name(addressable, "ns", type_, source)
    assert is_legal_name(named(name))
    assert event_type_name(addressable, "ns", type_ + "x", source)[-32:] != name[-32:]


def test_an_auto_created_event_type_has_both_forms() -> None:
    """Owner, reference, description and attributes as Knative's, and the fields of the older
    versions for clusters without conversion.
    """
    owner = Resource(BROKER, {"metadata": {"name": "example", "namespace": "default", "uid": "u"}})
    made = auto_created(
        owner,
        ObservedEventType("u", "events.type", "events.source", "http://schema.example/", "1.0"),
    )
    about = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "example"}
    assert "eventing.knative.dev/v1beta2" == made.object["apiVersion"]
    assert {
        "name": "et-example-eaed2996d719048dfae11b607d68b7ad",
        "namespace": "default",
        "ownerReferences": [{**about, "uid": "u"}],
    } == made.metadata
    assert {
        "reference": {**about, "namespace": "default"},
        "description": "Event Type auto-created by controller",
        "type": "events.type",
        "source": "events.source",
        "schema": "http://schema.example/",
        "attributes": [
            {"name": "type", "required": True, "value": "events.type"},
            {"name": "source", "required": True, "value": "events.source"},
            {"name": "schemadata", "required": True, "value": "http://schema.example/"},
            {"name": "specversion", "required": True, "value": "1.0"},
            {"name": "id", "required": True},
        ],
    } == made.spec
    assert "" == refused(made) == refused(Resource(V1BETA3, made.object))
