"""Subscription (`messaging.knative.dev/v1`): validation, defaults, immutable fields and
conditions.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, disallowed, immutable_spec, missing
from headrace.resources.condition_types import ADDED_TO_CHANNEL, OIDC_IDENTITY_CREATED
from headrace.resources.conditions import ConditionSet
from headrace.resources.delivery_annotations import validate_annotations
from headrace.resources.delivery_rules import (
    DELIVERY_SHAPE,
    default_delivery,
    delivery_remarks,
    validate_delivery,
)
from headrace.resources.destination import (
    DESTINATION_SHAPE,
    REF_SHAPE,
    unsupported_uri,
    validate_ref,
)
from headrace.resources.destination import default as default_destination
from headrace.resources.destination import validate as validate_destination
from headrace.resources.features import Features
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

REFERENCES_RESOLVED = "ReferencesResolved"
CHANNEL_READY = "ChannelReady"
CONDITIONS = ConditionSet(
    REFERENCES_RESOLVED, ADDED_TO_CHANNEL, CHANNEL_READY, OIDC_IDENTITY_CREATED
)
SHAPE: Shape = {
    "spec": {
        "channel": REF_SHAPE,
        "subscriber": DESTINATION_SHAPE,
        "reply": DESTINATION_SHAPE,
        "delivery": DELIVERY_SHAPE,
    }
}
_CHANNEL_FIELDS = ("apiVersion", "kind", "name")


def default(subscription: Resource, _system: SystemConfig = BUILT_IN) -> Resource:
    """Set the namespaces of references."""
    spec = dict(subscription.spec)
    for name in ("subscriber", "reply"):
        if isinstance(spec.get(name), Mapping):
            spec[name] = default_destination(spec[name], subscription.namespace)
    default_delivery(spec, subscription.namespace)
    return Resource(subscription.kind, {**subscription.object, "spec": spec})


def validate(subscription: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted Subscription."""
    spec, features = subscription.spec, system.features
    errors = _wrong_channel(spec.get("channel"), subscription.namespace, features)
    given = [name for name in _TARGETS if is_given(spec.get(name))]
    if not given:
        details = "the Subscription must reference a subscriber"
        errors.append(missing("spec.subscriber", details=details))
    for name in given:
        errors += validate_destination(
            spec[name], f"spec.{name}", grouped=features.kreference_group
        )
    errors += validate_delivery(spec, "spec.delivery", features)
    return errors + validate_annotations(subscription)


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: the channel is immutable."""
    before, after = ({"channel": each.spec.get("channel")} for each in (old, new))
    return immutable_spec("v1.SubscriptionSpec", before, after)


def remarks(subscription: Resource) -> list[str]:
    """Warnings about a valid Subscription."""
    problems = (unsupported_uri(subscription.spec.get(name), f"spec.{name}") for name in _TARGETS)
    return [problem for problem in problems if problem] + delivery_remarks(subscription)


_TARGETS = ("subscriber", "reply")


def is_given(destination: Any) -> bool:
    """Whether a destination has any field."""
    return isinstance(destination, Mapping) and any(destination.values())


def channel_namespace(subscription: Resource) -> str:
    """The namespace of its channel: its own, unless `spec.channel` has another (feature
    `cross-namespace-event-links`).
    """
    return str((subscription.spec.get("channel") or {}).get("namespace") or subscription.namespace)


def _wrong_channel(channel: Any, namespace: str, features: Features) -> list[FieldError]:
    if not isinstance(channel, Mapping) or not any(channel.get(key) for key in _CHANNEL_FIELDS):
        return [missing("spec.channel", details="the Subscription must reference a channel")]
    errors = validate_ref(channel, "spec.channel")
    others = [key for key, value in channel.items() if value and key not in _CHANNEL_FIELDS]
    if "namespace" in others and (
        features.cross_namespace_event_links or channel["namespace"] == namespace
    ):
        others.remove("namespace")
    details = (
        "only name, apiVersion and kind are supported fields when"
        " feature.CrossNamespaceEventLinks is disabled"
    )
    return errors + [disallowed(f"spec.channel.{key}", details=details) for key in sorted(others)]


RULES = KindRules(
    SHAPE,
    set_defaults=default,
    validate=validate,
    validate_update=validate_update,
    warnings=remarks,
)
