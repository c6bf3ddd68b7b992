"""Admission: what Knative accepts is accepted and defaulted, what it refuses is refused with its
messages.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.resources.kinds import BROKER, CONFIG_MAP, TRIGGER
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.schemas.status_causes import NOWHERE
from headrace_apiserver.statuses import StatusError
from tests.support.api_admission import admit, refusal, warnings_of

SINK = {"uri": "http://sink.example/"}
CLASS = {"eventing.knative.dev/broker.class": "Kafka"}
NAME_RULE = "Attribute name must start with a letter and can only contain lowercase alphanumeric"


def make(
    kind: ResourceKind,
    spec: Any = None,
    *,
    annotations: Mapping[str, str] | None = None,
    **metadata: Any,
) -> Resource:
    """A resource named `x` in namespace `ns`."""
    full: dict[str, Any] = {"name": "x", "namespace": "ns", **metadata}
    if annotations:
        full["annotations"] = dict(annotations)
    document: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": full}
    return Resource(kind, document if spec is None else {**document, "spec": spec})


def trigger(**spec: Any) -> Resource:
    """A Trigger with a Broker and a subscriber unless `spec` says otherwise."""
    return make(TRIGGER, {"broker": "default", "subscriber": SINK, **spec})


def test_a_bare_broker_is_defaulted() -> None:
    """Class, config and nothing else; as kn sends it, with null times and an empty status."""
    sent = make(BROKER, creationTimestamp=None)
    admitted = admit(Resource(BROKER, {**sent.object, "status": {}}))
    assert CLASS == admitted.annotations
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "kafka-broker-config",
        "namespace": "knative-eventing",
    }
    assert {"config": config} == admitted.spec


def test_a_bare_trigger_is_defaulted() -> None:
    """Empty filter, the label that tools select by, the own namespace in references."""
    ref = {"apiVersion": "v1", "kind": "Service", "name": "s"}
    admitted = admit(trigger(subscriber={"ref": ref}, delivery={"deadLetterSink": {"ref": ref}}))
    assert {} == admitted.spec["filter"]
    assert {"eventing.knative.dev/broker": "default"} == admitted.metadata["labels"]
    assert (
        "ns"
        == admitted.spec["subscriber"]["ref"]["namespace"]
        == admitted.spec["delivery"]["deadLetterSink"]["ref"]["namespace"]
    )


def test_a_url_that_can_never_be_called_is_a_warning() -> None:
    """For the subscriber and the dead letter sink, by field; user information in such a URL is
    still refused.
    """
    sink = {"deadLetterSink": {"uri": "bad://sink"}}
    message = "can never be called, only http and https URLs can; change spec"
    expected = (
        f"bad://uri {message}.subscriber.uri",
        f"bad://sink {message}.delivery.deadLetterSink.uri",
    )
    assert expected == warnings_of(trigger(subscriber={"uri": "bad://uri"}, delivery=sink))
    assert expected[1:] == warnings_of(make(BROKER, {"delivery": sink}))
    assert "user information" in refusal(trigger(subscriber={"uri": "bad://user:secret@uri"}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"broker": ""}, "missing field(s): spec.broker"),
        (
            {"brokerRef": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}},
            "expected exactly one, got both: spec.broker, spec.brokerRef",
        ),
        (
            {
                "broker": "",
                "brokerRef": {"apiVersion": "a", "kind": "Broker", "name": "b", "namespace": "c"},
            },
            (
                "must not set the field(s): spec.brokerRef.namespace\nonly name, apiVersion and"
                " kind are supported fields when feature.CrossNamespaceEventLinks is disabled"
            ),
        ),
        ({"subscriber": None}, "missing field(s): spec.subscriber"),
        (
            {"subscriber": {}},
            "expected at least one, got none: spec.subscriber.ref, spec.subscriber.uri",
        ),
        (
            {"subscriber": {"ref": {"kind": "Service"}}},
            "missing field(s): spec.subscriber.ref.apiVersion, spec.subscriber.ref.name",
        ),
        (
            {"subscriber": {"uri": "/only/a/path"}},
            (
                "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name]"
                " is absent: spec.subscriber.uri"
            ),
        ),
        (
            {
                "subscriber": {
                    "uri": "http://x/",
                    "ref": {"apiVersion": "v1", "kind": "Service", "name": "s"},
                }
            },
            (
                "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present:"
                " spec.subscriber.apiVersion, spec.subscriber.kind, spec.subscriber.name,"
                " spec.subscriber.ref, spec.subscriber.uri"
            ),
        ),
        (
            {"subscriber": {**SINK, "CACerts": "nonsense"}},
            "invalid value: CA Cert provided is invalid: spec.subscriber.caCert",
        ),
        (
            {"filter": {"attributes": {"Type": "x", "s_t": "y"}}},
            (
                f'invalid key name "Type": spec.filter.attributes[Type]\n{NAME_RULE}\n'
                f'invalid key name "s_t": spec.filter.attributes[s_t]\n{NAME_RULE}'
            ),
        ),
        ({"delivery": {"retry": -1}}, "invalid value: -1: spec.delivery.retry"),
        (
            {"delivery": {"deadLetterSink": {}}},
            (
                "expected at least one, got none: spec.delivery.deadLetterSink.ref,"
                " spec.delivery.deadLetterSink.uri"
            ),
        ),
    ],
)
def test_a_trigger_is_refused_in_knatives_words(spec: Mapping[str, Any], message: str) -> None:
    """Field paths, kinds of messages and format are those of the reference."""
    assert message == refusal(trigger(**spec))


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            {"knative.dev/dependency": "not json"},
            (
                'The provided annotation was not a corev1.ObjectReference: "not json":'
                " metadata.annotations[knative.dev/dependency]"
            ),
        ),
        (
            {
                "knative.dev/dependency": (
                    '{"kind":"Broker","name":"b","apiVersion":"v1","namespace":"other"}'
                )
            },
            (
                'Namespace must be empty or equal to the trigger namespace "ns":'
                " metadata.annotations[knative.dev/dependency].namespace"
            ),
        ),
        (
            {"knative.dev/dependency": '{"kind":"Broker"}'},
            (
                "missing field(s): metadata.annotations[knative.dev/dependency].apiVersion,"
                " metadata.annotations[knative.dev/dependency].name"
            ),
        ),
        (
            {"eventing.knative.dev/injection": "maybe"},
            (
                'The provided injection annotation value can only be "enabled" or "disabled", not'
                ' "maybe": metadata.annotations[eventing.knative.dev/injection]'
            ),
        ),
        (
            {"kafka.eventing.knative.dev/delivery.order": "sorted"},
            (
                "invalid value: sorted:"
                " metadata.annotations[kafka.eventing.knative.dev/delivery.order]\nexpected ordered"
                " or unordered"
            ),
        ),
    ],
)
def test_annotations_are_checked(annotations: Mapping[str, str], message: str) -> None:
    """An invalid annotation is refused as a field is."""
    assert message == refusal(
        make(TRIGGER, {"broker": "default", "subscriber": SINK}, annotations=annotations)
    )


@pytest.mark.parametrize(
    "name", ["SOURCE", "Source", "souRce", "s pace s", "s_pace_s", "s-pace-s", "123", "😊", ""]
)
def test_attribute_names_knative_refuses_are_refused(name: str) -> None:
    """The list of Knative's own test, in both kinds of filter."""
    assert "invalid key name" in refusal(trigger(filter={"attributes": {name: "x"}}))
    assert "invalid key name" in refusal(trigger(filters=[{"exact": {name: "x"}}]))


