"""Subscription: a subscription to a channel, without a filter, with the channel's delivery
defaults. What every subscription needs is in `subscription_steps`.
"""

from collections.abc import Iterator

from headrace.domain.backend_name import KAFKA, backend_of
from headrace.domain.routing import Destination, Format, Reply
from headrace.resources import subscription as rules
from headrace.resources.condition_types import ADDED_TO_CHANNEL, OIDC_IDENTITY_CREATED
from headrace.resources.conditions import (
    Condition,
    unknown,
)
from headrace.resources.delivery_annotations import has_breaker, order_of
from headrace.resources.kinds import SUBSCRIPTION
from headrace.resources.naming import subscription_group
from headrace.resources.resource import Reference, Resource
from headrace_controller.reconcile.backend import Progress
from headrace_controller.reconcile.channel_lookup import BACKENDS, channel_of, named_channel
from headrace_controller.reconcile.finalization import finalize
from headrace_controller.reconcile.foreign_channels import (
    definitions,
    foreign_kind,
    is_foreign,
)
from headrace_controller.reconcile.foreign_subscriptions import (
    decide_foreign,
    no_channel,
    remove_subscriber,
)
from headrace_controller.reconcile.references import dead_letter_sink_of, named, ref_of
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    DEAD_LETTER_SINK,
    OIDC_DISABLED,
    REPLY,
    SUBSCRIBER,
    live_addressable,
    set_fault_status,
    set_invalid_status,
    set_status,
)
from headrace_controller.reconcile.subscription_steps import (
    SubscriptionSpec,
    reconcile_subscription,
    remove_route_to_lost_topic,
)
from headrace_controller.reconcile.subscription_targets import (
    Targets,
    channel_readiness,
    delivery_of,
)


def decide(request: ReconcileRequest) -> None:
    """Plan what a Subscription needs next, and its status. An invalid one is left as it was, and
    its status says why.
    """
    observed, subscription = request.observed, request.resource
    if set_invalid_status(request, rules.CONDITIONS, rules.REFERENCES_RESOLVED):
        remove_route_to_lost_topic(request)
        return
    request.conditions[OIDC_IDENTITY_CREATED] = OIDC_DISABLED
    if is_foreign(observed, subscription):
        decide_foreign(request)
        return
    channel = _live_channel(request)
    if channel is not None and channel.uid in observed.validation_errors:
        # The delivery settings of an invalid channel must not change how events are delivered.
        fault = request.conditions[rules.CHANNEL_READY]
        set_fault_status(request, rules.CONDITIONS, rules.CHANNEL_READY, fault)
        return
    reference = subscription.spec["channel"]
    targets = Targets(request, _missing(request) if channel is None else None)
    reply = targets.resolve(REPLY, subscription.spec.get("reply"))
    subscriber = targets.resolve(SUBSCRIBER, subscription.spec.get("subscriber"))
    answers = rules.is_given(subscription.spec.get("subscriber"))
    delivery, sink = delivery_of(subscription, channel)
    backend = _backend_of(channel)
    dead_letter_sink = targets.resolve(DEAD_LETTER_SINK, sink)
    request.conditions[rules.REFERENCES_RESOLVED] = targets.condition()
    request.status["physicalSubscription"] = targets.fields
    reconcile_subscription(
        request,
        SubscriptionSpec(
            group=None
            if channel is None
            else subscription_group(
                subscription.namespace, reference["name"], subscription.uid, backend
            ),
            addressable_kind=channel.kind.kind if channel is not None else reference["kind"],
            addressable=channel,
            subscriber=subscriber if answers else _forwarded(request, reply),
            reply=_reply(request, reply, backend) if answers else None,
            delivery=delivery,
            dead_letter_sink=dead_letter_sink,
            order=order_of(subscription),
            breaker=has_breaker(subscription),
            ready_condition=ADDED_TO_CHANNEL,
            resolved_conditions=(rules.REFERENCES_RESOLVED,),
        ),
    )
    set_status(request, rules.CONDITIONS, is_derived=True)


def _missing(request: ReconcileRequest) -> Condition:
    """Why there is no channel to read from."""
    reference = request.resource.spec["channel"]
    kind, name = reference["kind"], reference["name"]
    if named_channel(request.observed, request.resource) is not None:
        return unknown("ChannelNotReady", f'{kind} "{name}" has no channel to read from')
    return no_channel(f'{kind} "{name}" not found')


def _live_channel(request: ReconcileRequest) -> Resource | None:
    """The channel, unless it or the Channel that it backs is being deleted; and condition
    ChannelReady.
    """
    named_one = named_channel(request.observed, request.resource)
    channel = channel_of(request.observed, request.resource)
    return live_addressable(
        request,
        rules.CHANNEL_READY,
        None if named_one is None or named_one.deleting else channel,
        missing=unknown("ChannelNotReady", "there is no channel to read from"),
        readiness=channel_readiness,
    )


def _backend_of(channel: Resource | None) -> str:
    """The backend of the channel that is read."""
    return BACKENDS[channel.kind] if channel is not None else KAFKA


def _reply(
    request: ReconcileRequest, destination: Destination | None, backend: str
) -> Reply | None:
    """Replies to an addressable of the same backend are appended to its topic as they are, others
    are posted.
    """
    if destination is None:
        return None
    addressable = request.observed.addressable_at(destination.url)
    if (
        addressable is not None
        and backend_of(addressable.topic) == backend
        and addressable.format is Format.BINARY
    ):
        return Reply(topic=addressable.topic)
    return Reply(url=destination.url, ca_certs=destination.ca_certs, audience=destination.audience)


def _forwarded(request: ReconcileRequest, destination: Destination | None) -> Destination | None:
    """Where events are posted if there is a reply and no subscriber: to the ingress directly, if
    the receiver is an addressable of this installation.
    """
    addressable = request.observed.addressable_at(destination.url) if destination else None
    if addressable is None:
        return destination
    ingress = request.observed.installation.ingress_of(backend_of(addressable.topic))
    return Destination(url=ingress + addressable.paths[0])


def finalize_subscription(request: ReconcileRequest) -> None:
    """Plan the clean-up: the entry in a channel of another controller first, then what the
    Subscription has in Kafka.
    """
    if remove_subscriber(request) is Progress.DONE:
        finalize(request)


def _references(subscription: Resource) -> Iterator[Reference]:
    yield from definitions(foreign_kind(subscription.spec.get("channel")))
    yield from named(
        subscription,
        subscription.spec.get("channel"),
        ref_of(subscription.spec.get("subscriber")),
        ref_of(subscription.spec.get("reply")),
        dead_letter_sink_of(subscription),
    )


RECONCILER = KindReconciler(
    kind=SUBSCRIPTION,
    rules=rules.RULES,
    references=_references,
    addressable=channel_of,
    decide=decide,
    finalize=finalize_subscription,
)
