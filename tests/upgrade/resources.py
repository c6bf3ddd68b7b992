"""The resources that the recorder applies, in this order."""

from collections.abc import Callable
from typing import Any

Manifest = dict[str, Any]
EVERYONE = "everyone"
"""The type that every Trigger matches; any other type is for the Trigger of that name."""
SHOP, ELSEWHERE = "shop", "shop-eu"
NEVER = "P9000D"
"""The backoff of events that must still wait when the test runs, however old the recording is by
then.
"""
SUBSCRIBERS = (
    "delivered",
    "ordered",
    "retrying",
    "late",
    "patient",
    "rejected",
    "refused-sink",
    "in-flight",
    "by-reference",
)
"""Triggers of the Broker shop/orders, by name; the path of the subscriber is the name."""
OTHERS: dict[str, tuple[str, str, str]] = {
    "shop.eu-audit": (SHOP, "eu-audit", "eu-stock"),
    "shop-eu.audit": (ELSEWHERE, "audit", "stock"),
    "default.all": ("default", "all", "default"),
}
"""Triggers that match every event, by the path of the subscriber: namespace, name, Broker. The
first two, and their Brokers, would have the same names in Kafka.
"""
GONE = "gone"
"""A Trigger that is deleted again, and leaves a dead letter."""
NEW = "new"
"""A Broker of the shop and a Trigger of it, which only the next version creates."""
ORDERED = {"kafka.eventing.knative.dev/delivery.order": "ordered"}
_EVENTING = "eventing.knative.dev/v1"
FIRST: Manifest = {
    "apiVersion": _EVENTING,
    "kind": "Broker",
    "metadata": {"name": "default", "namespace": "default"},
}
"""What `headrace up` itself applies."""


def manifests(subscriber: Callable[[str], str]) -> list[Manifest]:
    """All of them; `subscriber` gives the address for a path."""
    forever = {"default.topic.config.retention.ms": "-1"}
    return [
        _object("v1", "Namespace", SHOP),
        _object("v1", "Namespace", ELSEWHERE),
        _object("v1", "Namespace", "knative-eventing"),
        _object(
            "v1",
            "ConfigMap",
            "config-features",
            "knative-eventing",
            data={"eventtype-auto-create": "enabled"},
        ),
        _config("topics", 3, {**forever, "default.topic.config.max.message.bytes": "524288"}),
        _config("small", 1, forever),
        _object("v1", "ConfigMap", "notes", SHOP, data={"note": "kept as it is"}),
        _object("v1", "Secret", "credentials", SHOP, type="Opaque", data={"token": "c2VjcmV0"}),
        _definition(),
        _object("example.com/v1", "Mailbox", "inbox", SHOP, spec={"size": 7}),
        _broker(SHOP, "orders", "topics", {**_every_second(), "timeout": "PT5S"}),
        _broker(SHOP, "eu-stock", "small", _every_second()),
        _broker(ELSEWHERE, "stock", "small", _every_second()),
        _object(
            "eventing.knative.dev/v1beta2",
            "EventType",
            "order-placed",
            SHOP,
            spec={
                "type": "order.placed",
                "source": "/shop",
                "description": "created by hand",
                "reference": {"apiVersion": _EVENTING, "kind": "Broker", "name": "orders"},
            },
        ),
        *_triggers(subscriber),
    ]


def _triggers(subscriber: Callable[[str], str]) -> list[Manifest]:
    waits = {"retry": 3, "backoffPolicy": "linear", "backoffDelay": NEVER, "backoffMax": NEVER}
    late = {"backoffDelay": "PT13S", "backoffMax": "PT13S"}
    sink = {"deadLetterSink": {"uri": subscriber("refused-sink.dead")}}
    special: dict[str, Manifest] = {
        "delivered": {"delivery": {"format": "json"}},
        "late": {"delivery": late},
        "patient": {"delivery": waits},
        "refused-sink": {"delivery": sink},
        "in-flight": {"delivery": {"timeout": "PT2M"}},
    }
    found = []
    for name in (*SUBSCRIBERS, GONE):
        annotations = ORDERED if name == "ordered" else {}
        spec = {
            "broker": "orders",
            "filters": _filters(name),
            "subscriber": {"uri": subscriber(name)},
        }
        if name == "by-reference":
            reference = {"apiVersion": "example.com/v1", "kind": "Mailbox", "name": "inbox"}
            spec["subscriber"] = {"ref": {**reference, "namespace": SHOP}, "uri": f"/{name}"}
        spec |= special.get(name, {})
        found.append(_object(_EVENTING, "Trigger", name, SHOP, annotations=annotations, spec=spec))
    for path, (namespace, name, broker) in OTHERS.items():
        spec = {"broker": broker, "subscriber": {"uri": subscriber(path)}}
        found.append(_object(_EVENTING, "Trigger", name, namespace, spec=spec))
    return found


def _filters(name: str) -> list[Manifest]:
    if name == "ordered":
        return [{"cesql": f"type IN ('{name}', '{EVERYONE}')"}]
    return [{"any": [{"exact": {"type": name}}, {"exact": {"type": EVERYONE}}]}]


def newcomers(subscriber: str) -> list[Manifest]:
    """What only the next version creates."""
    spec = {"broker": NEW, "subscriber": {"uri": subscriber}}
    made = _broker(SHOP, NEW, "small", _every_second())
    return [made, _object(_EVENTING, "Trigger", NEW, SHOP, spec=spec)]


def trigger(path: str) -> Manifest:
    """The identity of a Trigger."""
    if path in OTHERS:
        namespace, name, _ = OTHERS[path]
        return _object(_EVENTING, "Trigger", name, namespace)
    return _object(_EVENTING, "Trigger", path, SHOP)


def mailbox(address: str) -> Manifest:
    """The user's object with the address that a Trigger refers to, in its status."""
    status = {"address": {"url": address}}
    return {**_object("example.com/v1", "Mailbox", "inbox", SHOP), "status": status}


def _every_second() -> Manifest:
    return {"retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT1S", "backoffMax": "PT1S"}


def _object(
    version: str,
    kind: str,
    name: str,
    namespace: str = "",
    *,
    annotations: dict[str, str] | None = None,
    **members: object,
) -> Manifest:
    metadata: Manifest = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **members}


def _config(name: str, partitions: int, settings: dict[str, str]) -> Manifest:
    sizes = {"default.topic.partitions": str(partitions), "default.topic.replication.factor": "1"}
    return _object("v1", "ConfigMap", name, SHOP, data={**sizes, **settings})


def _broker(namespace: str, name: str, config: str, delivery: Manifest) -> Manifest:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": config, "namespace": SHOP}
    spec = {"config": reference, "delivery": delivery}
    return _object(_EVENTING, "Broker", name, namespace, spec=spec)


def _definition() -> Manifest:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    size = {"type": "integer", "minimum": 1}
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": size}},
            "status": anything,
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    spec = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Mailbox", "plural": "mailboxes", "singular": "mailbox"},
        "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
    }
    kind = "CustomResourceDefinition"
    return _object("apiextensions.k8s.io/v1", kind, "mailboxes.example.com", spec=spec)
