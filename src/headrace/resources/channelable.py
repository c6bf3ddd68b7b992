"""What every kind of channel has: the `delivery` block, the list of subscribers, and the annotation
by which a Subscription recognises it.

The rules are those of Knative's channelable contract. Subscriptions of a channel that this
controller serves are found by their `spec.channel`; `spec.subscribers` is the form in which
another controller's channel gets them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing
from headrace.resources.delivery_rules import DELIVERY_SHAPE, default_delivery, validate_delivery
from headrace.resources.json_shapes import Shape
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig

SUBSCRIBABLE_ANNOTATION = "messaging.knative.dev/subscribable"
SUBSCRIBABLE_VERSION = "v1"
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
