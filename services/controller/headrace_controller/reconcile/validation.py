"""Resources as a reconcile may rely on them: with their defaults, and the invalid ones with what is
wrong.

In a cluster, an object was validated by its schema only before it is seen here; an object may also
have become invalid since it was written, by a feature flag. What the controller's own API accepted
passes unchanged.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.domain.field_errors import render
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig
from headrace_controller.reconcile.registry import KindReconciler


class ResourceValidator:
    """Validates objects, and validates them again only when they or the system configuration have
    changed.
    """

    def __init__(self) -> None:
        self._known: dict[
            tuple[str, str], tuple[Mapping[str, Any], SystemConfig, Resource, str]
        ] = {}

    def default_and_validate(
        self,
        reconciler: KindReconciler,
        resources: Iterable[Resource],
        system: SystemConfig,
        validation_errors: dict[str, str],
    ) -> list[Resource]:
        """The resources of one kind with their defaults; errors are added to `validation_errors` by
        uid.
        """
        validated, seen, kind = [], set(), reconciler.kind.qualified
        for each in resources:
            key = (kind, each.uid)
            known = self._known.get(key)
            if known is None or known[0] is not each.object or known[1] is not system:
                resource = Resource(reconciler.kind, each.object)
                defaulted, errors = default_and_validate(resource, reconciler.rules, system)
                known = self._known[key] = (each.object, system, defaulted, render(errors))
            seen.add(each.uid)
            validated.append(known[2])
            if known[3]:
                validation_errors[each.uid] = known[3]
        for removed in [key for key in self._known if key[0] == kind and key[1] not in seen]:
            del self._known[removed]
        return validated
