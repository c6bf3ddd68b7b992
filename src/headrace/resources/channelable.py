"""What every kind of channel has: the `delivery` block, the list of subscribers, and the annotation
by which a Subscription recognises it.

The rules are those of Knative's channelable contract. Subscriptions of a channel that this
controller serves are found by their `spec.channel`; `spec.subscribers` is the form in which
another controller's channel gets them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing
from headrace.resources.delivery_rules import (
    DELIVERY_SHAPE,
    default_delivery,
    delivery_remarks,
    validate_delivery,
)
from headrace.resources.json_shapes import Shape
from headrace.resources.registry_annotations import validate_annotations
from headrace.resources.resource import Resource
from headrace.resources.server_side_apply import covers
from headrace.resources.system_config import SystemConfig

SUBSCRIBABLE_ANNOTATION = "messaging.knative.dev/subscribable"
SUBSCRIBABLE_VERSION = "v1"
SUBSCRIBABLE_LABEL = "messaging.knative.dev/subscribable"
"""The label, `true`, of a CustomResourceDefinition whose objects are channels."""
SCOPE_ANNOTATION = "eventing.knative.dev/scope"
_SCOPES = ("cluster", "namespace")

CHANNELABLE_SHAPE: Shape = {"delivery": DELIVERY_SHAPE, "subscribers": list}


def default_channelable(channel: Resource, spec: dict[str, Any]) -> Resource:
    """The channel with `spec`, the annotation and the namespaces of references."""
    default_delivery(spec, channel.namespace)
    annotations = {**channel.annotations, SUBSCRIBABLE_ANNOTATION: SUBSCRIBABLE_VERSION}
    metadata = {**channel.metadata, "annotations": annotations}
    return Resource(channel.kind, {**channel.object, "metadata": metadata, "spec": spec})


def validate_channelable(channel: Resource, system: SystemConfig) -> list[FieldError]:
    """The errors in what all channels have."""
    errors = validate_delivery(channel.spec, "spec.delivery", system.features)
    scope = channel.annotations.get(SCOPE_ANNOTATION)
    if scope is not None and scope not in _SCOPES:
        where = f"metadata.annotations.[{SCOPE_ANNOTATION}]"
        errors.append(invalid(scope, where, "expected either 'cluster' or 'namespace'"))
    errors += validate_annotations(channel)
    return errors + _wrong_subscribers(channel.spec.get("subscribers"))


def _wrong_subscribers(subscribers: Any) -> list[FieldError]:
    if not isinstance(subscribers, Sequence):
        return []
    errors = []
    for index, each in enumerate(subscribers):
        path = f"spec.subscribable.subscriber[{index}]"
        if not isinstance(each, Mapping):
            errors.append(invalid(type(each).__name__, path, "expected an object"))
        elif not each.get("subscriberUri") and not each.get("replyUri"):
            paths = (f"{path}.replyURI", f"{path}.subscriberURI")
            errors.append(missing(*paths, details="expected at least one of, got none"))
    return errors


def served_remarks(channel: Resource) -> list[str]:
    """Warnings about a valid channel of a kind that this controller serves."""
    remarks = delivery_remarks(channel)
    if channel.spec.get("subscribers"):
        remarks.append(
            "spec.subscribers has no effect: a Subscription is found by its spec.channel"
        )
    return remarks


def added_subscribers(new: Any, old: Any, user: str) -> list[FieldError]:
    """The error of a user who adds or changes entries of `spec.subscribers` in a channel of a kind
    that this controller serves, in the words of Knative's webhook. `new` and `old` are the lists as
    written. Entries may stay, as in an object from a backup, and may be removed.
    """
    before = old if isinstance(old, list) else []
    if not isinstance(new, list) or all(each in before for each in new):
        return []
    message = (
        f"Channel.Spec.Subscribers changed by user {user} which was not the headrace-controller"
        " service account"
    )
    return [FieldError(message, ("spec.subscribers",), "create a Subscription instead")]


ENTRY_FIELDS = (
    "name",
    "generation",
    "subscriberUri",
    "subscriberCACerts",
    "subscriberAudience",
    "replyUri",
    "replyCACerts",
    "replyAudience",
    "delivery",
)
"""The fields of an entry of `spec.subscribers` that a Subscription sets; `uid` identifies it."""


def subscriber_of(block: Mapping[str, Any], uid: str) -> Mapping[str, Any] | None:
    """The entry of a Subscription in the `subscribers` of a spec or status; None if there is
    none.
    """
    entries = block.get("subscribers")
    for each in entries if isinstance(entries, list | tuple) else ():
        if isinstance(each, Mapping) and each.get("uid") == uid:
            return each
    return None


def fields_not_kept(entry: Mapping[str, Any], found: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The fields in which the entry that was `found` differs from the wanted one. A schema may have
    added defaults in `delivery`.
    """
    if found is None:
        return ("uid",)
    return tuple(
        name
        for name in ENTRY_FIELDS
        if (name in found) != (name in entry) or not covers(found.get(name), entry.get(name))
    )


def with_subscribers(
    channel: Resource, changes: Mapping[str, Mapping[str, Any] | None]
) -> Resource:
    """The channel with these entries of `spec.subscribers`, by uid; None removes one. Entries of
    other writers stay, in their order.
    """
    entries = channel.spec.get("subscribers")
    present = entries if isinstance(entries, list | tuple) else ()
    kept, left = [], dict(changes)
    for each in present:
        uid = str(each.get("uid")) if isinstance(each, Mapping) else ""
        if uid not in changes:
            kept.append(each)
        elif (changed := left.pop(uid, None)) is not None:
            kept.append(changed)
    kept += [each for each in left.values() if each is not None]
    spec = {**channel.spec, "subscribers": kept}
    return Resource(channel.kind, {**channel.object, "spec": spec})
