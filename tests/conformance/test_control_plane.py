"""Knative's conformance plan for the control plane, run with kubectl: lifecycle, immutability,
refusals, defaults, dependencies, EventTypes.

The commands are those of users (`apply`, `wait`, `get -o jsonpath`, `patch --type merge`). The
server is a whole controller over memory adapters, with a data plane that applies every routing
record at once. Refused requests are sent in one call: a start of kubectl takes most of a second.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.kubectl import Kubectl
from tests.unit.apiserver.running_api import running_api

SINK = "http://sink.example/"
SYSTEM = "knative-eventing"
WAIT = "--timeout=30s"
REFUSED_NAMES = [
    "SOURCE",
    "Source",
    "souRce",
    "s pace s",
    "s_pace_s",
    "s-pace-s",
    "123",
    "😊",
    "a!",
    "a.b",
    "a@b",
    "a/b",
    "a:b",
    "a=b",
    "a%b",
]
TAKEN_NAMES = [
    "source",
    "id",
    "specversion",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "aaa",
    "c1d2e3",
    "abcdefghijklmnopqrst",
]


pytestmark = pytest.mark.clause("B4", "B5", "T1", "T2", "T4")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """One controller for the module."""
    with running_api() as api:
        yield Kubectl(api.url, tmp_path_factory.mktemp("kubectl"))


@pytest.fixture
def kubectl(server: Kubectl) -> Iterator[Kubectl]:
    """kubectl, with no objects of an earlier test left."""
    yield server
    server.ok("delete", "triggers,brokers,eventtypes,configmaps,services", "--all", "--wait=true")
    server.ok(
        "delete",
        "configmap",
        "config-br-defaults",
        "config-features",
        "-n",
        SYSTEM,
        "--ignore-not-found",
    )


def manifest(
    kind: str,
    name: str,
    spec: Any = None,
    *,
    annotations: dict[str, str] | None = None,
    version: str = "v1",
    group: str = "eventing.knative.dev",
) -> str:
    """A document for `kubectl apply`."""
    metadata: dict[str, Any] = {
        "name": name,
        **({"annotations": annotations} if annotations else {}),
    }
    document = {
        "apiVersion": f"{group}/{version}",
        "kind": kind,
        "metadata": metadata,
        "spec": spec or {},
    }
    return yaml.safe_dump(document, allow_unicode=True)


def broker(name: str = "conformance-broker", **spec: Any) -> str:
    """A Broker."""
    return manifest("Broker", name, spec)


def trigger(
    name: str = "conformance-trigger", *, annotations: dict[str, str] | None = None, **spec: Any
) -> str:
    """A Trigger of that Broker, with a subscriber."""
    return manifest(
        "Trigger",
        name,
        {"broker": "conformance-broker", "subscriber": {"uri": SINK}, **spec},
        annotations=annotations,
    )


def config_map(name: str, **data: str) -> str:
    """A ConfigMap of the system namespace."""
    names = {key.replace("_", "-"): value for key, value in data.items()}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": SYSTEM},
            "data": names,
        }
    )


def apply(kubectl: Kubectl, *documents: str) -> None:
    """`kubectl apply -f -`."""
    kubectl.ok("apply", "-f", "-", text="---\n".join(documents))


def refused(kubectl: Kubectl, document: str) -> str:
    """The error of a refused `kubectl apply -f -`."""
    return kubectl.refused("apply", "-f", "-", text=document)


def patch(kubectl: Kubectl, what: str, change: Any) -> str:
    """The error of a refused `kubectl patch --type merge`."""
    return kubectl.refused("patch", what, "--type", "merge", "-p", json.dumps(change))


def ready(kubectl: Kubectl, *what: str, value: str = "True") -> None:
    """`kubectl wait`."""
    kubectl.ok("wait", f"--for=condition=Ready={value}", *what, WAIT)


def reason(kubectl: Kubectl, what: str, condition: str = "Ready", *, field: str = "reason") -> str:
    """The reason of a condition, by jsonpath."""
    return kubectl.ok(
        "get", what, "-o", f'jsonpath={{.status.conditions[?(@.type=="{condition}")].{field}}}'
    )


# The manual plan: lifecycle of a Broker.


@pytest.mark.clause("B1", "B4", "X2")
def test_a_broker_becomes_ready_and_addressable(kubectl: Kubectl) -> None:
    """Its class is defaulted, its address is a URL, and Ready follows from its other conditions."""
    apply(kubectl, broker())
    ready(kubectl, "broker/conformance-broker")
    class_path = r"jsonpath={.metadata.annotations.eventing\.knative\.dev/broker\.class}"
    assert "Kafka" == kubectl.ok("get", "broker", "conformance-broker", "-o", class_path)
    url = kubectl.ok("get", "broker", "conformance-broker", "-o", "jsonpath={.status.address.url}")
    assert url.startswith("http") and url.endswith("/default/conformance-broker")
    assert "ConfigMap" == kubectl.ok(
        "get", "broker", "conformance-broker", "-o", "jsonpath={.spec.config.kind}"
    )


@pytest.mark.clause("B5")
def test_the_class_of_a_broker_is_immutable(kubectl: Kubectl) -> None:
    """The message is Knative's, with the old class and the new one."""
    apply(kubectl, broker())
    output = patch(
        kubectl,
        "broker/conformance-broker",
        {"metadata": {"annotations": {"eventing.knative.dev/broker.class": "mutable"}}},
    )
    assert "Immutable annotations changed (-old +new): annotations" in output
    assert '-: "Kafka"' in output
    assert '+: "mutable"' in output


