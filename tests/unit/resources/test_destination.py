"""Destinations are resolved to URLs, or fail with Knative's messages."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.domain.routing import Destination
from headrace.resources.destination import Unresolved, default, resolve

OBJECTS: Mapping[tuple[str, str, str], Mapping[str, Any]] = {
    ("Broker", "ns", "ready"): {
        "status": {
            "address": {"url": "http://in.example/ns/ready", "CACerts": "pem", "audience": "me"}
        }
    },
    ("Broker", "ns", "many"): {
        "status": {
            "addresses": [
                {"name": "https", "url": "https://in.example/"},
                {"name": "http", "url": "http://in.example/"},
            ]
        }
    },
    ("Broker", "ns", "new"): {},
    ("Broker", "ns", "odd"): {"status": {"address": {"name": "http"}}},
    ("Broker", "ns", "ftp"): {"status": {"address": {"url": "ftp://in.example/"}}},
}


def look(destination: Mapping[str, Any]) -> Destination:
    """Resolve for an object of namespace `ns`."""
    return resolve(
        destination,
        namespace="ns",
        cluster_domain="cluster.local",
        lookup=lambda _, kind, ns, name: OBJECTS.get((kind, ns, name)),
    )


def ref(
    name: str, kind: str = "Broker", api_version: str = "eventing.knative.dev/v1", **more: str
) -> dict[str, Any]:
    """A destination by reference."""
    return {"ref": {"apiVersion": api_version, "kind": kind, "name": name, **more}}


@pytest.mark.parametrize(
    ("destination", "url"),
    [
        ({"uri": "http://sink.example/a?b=c"}, "http://sink.example/a?b=c"),
        (ref("s", "Service", "v1"), "http://s.ns.svc.cluster.local"),
        (ref("s", "Service", "v1", namespace="other"), "http://s.other.svc.cluster.local"),
        ({**ref("s", "Service", "v1"), "CACerts": "pem"}, "https://s.ns.svc.cluster.local"),
        ({**ref("s", "Service", "v1"), "uri": "/x"}, "http://s.ns.svc.cluster.local/x"),
        (ref("ready"), "http://in.example/ns/ready"),
        ({**ref("ready"), "uri": "other"}, "http://in.example/ns/other"),
        ({**ref("ready"), "uri": "/root"}, "http://in.example/root"),
        (ref("many"), "https://in.example/"),
        (ref("many", address="http"), "http://in.example/"),
        # Knative requires only a scheme and a host.
        (ref("ftp"), "ftp://in.example/"),
        ({"uri": "bad://uri"}, "bad://uri"),
    ],
)
def test_a_destination_has_a_url(destination: Mapping[str, Any], url: str) -> None:
    """uri, Service by DNS, status.addresses before status.address, relative uri by the rules of
    URLs.
    """
    assert url == look(destination).url


def test_certificates_and_audience_come_from_the_most_specific_value() -> None:
    """The destination's own, or else the address's."""
    assert Destination(url="http://in.example/ns/ready", ca_certs="pem", audience="me") == look(
        ref("ready")
    )
    assert ("own", "you") == (
        look({**ref("ready"), "CACerts": "own", "audience": "you"}).ca_certs,
        look({**ref("ready"), "CACerts": "own", "audience": "you"}).audience,
    )


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        (ref("gone"), 'brokers.eventing.knative.dev "gone" not found in namespace "ns"'),
        (
            ref("new"),
            (
                "address not set for"
                " &ObjectReference{Kind:Broker,Namespace:ns,Name:new,"
                "APIVersion:eventing.knative.dev/v1,}"
            ),
        ),
        (ref("odd"), "URL missing in address of &ObjectReference{"),
        (ref("many", address="grpc"), 'address with name "grpc" not found for'),
        ({"uri": "bad://user:secret@sink.example/"}, "must not contain user information"),
        ({"uri": "bad:uri"}, "bad:uri: the URL must begin with http:// or https://, not bad:"),
        ({"uri": "http://user:secret@sink.example/"}, "must not contain user information"),
    ],
)
def test_what_has_no_url_says_why(destination: Mapping[str, Any], message: str) -> None:
    """The message is what a condition shows."""
    with pytest.raises(Unresolved) as raised:
        look(destination)
    assert message in str(raised.value)


def test_the_namespace_of_a_reference_is_filled_in() -> None:
    """With the object's own, and only if it is absent."""
    assert "ns" == default(ref("x"), "ns")["ref"]["namespace"]
    assert "other" == default(ref("x", namespace="other"), "ns")["ref"]["namespace"]
    assert {"uri": "http://x/"} == default({"uri": "http://x/"}, "ns")