def test_filters_are_checked_when_they_come_in() -> None:
    """An expression with a syntax error and two dialects in one entry are refused at once."""
    assert "spec.filters[0].cesql" in refusal(trigger(filters=[{"cesql": "type ="}]))
    assert "multiple dialects found" in refusal(
        trigger(filters=[{"exact": {"type": "a"}, "suffix": {"type": "b"}}])
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {},
            (
                "missing field(s): spec.config.apiVersion, spec.config.kind, spec.config.name,"
                " spec.config.namespace"
            ),
        ),
        (
            {"apiVersion": "v1", "kind": "Secret", "name": "s"},
            "invalid value: Secret: spec.config.kind\nthe Kafka class takes a ConfigMap",
        ),
    ],
)
def test_a_broker_config_must_be_a_whole_reference(config: Mapping[str, Any], message: str) -> None:
    """Each missing field is named."""
    assert message == refusal(make(BROKER, {"config": config}))


@pytest.mark.clause("B5", "T4")
def test_immutable_fields_are_reported_with_old_and_new_value() -> None:
    """Broker config and class, and a Trigger's Broker; delivery may change."""
    old = admit(make(BROKER, {}))
    changed = {"config": {**old.spec["config"], "name": "other"}}
    difference = '{v1.BrokerSpec}.Config.Name:\n\t-: "kafka-broker-config"\n\t+: "other"\n'
    assert f"Immutable fields changed (-old +new): spec\n{difference}" == refusal(
        make(BROKER, changed), old=old
    )
    other_class = make(BROKER, {}, annotations={"eventing.knative.dev/broker.class": "Other"})
    assert "Immutable annotations changed (-old +new): annotations" in refusal(other_class, old=old)
    assert {"retry": 3} == admit(make(BROKER, {"delivery": {"retry": 3}}), old=old).spec["delivery"]
    assert "Immutable fields changed (-old +new): broker, spec" in refusal(
        trigger(broker="b"), old=admit(trigger(broker="a"))
    )


