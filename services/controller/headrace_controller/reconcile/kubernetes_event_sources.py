"""KubernetesEventSource of Knative 0.5: the adapter `kubernetes`, for the Events of a namespace."""

from collections.abc import Mapping
from typing import Any

from headrace.resources import kubernetes_event_source as rules
from headrace.resources.kinds import KUBERNETES_EVENT_SOURCE
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import EventTypes, SourceKind

_MODE = "KubernetesEvent"


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    spec = request.resource.spec
    return {
        "mode": _MODE,
        "namespace": spec["namespace"],
        "serviceAccountName": spec.get("serviceAccountName") or "",
        "resources": [{"apiVersion": "v1", "kind": "Event"}],
    }


def _event_types(source: Resource) -> EventTypes:
    """The attribute `source` of an event is the path of the object that it is about."""
    return ((rules.EVENT_TYPE, f"/apis/v1/namespaces/{source.spec['namespace']}"),)


RECONCILER = SourceKind(
    kind=KUBERNETES_EVENT_SOURCE,
    rules=rules.RULES,
    adapter="kubernetes",
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=_event_types,
    fields=("namespaces",),
).reconciler()
