"""What Sequence and Parallel have in common: their children, kept as wanted, and a status that
shows the state of each.

A Subscription is pointed to another channel of the flow only when that channel is read: an event
that arrives there before its Subscription has a position would be skipped. For the same reason the
address is shown first when all of them have one.
"""

from collections.abc import Sequence
from typing import Any

from headrace.resources import flow as rules
from headrace.resources.condition_types import ADDED_TO_CHANNEL, ADDRESSABLE, EVENT_POLICIES_READY
from headrace.resources.conditions import (
    Condition,
    ConditionStatus,
    failed,
    happy,
    is_true,
    unknown,
)
from headrace.resources.kinds import SUBSCRIPTION
from headrace.resources.resource import Resource
from headrace_controller.reconcile.channel_lookup import BACKING_KINDS, owned_channel
from headrace_controller.reconcile.flow_children import Child, FlowChildren
from headrace_controller.reconcile.flow_layout import (
    ChannelKinds,
    FlowLayout,
    Link,
    is_as_wanted,
    kinds_of_channels,
    owned_subscription,
    wanted_channel,
    wanted_subscription,
)
from headrace_controller.reconcile.flow_removal import DRAINED, remove_unwanted
from headrace_controller.reconcile.objects import ensure_object, readiness_of
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.statuses import (
    EVENT_POLICIES_DISABLED,
    condition_of_problem,
    set_fault_status,
    set_invalid_status,
)


def decide_flow(request: ReconcileRequest, layout: FlowLayout) -> FlowChildren | None:
    """Plan the children, and decide conditions and `status.address`.

    None for a flow that is not acted on: it was left as it was, and its status says why.
    """
    if set_invalid_status(request, rules.CONDITIONS, rules.CHANNELS_READY):
        return None
    kinds = kinds_of_channels(request.observed, layout)
    if kinds is None:
        template = request.resource.spec["channelTemplate"]
        fault = failed(
            "UnsupportedChannelKind",
            f"no channel of kind {template['kind']} in {template['apiVersion']} can be created;"
            f" spec.channelTemplate may name {BACKING_KINDS} of messaging.knative.dev",
        )
        set_fault_status(request, rules.CONDITIONS, rules.CHANNELS_READY, fault)
        return None
    children = _ensure_children(request, layout, kinds)
    _decide_conditions(request, layout, children)
    drained = remove_unwanted(request, layout, kinds)
    if drained is not None:
        request.conditions[DRAINED] = drained
    return children


def _ensure_children(
    request: ReconcileRequest, layout: FlowLayout, kinds: ChannelKinds
) -> FlowChildren:
    channels = {name: _ensure_channel(request, name, kinds) for name in layout.channels}
    links = {
        link.name: _ensure_link(request, layout, link, kinds) for link in reversed(layout.links)
    }
    return FlowChildren(channels=channels, links=links)


def _ensure_channel(request: ReconcileRequest, name: str, kinds: ChannelKinds) -> Child:
    """Plan that a channel exists. One that exists stays as it is: a changed template, or another
    default, is for channels that are created from now on.
    """
    flow, kind = request.resource, kinds[name]
    found = owned_channel(request.observed, flow, name)
    if found is None:
        problem = ensure_object(request, wanted_channel(flow, name, kind))
        condition = condition_of_problem(problem) if problem else unknown()
    elif found.deleting:
        condition = _being_deleted(request, found)
    else:
        condition = readiness_of(request, found)
    return Child(kind=kind, name=name, object=found, condition=condition)


def _ensure_link(
    request: ReconcileRequest, layout: FlowLayout, link: Link, kinds: ChannelKinds
) -> Child:
    """Plan that a Subscription is as wanted, once what it leads to is read."""
    found = owned_subscription(request.observed, request.resource, link.name)
    wanted = wanted_subscription(layout, link, kinds)
    if found is not None and found.deleting:
        condition = _being_deleted(request, found)
    elif found is None and (missing := _without_address(request, link)):
        condition = unknown("ChannelNotReady", f"channel {missing} has no address yet")
    elif not _may_lead_on(request, layout, link, found, wanted):
        text = f"Subscription {link.name} waits until channel {link.next} is read"
        condition = unknown("NextChannelNotRead", text)
        request.draft.wait(text)
    else:
        problem = ensure_object(request, wanted)
        if problem:
            condition = condition_of_problem(problem)
        elif found is None or not is_as_wanted(request.resource, wanted, found):
            condition = unknown("ChildBeingChanged", f"Subscription {link.name} is being changed")
        else:
            condition = readiness_of(request, found)
    return Child(kind=SUBSCRIPTION, name=link.name, object=found, condition=condition)


