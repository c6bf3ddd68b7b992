"""Subscription of Knative 0.5 (`eventing.knative.dev/v1alpha1`): validation, immutable fields and
conditions, and the spec of today's Subscription that it becomes.

Rules and messages are those of 0.5. The channels that it names, in `channel` and `reply.channel`,
are Channels of 0.5; today's Subscription names the Channels of today that have taken their place.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, disallowed, immutable_spec, invalid, missing
from headrace.resources.condition_types import ADDED_TO_CHANNEL
from headrace.resources.conditions import ConditionSet
from headrace.resources.destination import validate as validate_destination
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import CHANNEL, LEGACY_CHANNEL
from headrace.resources.legacy_channel import OBJECT_REFERENCE_SHAPE
from headrace.resources.legacy_subscriber import destination_of, two_given
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig

RESOLVED = "Resolved"
CHANNEL_READY = "ChannelReady"
CONDITIONS = ConditionSet(RESOLVED, ADDED_TO_CHANNEL, CHANNEL_READY)
"""Those of Knative 0.5 and 0.7."""

SHAPE: Shape = {
    "spec": {
        "channel": OBJECT_REFERENCE_SHAPE,
        "subscriber": {"ref": OBJECT_REFERENCE_SHAPE, "dnsName": str, "uri": str},
        "reply": {"channel": OBJECT_REFERENCE_SHAPE},
    }
}
_REFERENCE_FIELDS = ("name", "apiVersion", "kind")


def validate(subscription: Resource, _system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a Subscription."""
    spec = subscription.spec
    if not _is_given(spec.get("channel")):
        return [missing("spec.channel", details="the Subscription must reference a channel")]
    errors = _wrong_channel(spec["channel"], "spec.channel")
    subscriber, reply = spec.get("subscriber"), _reply_channel(spec)
    if not _is_given(subscriber) and not reply:
        details = "the Subscription must reference at least one of (reply or a subscriber)"
        errors.append(missing("spec.reply", "spec.subscriber", details=details))
    if isinstance(subscriber, Mapping) and _is_given(subscriber):
        errors += _wrong_subscriber(subscriber)
    if reply:
        errors += _wrong_channel(reply, "spec.reply.channel")
    return errors


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: only `subscriber` and `reply` may change."""
    before, after = ({"channel": each.spec.get("channel")} for each in (old, new))
    return immutable_spec("v1alpha1.SubscriptionSpec", before, after)


def todays_spec(subscription: Resource) -> dict[str, Any]:
    """The spec of the `messaging.knative.dev/v1` Subscription for a valid one."""
    spec = subscription.spec
    made: dict[str, Any] = {"channel": _todays_channel(spec["channel"])}
    subscriber, reply = spec.get("subscriber"), _reply_channel(spec)
    if isinstance(subscriber, Mapping) and _is_given(subscriber):
        destination = destination_of(subscriber)
        made["subscriber"] = {key: destination[key] for key in ("ref", "uri") if key in destination}
    if reply:
        made["reply"] = {"ref": _todays_channel(reply)}
    return made


def _todays_channel(reference: Mapping[str, Any]) -> dict[str, str]:
    return {
        "apiVersion": CHANNEL.api_version,
        "kind": CHANNEL.kind,
        "name": str(reference.get("name")),
    }


def _reply_channel(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    channel = (spec.get("reply") or {}).get("channel")
    return channel if isinstance(channel, Mapping) and _is_given(channel) else {}


def _is_given(value: Any) -> bool:
    """Whether an object has any field; 0.5 took one without for absent."""
    return isinstance(value, Mapping) and any(value.values())


def _wrong_subscriber(subscriber: Mapping[str, Any]) -> list[FieldError]:
    errors = two_given(subscriber, "spec.subscriber")
    if errors:
        return errors
    ref = subscriber.get("ref")
    if isinstance(ref, Mapping) and _is_given(ref):
        return _wrong_reference(ref, "spec.subscriber.ref")
    return validate_destination(destination_of(subscriber), "spec.subscriber")


def _wrong_channel(reference: Mapping[str, Any], path: str) -> list[FieldError]:
    """The errors of a reference to a Channel of 0.5."""
    errors = _wrong_reference(reference, path)
    if reference.get("kind") != LEGACY_CHANNEL.kind:
        details = f"only '{LEGACY_CHANNEL.kind}' kind is allowed"
        errors.append(invalid(reference.get("kind") or "", f"{path}.kind", details))
    if reference.get("apiVersion") != LEGACY_CHANNEL.api_version:
        details = f"only {LEGACY_CHANNEL.api_version} is allowed for apiVersion"
        errors.append(invalid(reference.get("apiVersion") or "", f"{path}.apiVersion", details))
    return errors


def _wrong_reference(reference: Mapping[str, Any], path: str) -> list[FieldError]:
    absent = [f"{path}.{name}" for name in _REFERENCE_FIELDS if not reference.get(name)]
    others = [name for name, value in reference.items() if value and name not in _REFERENCE_FIELDS]
    details = "only name, apiVersion and kind are supported fields"
    errors = [missing(*absent)] if absent else []
    return errors + [disallowed(f"{path}.{name}", details=details) for name in sorted(others)]


RULES = KindRules(SHAPE, validate=validate, validate_update=validate_update)