@pytest.mark.clause("B5")
def test_the_config_of_a_broker_is_immutable(kubectl: Kubectl) -> None:
    """The whole spec except delivery."""
    apply(kubectl, broker())
    output = patch(kubectl, "broker/conformance-broker", {"spec": {"config": {"name": "other"}}})
    assert "Immutable fields changed (-old +new): spec" in output
    assert '{v1.BrokerSpec}.Config.Name:\n\t-: "kafka-broker-config"\n\t+: "other"' in output
    kubectl.ok(
        "patch",
        "broker/conformance-broker",
        "--type",
        "merge",
        "-p",
        '{"spec": {"delivery": {"retry": 2}}}',
    )
    ready(kubectl, "broker/conformance-broker")


@pytest.mark.clause("B3")
def test_the_dead_letter_sink_of_a_broker_is_in_its_status(kubectl: Kubectl) -> None:
    """Resolved before Ready."""
    apply(kubectl, broker(delivery={"deadLetterSink": {"uri": "http://letters.example/"}}))
    ready(kubectl, "broker/conformance-broker")
    assert "http://letters.example/" == kubectl.ok(
        "get", "broker/conformance-broker", "-o", "jsonpath={.status.deadLetterSinkUri}"
    )


# The manual plan: lifecycle of a Trigger.


@pytest.mark.clause("T1")
def test_a_trigger_before_its_broker(kubectl: Kubectl) -> None:
    """Not Ready, with the reason, until the Broker is; the same after the Broker is deleted and
    created again.
    """
    apply(kubectl, trigger())
    ready(kubectl, "trigger/conformance-trigger", value="False")
    assert "BrokerDoesNotExist" == reason(kubectl, "trigger/conformance-trigger")
    assert 'Broker "conformance-broker" does not exist' == reason(
        kubectl, "trigger/conformance-trigger", "BrokerReady", field="message"
    )
    for _ in range(2):
        apply(kubectl, broker())
        ready(kubectl, "trigger/conformance-trigger", "broker/conformance-broker")
        kubectl.ok("delete", "broker", "conformance-broker")
        ready(kubectl, "trigger/conformance-trigger", value="False")
        assert "BrokerDoesNotExist" == reason(kubectl, "trigger/conformance-trigger")


