"""CloudPubSubSource, and GcpPubSubSource of Knative 0.5: the adapter `gcp-pubsub`."""

from collections.abc import Mapping
from typing import Any

from headrace.resources import cloud_pubsub_source as rules
from headrace.resources import gcp_pubsub_source as legacy
from headrace.resources.kinds import CLOUD_PUBSUB_SOURCE, LEGACY_GCP_PUBSUB_SOURCE
from headrace.resources.naming import pubsub_subscription
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import SourceKind

_ADAPTER = "gcp-pubsub"


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    source = request.resource
    spec = source.spec
    return {
        **_subscription(source, spec.get("secret")),
        "project": spec.get("project") or "",
        "ackDeadlineSeconds": rules.ack_deadline_seconds(source),
        "retainAckedMessages": spec.get("retainAckedMessages") is True,
        "retentionSeconds": rules.retention_seconds(source),
        "condition": rules.SUBSCRIBED,
    }


def _legacy_config(request: ReconcileRequest) -> Mapping[str, Any]:
    source = request.resource
    return {
        **_subscription(source, source.spec.get("gcpCredsSecret")),
        "project": source.spec["googleCloudProject"],
        "eventFormat": "gcp-pubsub-0.5",
        "condition": legacy.SUBSCRIBED,
    }


def _subscription(source: Resource, secret: Any) -> Mapping[str, Any]:
    """What is read, and with which credentials: those of the environment without a Secret."""
    fields = {
        "topic": source.spec["topic"],
        "subscription": pubsub_subscription(source.namespace, source.name, source.uid),
    }
    if not secret or not secret.get("name"):
        return fields
    return {**fields, "secret": {"name": secret["name"], "key": secret["key"]}}


RECONCILER = SourceKind(
    kind=CLOUD_PUBSUB_SOURCE,
    rules=rules.RULES,
    adapter=_ADAPTER,
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=rules.event_types,
    fields=rules.SUBSCRIPTION_FIELDS,
    finalizes=True,
).reconciler()
LEGACY_RECONCILER = SourceKind(
    kind=LEGACY_GCP_PUBSUB_SOURCE,
    rules=legacy.RULES,
    adapter=_ADAPTER,
    config=_legacy_config,
    conditions=legacy.CONDITIONS,
    event_types=legacy.event_types,
    fields=rules.SUBSCRIPTION_FIELDS,
    finalizes=True,
).reconciler()
