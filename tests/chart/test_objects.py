"""Names, labels, selectors and references between the objects of the chart."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.rendering import (
    NAMESPACE,
    RELEASE,
    VALUE_SETS,
    WORKLOADS,
    Object,
    component,
    named,
    objects,
    of_kind,
    services,
    values_of,
)

CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
OWN_NAMES = {
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
"""Kinds of objects whose names do not depend on the release."""
NAMES = {"everything": "headrace-events", "standalone-own-secret": "events"}
"""Sets of values whose objects have another prefix."""


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_objects_have_the_recommended_labels(value_set: str) -> None:
    """Those that Kubernetes and Helm recommend."""
    for each in objects(value_set):
        labels = each["metadata"]["labels"]
        assert "headrace-0.1.0" == labels["helm.sh/chart"]
        found = {
            key.removeprefix("app.kubernetes.io/"): text
            for key, text in labels.items()
            if key.startswith("app.kubernetes.io/")
        }
        assert found.pop("component")
        assert {
            "name": values_of(value_set).get("nameOverride", "headrace"),
            "instance": RELEASE,
            "version": "0.1.0",
            "managed-by": "Helm",
            "part-of": "headrace",
        } == found


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_objects_are_named_after_the_release(value_set: str) -> None:
    """And in its namespace, or in one that is served."""
    prefix = NAMES.get(value_set, "headrace")
    namespaces = {NAMESPACE, *values_of(value_set).get("namespaces", [])}
    for each in objects(value_set):
        name = each["metadata"]["name"]
        assert each["kind"] in OWN_NAMES or re.fullmatch(rf"{prefix}-[a-z-]+", name), name
        assert len(name) <= 63 or each["kind"] in OWN_NAMES
        if each["kind"] in CLUSTER_SCOPED:
            assert "namespace" not in each["metadata"]
        else:
            assert each["metadata"]["namespace"] in namespaces


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_no_object_is_rendered_twice(value_set: str) -> None:
    """By kind, namespace and name."""
    keys = [
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects(value_set)
    ]
    assert len(keys) == len(set(keys))


def _selectors(value_set: str) -> Iterator[tuple[Object, dict[str, str]]]:
    """Each object that selects pods, and the labels."""
    for each in objects(value_set):
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "PodDisruptionBudget" | "PodMonitor":
                yield each, each["spec"]["selector"]["matchLabels"]
            case "NetworkPolicy":
                yield each, each["spec"]["podSelector"]["matchLabels"]
            case "Service":
                yield each, each["spec"]["selector"]


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_selectors_match_the_pods_of_their_component(value_set: str) -> None:
    """All of these and no others; what is for metrics selects the pods of every component."""
    templates = {
        component(each): each["spec"]["template"]["metadata"]["labels"]
        for each in of_kind(value_set, *WORKLOADS)
    }
    for each, selector in _selectors(value_set):
        selected = {
            name for name, labels in templates.items() if selector.items() <= labels.items()
        }
        expected = set(templates) if component(each) == "metrics" else {component(each)}
        assert expected == selected


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_references_between_objects_resolve(value_set: str) -> None:
    """ServiceAccounts of pods, roles and subjects of bindings, ports of Services, targets."""
    known = {
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects(value_set)
    }
    assert [] == [each for each in _references(value_set) if each not in known]


def _references(value_set: str) -> Iterator[tuple[str, str | None, str]]:
    for each in objects(value_set):
        spec, namespace = each.get("spec", {}), each["metadata"].get("namespace")
        if each["kind"] in WORKLOADS:
            yield "ServiceAccount", namespace, spec["template"]["spec"]["serviceAccountName"]
        elif each["kind"] == "Pod" and "serviceAccountName" in spec:
            yield "ServiceAccount", namespace, spec["serviceAccountName"]
        elif each["kind"].endswith("RoleBinding"):
            role = each["roleRef"]
            yield role["kind"], namespace, role["name"]
            for subject in each["subjects"]:
                yield subject["kind"], subject["namespace"], subject["name"]
        elif each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = spec["scaleTargetRef"]
            yield target["kind"], namespace, target["name"]
        elif each["kind"] == "HTTPRoute":
            for rule in spec["rules"]:
                for backend in rule["backendRefs"]:
                    yield "Service", namespace, backend["name"]
        elif each["kind"] == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    yield "Service", namespace, path["backend"]["service"]["name"]


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_services_lead_to_named_ports(value_set: str) -> None:
    """Of every pod that they select."""
    for each in of_kind(value_set, "Service"):
        for workload in of_kind(value_set, *WORKLOADS):
            labels = workload["spec"]["template"]["metadata"]["labels"]
            if each["spec"]["selector"].items() <= labels.items():
                [container] = workload["spec"]["template"]["spec"]["containers"]
                ports = {port["name"] for port in container["ports"]}
                assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports


def test_the_ingress_is_a_name_on_port_80() -> None:
    """So that Services of type ExternalName can lead channels' host names to it."""
    [port] = named("default", "Service", "headrace-ingress")["spec"]["ports"]
    assert 80 == port["port"]


