"""Sequence (`flows.knative.dev/v1`): validation, defaults, and the names of its children."""

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
    "spec": {"steps": list, "channelTemplate": TEMPLATE_SHAPE, "reply": DESTINATION_SHAPE}
}


def child_name(sequence: str, index: int) -> str:
    """The name of the channel in front of step `index` (from 0), and of its Subscription."""
    return f"{sequence}-kn-sequence-{index}"


def index_of(sequence: str, name: str) -> int | None:
    """The index of the step whose child has this name; None for another name."""
    index = name.removeprefix(child_name(sequence, 0)[:-1])
    return int(index) if index != name and index.isdecimal() else None


def steps(sequence: Resource) -> list[Mapping[str, Any]]:
    """The steps: each a destination, with `delivery` beside its fields."""
    return flow.entries(sequence, "steps")


def destination_of(step: Mapping[str, Any]) -> dict[str, Any]:
    """The destination of a step."""
    return {name: value for name, value in step.items() if name != "delivery"}


def default(sequence: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the template and the namespaces of references."""
    spec = dict(sequence.spec)
    if isinstance(spec.get("steps"), list):
        spec["steps"] = [_defaulted(each, sequence.namespace) for each in spec["steps"]]
    return flow.default_flow(sequence, spec, system)


def _defaulted(step: Any, namespace: str) -> Any:
    if not isinstance(step, Mapping):
        return step
    # A step is a destination itself: its fields are not under a name.
    part: dict[str, Any] = {"step": destination_of(step)}
    if "delivery" in step:
        part["delivery"] = step["delivery"]
    flow.default_destinations(part, ("step",), namespace)
    return {**part.pop("step"), **part}


def validate(sequence: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted Sequence."""
    given = sequence.spec.get("steps")
    errors = flow.validate_list(given, "spec.steps")
    for index, step in enumerate(given or ()):
        path = f"spec.steps[{index}]"
        destination = destination_of(step) if isinstance(step, Mapping) else step
        errors += flow.validate_entry(destination, path, path, system.features)
        errors += flow.validate_entry_delivery(step, path, system.features)
    return errors + flow.validate_flow(sequence, system)


def remarks(sequence: Resource) -> list[str]:
    """Warnings about a valid Sequence."""
    named: dict[str, Any] = {"spec.reply": sequence.spec.get("reply")}
    for index, step in enumerate(steps(sequence)):
        path = f"spec.steps[{index}]"
        named[path] = step
        named[f"{path}.delivery.deadLetterSink"] = flow.dead_letter_sink(step)
    return flow.remarks(named)


RULES = KindRules(SHAPE, set_defaults=default, validate=validate, warnings=remarks)
