"""Channel of Knative 0.5 (`eventing.knative.dev/v1alpha1`): validation, immutable fields and
conditions, and the Channel of today that it becomes.

Today's Channel (`messaging.knative.dev/v1`) has the same name. The template that takes the place of
`provisioner` and `arguments` is in `channel_provisioners`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.field_errors import FieldError, differences, immutable, invalid, missing
from headrace.resources.channel_provisioners import (
    ProvisionedTemplate,
    provisioner_name,
    template_of,
    unknown_provisioner,
    wrong_arguments,
)
from headrace.resources.condition_types import ADDRESSABLE
from headrace.resources.conditions import ConditionSet
from headrace.resources.json_shapes import ANY, Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import CLUSTER_CHANNEL_PROVISIONER
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

PROVISIONED = "Provisioned"
PROVISIONER_INSTALLED = "ProvisionerInstalled"
CONDITIONS = ConditionSet(PROVISIONER_INSTALLED, PROVISIONED, ADDRESSABLE)
"""Those of Knative 0.5."""
ARGUMENTS_APPLIED = "ArgumentsApplied"
"""Headrace-specific informational condition: whether `arguments` are in effect. Shown only if one
of them is not.
"""
SUBSCRIBERS_USED = "SubscribersUsed"
"""Headrace-specific informational condition: False if `spec.subscribable` has entries, which are
not used.
"""

OBJECT_REFERENCE_SHAPE: Shape = {
    "apiVersion": str,
    "kind": str,
    "name": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "fieldPath": str,
}
SHAPE: Shape = {
    "spec": {
        "provisioner": OBJECT_REFERENCE_SHAPE,
        "arguments": ANY,
        "subscribable": {"subscribers": list},
    }
}
_MUTABLE = ("arguments", "subscribable", "generation")
SUBSCRIBERS_NOT_USED = (
    "spec.subscribable.subscribers is not used: the controller of 0.5 wrote it from Subscriptions,"
    " which are read themselves; remove it"
)


def validate(channel: Resource, _system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a Channel. That its provisioner is unknown is none: its condition says so."""
    spec = channel.spec
    errors = validate_provisioner(spec.get("provisioner"), "spec.provisioner")
    return [*errors, *wrong_arguments(spec, "spec.arguments"), *_wrong_subscribers(spec)]


def validate_provisioner(provisioner: Any, path: str) -> list[FieldError]:
    """The errors of a reference to a provisioner; without one, the default of the installation
    applies.
    """
    if not provisioner:
        return []
    if not isinstance(provisioner, Mapping):
        return [invalid(type(provisioner).__name__, path, "expected apiVersion, kind and name")]
    if not provisioner.get("name"):
        return [missing(f"{path}.name")]
    kind = provisioner.get("kind")
    if kind and kind != CLUSTER_CHANNEL_PROVISIONER.kind:
        details = f"only '{CLUSTER_CHANNEL_PROVISIONER.kind}' kind is allowed"
        return [invalid(kind, f"{path}.kind", details)]
    return []


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: the provisioner is immutable. In Knative 0.5 `arguments` could be
    changed, without an effect on a channel that existed; this is so here too.
    """
    before, after = (
        {key: value for key, value in each.spec.items() if key not in _MUTABLE}
        for each in (old, new)
    )
    changed = differences("v1alpha1.ChannelSpec", before, after)
    return [immutable("fields", ("spec.provisioner",), changed)] if changed else []


def remarks(channel: Resource) -> list[str]:
    """Warnings about a valid Channel."""
    spec, found = channel.spec, []
    if provisioner_name(spec) and template_of(spec) is None:
        found.append(unknown_provisioner(provisioner_name(spec)))
    if has_subscribers(channel):
        found.append(SUBSCRIBERS_NOT_USED)
    return found


def has_subscribers(channel: Resource) -> bool:
    """Whether its spec lists subscribers."""
    return bool((channel.spec.get("subscribable") or {}).get("subscribers"))


def channel_template(
    channel: Resource, system: SystemConfig = BUILT_IN
) -> ProvisionedTemplate | None:
    """The template of today's Channel; None if the provisioner is unknown."""
    if not channel.spec.get("provisioner"):
        return ProvisionedTemplate(dict(system.channel_defaults.template_in(channel.namespace)))
    return template_of(channel.spec)


def _wrong_subscribers(spec: Mapping[str, Any]) -> list[FieldError]:
    subscribers = (spec.get("subscribable") or {}).get("subscribers")
    errors = []
    for index, each in enumerate(subscribers if isinstance(subscribers, Sequence) else ()):
        given = each if isinstance(each, Mapping) else {}
        if not given.get("subscriberURI") and not given.get("replyURI"):
            path = f"spec.subscribable.subscriber[{index}]"
            paths = (f"{path}.replyURI", f"{path}.subscriberURI")
            errors.append(missing(*paths, details="expected at least one of, got none"))
    return errors


RULES = KindRules(SHAPE, validate=validate, validate_update=validate_update, warnings=remarks)