def test_with_a_certificate_the_ingress_is_reached_by_https() -> None:
    """By its Service, a gateway, an Ingress and senders in other pods; probes and metrics are on
    the management port, which has no TLS.
    """
    [port] = named("https", "Service", "headrace-ingress")["spec"]["ports"]
    assert {"name": "https", "port": 443, "targetPort": "https", "appProtocol": "https"} == port
    [rule] = named("https", "HTTPRoute", "headrace-ingress")["spec"]["rules"]
    assert [{"name": "headrace-ingress", "port": 443}] == rule["backendRefs"]
    [rule] = named("https", "Ingress", "headrace-ingress")["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert {"name": "https"} == path["backend"]["service"]["port"]
    _, events = _policy("https", "headrace-ingress")["ingress"]
    assert [{"port": "https"}] == events["ports"]
    container = services("https")["ingress"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert {"port": "management"}.items() <= container[probe]["httpGet"].items()
        assert "scheme" not in container[probe]["httpGet"]
    urls = {each["name"]: each.get("value") for each in services("https")["controller"]["env"]}
    assert "https://events.example.com" == urls["HEADRACE_CONTROLLER_INGRESS_URL"]


def test_without_a_url_the_address_of_the_ingress_is_its_service_by_https() -> None:
    """The controller writes it into the status of each Broker."""
    found = objects("https", "--set", "ingress.url=")
    [controller] = [
        each["spec"]["template"]["spec"]["containers"][0]
        for each in found
        if each["kind"] == "Deployment" and component(each) == "controller"
    ]
    urls = {each["name"]: each.get("value") for each in controller["env"]}
    assert (
        "https://headrace-ingress.knative-eventing.svc.cluster.local"
        == urls["HEADRACE_CONTROLLER_INGRESS_URL"]
    )


@pytest.mark.parametrize(
    ("value_set", "expected"),
    [
        ("default", {"ingress", "dispatcher"}),
        ("namespaced", set()),
        ("everything", {"ingress", "dispatcher", "controller", "sources"}),
    ],
)
def test_budgets_are_for_more_than_one_replica(value_set: str, expected: set[str]) -> None:
    """A budget for one would prevent that its node is drained."""
    found = of_kind(value_set, "PodDisruptionBudget")
    assert expected == {component(each) for each in found}
    assert {1} >= {each["spec"]["maxUnavailable"] for each in found}


def test_what_is_scaled_has_no_number_of_replicas() -> None:
    """An upgrade would otherwise reset what the autoscaler has set."""
    replicas = {
        component(each): each["spec"].get("replicas") for each in of_kind("everything", *WORKLOADS)
    }
    assert {
        "ingress": None,
        "dispatcher": None,
        "controller": 2,
        "sources": 2,
        "in-memory": 1,
    } == replicas


def _policy(value_set: str, name: str) -> dict[str, Any]:
    return dict(named(value_set, "NetworkPolicy", name)["spec"])


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_each_service_has_a_network_policy(value_set: str) -> None:
    """For both directions, unless they are switched off."""
    policies = of_kind(value_set, "NetworkPolicy")
    if value_set == "standalone-own-secret":
        assert [] == policies
        return
    workloads = {component(each) for each in of_kind(value_set, *WORKLOADS)}
    assert workloads == {component(each) for each in policies}
    assert {("Ingress", "Egress")} == {tuple(each["spec"]["policyTypes"]) for each in policies}


def test_the_ingress_reaches_names_and_kafka_only() -> None:
    """It needs nothing else."""
    assert [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"ports": [{"port": 9092}]},
    ] == _policy("default", "headrace-ingress")["egress"]


def test_the_ports_of_kafka_are_those_of_its_addresses() -> None:
    """With those that brokers advertise, and those of NATS."""
    ports = _policy("secured", "headrace-ingress")["egress"][1]["ports"]
    assert [9094, 9093, 4222] == [each["port"] for each in ports]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector:4318", 4318),
        ("http://collector:4318/otlp", 4318),
        ("http://collector", 80),
        ("https://collector/v1", 443),
    ],
)
def test_the_ingress_reaches_a_collector_of_traces(endpoint: str, port: int) -> None:
    """If there is one; the controller records none."""
    rendered = objects("default", "--set", f"tracing.endpoint={endpoint}")
    policies = {
        each["metadata"]["name"]: each["spec"]["egress"]
        for each in rendered
        if each["kind"] == "NetworkPolicy"
    }
    assert {"ports": [{"port": port}]} in policies["headrace-ingress"]
    assert {"ports": [{"port": port}]} not in policies["headrace-controller"]


def test_dispatchers_reach_everything_but_link_local_addresses() -> None:
    """Subscribers are anywhere; the metadata services of clouds are not subscribers."""
    [anywhere, *_] = _policy("default", "headrace-dispatcher")["egress"]
    assert [
        {"namespaceSelector": {}},
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
    ] == anywhere["to"]


def test_senders_can_be_restricted() -> None:
    """The port of events; that of metrics has a list of its own."""
    metrics, events = _policy("secured", "headrace-ingress")["ingress"]
    assert ([{"port": "http"}], [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}]) == (
        events["ports"],
        events["from"],
    )
    assert [{"namespaceSelector": {}}] == metrics["from"]


@pytest.mark.parametrize(("value_set", "ports"), [("default", {443, 6443}), ("standalone", set())])
def test_the_controller_reaches_the_api_server(value_set: str, ports: set[int]) -> None:
    """In a cluster; in standalone mode it is one."""
    egress = _policy(value_set, "headrace-controller")["egress"]
    found = {port["port"] for rule in egress for port in rule["ports"]}
    assert ports == found - {53, 9092}
