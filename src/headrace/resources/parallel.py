"""Parallel (`flows.knative.dev/v1`): validation, defaults, and the names of its children."""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError
from headrace.resources import flow
from headrace.resources.channel import TEMPLATE_SHAPE
from headrace.resources.destination import DESTINATION_SHAPE
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

SHAPE: Shape = {
    "spec": {"branches": list, "channelTemplate": TEMPLATE_SHAPE, "reply": DESTINATION_SHAPE}
}
_DESTINATIONS = ("filter", "subscriber", "reply")


def ingress_name(parallel: str) -> str:
    """The name of the channel in front of all branches."""
    return f"{parallel}-kn-parallel"


def branch_name(parallel: str, number: int) -> str:
    """The name of the channel of branch `number` (from 0), behind its filter, and of the
    Subscription of its subscriber.
    """
    return f"{parallel}-kn-parallel-{number}"


def filter_name(parallel: str, number: int) -> str:
    """The name of the Subscription of the filter of branch `number`."""
    return f"{parallel}-kn-parallel-filter-{number}"


def number_of(parallel: str, name: str) -> int | None:
    """The number of the branch whose child has this name; None for another name."""
    for prefix in (filter_name(parallel, 0), branch_name(parallel, 0)):
        number = name.removeprefix(prefix[:-1])
        if number != name and number.isdecimal():
            return int(number)
    return None


def branches(parallel: Resource) -> list[Mapping[str, Any]]:
    """The branches."""
    return flow.entries(parallel, "branches")


def default(parallel: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the template and the namespaces of references."""
    spec = dict(parallel.spec)
    if isinstance(spec.get("branches"), list):
        spec["branches"] = [_defaulted(each, parallel.namespace) for each in spec["branches"]]
    return flow.default_flow(parallel, spec, system)


def _defaulted(branch: Any, namespace: str) -> Any:
    if not isinstance(branch, Mapping):
        return branch
    part = dict(branch)
    flow.default_destinations(part, _DESTINATIONS, namespace)
    return part


def validate(parallel: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted Parallel."""
    given = parallel.spec.get("branches")
    errors = flow.validate_list(given, "spec.branches")
    for index, branch in enumerate(given or ()):
        path = f"spec.branches[{index}]"
        entry = branch if isinstance(branch, Mapping) else {}
        for name in _DESTINATIONS:
            if name in entry or name == "subscriber":
                errors += flow.validate_entry(
                    entry.get(name),
                    f"{path}.{name}",
                    f"spec.branches.{name}[{index}]",
                    system.features,
                )
        errors += flow.validate_entry_delivery(branch, path, system.features)
    return errors + flow.validate_flow(parallel, system)


def remarks(parallel: Resource) -> list[str]:
    """Warnings about a valid Parallel."""
    named: dict[str, Any] = {"spec.reply": parallel.spec.get("reply")}
    for index, branch in enumerate(branches(parallel)):
        path = f"spec.branches[{index}]"
        named |= {f"{path}.{name}": branch.get(name) for name in _DESTINATIONS}
        named[f"{path}.delivery.deadLetterSink"] = flow.dead_letter_sink(branch)
    return flow.remarks(named)


RULES = KindRules(SHAPE, set_defaults=default, validate=validate, warnings=remarks)
