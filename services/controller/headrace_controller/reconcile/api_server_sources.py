"""ApiServerSource: the adapter `kubernetes`. It finds the namespaces and the URL of the API server,
and publishes them.
"""

from collections.abc import Mapping
from typing import Any

from headrace.resources import api_server_source as rules
from headrace.resources.kinds import API_SERVER_SOURCE
from headrace.resources.label_selector import selector_text
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import EventTypes, SourceKind

_FIELDS = ("mode", "owner", "serviceAccountName", "filters")


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    spec = request.resource.spec
    config: dict[str, Any] = {name: spec[name] for name in _FIELDS if spec.get(name)}
    config["resources"] = [
        {
            "apiVersion": each["apiVersion"],
            "kind": each["kind"],
            "selector": selector_text(each.get("selector") or {}),
        }
        for each in spec["resources"]
    ]
    if spec.get("namespaceSelector") is not None:
        config["namespaceSelector"] = selector_text(spec["namespaceSelector"])
    return config


def _event_types(source: Resource) -> EventTypes:
    """As published: the attribute `source` is the URL of the API server."""
    published = source.status.get("ceAttributes") or ()
    return tuple((str(each.get("type")), str(each.get("source"))) for each in published)


RECONCILER = SourceKind(
    kind=API_SERVER_SOURCE,
    rules=rules.RULES,
    adapter="kubernetes",
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=_event_types,
    fields=("namespaces", "ceAttributes"),
).reconciler()
