"""Which children a Sequence or Parallel wants: channels of the template's kind, and the
Subscriptions that connect them. Nothing here acts.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from headrace.resources.kinds import SUBSCRIPTION
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace.resources.server_side_apply import is_applied
from headrace_controller.reconcile.channel_lookup import BACKENDS, backing_kind, owned_channel
from headrace_controller.reconcile.objects import is_owned, named_object, owned
from headrace_controller.reconcile.observed_state import ObservedState

ChannelKinds = Mapping[str, ResourceKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One Subscription of a flow."""

    name: str
    channel: str
    """The channel of the flow that it reads."""
    subscriber: Mapping[str, Any] | None
    """Its subscriber; None: the events pass to `next` as they are."""
    next: str | None = None
    """The channel of the flow that replies go to; None where the flow ends."""
    reply: Mapping[str, Any] | None = None
    """Where replies go at the end of the flow; None: they are discarded."""
    delivery: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLayout:
    """The children of one flow."""

    flow: Resource
    channels: tuple[str, ...]
    """Their names; the first one takes the events of the flow."""
    links: tuple[Link, ...]
    """Each before those that read what it writes."""
    removed: tuple[tuple[str, ...], ...]
    """Names of children that are not wanted any longer, in groups that do not depend on each other;
    within a group each before those that read what it writes.
    """

    def readers(self, channel: str) -> Iterator[Link]:
        """The links that read this channel."""
        return (each for each in self.links if each.channel == channel)


def child_names(observed: ObservedState, flow: Resource) -> Set[str]:
    """The names of the channels and Subscriptions that the flow owns."""
    return observed.derived(_names_by_owner).get(flow.uid, frozenset())


def _names_by_owner(observed: ObservedState) -> Mapping[str, Set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for kind in (SUBSCRIPTION, *BACKENDS):
        for each in observed.of(kind):
            for owner in each.metadata.get("ownerReferences") or ():
                found[str(owner.get("uid"))].add(each.name)
    return found


def template_kind(flow: Resource) -> ResourceKind | None:
    """The kind of the flow's channels; None if it is not served."""
    return backing_kind(flow.spec.get("channelTemplate"))


def kinds_of_channels(observed: ObservedState, layout: FlowLayout) -> ChannelKinds | None:
    """The kinds of the flow's channels, by name: one that exists keeps its kind when the template
    changes. None if one has to be created and the kind of the template is not served.
    """
    kinds = {}
    for name in layout.channels:
        found = owned_channel(observed, layout.flow, name)
        kind = template_kind(layout.flow) if found is None else found.kind
        if kind is None:
            return None
        kinds[name] = kind
    return kinds


def wanted_channel(flow: Resource, name: str, kind: ResourceKind) -> Resource:
    """A channel of the flow as it is created."""
    spec = dict(flow.spec["channelTemplate"].get("spec") or {})
    return named_object(kind, flow.namespace, name, spec=spec)


def wanted_subscription(layout: FlowLayout, link: Link, kinds: ChannelKinds) -> Resource:
    """A Subscription of the flow."""
    flow = layout.flow
    following = _destination(flow, link.next, kinds) if link.next else None
    kind = kinds[link.channel]
    spec: dict[str, Any] = {
        "channel": {"apiVersion": kind.api_version, "kind": kind.kind, "name": link.channel},
        "subscriber": link.subscriber or following,
    }
    reply = following if link.subscriber else None
    if reply or link.reply:
        spec["reply"] = reply or link.reply
    if link.delivery is not None:
        spec["delivery"] = link.delivery
    return named_object(SUBSCRIPTION, flow.namespace, link.name, spec=spec)


def owned_subscription(observed: ObservedState, flow: Resource, name: str) -> Resource | None:
    """A Subscription that the flow owns."""
    found = observed.get(SUBSCRIPTION, flow.namespace, name)
    return found if found is not None and is_owned(flow, found) else None


def is_as_wanted(flow: Resource, wanted: Resource, found: Resource) -> bool:
    """Whether an object that the flow owns needs no change."""
    return is_applied(owned(flow, wanted), found)


def _destination(flow: Resource, name: str, kinds: ChannelKinds) -> Mapping[str, Any]:
    kind = kinds[name]
    return {"ref": Reference(kind.api_version, kind.kind, flow.namespace, name).fields}
