"""Which channel a Subscription reads from: the one that its `spec.channel` names, or the one that
backs it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.resources.destination import api_version_of
from headrace.resources.kinds import CHANNEL, KAFKA_CHANNEL, SUBSCRIPTION
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.subscription import channel_namespace
from headrace_controller.reconcile.observed_state import ObservedState

_BACKING_KINDS: Mapping[tuple[str, str], ResourceKind] = {
    (kind.group, kind.kind): kind for kind in (KAFKA_CHANNEL,)
}
BACKING_KINDS = ", ".join(kind.kind for kind in _BACKING_KINDS.values())
"""The kinds that a template may name, for messages."""
SERVED_KINDS = f"{CHANNEL.kind}, {BACKING_KINDS}"
"""The kinds that a Subscription may name, for messages."""


def is_served(reference: Mapping[str, Any]) -> bool:
    """Whether a Subscription may name a channel of this kind."""
    return _is_channel(reference) or backing_kind(reference) is not None


def _is_channel(reference: Mapping[str, Any]) -> bool:
    group = api_version_of(reference).rpartition("/")[0]
    return (group, reference.get("kind")) == (CHANNEL.group, CHANNEL.kind)


def backing_kind(reference: Mapping[str, Any]) -> ResourceKind | None:
    """The kind of channel that a template or reference names; None if this controller does not
    serve it.
    """
    group = api_version_of(reference).rpartition("/")[0]
    return _BACKING_KINDS.get((group, str(reference.get("kind"))))


def backing_channel(observed: ObservedState, channel: Resource) -> Resource | None:
    """The object that backs a Channel: of the template's kind, with the same name."""
    kind = backing_kind(channel.spec.get("channelTemplate") or {})
    return observed.get(kind, channel.namespace, channel.name) if kind else None


def named_channel(observed: ObservedState, subscription: Resource) -> Resource | None:
    """The channel that a Subscription names, a Channel or one of the kinds that back it."""
    reference = subscription.spec.get("channel")
    if not isinstance(reference, Mapping):
        return None
    namespace, name = channel_namespace(subscription), str(reference.get("name"))
    if _is_channel(reference):
        return observed.get(CHANNEL, namespace, name)
    kind = backing_kind(reference)
    return observed.get(kind, namespace, name) if kind else None


def channel_of(observed: ObservedState, subscription: Resource) -> Resource | None:
    """The channel whose events a Subscription gets; None if there is none."""
    channel = named_channel(observed, subscription)
    if channel is not None and channel.kind == CHANNEL:
        return backing_channel(observed, channel)
    return channel


def subscriptions_of(observed: ObservedState, channel: Resource) -> Iterator[Resource]:
    """The Subscriptions that read from this channel."""
    for each in observed.of(SUBSCRIPTION):
        found = channel_of(observed, each)
        if found is not None and found.uid == channel.uid and not each.deleting:
            yield each
