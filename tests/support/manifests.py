"""Manifests of Brokers and Triggers with only the fields that a test needs."""

from collections.abc import Mapping, Sequence
from typing import Any

Manifest = dict[str, Any]
API_VERSION = "eventing.knative.dev/v1"
ORDERED = {"kafka.eventing.knative.dev/delivery.order": "ordered"}


def broker(
    namespace: str,
    name: str = "default",
    *,
    delivery: Mapping[str, Any] | None = None,
    config: str | None = None,
) -> Manifest:
    """A Broker of the Kafka class; `config` names a ConfigMap of its namespace."""
    spec: Manifest = {}
    if config:
        spec["config"] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": config,
            "namespace": namespace,
        }
    if delivery:
        spec["delivery"] = dict(delivery)
    metadata = {
        "name": name,
        "namespace": namespace,
        "annotations": {"eventing.knative.dev/broker.class": "Kafka"},
    }
    return {"apiVersion": API_VERSION, "kind": "Broker", "metadata": metadata, "spec": spec}


def broker_config(namespace: str, name: str, *, partitions: int, **more: str) -> Manifest:
    """The ConfigMap that a Broker's `spec.config` refers to."""
    data = {
        "default.topic.partitions": str(partitions),
        "default.topic.replication.factor": "1",
        **more,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def trigger(
    namespace: str,
    name: str,
    subscriber: str,
    *,
    broker: str = "default",
    attributes: Mapping[str, str] | None = None,
    filters: Sequence[Mapping[str, Any]] | None = None,
    delivery: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """A Trigger whose subscriber is a URL."""
    spec: Manifest = {"broker": broker, "subscriber": {"uri": subscriber}}
    if attributes is not None:
        spec["filter"] = {"attributes": dict(attributes)}
    if filters is not None:
        spec["filters"] = [dict(each) for each in filters]
    if delivery is not None:
        spec["delivery"] = dict(delivery)
    metadata = {"name": name, "namespace": namespace, "annotations": dict(annotations or {})}
    return {"apiVersion": API_VERSION, "kind": "Trigger", "metadata": metadata, "spec": spec}


def delivery(
    *,
    retry: int | None = None,
    delay: str | None = None,
    timeout: str | None = None,
    sink: str | None = None,
    backoff: str | None = None,
) -> Manifest:
    """A `delivery` block with the fields given."""
    values: Manifest = {
        "retry": retry,
        "backoffDelay": delay,
        "timeout": timeout,
        "backoffPolicy": backoff,
    }
    if sink:
        values["deadLetterSink"] = {"uri": sink}
    return {name: value for name, value in values.items() if value is not None}


CHANNEL_VERSIONS = {
    "Channel": "v1",
    "KafkaChannel": "v1beta1",
    "InMemoryChannel": "v1",
    "NatsJetStreamChannel": "v1alpha1",
}


def channel(
    namespace: str, name: str, *, kind: str = "Channel", spec: Mapping[str, Any] | None = None
) -> Manifest:
    """A Channel, or one of the kinds that back it."""
    return {
        "apiVersion": f"messaging.knative.dev/{CHANNEL_VERSIONS[kind]}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec or {}),
    }


def subscription(
    channel: Manifest,
    name: str,
    subscriber: str = "",
    *,
    reply: Mapping[str, Any] | None = None,
    delivery: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """A Subscription to a channel whose subscriber, if there is one, is a URL."""
    metadata = channel["metadata"]
    named = {
        "apiVersion": channel["apiVersion"],
        "kind": channel["kind"],
        "name": metadata["name"],
    }
    spec: Manifest = {"channel": named}
    if subscriber:
        spec["subscriber"] = {"uri": subscriber}
    if reply is not None:
        spec["reply"] = dict(reply)
    if delivery is not None:
        spec["delivery"] = dict(delivery)
    return {
        "apiVersion": "messaging.knative.dev/v1",
        "kind": "Subscription",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "annotations": dict(annotations or {}),
        },
        "spec": spec,
    }


def flow(
    namespace: str, name: str, kind: str, entries: Sequence[Mapping[str, Any]], **spec: Any
) -> Manifest:
    """A Sequence with steps, or a Parallel with branches."""
    listed = {"Sequence": "steps", "Parallel": "branches"}[kind]
    return {
        "apiVersion": "flows.knative.dev/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {listed: [dict(each) for each in entries], **spec},
    }


def reference_to(manifest: Manifest) -> Manifest:
    """A destination that refers to an object."""
    metadata = manifest["metadata"]
    return {
        "ref": {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
        }
    }