def _without_address(request: ReconcileRequest, link: Link) -> str:
    """A channel of the Subscription that has no address yet, empty if all have one. Created before,
    it would not be Ready for that reason, as if something were wrong.
    """
    for name in (link.channel, link.next):
        channel = owned_channel(request.observed, request.resource, name) if name else None
        if name and (channel is None or not channel.status.get("address")):
            return name
    return ""


def _being_deleted(request: ReconcileRequest, child: Resource) -> Condition:
    text = f"{child.kind.kind} {child.name} is being deleted, and then created again"
    request.draft.wait(text)
    return unknown("ChildBeingDeleted", text)


def _may_lead_on(
    request: ReconcileRequest,
    layout: FlowLayout,
    link: Link,
    found: Resource | None,
    wanted: Resource,
) -> bool:
    """Whether events that pass this Subscription are read where they go.

    It makes no difference before the address is shown, when there are no events, and for one that
    leads there already.
    """
    if link.next is None or not request.resource.status.get("address"):
        return True
    if found is not None and _target(found, link) == _target(wanted, link):
        return True
    return _is_read(request, layout, link.next)


def _target(subscription: Resource, link: Link) -> Any:
    return subscription.spec.get("reply" if link.subscriber else "subscriber")


def _is_read(request: ReconcileRequest, layout: FlowLayout, channel: str) -> bool:
    """Whether every Subscription of this channel, and of those behind it, has a position."""
    return all(
        _has_position(request, link.name)
        and (link.next is None or _is_read(request, layout, link.next))
        for link in layout.readers(channel)
    )


def _has_position(request: ReconcileRequest, name: str) -> bool:
    """Whether a Subscription gets every event from now on. It need not be Ready for that: its
    subscriber may be this flow, or one that waits for it.
    """
    found = owned_subscription(request.observed, request.resource, name)
    if found is None or found.deleting:
        return False
    ownership = request.observed.ownership_records.get(found.uid)
    return bool(ownership and ownership.source) or is_true(found.status, ADDED_TO_CHANNEL)


def _decide_conditions(
    request: ReconcileRequest, layout: FlowLayout, children: FlowChildren
) -> None:
    conditions = request.conditions
    conditions[EVENT_POLICIES_READY] = EVENT_POLICIES_DISABLED
    channels = [children.channels[name] for name in layout.channels]
    conditions[rules.CHANNELS_READY] = _all_ready("Channels", channels)
    links = [children.links[link.name] for link in layout.links]
    conditions[rules.SUBSCRIPTIONS_READY] = _all_ready("Subscriptions", links)
    ingress = channels[0].object
    address = ingress.status.get("address") if ingress is not None else None
    if not address:
        conditions[ADDRESSABLE] = unknown("emptyAddress", "addressable is nil")
    elif request.resource.status.get("address") or _is_read(request, layout, layout.channels[0]):
        conditions[ADDRESSABLE] = happy("")
        request.status["address"] = address
    else:
        text = "the address is shown when every channel is read by its Subscriptions"
        conditions[ADDRESSABLE] = unknown("emptyAddress", text)
        request.draft.wait(text)


def _all_ready(what: str, children: Sequence[Child]) -> Condition:
    """True when all are; else Knative's reason and message, and the first one that is not ready."""
    unready = [each for each in children if each.condition.status is not ConditionStatus.TRUE]
    if not unready:
        return happy("")
    unready.sort(key=lambda each: each.condition.status is not ConditionStatus.FALSE)
    worst = unready[0]
    text = f"{what} are not ready yet, or there are none: {worst.kind.kind} {worst.name}"
    detail = worst.condition.message or worst.condition.reason
    return Condition(
        worst.condition.status, f"{what}NotReady", f"{text}: {detail}" if detail else text
    )
