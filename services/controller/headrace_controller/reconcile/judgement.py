"""Resources as the reconcile may rely on them: defaults filled in, and those that break a rule of their kind named with what is wrong.

In a cluster nobody has judged an object beyond its schema before it is seen here; an object may also have become wrong since it was
written, by a flag. What our own API took in passes unchanged.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.domain.field_errors import render
from headrace.resources.admission import judge
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig


class Judge:
    """Judges objects, and those it has judged only again when they or the system's configuration have changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Mapping[str, Any], SystemConfig, Resource, str]] = {}

    def judge(self, resources: Iterable[Resource], system: SystemConfig, faults: dict[str, str]) -> list[Resource]:
        """The resources with their defaults, all of one kind; what is wrong with them is put into `faults` by uid."""
        judged, seen, kind = [], set(), ""
        for each in resources:
            kind = each.kind.plural
            key = (kind, each.uid)
            known = self._known.get(key)
            if known is None or known[0] is not each.object or known[1] is not system:
                filled, errors = judge(each, system)
                known = self._known[key] = (each.object, system, filled, render(errors))
            seen.add(each.uid)
            judged.append(known[2])
            if known[3]:
                faults[each.uid] = known[3]
        for gone in [key for key in self._known if key[0] == kind and key[1] not in seen]:
            del self._known[gone]
        return judged
