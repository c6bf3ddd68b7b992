"""What a source is not allowed to read, and how to grant it."""

from collections.abc import Sequence
from typing import Final

from headrace.adapters.kubernetes.watcher import Scope, WatchApi
from headrace.domain.errors import HeadraceError

SUFFICIENT_PERMISSIONS: Final = "SufficientPermissions"
"""The condition: everything that is selected may be listed and watched."""
VERBS: Final = ("list", "watch")
_CHECKED_MAX: Final = 20
_SHOWN_MAX: Final = 3


async def missing_permissions(api: WatchApi, scopes: Sequence[Scope], refusal: str) -> str:
    """Return the message for a refusal: what else is missing, and the rules that are needed."""
    missing: list[str] = []
    for scope in scopes[:_CHECKED_MAX]:
        try:
            denied = [
                verb for verb in VERBS if not await api.may(verb, scope.kind, scope.namespace)
            ]
        except HeadraceError:
            break
        if denied:
            missing.append(_needed(scope, denied))
    shown = missing[:_SHOWN_MAX]
    if len(missing) > _SHOWN_MAX:
        shown.append(f"{len(missing) - _SHOWN_MAX} more")
    needed = "; ".join(shown) or "grant get, list and watch of what spec.resources names"
    return f"{refusal}; {needed}"


def _needed(scope: Scope, denied: Sequence[str]) -> str:
    kind, namespace = scope.kind, scope.namespace
    where = "all namespaces" if namespace is None else f"namespace {namespace}"
    role = "ClusterRole" if namespace is None else "Role"
    rule = f'{{apiGroups: ["{kind.group}"], resources: [{kind.plural}], verbs: [get, list, watch]}}'
    return f"may not {' or '.join(denied)} {kind.plural} in {where}: bind a {role} with {rule}"