@pytest.mark.clause("T4")
def test_the_broker_of_a_trigger_is_immutable(kubectl: Kubectl) -> None:
    """All other fields can be changed."""
    apply(kubectl, broker(), trigger())
    output = patch(kubectl, "trigger/conformance-trigger", {"spec": {"broker": "other"}})
    assert "Immutable fields changed (-old +new): broker, spec" in output
    assert '-: "conformance-broker"\n\t+: "other"' in output
    change = {
        "spec": {
            "subscriber": {"uri": "http://other.example/"},
            "filter": {"attributes": {"type": "x"}},
            "delivery": {"retry": 1},
        }
    }
    kubectl.ok("patch", "trigger/conformance-trigger", "--type", "merge", "-p", json.dumps(change))
    ready(kubectl, "trigger/conformance-trigger")
    assert "http://other.example/" == kubectl.ok(
        "get", "trigger/conformance-trigger", "-o", "jsonpath={.status.subscriberUri}"
    )


@pytest.mark.clause("F2", "T2")
def test_wait_after_an_edit_is_about_the_edit(kubectl: Kubectl) -> None:
    """observedGeneration is written with the conditions: the Ready of an older generation does not
    count.
    """
    apply(kubectl, broker(), trigger())
    ready(kubectl, "trigger/conformance-trigger")
    lost = {
        "ref": {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "nowhere"},
        "uri": None,
    }
    kubectl.ok(
        "patch",
        "trigger/conformance-trigger",
        "--type",
        "merge",
        "-p",
        json.dumps({"spec": {"subscriber": lost}}),
    )
    ready(kubectl, "trigger/conformance-trigger", value="False")
    assert "Unable to get the Subscriber's URI" == reason(
        kubectl, "trigger/conformance-trigger", "SubscriberResolved"
    )
    assert "" == kubectl.ok(
        "get", "trigger/conformance-trigger", "-o", "jsonpath={.status.subscriberUri}"
    )
    found = kubectl.get("trigger/conformance-trigger")
    assert found["metadata"]["generation"] == found["status"]["observedGeneration"]


@pytest.mark.clause("F4")
def test_attribute_filters_are_supported(kubectl: Kubectl) -> None:
    """`filter.attributes` and every dialect of `filters`, with every name that Knative accepts."""
    named = trigger(filter={"attributes": dict.fromkeys(TAKEN_NAMES, "x")})
    dialects: list[dict[str, Any]] = [
        {"exact": {"type": "a"}},
        {"prefix": {"type": "a"}},
        {"suffix": {"type": "a"}},
        {"all": [{"exact": {"type": "a"}}, {"prefix": {"source": "b"}}]},
        {"any": [{"exact": {"type": "a"}}, {"prefix": {"source": "b"}}]},
        {"not": {"exact": {"type": "a"}}},
        {"cesql": "type LIKE 'a%' AND EXISTS subject"},
    ]
    apply(kubectl, broker(), named, trigger("with-dialects", filters=dialects))
    ready(kubectl, "trigger/conformance-trigger", "trigger/with-dialects")


def test_each_invalid_attribute_name_is_refused_on_update(kubectl: Kubectl) -> None:
    """In `filter.attributes`, with the name, its path and the rule."""
    apply(kubectl, broker(), *(trigger(f"t{number}") for number in range(len(REFUSED_NAMES))))
    changed = [
        trigger(f"t{number}", filter={"attributes": {name: "x"}})
        for number, name in enumerate(REFUSED_NAMES)
    ]
    output = refused(kubectl, "---\n".join(changed))
    for name in REFUSED_NAMES:
        assert f'invalid key name "{name}": spec.filter.attributes[{name}]' in output
    assert len(REFUSED_NAMES) == output.count(
        "Attribute name must start with a letter and can only contain lowercase alphanumeric\n"
    )