SERVICES: Mapping[str, Any] = {
    "plain": {"externalName": "sink.example"},
    "ported": {"externalName": "localhost", "ports": [{"port": 8081}, {"port": 443}]},
    "http": {"externalName": "sink.example", "ports": [{"name": "http", "port": 80}]},
    "named": {"externalName": "sink.example", "ports": [{"name": "https", "port": 8443}]},
    "prefixed": {"externalName": "sink.example", "ports": [{"name": "https-events", "port": 8443}]},
    "protocol": {"externalName": "sink.example", "ports": [{"port": 8443, "appProtocol": "https"}]},
    "secure": {"externalName": "sink.example", "ports": [{"name": "events", "port": 443}]},
    "inside": {"clusterIP": "None", "ports": [{"port": 80}]},
    "odd": {"externalName": ["a"], "ports": "x"},
}


def look_alone(destination: Mapping[str, Any]) -> Destination:
    """Resolve without a cluster."""

    def lookup(api_version: str, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        assert ("v1", "Service", "ns") == (api_version, kind, namespace)
        return {"spec": SERVICES[name]} if name in SERVICES else None

    return resolve(destination, namespace="ns", cluster_domain=None, lookup=lookup)


@pytest.mark.parametrize(
    ("name", "more", "url"),
    [
        ("plain", {}, "http://sink.example"),
        ("plain", {"uri": "/in"}, "http://sink.example/in"),
        ("plain", {"CACerts": "pem"}, "https://sink.example"),
        ("ported", {}, "http://localhost:8081"),
        ("http", {}, "http://sink.example"),
        ("named", {}, "https://sink.example:8443"),
        ("prefixed", {}, "https://sink.example:8443"),
        ("protocol", {}, "https://sink.example:8443"),
        ("secure", {}, "https://sink.example"),
    ],
)
def test_without_a_cluster_a_service_is_its_external_name(
    name: str, more: Mapping[str, Any], url: str
) -> None:
    """At its first port, with https if the port's name or protocol says so, or if it is 443."""
    assert url == look_alone({**ref(name, "Service", "v1"), **more}).url


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", 'services "gone" not found in namespace "ns"'),
        (
            "inside",
            (
                "Service ns/inside has no spec.externalName, and without a cluster it has no"
                " other address"
            ),
        ),
        ("odd", "Service ns/odd has no spec.externalName"),
    ],
)
def test_without_a_cluster_a_service_may_have_no_address(name: str, message: str) -> None:
    """The message says what is missing."""
    with pytest.raises(Unresolved) as raised:
        look_alone(ref(name, "Service", "v1"))
    assert message in str(raised.value)


def test_a_group_stands_for_its_versions() -> None:
    """A reference by `group` finds its object in whatever version it is stored."""
    assert (
        "http://in.example/ns/ready"
        == look({"ref": {"group": "eventing.knative.dev", "kind": "Broker", "name": "ready"}}).url
    )


@pytest.mark.parametrize(
    "status",
    [{"addresses": 5}, {"addresses": [5]}, {"address": "x"}, {"address": {"url": 5}}, "x", None],
)
def test_a_status_of_any_shape_is_handled(status: Any) -> None:
    """The object belongs to another controller; its status may contain anything."""
    with pytest.raises(Unresolved):
        resolve(ref("x"), namespace="ns", cluster_domain="d", lookup=lambda *_: {"status": status})


def test_a_password_is_not_shown() -> None:
    """Conditions are readable for many users."""
    with pytest.raises(Unresolved) as raised:
        resolve(
            ref("x"),
            namespace="ns",
            cluster_domain="d",
            lookup=lambda *_: {"status": {"address": {"url": "http://u:secret@h/"}}},
        )
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1", "v1"])
def test_versions_that_are_no_longer_served_are_looked_up_in_the_one_that_is(version: str) -> None:
    """Manifests of 2019 name a Knative Service in a version that no cluster has."""
    asked: list[str] = []

    def lookup(api_version: str, _kind: str, _namespace: str, _name: str) -> dict[str, Any]:
        asked.append(api_version)
        return {"status": {"address": {"url": "http://function.shop.example/"}}}

    ref = {"apiVersion": f"serving.knative.dev/{version}", "kind": "Service", "name": "function"}
    found = resolve({"ref": ref}, namespace="shop", cluster_domain="cluster.local", lookup=lookup)
    assert (found.url, asked) == ("http://function.shop.example/", ["serving.knative.dev/v1"])
