"""The events of ApiServerSource and KubernetesEventSource."""

import json
from typing import Any

from headrace.adapters.kubernetes.watcher import ApiKind
from headrace_sources.adapters.kubernetes.events import (
    EventFormat,
    Mode,
    Verb,
    is_controlled_by,
)

NOW = "2026-01-01T00:00:00.000Z"
DEPLOYMENT = ApiKind("apps/v1", "Deployment", "deployments", namespaced=True)
NODE = ApiKind("v1", "Node", "nodes", namespaced=False)
EVENT = ApiKind("v1", "Event", "events", namespaced=True)


def form(mode: Mode) -> EventFormat:
    """The events of one source."""
    return EventFormat(mode, "https://10.96.0.1:443", "source-uid")


def named(name: str, namespace: str | None = "shop", **more: Any) -> dict[str, Any]:
    """An object as a list has it: without apiVersion and kind."""
    metadata = {"name": name, "uid": "u1", "resourceVersion": "7"}
    return {"metadata": {**metadata, **({"namespace": namespace} if namespace else {})}, **more}


def test_an_object() -> None:
    """All attributes of Knative's; the id says which change it is."""
    event = form(Mode.RESOURCE).make(DEPLOYMENT, Verb.UPDATE, named("web", spec={"a": "ü"}), NOW)
    assert event is not None
    assert event.attributes == {
        "specversion": "1.0",
        "id": "source-uid/u1/7/update",
        "source": "https://10.96.0.1:443",
        "type": "dev.knative.apiserver.resource.update",
        "subject": "/apis/apps/v1/namespaces/shop/deployments/web",
        "datacontenttype": "application/json",
        "time": NOW,
        "kind": "Deployment",
        "apiversion": "apps/v1",
        "name": "web",
        "namespace": "shop",
    }
    document = json.loads(event.data or b"")
    assert document["spec"] == {"a": "ü"}
    assert (document["apiVersion"], document["kind"]) == ("apps/v1", "Deployment")


def test_a_reference_to_an_object_in_no_namespace() -> None:
    """There is no extension without a value; the subject is Knative's all the same."""
    event = form(Mode.REFERENCE).make(NODE, Verb.ADD, named("n1", None), NOW)
    assert event is not None
    assert "namespace" not in event.attributes
    assert event.attributes["subject"] == "/apis/v1/namespaces//nodes/n1"
    reference = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    assert json.loads(event.data or b"") == reference


def test_a_kubernetes_event() -> None:
    """It is about an object, whose plural is guessed; that it expires is no event."""
    about = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web"}
    found = named("e", involvedObject={**about, "namespace": "shop"})
    found["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    maker = form(Mode.KUBERNETES_EVENT)
    event = maker.make(EVENT, Verb.ADD, found, NOW)
    assert event is not None
    source = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web"
    assert event.attributes["source"] == source
    assert (event.attributes["id"], event.attributes["time"]) == ("u1", "2026-01-01T00:00:00Z")
    counted = maker.make(EVENT, Verb.UPDATE, found, NOW)
    assert counted is not None
    assert counted.attributes["id"] == "u1/7"
    assert maker.make(EVENT, Verb.DELETE, found, NOW) is None
    policy = {**found, "involvedObject": {"kind": "NetworkPolicy", "name": "p"}}
    event = maker.make(EVENT, Verb.ADD, policy, NOW)
    assert event is not None
    assert event.attributes["source"] == "/apis/v1/namespaces//networkpolicies/p"


def test_the_controller_that_owns_an_object() -> None:
    """Other owners do not count."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "controller": True}
    owned = {"metadata": {"ownerReferences": [{"kind": "Node"}, owner]}}
    assert is_controlled_by(owned, "apps/v1", "Deployment")
    assert not is_controlled_by(owned, "apps/v2", "Deployment")
    owner["controller"] = False
    assert not is_controlled_by(owned, "apps/v1", "Deployment")
    assert not is_controlled_by({"metadata": {}}, "apps/v1", "Deployment")