REFUSED = [
    (trigger(broker=""), "missing field(s): spec.broker"),
    (
        trigger(subscriber={}),
        "expected at least one, got none: spec.subscriber.ref, spec.subscriber.uri",
    ),
    (
        trigger(subscriber={"uri": "/path"}),
        "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent",
    ),
    (
        trigger(filters=[{"exact": {"type": "a"}, "suffix": {"type": "a"}}]),
        "multiple dialects found, filters can have only",
    ),
    (trigger(filters=[{"cesql": "type = "}]), "invalid value: type = : spec.filters[0].cesql"),
    (trigger(delivery={"retry": -1}), "invalid value: -1: spec.delivery.retry"),
    (trigger(delivery={"timeout": "PT0S"}), "invalid value: PT0S: spec.delivery.timeout"),
    (trigger(delivery={"backoffPolicy": "quadratic"}), "spec.delivery.backoffPolicy"),
    (
        trigger(annotations={"knative.dev/dependency": "x"}),
        'The provided annotation was not a corev1.ObjectReference: "x"',
    ),
    (
        trigger(
            annotations={
                "knative.dev/dependency": (
                    '{"kind": "Broker", "name": "b", "apiVersion": "v1", "namespace": "other"}'
                )
            }
        ),
        'Namespace must be empty or equal to the trigger namespace "default"',
    ),
    (
        trigger(annotations={"eventing.knative.dev/injection": "maybe"}),
        'The provided injection annotation value can only be "enabled" or "disabled", not "maybe"',
    ),
    (
        trigger(annotations={"eventing.knative.dev/injection": "enabled"}),
        'only used for default broker, but non-default broker specified here: "conformance-broker"',
    ),
    (broker(config={"kind": "ConfigMap"}), "spec.config.name"),
    (broker(delivery={"backoffDelay": "soon"}), "invalid value: soon: spec.delivery.backoffDelay"),
]


def test_what_knative_refuses_is_refused_with_its_message(kubectl: Kubectl) -> None:
    """In the response, with the path of the field."""
    output = refused(kubectl, "---\n".join(document for document, _ in REFUSED))
    for _, message in REFUSED:
        assert message in output
    assert "" == kubectl.ok("get", "triggers,brokers", "-o", "name")


def test_a_trigger_is_defaulted(kubectl: Kubectl) -> None:
    """An empty filter, the label that tools select by, and the namespace of references."""
    ref = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "c"}
    apply(kubectl, trigger(subscriber={"ref": ref}))
    found = kubectl.get("trigger", "conformance-trigger")
    assert {} == found["spec"]["filter"]
    assert "default" == found["spec"]["subscriber"]["ref"]["namespace"]
    assert "conformance-trigger" == kubectl.ok(
        "get",
        "trigger",
        "-l",
        "eventing.knative.dev/broker=conformance-broker",
        "-o",
        "jsonpath={.items[*].metadata.name}",
    )


def test_a_trigger_waits_for_its_dependency(kubectl: Kubectl) -> None:
    """Until the object exists and is Ready."""
    reference = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "second"}
    apply(kubectl, broker(), trigger(annotations={"knative.dev/dependency": json.dumps(reference)}))
    ready(kubectl, "trigger/conformance-trigger", value="False")
    assert "DependencyDoesNotExist" == reason(
        kubectl, "trigger/conformance-trigger", "DependencyReady"
    )
    apply(kubectl, broker("second"))
    ready(kubectl, "trigger/conformance-trigger")


@pytest.mark.clause("R1", "R2")
def test_a_service_is_reached_by_its_external_name(kubectl: Kubectl) -> None:
    """Without a cluster there is no DNS for Services; without an external name the condition
    reports that.
    """
    ref = {"apiVersion": "v1", "kind": "Service", "name": "sink"}
    apply(kubectl, broker(), trigger(subscriber={"ref": ref, "uri": "/in"}))
    ready(kubectl, "trigger/conformance-trigger", value="False")
    assert 'services "sink" not found' in reason(
        kubectl, "trigger/conformance-trigger", "SubscriberResolved", field="message"
    )
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 8081}]}
    apply(
        kubectl,
        yaml.safe_dump(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sink"}, "spec": service}
        ),
    )
    ready(kubectl, "trigger/conformance-trigger")
    assert "http://localhost:8081/in" == kubectl.ok(
        "get", "trigger/conformance-trigger", "-o", "jsonpath={.status.subscriberUri}"
    )


