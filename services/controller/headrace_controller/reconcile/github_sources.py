"""GitHubSource, and that of Knative 0.5: the adapter `github`."""

from collections.abc import Mapping
from typing import Any

from headrace.resources import github_source as rules
from headrace.resources.kinds import GITHUB_SOURCE, LEGACY_GITHUB_SOURCE
from headrace.resources.resource import ResourceKind
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.sources import InvalidSource, SourceKind


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    spec = request.resource.spec
    return {
        "ownerAndRepository": spec["ownerAndRepository"],
        "eventTypes": list(spec["eventTypes"]),
        "accessToken": _secret(spec, "accessToken"),
        "secretToken": _secret(spec, "secretToken"),
        "githubAPIURL": spec.get("githubAPIURL") or rules.DEFAULT_API_URL,
        "secure": spec.get("secure") is True,
        "naming": rules.event_names(request.resource),
    }


def _secret(spec: Mapping[str, Any], field: str) -> Mapping[str, str]:
    reference = (spec.get(field) or {}).get("secretKeyRef")
    if not reference:
        raise InvalidSource(
            "SecretNotGiven",
            f"spec.{field}.secretKeyRef is missing; name a Secret and a key",
            condition=rules.SECRETS_PROVIDED,
        )
    return {"name": reference["name"], "key": reference["key"]}


def _reconciler(kind: ResourceKind) -> KindReconciler:
    return SourceKind(
        kind=kind,
        rules=rules.RULES,
        adapter="github",
        config=_config,
        conditions=rules.CONDITIONS,
        event_types=rules.event_types,
        fields=rules.WEBHOOK_FIELDS,
        finalizes=True,
    ).reconciler()


RECONCILER = _reconciler(GITHUB_SOURCE)
LEGACY_RECONCILER = _reconciler(LEGACY_GITHUB_SOURCE)
