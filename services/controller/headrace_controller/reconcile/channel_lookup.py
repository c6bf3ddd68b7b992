"""Which channel a Subscription reads from: the one that its `spec.channel` names, or the one that
backs it. Channels of kinds that another controller serves are in `foreign_channels`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.backend_name import IN_MEMORY, JETSTREAM, KAFKA
from headrace.resources.destination import api_version_of
from headrace.resources.kinds import (
    CHANNEL,
    IN_MEMORY_CHANNEL,
    KAFKA_CHANNEL,
    NATS_JETSTREAM_CHANNEL,
    SUBSCRIPTION,
)
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.subscription import channel_namespace
from headrace_controller.reconcile.objects import is_owned
from headrace_controller.reconcile.observed_state import ObservedState

BACKENDS = {
    KAFKA_CHANNEL: KAFKA,
    IN_MEMORY_CHANNEL: IN_MEMORY,
    NATS_JETSTREAM_CHANNEL: JETSTREAM,
}
"""The backend of each kind of channel that this controller serves."""
_BACKING_KINDS = {(kind.group, kind.kind): kind for kind in BACKENDS}
_SERVED_KINDS = {(CHANNEL.group, CHANNEL.kind): CHANNEL, **_BACKING_KINDS}
BACKING_KINDS = ", ".join(kind.kind for kind in _BACKING_KINDS.values())
"""The kinds that a template may name and that this controller serves, for messages."""
SERVED_KINDS = ", ".join(kind.kind for kind in _SERVED_KINDS.values())
"""The kinds that a Subscription may name, for messages."""


def backing_kind(template: Any) -> ResourceKind | None:
    """The kind of channel that a template names; None if this controller does not serve it, or if
    the value is no template.
    """
    return _BACKING_KINDS.get(_group_and_kind(template))


def served_kind(reference: Any) -> ResourceKind | None:
    """The kind of channel that a Subscription names, likewise."""
    return _SERVED_KINDS.get(_group_and_kind(reference))


def _group_and_kind(reference: Any) -> tuple[str, str]:
    if not isinstance(reference, Mapping):
        return "", ""
    return api_version_of(reference).rpartition("/")[0], str(reference.get("kind"))


def backing_channel(observed: ObservedState, channel: Resource) -> Resource | None:
    """The object of a served kind that backs a Channel: it has the Channel's name, and is owned by
    it. Its kind is that of the template when it was created; a default for templates may have
    changed since.
    """
    return owned_channel(observed, channel, channel.name)


def owned_channel(observed: ObservedState, owner: Resource, name: str) -> Resource | None:
    """The channel of that name that `owner` owns, whatever its kind."""
    for kind in _BACKING_KINDS.values():
        found = observed.get(kind, owner.namespace, name)
        if found is not None and is_owned(owner, found):
            return found
    return None


def named_channel(observed: ObservedState, subscription: Resource) -> Resource | None:
    """The channel that a Subscription names, a Channel or one of the kinds that back it."""
    reference = subscription.spec.get("channel")
    kind = served_kind(reference)
    if kind is None or not isinstance(reference, Mapping):
        return None
    return observed.get(kind, channel_namespace(subscription), str(reference.get("name")))


def channel_of(observed: ObservedState, subscription: Resource) -> Resource | None:
    """The channel of a served kind whose events a Subscription gets; None if there is none."""
    channel = named_channel(observed, subscription)
    if channel is not None and channel.kind == CHANNEL:
        return backing_channel(observed, channel)
    return channel


def subscriptions_of(observed: ObservedState, channel: Resource) -> Sequence[Resource]:
    """The Subscriptions that read from this channel."""
    return observed.derived(_by_channel).get(channel.uid, ())


def _by_channel(observed: ObservedState) -> Mapping[str, Sequence[Resource]]:
    found: dict[str, list[Resource]] = defaultdict(list)
    for each in observed.of(SUBSCRIPTION):
        channel = channel_of(observed, each)
        if channel is not None and not each.deleting:
            found[channel.uid].append(each)
    return found