# ConfigMaps for all resources.


def test_brokers_get_the_defaults_of_config_br_defaults(kubectl: Kubectl) -> None:
    """Config and delivery, set when a Broker is created; a config in another namespace can be
    disallowed.
    """
    text = yaml.safe_dump(
        {
            "clusterDefault": {
                "brokerClass": "Kafka",
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": "kafka-broker-config",
                "namespace": SYSTEM,
                "delivery": {"retry": 4, "backoffPolicy": "linear"},
            },
            "namespaceDefaults": {"default": {"disallowDifferentNamespaceConfig": True}},
        }
    )
    apply(kubectl, config_map("config-br-defaults", default_br_config=text))
    output = refused(kubectl, broker())
    assert "mismatched namespaces: spec.config.namespace" in output
    assert 'parent namespace: "default" does not match ref: "knative-eventing"' in output
    output = refused(
        kubectl,
        config_map("config-br-defaults", default_br_config=text.replace("retry: 4", "retry: -4")),
    )
    assert "invalid value: -4: data.default-br-config.clusterDefault.delivery.retry" in output
    assert "data.default-br-config" in refused(
        kubectl, config_map("config-br-defaults", default_br_config="clusterDefault: [")
    )
    apply(
        kubectl, config_map("config-br-defaults", default_br_config=text.replace("true", "false"))
    )
    apply(kubectl, broker())
    assert {"retry": 4, "backoffPolicy": "linear"} == kubectl.get("broker", "conformance-broker")[
        "spec"
    ]["delivery"]
    ready(kubectl, "broker/conformance-broker")


def test_flags_decide_which_fields_may_be_used(kubectl: Kubectl) -> None:
    """In any letter case; a feature that is not implemented cannot be enabled."""
    apply(kubectl, config_map("config-features", delivery_timeout="DISABLED"))
    assert "must not set the field(s): spec.delivery.timeout" in refused(
        kubectl, trigger(delivery={"timeout": "PT1S"})
    )
    apply(kubectl, config_map("config-features", delivery_timeout="enabled"))
    apply(kubectl, trigger(delivery={"timeout": "PT1S"}))
    output = refused(kubectl, config_map("config-features", transport_encryption="strict"))
    assert "invalid value: strict: data.transport-encryption" in output
    assert "not available in this version" in output


def test_a_reference_may_be_by_group_if_that_is_enabled(kubectl: Kubectl) -> None:
    """Feature kreference-group: whatever version the object has."""
    document = trigger(
        subscriber={
            "ref": {"group": "eventing.knative.dev", "kind": "Broker", "name": "conformance-broker"}
        }
    )
    assert "missing field(s): spec.subscriber.ref.apiVersion" in refused(kubectl, document)
    apply(kubectl, config_map("config-features", kreference_group="enabled"))
    apply(kubectl, broker(), document)
    ready(kubectl, "trigger/conformance-trigger")
    assert kubectl.ok(
        "get", "trigger/conformance-trigger", "-o", "jsonpath={.status.subscriberUri}"
    ).endswith("/default/conformance-broker")


def test_a_trigger_may_read_from_another_namespace_if_that_is_enabled(kubectl: Kubectl) -> None:
    """Feature cross-namespace-event-links: refused with Knative's message while it is disabled."""
    reference = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "name": "elsewhere",
        "namespace": "kube-public",
    }
    document = manifest("Trigger", "far", {"brokerRef": reference, "subscriber": {"uri": SINK}})
    output = refused(kubectl, document)
    assert "must not set the field(s): spec.brokerRef.namespace" in output
    assert (
        "only name, apiVersion and kind are supported fields when feature.CrossNamespaceEventLinks"
        " is disabled" in output
    )
    apply(kubectl, config_map("config-features", cross_namespace_event_links="enabled"))
    kubectl.ok("apply", "-n", "kube-public", "-f", "-", text=broker("elsewhere"))
    apply(kubectl, document)
    ready(kubectl, "trigger/far")
    kubectl.ok("delete", "broker", "elsewhere", "-n", "kube-public")


