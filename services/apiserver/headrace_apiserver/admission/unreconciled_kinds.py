"""A warning for objects of a built-in kind that this version does not reconcile yet."""

from collections.abc import Mapping
from typing import Any

from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.admission.plugin import AdmissionPlugin
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.request_scope import RequestScope


class UnreconciledKinds(AdmissionPlugin):
    """Warns because such an object never gets a status that would show it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def validate_create(self, scope: RequestScope, draft: Mapping[str, Any]) -> None:
        """Warns."""
        self._warn(scope)

    def validate_update(self, scope: RequestScope, old: Resource) -> None:
        """Warns, but not when a status or scale is written."""
        if not scope.info.subresource:
            self._warn(scope)

    def _warn(self, scope: RequestScope) -> None:
        storage = scope.served.storage
        if (
            self._catalog.is_builtin(f"{storage.plural}.{storage.group}")
            and scope.served.custom
            and self._catalog.reconciled_kind(storage) is None
        ):
            scope.warnings.append(
                f"this version of Headrace does not reconcile {_plural_kind(storage)}"
            )


def _plural_kind(kind: ResourceKind) -> str:
    """`NetworkPolicies`: the kind in its own spelling, with the ending of its plural."""
    same = len(kind.kind) - kind.plural.endswith("ies")
    return kind.kind[:same] + kind.plural[same:]
