"""The RBAC rules that a controller needs for its registered kinds, derived from the registry."""

from typing import Any

from headrace.resources.resource import ResourceKind
from headrace_controller.reconcile.registry import Reconcilers


def rules_of(reconcilers: Reconcilers) -> list[dict[str, Any]]:
    """Read every watched kind, set finalizers and statuses of the registered ones, and write the
    objects that they create and own.
    """
    rules = [_rule(kind, "get", "list", "watch") for kind in reconcilers.watched_kinds]
    for each in reconcilers:
        rules.append(_rule(each.kind, "patch", subresource="/status"))
        if each.finalize is not None:
            rules.append(_rule(each.kind, "update"))
        rules += (_rule(kind, "create") for kind in each.creates)
        rules += (_rule(kind, "create", "patch", "delete") for kind in each.owns)
    return rules


def _rule(kind: ResourceKind, *verbs: str, subresource: str = "") -> dict[str, Any]:
    return {
        "apiGroups": [kind.group],
        "resources": [kind.plural + subresource],
        "verbs": list(verbs),
    }