def test_a_subscription_may_read_from_another_namespace_if_that_is_enabled(
    kubectl: Kubectl,
) -> None:
    """Likewise for the channel of a Subscription."""
    channel = {
        "apiVersion": "messaging.knative.dev/v1beta1",
        "kind": "KafkaChannel",
        "name": "elsewhere",
        "namespace": "kube-public",
    }
    document = manifest(
        "Subscription",
        "far",
        {"channel": channel, "subscriber": {"uri": SINK}},
        group="messaging.knative.dev",
    )
    output = refused(kubectl, document)
    assert "must not set the field(s): spec.channel.namespace" in output
    assert (
        "only name, apiVersion and kind are supported fields when feature.CrossNamespaceEventLinks"
        " is disabled" in output
    )
    apply(kubectl, config_map("config-features", cross_namespace_event_links="enabled"))
    named = {"name": "elsewhere", "namespace": "kube-public"}
    there = {key: channel[key] for key in ("apiVersion", "kind")} | {"metadata": named}
    kubectl.ok("apply", "-f", "-", text=json.dumps(there))
    apply(kubectl, document)
    ready(kubectl, "subscription/far")
    kubectl.ok("delete", "kafkachannel", "elsewhere", "-n", "kube-public")


# EventTypes.


def test_event_types_in_all_versions(kubectl: Kubectl) -> None:
    """Ready shows whether the reference exists; each version shows its own form of an object that
    was written through another.
    """
    apply(kubectl, broker())
    reference = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "name": "conformance-broker",
    }
    old = manifest(
        "EventType",
        "old",
        {"type": "t.old", "source": "/s", "reference": reference},
        version="v1beta2",
    )
    attributes = [{"name": name, "required": True} for name in ("specversion", "id")]
    attributes += [
        {"name": "type", "required": True, "value": "t.new"},
        {"name": "source", "required": True, "value": "/n"},
    ]
    new = manifest(
        "EventType",
        "new",
        {"attributes": attributes, "reference": {**reference, "name": "gone"}},
        version="v1beta3",
    )
    apply(kubectl, old, new)
    ready(kubectl, "eventtype/old")
    ready(kubectl, "eventtype/new", value="False")
    assert "ResourceDoesNotExist" == reason(kubectl, "eventtype/new", "ReferenceExists")
    lines = {
        line.split()[0]: line.split()[1:]
        for line in kubectl.ok(
            "get", "eventtypes.v1beta2.eventing.knative.dev", "--no-headers"
        ).splitlines()
    }
    assert ["t.new", "/n"] == lines["new"][:2]
    assert ["t.old", "/s"] == lines["old"][:2]
    found = kubectl.get("eventtypes.v1beta3.eventing.knative.dev", "old")["spec"]["attributes"]
    assert {"t.old", "/s"} <= {each.get("value") for each in found}


def test_event_types_that_are_refused(kubectl: Kubectl) -> None:
    """With the messages of each version."""
    rows: list[tuple[str, dict[str, Any], str]] = [
        ("v1beta2", {"source": "/s"}, "missing field(s): spec.type"),
        (
            "v1beta3",
            {"attributes": [{"name": "type"}]},
            "missing field(s): spec.attributes.id, spec.attributes.source",
        ),
        (
            "v1beta2",
            {"type": "t", "reference": {"kind": "Broker"}},
            "missing field(s): spec.reference.apiVersion, spec.reference.name",
        ),
    ]
    output = refused(
        kubectl,
        "---\n".join(
            manifest("EventType", "e", spec, version=version) for version, spec, _ in rows
        ),
    )
    for _, _, message in rows:
        assert message in output


def test_an_event_type_without_a_reference_is_ready(kubectl: Kubectl) -> None:
    """No object can be missing."""
    apply(kubectl, manifest("EventType", "e", {"type": "t"}, version="v1beta2"))
    ready(kubectl, "eventtype/e")
    assert "ReferenceNotSet" == reason(kubectl, "eventtype/e", "ReferenceExists")
