"""Subscriptions to a channel that another controller serves: an entry in its `spec.subscribers`,
and Ready when its `status.subscribers` says so.

Conditions, reasons and messages are those of Knative's Subscription controller.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.routing import subscription_key
from headrace.resources import subscription as rules
from headrace.resources.channelable import fields_not_kept, subscriber_of
from headrace.resources.condition_types import ADDED_TO_CHANNEL
from headrace.resources.conditions import (
    HAPPY,
    Condition,
    ConditionStatus,
    failed,
    happy,
    unknown,
)
from headrace.resources.destination import Unresolved
from headrace.resources.destination import validate as validate_destination
from headrace.resources.kinds import CHANNEL
from headrace.resources.resource import Resource
from headrace_controller.reconcile.backend import Progress
from headrace_controller.reconcile.channel_lookup import SERVED_KINDS, named_channel
from headrace_controller.reconcile.foreign_channels import (
    LABELLED,
    NotAChannel,
    NotReadYet,
    foreign_channel_of,
    is_foreign,
)
from headrace_controller.reconcile.objects import subscriber_name
from headrace_controller.reconcile.observed_state import FINALIZER
from headrace_controller.reconcile.plan import (
    AddFinalizer,
    PutSubscriber,
    RemoveRoute,
    RemoveSubscriber,
)
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.statuses import (
    DEAD_LETTER_SINK,
    REPLY,
    SUBSCRIBER,
    live_addressable,
    set_fault_status,
    set_status,
)
from headrace_controller.reconcile.subscription_targets import Targets, channel_readiness

_NOT_MARKED = "SubscriptionNotMarkedReadyByChannel"
_ESSENTIAL = ("uid", "generation", "subscriberUri", "replyUri")
"""Without these fields of its entry a Subscription does not work."""


def decide_foreign(request: ReconcileRequest) -> None:
    """Plan the entry of a valid Subscription, and its status."""
    subscription = request.resource
    try:
        channel, problem = _find(request)
    except NotReadYet as error:
        request.draft.wait(str(error))
        return
    except Unresolved as error:
        # The channel may deliver all the same: what is known of it stays.
        fault = no_channel(str(error))
        set_fault_status(request, rules.CONDITIONS, rules.REFERENCES_RESOLVED, fault)
        return
    channel = live_addressable(
        request,
        rules.CHANNEL_READY,
        channel,
        missing=unknown("ChannelNotReady", "there is no channel to read from"),
        readiness=lambda found: _readiness(found, subscription),
    )
    targets = Targets(request, problem)
    targets.resolve(REPLY, subscription.spec.get("reply"))
    targets.resolve(SUBSCRIBER, subscription.spec.get("subscriber"))
    block = _delivery_block(subscription, channel)
    targets.resolve(DEAD_LETTER_SINK, block.get("deadLetterSink"))
    resolved = targets.condition()
    request.conditions[rules.REFERENCES_RESOLVED] = resolved
    request.status["physicalSubscription"] = targets.fields
    _stop_reading(request)
    if channel is None:
        added = unknown("NotSubscribed", "there is no channel to read from")
    elif resolved.status is not ConditionStatus.TRUE:
        added = unknown("NotSubscribed", "not all destinations are resolved")
    else:
        added = _ensure_entry(request, channel, _entry(subscription, targets.fields, block))
    request.conditions[ADDED_TO_CHANNEL] = added
    set_status(request, rules.CONDITIONS)


def remove_subscriber(request: ReconcileRequest) -> Progress:
    """Plan that the entry of a Subscription that is being deleted is removed; done once its channel
    does not have it, or does not exist.
    """
    observed, subscription = request.observed, request.resource
    if not is_foreign(observed, subscription):
        return Progress.DONE
    try:
        channel = foreign_channel_of(observed, subscription)
    except NotAChannel:
        return Progress.DONE
    except Unresolved as error:
        request.draft.wait(str(error))
        return Progress.PENDING
    if channel is None or subscriber_of(channel.spec, subscription.uid) is None:
        return Progress.DONE
    request.draft.add(RemoveSubscriber(channel, subscription.uid))
    request.draft.wait(subscriber_name(channel, subscription.uid))
    return Progress.PENDING


def no_channel(text: str) -> Condition:
    """The condition ReferencesResolved of a Subscription whose channel cannot be found."""
    return failed(
        "ChannelReferenceFailed", f"Failed to get Spec.Channel or backing channel: {text}"
    )


def _find(request: ReconcileRequest) -> tuple[Resource | None, Condition | None]:
    """The channel, or why there is none. Raises Unresolved if that cannot be said."""
    try:
        channel = foreign_channel_of(request.observed, request.resource)
    except NotAChannel as error:
        kinds = f"{SERVED_KINDS} of {CHANNEL.group}, and {LABELLED}"
        return None, no_channel(f"{error}; these are: {kinds}")
    if channel is not None:
        return channel, None
    reference = request.resource.spec["channel"]
    named = f'{reference["kind"]} "{reference["name"]}"'
    if named_channel(request.observed, request.resource) is not None:
        return None, unknown("ChannelNotReady", f"{named} has no channel to read from")
    return None, no_channel(f"{named} not found")


def _readiness(channel: Resource, subscription: Resource) -> Condition:
    """Condition ChannelReady: what the channel says of itself, then of this Subscription."""
    ready = channel_readiness(channel)
    if ready.status is not ConditionStatus.TRUE:
        return ready
    found = subscriber_of(channel.status, subscription.uid)
    if found is None or found.get("observedGeneration") != subscription.generation:
        return unknown(
            _NOT_MARKED,
            f'Failed to get subscription status: subscription "{subscription.name}" not present in'
            f' channel "{channel.name}" subscriber\'s list',
        )
    status = found.get("ready")
    if status == ConditionStatus.TRUE:
        return HAPPY
    shown = ConditionStatus.FALSE if status == ConditionStatus.FALSE else ConditionStatus.UNKNOWN
    text = f"Subscription marked by Channel as {shown}"
    message = f"{text}: {found['message']}" if found.get("message") else text
    return Condition(shown, _NOT_MARKED, message)


def _delivery_block(subscription: Resource, channel: Resource | None) -> Mapping[str, Any]:
    """The Subscription's own `delivery`, else the channel's; with the dead letter sink of the
    former, else of the latter. The channel was not validated by this controller.
    """
    own = subscription.spec.get("delivery")
    given = channel.spec.get("delivery") if channel is not None else None
    default = given if isinstance(given, Mapping) else {}
    block = dict(own if isinstance(own, Mapping) else default)
    sink = default.get("deadLetterSink")
    if "deadLetterSink" not in block and sink:
        block["deadLetterSink"] = sink
    if validate_destination(block.get("deadLetterSink"), ""):
        block.pop("deadLetterSink", None)
    return block


def _entry(
    subscription: Resource, resolved: Mapping[str, str], block: Mapping[str, Any]
) -> dict[str, Any]:
    """The entry of `spec.subscribers`. Destinations are given as the URLs they resolve to."""
    sink = {
        name: resolved[f"{DEAD_LETTER_SINK}{field}"]
        for name, field in (("uri", "Uri"), ("CACerts", "CACerts"), ("audience", "Audience"))
        if f"{DEAD_LETTER_SINK}{field}" in resolved
    }
    delivery = {name: value for name, value in block.items() if name != DEAD_LETTER_SINK}
    if sink:
        delivery[DEAD_LETTER_SINK] = sink
    entry = {
        "name": subscription.name,
        "uid": subscription.uid,
        "generation": subscription.generation,
        **{
            name: value for name, value in resolved.items() if not name.startswith(DEAD_LETTER_SINK)
        },
    }
    return entry | ({"delivery": delivery} if delivery else {})


def _ensure_entry(
    request: ReconcileRequest, channel: Resource, entry: Mapping[str, Any]
) -> Condition:
    """Plan the finalizer, then the entry. Returns the condition AddedToChannel."""
    subscription = request.resource
    if FINALIZER not in subscription.finalizers:
        request.draft.add(AddFinalizer(subscription))
        return unknown("NotSubscribed", "the entry in the channel is being written")
    missing = fields_not_kept(entry, subscriber_of(channel.spec, subscription.uid))
    if not missing:
        return HAPPY
    request.draft.add(PutSubscriber(channel, subscription.uid, entry))
    failure = request.observed.failed_steps.get(subscriber_name(channel, subscription.uid))
    if failure is None:
        return unknown("NotSubscribed", "the entry in the channel is being written")
    if not set(missing).intersection(_ESSENTIAL):
        return happy("FieldsNotKept", failure.message)
    return failed(
        "PhysicalChannelSyncFailed", f"Failed to sync physical Channel: {failure.message}"
    )


def _stop_reading(request: ReconcileRequest) -> None:
    """The Subscription may have read a channel of this controller before, under the same name."""
    key = subscription_key(request.resource.uid)
    if key in request.observed.routes:
        request.draft.add(RemoveRoute(key))
