"""What every subscription needs: a place for retries and dead letters, a position in an
addressable's channel, a record in the routing table; and only then Ready.

The order is what makes Ready true: an event that is accepted after Ready is behind the position of
the subscription, in a channel that every live dispatcher was notified to read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain.backend_name import IN_MEMORY, JETSTREAM, KAFKA, backend_of
from headrace.domain.filters import validate as validate_filters
from headrace.domain.routing import (
    DeliveryOrder,
    Destination,
    Format,
    Reply,
    Subscription,
    route_key,
    subscription_key,
)
from headrace.resources import delivery_spec
from headrace.resources.broker_config import BYTES_MAX
from headrace.resources.condition_types import (
    DEAD_LETTER_SINK_RESOLVED,
    DELIVERY_HEALTHY,
    SUBSCRIBER_RESOLVED,
    SUBSCRIPTION_READY,
)
from headrace.resources.conditions import ConditionStatus, happy
from headrace.resources.ownership_record import OwnershipRecord, TopicRole
from headrace.resources.resource import Resource
from headrace_controller.reconcile.backend import ObservedChannel
from headrace_controller.reconcile.delivery_health import health_condition
from headrace_controller.reconcile.observed_state import DISPATCHER, FINALIZER
from headrace_controller.reconcile.plan import (
    AddFinalizer,
    PutRoute,
    ReconcileProblem,
    RemoveRoute,
    SaveOwnershipRecord,
)
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.registry_settings import auto_creates
from headrace_controller.reconcile.statuses import (
    UNSUPPORTED_SCHEME,
    condition_of_problem,
    was_ready,
)

_NO_DISPATCHER = {
    KAFKA: "no dispatcher process is alive; start one (headrace dispatcher)",
    IN_MEMORY: "no process that serves in-memory channels is alive; start one (headrace in-memory)",
    JETSTREAM: "no dispatcher process that is connected to NATS is alive; set HEADRACE_NATS_SERVERS"
    " for the dispatcher",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSpec:
    """What one subscription asks for."""

    group: str | None
    """The consumer group name it prefers; another owner's name is not taken. None while it is not
    known in which backend the addressable is.
    """
    addressable_kind: str
    addressable: Resource | None
    """The addressable it reads from; None if there is none, or if it is being deleted."""
    addressable_bytes_max: int = BYTES_MAX
    """The largest record of the addressable's channel, if the backend does not report it."""
    subscriber: Destination | None
    """None while it cannot be resolved."""
    delivery: delivery_spec.DeliverySpec
    dead_letter_sink: Destination | None = None
    reply: Reply | None = None
    """Where the subscriber's replies go; None: they are discarded."""
    replies_to_channel: bool = False
    """Whether they are appended to the addressable's channel instead."""
    filters: tuple[Mapping[str, Any], ...] = ()
    order: DeliveryOrder = DeliveryOrder.UNORDERED
    breaker: bool = True
    ready_condition: str = SUBSCRIPTION_READY
    """The condition that says whether everything is set up."""
    resolved_conditions: tuple[str, ...] = (SUBSCRIBER_RESOLVED, DEAD_LETTER_SINK_RESOLVED)
    """The conditions of the destinations, which must be True."""


def reconcile_subscription(request: ReconcileRequest, spec: SubscriptionSpec) -> None:
    """Plan the next steps, and decide the ready condition and DeliveryHealthy.

    The conditions of the destinations must have been decided before.
    """
    resource, ownership = request.resource, request.ownership
    if FINALIZER not in resource.finalizers:
        request.draft.add(AddFinalizer(resource))
    elif ownership is None and spec.group is None:
        request.conditions[spec.ready_condition] = condition_of_problem(_nothing_to_read(spec))
    elif ownership is None:
        claimed = request.backend.claim_subscription(resource, request.names, group=str(spec.group))
        request.draft.add(SaveOwnershipRecord(claimed))
    else:
        request.status["annotations"] = {"group.id": ownership.group}
        problem = _ensure_subscription(request, spec, ownership)
        request.conditions[spec.ready_condition] = (
            condition_of_problem(problem) if problem else happy("")
        )
        if problem is None:
            state = request.observed.state_of(resource.uid)
            request.conditions[DELIVERY_HEALTHY] = health_condition(
                state,
                resource,
                spec.addressable_kind,
                _unsupported(request, spec),
                backend=backend_of(ownership.group),
            )


def remove_route_to_lost_topic(request: ReconcileRequest) -> None:
    """Stop a subscription whose spec has become invalid, if its addressable is deleted, and the
    channel with it.
    """
    observed, key = request.observed, subscription_key(request.resource.uid)
    route = observed.routes.get(key)
    if not isinstance(route, Subscription):
        return
    alive = (
        observed.ownership_records.get(each.uid) for each in observed.all() if not each.deleting
    )
    channels = (ownership.topic(TopicRole.CHANNEL) for ownership in alive if ownership)
    if all(channel is None or channel.name != route.topic for channel in channels):
        request.draft.add(RemoveRoute(key))


