"""Removes the children that a flow no longer wants, when steps or branches go, without losing an
event that is in them.

A child goes when nothing writes to it any longer and it has nothing left. So the order is: the
Subscriptions that stay have changed and every process has seen that; requests that were sent before
have ended, with their replies; the first Subscription that goes has delivered what was in its
channel, retries included; it is deleted, then its channel, then the next one in the same way.
"""

from collections.abc import Iterator

from headrace.resources.conditions import READY, Condition, failed, is_true
from headrace.resources.resource import Resource
from headrace_controller.reconcile.channel_lookup import owned_channel
from headrace_controller.reconcile.flow_layout import (
    ChannelKinds,
    FlowLayout,
    is_as_wanted,
    kinds_of_channels,
    owned_subscription,
    wanted_subscription,
)
from headrace_controller.reconcile.objects import remove_object
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.registry import ReconcileRequest

DRAINED = "Drained"
"""Headrace-specific informational condition, there while steps or branches that were removed still
have events. Does not affect Ready.
"""


def drained_subscriptions(observed: ObservedState, layout: FlowLayout) -> Iterator[Resource]:
    """The Subscriptions to which nothing is written any longer and which go next."""
    flow = layout.flow
    kinds = kinds_of_channels(observed, layout)
    if flow.deleting or flow.uid in observed.validation_errors or kinds is None:
        return
    going = [found for names in layout.removed if (found := _first(observed, flow, names))]
    if going and _in_effect(observed, layout, kinds):
        yield from (each for each in going if not each.deleting)


def _first(observed: ObservedState, flow: Resource, names: tuple[str, ...]) -> Resource | None:
    found = (owned_subscription(observed, flow, name) for name in names)
    return next((each for each in found if each is not None), None)


def remove_unwanted(
    request: ReconcileRequest, layout: FlowLayout, kinds: ChannelKinds
) -> Condition | None:
    """Plan the removal of what can go; condition Drained, None if nothing has to go."""
    texts = [
        text for names in layout.removed if (text := _remove_group(request, layout, names, kinds))
    ]
    return failed("BeingRemoved", "; ".join(texts)) if texts else None


def _remove_group(
    request: ReconcileRequest, layout: FlowLayout, names: tuple[str, ...], kinds: ChannelKinds
) -> str:
    """Plan the removal of the first child that is there; what is waited for, empty if none is."""
    observed, flow = request.observed, layout.flow
    for name in names:
        subscription = owned_subscription(observed, flow, name)
        channel = owned_channel(observed, flow, name)
        child = subscription or channel
        if child is None:
            continue
        shown = f"{child.kind.kind} {name}"
        if not child.deleting:
            if not _in_effect(observed, layout, kinds):
                return f"{shown} stays until the changes of the other Subscriptions are in effect"
            if subscription is not None and (left := _left(request, subscription)):
                request.draft.wait(left)
                return f"{shown} stays until its events are delivered: {left}"
        remove_object(request, child)
        return f"{shown} is being deleted"
    return ""


def _left(request: ReconcileRequest, subscription: Resource) -> str:
    ownership = request.observed.ownership_records.get(subscription.uid)
    if ownership is None:
        return ""
    problem = request.backend.remaining_events(request.observed, ownership)
    return problem.message if problem else ""


def _in_effect(observed: ObservedState, layout: FlowLayout, kinds: ChannelKinds) -> bool:
    """Whether the Subscriptions that stay are as wanted in every process, and no request that was
    sent before is under way.
    """
    for link in layout.links:
        found = owned_subscription(observed, layout.flow, link.name)
        if (
            found is None
            or found.deleting
            or not is_as_wanted(layout.flow, wanted_subscription(layout, link, kinds), found)
            or found.status.get("observedGeneration") != found.generation
            or not is_true(found.status, READY)
            or observed.state_of(found.uid).changing
        ):
            return False
    return True
