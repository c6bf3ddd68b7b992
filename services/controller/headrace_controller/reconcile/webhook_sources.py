"""WebhookSource: the adapter `webhook`."""

from collections.abc import Mapping
from typing import Any

from headrace.resources import webhook_source as rules
from headrace.resources.kinds import WEBHOOK_SOURCE
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import SourceKind


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    source = request.resource
    signature = source.spec.get("signature") or {}
    config: dict[str, Any] = {
        "source": rules.event_source(source),
        "scheme": rules.scheme_of(source),
        "attributes": dict(source.spec.get("attributes") or {}),
    }
    if reference := signature.get("secretKeyRef"):
        config["secret"] = {"name": reference["name"], "key": reference["key"]}
    if seconds := signature.get("toleranceSeconds"):
        config["toleranceSeconds"] = seconds
    return config


RECONCILER = SourceKind(
    kind=WEBHOOK_SOURCE,
    rules=rules.RULES,
    adapter="webhook",
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=rules.event_types,
    fields=("address",),
).reconciler()
