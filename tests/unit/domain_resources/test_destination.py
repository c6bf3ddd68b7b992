"""Destinations become URLs, and what does not says why in Knative's words."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.domain.destination import Unresolved, default, resolve
from headrace.domain.routing import Destination

OBJECTS: Mapping[tuple[str, str, str], Mapping[str, Any]] = {
    ("Broker", "ns", "ready"): {"status": {"address": {"url": "http://in.example/ns/ready", "CACerts": "pem", "audience": "me"}}},
    ("Broker", "ns", "many"): {
        "status": {"addresses": [{"name": "https", "url": "https://in.example/"}, {"name": "http", "url": "http://in.example/"}]}
    },
    ("Broker", "ns", "new"): {},
    ("Broker", "ns", "odd"): {"status": {"address": {"name": "http"}}},
    ("Broker", "ns", "ftp"): {"status": {"address": {"url": "ftp://in.example/"}}},
}


def look(destination: Mapping[str, Any]) -> Destination:
    """Resolve for an object of namespace `ns`."""
    return resolve(
        destination, namespace="ns", cluster_domain="cluster.local", lookup=lambda _, kind, ns, name: OBJECTS.get((kind, ns, name))
    )


def ref(name: str, kind: str = "Broker", api_version: str = "eventing.knative.dev/v1", **more: str) -> dict[str, Any]:
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
    ],
)
def test_a_destination_has_a_url(destination: Mapping[str, Any], url: str) -> None:
    """uri, Service by DNS, status.addresses before status.address, relative uri by the rules of URLs."""
    assert url == look(destination).url


def test_certificates_and_audience_come_from_the_nearest_word() -> None:
    """The destination's own, else the address's."""
    assert Destination(url="http://in.example/ns/ready", ca_certs="pem", audience="me") == look(ref("ready"))
    assert ("own", "you") == (
        look({**ref("ready"), "CACerts": "own", "audience": "you"}).ca_certs,
        look({**ref("ready"), "CACerts": "own", "audience": "you"}).audience,
    )


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        (ref("gone"), 'brokers.eventing.knative.dev "gone" not found in namespace "ns"'),
        (ref("new"), "address not set for &ObjectReference{Kind:Broker,Namespace:ns,Name:new,APIVersion:eventing.knative.dev/v1,}"),
        (ref("odd"), "URL missing in address of &ObjectReference{"),
        (ref("many", address="grpc"), 'address with name "grpc" not found for'),
        (ref("ftp"), "ftp://in.example/: the URL must begin with http:// or https://"),
        ({"uri": "http://user:secret@sink.example/"}, "must not contain user information"),
    ],
)
def test_what_has_no_url_says_why(destination: Mapping[str, Any], message: str) -> None:
    """The message is what a condition shows."""
    with pytest.raises(Unresolved) as raised:
        look(destination)
    assert message in str(raised.value)


def test_the_namespace_of_a_reference_is_filled_in() -> None:
    """With the object's own, and only when it is not there."""
    assert "ns" == default(ref("x"), "ns")["ref"]["namespace"]
    assert "other" == default(ref("x", namespace="other"), "ns")["ref"]["namespace"]
    assert {"uri": "http://x/"} == default({"uri": "http://x/"}, "ns")
