"""What Sequence and Parallel (`flows.knative.dev/v1`) have in common: a template of channels,
destinations in lists, and the conditions.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing, render
from headrace.resources.channel import validate_template
from headrace.resources.condition_types import ADDRESSABLE, EVENT_POLICIES_READY
from headrace.resources.conditions import ConditionSet
from headrace.resources.delivery_rules import default_delivery, validate_delivery
from headrace.resources.destination import default as default_destination
from headrace.resources.destination import unsupported_uri
from headrace.resources.destination import validate as validate_destination
from headrace.resources.features import Features
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig

CHANNELS_READY = "ChannelsReady"
SUBSCRIPTIONS_READY = "SubscriptionsReady"
CONDITIONS = ConditionSet(CHANNELS_READY, SUBSCRIPTIONS_READY, ADDRESSABLE, EVENT_POLICIES_READY)

ENTRIES_MAX = 64
"""Steps or branches of a flow: the limit of the CRDs."""
_VALUE_CHARACTERS_MAX = 200


def default_flow(flow: Resource, spec: dict[str, Any], system: SystemConfig) -> Resource:
    """The flow with `spec`, a template, and the namespaces of references in `reply`."""
    if not spec.get("channelTemplate"):
        spec["channelTemplate"] = dict(system.channel_defaults.template_in(flow.namespace))
    default_destinations(spec, ("reply",), flow.namespace)
    return Resource(flow.kind, {**flow.object, "spec": spec})


def default_destinations(part: dict[str, Any], names: Sequence[str], namespace: str) -> None:
    """Set the namespaces of references in the destinations `names` and in `delivery`, in place."""
    for name in names:
        if isinstance(part.get(name), Mapping):
            part[name] = default_destination(part[name], namespace)
    default_delivery(part, namespace)


def validate_flow(flow: Resource, system: SystemConfig) -> list[FieldError]:
    """The errors in what both kinds have."""
    errors = validate_template(flow.spec.get("channelTemplate"), "spec.channelTemplate")
    reply = flow.spec.get("reply")
    if reply is not None:
        grouped = system.features.kreference_group
        errors += validate_destination(reply, "spec.reply", grouped=grouped)
    return errors


def validate_list(given: Any, path: str) -> list[FieldError]:
    """The errors in the number of entries."""
    if not given:
        return [missing(path)]
    if len(given) > ENTRIES_MAX:
        return [invalid(len(given), path, f"expected at most {ENTRIES_MAX} entries")]
    return []


def validate_entry(destination: Any, path: str, shown: str, features: Features) -> list[FieldError]:
    """The errors of the destination at `path`, an entry of a list or a field of it.

    The headline is Knative's, with its form of the path (`shown`); the details name the fields.
    """
    errors = validate_destination(destination, path, grouped=features.kreference_group)
    if not errors:
        return []
    value = json.dumps(destination, default=str)[:_VALUE_CHARACTERS_MAX]
    return [invalid(value, shown, render(errors))]


def validate_entry_delivery(entry: Any, path: str, features: Features) -> list[FieldError]:
    """The errors of the `delivery` block of an entry at `path`."""
    if not isinstance(entry, Mapping):
        return []
    return validate_delivery(entry, f"{path}.delivery", features)


def remarks(destinations: Mapping[str, Any]) -> list[str]:
    """Warnings about valid destinations, by path: URLs that can never be called."""
    problems = (unsupported_uri(each, path) for path, each in destinations.items())
    return [problem for problem in problems if problem]


def dead_letter_sink(entry: Any) -> Any:
    """The dead letter sink in the `delivery` block of an entry; None if there is none."""
    block = entry.get("delivery") if isinstance(entry, Mapping) else None
    return block.get("deadLetterSink") if isinstance(block, Mapping) else None


def entries(flow: Resource, name: str) -> list[Mapping[str, Any]]:
    """The entries of a list in the spec, an empty one in place of what is no object."""
    found = flow.spec.get(name)
    listed = found if isinstance(found, list) else ()
    return [each if isinstance(each, Mapping) else {} for each in listed]
