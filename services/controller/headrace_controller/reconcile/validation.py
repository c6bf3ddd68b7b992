"""Resources as the reconcile may rely on them: defaults filled in, and those that break a rule of
their kind named with what is wrong.

In a cluster nobody has judged an object beyond its schema before it is seen here; an object may
also have become wrong since it was written, by a flag. What our own API took in passes unchanged.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.domain.field_errors import render
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig


class ResourceValidator:
    """Judges objects, and those it has judged only again when they or the system's configuration
    have changed.
    """

    def __init__(self) -> None:
        self._known: dict[
            tuple[str, str], tuple[Mapping[str, Any], SystemConfig, Resource, str]
        ] = {}

    def default_and_validate(
        self, resources: Iterable[Resource], system: SystemConfig, validation_errors: dict[str, str]
    ) -> list[Resource]:
        """The resources with their defaults, all of one kind; what is wrong with them is put into
        `validation_errors` by uid.
        """
        validated, seen, kind = [], set(), ""
        for each in resources:
            kind = each.kind.plural
            key = (kind, each.uid)
            known = self._known.get(key)
            if known is None or known[0] is not each.object or known[1] is not system:
                defaulted, errors = default_and_validate(each, system)
                known = self._known[key] = (each.object, system, defaulted, render(errors))
            seen.add(each.uid)
            validated.append(known[2])
            if known[3]:
                validation_errors[each.uid] = known[3]
        for gone in [key for key in self._known if key[0] == kind and key[1] not in seen]:
            del self._known[gone]
        return validated