def _ensure_subscription(
    request: ReconcileRequest, spec: SubscriptionSpec, ownership: OwnershipRecord
) -> ReconcileProblem | None:
    """Plan everything in its order; what prevents the subscription from being ready."""
    key = subscription_key(request.resource.uid)
    if spec.addressable is None:
        # The dispatcher must stop reading before the topic can be deleted.
        if key in request.observed.routes:
            request.draft.add(RemoveRoute(key))
        return _nothing_to_read(spec)
    present, wanted = backend_of(ownership.group), backend_of(spec.group or ownership.group)
    if present != wanted:
        # Its retries and dead letters are in the other backend.
        return ReconcileProblem(
            "OtherBackend",
            f"the {spec.addressable_kind} is in the backend {wanted} now, and was in {present} when"
            f" this {request.resource.kind.kind} was created; delete it and create it again",
        )
    backend, observed, draft = request.backend, request.observed, request.draft
    channel = backend.channel_of(observed, observed.ownership_records.get(spec.addressable.uid))
    if channel is None:
        return ReconcileProblem(
            "TopicNotReady",
            f"the topic of {spec.addressable_kind} {spec.addressable.name} is not ready",
            waiting=True,
        )
    problem = backend.ensure_subscription(
        observed,
        request.resource,
        ownership,
        draft,
        record_bytes_max=channel.bytes_max or spec.addressable_bytes_max,
    )
    if problem is not None:
        return problem
    if backend.reads_other_channel(ownership, channel):
        return _leave_replaced_channel(request, spec, ownership)
    problem = backend.ensure_subscription_start(
        observed, request.resource, ownership, channel, draft
    )
    if problem is not None:
        return problem
    if spec.subscriber is None or not _is_resolved(request, spec):
        return ReconcileProblem(
            "SubscriptionNotConfigured",
            "the subscriber or the dead letter sink is not resolved",
            waiting=True,
        )
    return _ensure_route(request, _route(request, spec, ownership, spec.subscriber, channel))


def _nothing_to_read(spec: SubscriptionSpec) -> ReconcileProblem:
    """Unknown, because the condition of the addressable is the one that failed: of two False
    conditions the later one would show in Ready.
    """
    return ReconcileProblem(
        "NotSubscribed", f"there is no {spec.addressable_kind} to read from", waiting=True
    )


def _is_resolved(request: ReconcileRequest, spec: SubscriptionSpec) -> bool:
    return all(
        request.conditions[name].status is ConditionStatus.TRUE for name in spec.resolved_conditions
    )


def _unsupported(request: ReconcileRequest, spec: SubscriptionSpec) -> str:
    resolved = (request.conditions[name] for name in spec.resolved_conditions)
    return "; ".join(each.message for each in resolved if each.reason == UNSUPPORTED_SCHEME)


def _leave_replaced_channel(
    request: ReconcileRequest, spec: SubscriptionSpec, ownership: OwnershipRecord
) -> ReconcileProblem:
    """The addressable has another channel than before: stop, drop the old position, start as a new
    subscription does.
    """
    observed, key = request.observed, subscription_key(request.resource.uid)
    problem = ReconcileProblem(
        "NotSubscribed",
        f"the topic of the {spec.addressable_kind} was replaced; the subscription starts again in"
        " the new one",
        waiting=True,
    )
    request.draft.wait(problem.message)
    if key in observed.routes:
        request.draft.add(RemoveRoute(key))
    elif observed.applied(key) and not observed.state_of(request.resource.uid).draining:
        request.backend.forget_position(observed, ownership, request.draft)
    return problem


def _route(
    request: ReconcileRequest,
    spec: SubscriptionSpec,
    ownership: OwnershipRecord,
    subscriber: Destination,
    channel: ObservedChannel,
) -> Subscription:
    resource = request.resource
    return Subscription(
        uid=resource.uid,
        generation=resource.generation,
        epoch=request.observed.epoch,
        namespace=resource.namespace,
        name=resource.name,
        kind=resource.kind.kind,
        topic=channel.topic,
        group=ownership.group,
        retry_topic=ownership.required_topic(TopicRole.RETRY).name,
        dead_topic=ownership.required_topic(TopicRole.DEAD).name,
        subscriber=subscriber,
        filters=spec.filters,
        reply=Reply(topic=channel.topic) if spec.replies_to_channel else spec.reply,
        delivery=delivery_spec.merge(spec.delivery, None),
        dead_letter_sink=spec.dead_letter_sink,
        order=spec.order,
        format=Format(spec.delivery.format) if spec.delivery.format else Format.BINARY,
        breaker=spec.breaker,
        event_types=spec.addressable is not None
        and auto_creates(request.observed, spec.addressable),
        retention_seconds=channel.retention_seconds,
    )


def _ensure_route(request: ReconcileRequest, route: Subscription) -> ReconcileProblem | None:
    observed, resource = request.observed, request.resource
    wrong = validate_filters(list(route.filters), "spec.filters")
    if wrong:
        # The data plane keeps the last good record: a filter that it cannot compile must not stop
        # a running subscription.
        return ReconcileProblem("FilterInvalid", "; ".join(error.headline for error in wrong))
    key = route_key(route)
    if observed.routes.get(key) != route:
        request.draft.add(PutRoute(route))
        if not was_ready(resource):
            return ReconcileProblem(
                "RoutingRecordPending", "the routing record is being written", waiting=True
            )
    backend = backend_of(route.topic)
    if not observed.serves(DISPATCHER, backend):
        what = f"{resource.kind.kind} {resource.namespace}/{resource.name}"
        request.draft.wait(f"a dispatcher process for {what}")
        return ReconcileProblem("NoDispatcher", _NO_DISPATCHER[backend])
    if not observed.applied(key) and not was_ready(resource):
        request.draft.wait(f"all processes to read {key}")
        return ReconcileProblem(
            "RoutingRecordNotApplied",
            "not every live process has read the routing record yet",
            waiting=True,
        )
    return None