def refused(resource: Resource) -> StatusError:
    """How the API server refuses it before the rules of its kind."""
    with pytest.raises(StatusError) as raised:
        admit(resource)
    return raised.value


def test_unknown_fields_are_named() -> None:
    """A misspelt field must not be ignored silently."""
    error = refused(trigger(subscribr=SINK, delivery={"retries": 3}))
    assert 400 == error.code
    assert str(error).endswith(
        'strict decoding error: unknown field "spec.delivery.retries", unknown field'
        ' "spec.subscribr"'
    )
    assert str(refused(trigger(filters={"exact": {}}))).endswith(
        'unknown field "spec.filters.exact"'
    )


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        (trigger(broker=5), "spec.broker"),
        (trigger(filters="exact"), "spec.filters"),
        (trigger(filter={"attributes": {"type": 7}}), "spec.filter.attributes.type"),
        (make(TRIGGER, [1]), "spec"),
        (make(BROKER, {}, name="Upper"), "metadata.name"),
        (make(BROKER, {}, name="../../etc"), "metadata.name"),
        (make(BROKER, {}, name="a" * 300), "metadata.name"),
        (make(BROKER, {}, namespace="a.b"), "metadata.namespace"),
    ],
)
def test_wrong_types_and_names_are_answered_with_causes(resource: Resource, field: str) -> None:
    """Each names the field."""
    error = refused(resource)
    assert (422, {field}) == (
        error.code,
        {cause["field"] for cause in error.status["details"]["causes"]} - {NOWHERE},
    )


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (make(BROKER, {}, finalizers=[1]), "finalizers"),
        (make(BROKER, {}, labels={"a": 1}), "labels"),
    ],
)
def test_metadata_of_other_types_cannot_be_read(resource: Resource, path: str) -> None:
    """The message names the field."""
    error = refused(resource)
    assert 400 == error.code
    assert f"Go struct field ObjectMeta.{path} of type" in str(error)


def test_a_config_map_is_admitted_unchanged() -> None:
    """It has data only; a spec is an unknown field."""
    whole = Resource(CONFIG_MAP, {**make(CONFIG_MAP).object, "data": {"a": "b"}})
    assert whole.object == admit(whole).object
    assert str(refused(make(CONFIG_MAP, {}))).endswith(
        'strict decoding error: unknown field "spec"'
    )
