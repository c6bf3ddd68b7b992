"""What every subscription needs: a group with start offsets, retry and dead letter topics, a record
in the routing table; and only then Ready.

The order is what makes Ready true: an event that is accepted after Ready is at an offset that the
group has not passed, in a topic that every live dispatcher was notified to read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

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
from headrace.resources.control_ports import GroupState, TopicDescription
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole
from headrace.resources.resource import Resource
from headrace_controller.reconcile.addressable import (
    retention_seconds,
    topic_bytes_max,
    usable_topic,
)
from headrace_controller.reconcile.delivery_health import health_condition
from headrace_controller.reconcile.group_queries import GroupQueries
from headrace_controller.reconcile.observed_state import (
    DISPATCHER,
    FINALIZER,
    OFFSETS_ANNOTATION,
    ObservedState,
)
from headrace_controller.reconcile.plan import (
    AddFinalizer,
    CommitInitialOffsets,
    DeleteGroup,
    PutRoute,
    RemoveRoute,
    SaveOwnershipRecord,
)
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.statuses import (
    UNSUPPORTED_SCHEME,
    condition_of_problem,
    was_ready,
)
from headrace_controller.reconcile.topic_specs import retry_or_dead_letter_topic_spec
from headrace_controller.reconcile.topics import ReconcileProblem, assess_topic, topic_permissions

OFFSETS_LOST = "OffsetsLost"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSpec:
    """What one subscription asks for."""

    group: str
    """The consumer group name it prefers; another owner's name is not taken."""
    source_kind: str
    source: Resource | None
    """The addressable it reads from; None if there is none, or if it is being deleted."""
    source_bytes_max: int = BYTES_MAX
    """The largest record of the source's topic, if Kafka does not report it."""
    subscriber: Destination | None
    """None while it cannot be resolved."""
    delivery: delivery_spec.DeliverySpec
    dead_letter_sink: Destination | None = None
    replies_to_source: bool = False
    """Whether the subscriber's replies are appended to the source's topic."""
    filters: tuple[Mapping[str, Any], ...] = ()
    order: DeliveryOrder = DeliveryOrder.UNORDERED
    breaker: bool = True


def reconcile_subscription(request: ReconcileRequest, spec: SubscriptionSpec) -> None:
    """Plan the next steps, and decide the conditions SubscriptionReady and DeliveryHealthy.

    The conditions of the destinations must have been decided before.
    """
    resource, ownership = request.resource, request.ownership
    if FINALIZER not in resource.finalizers:
        request.draft.add(AddFinalizer(resource))
    elif ownership is None:
        request.draft.add(SaveOwnershipRecord(_new_ownership_record(request, spec)))
    else:
        request.status["annotations"] = {"group.id": ownership.group}
        problem = _ensure_subscription(request, spec, ownership)
        request.conditions[SUBSCRIPTION_READY] = (
            condition_of_problem(problem) if problem else happy("")
        )
        if problem is None:
            state = request.observed.state_of(resource.uid)
            request.conditions[DELIVERY_HEALTHY] = health_condition(
                state, resource, spec.source_kind, _unsupported(request)
            )


def remove_route_to_lost_topic(request: ReconcileRequest) -> None:
    """Stop a subscription whose spec has become invalid, if its source is deleted: its topic is
    deleted with it.
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


def add_group_queries(
    observed: ObservedState,
    resource: Resource,
    source: Resource | None,
    queries: GroupQueries,
    verify: bool,
) -> None:
    """Query the group of a subscription where the next decision depends on it; its committed
    offsets too if `verify` says so, or while they are known to be lost.
    """
    held = observed.ownership_records.get(resource.uid)
    channel = observed.ownership_records.get(source.uid) if source and not source.deleting else None
    topic = channel.topic(TopicRole.CHANNEL) if channel else None
    facts = observed.topics.get(topic.name) if topic else None
    if held is None or topic is None or facts is None or not held.group or resource.deleting:
        return
    if not held.source:
        queries.committed[held.group] = topic.name
    elif held.source != _source_of(topic, facts):
        queries.states.add(held.group)
    elif verify or _has_lost_offsets(resource) or held.started < facts.partitions:
        queries.committed[held.group] = topic.name
        queries.states.add(held.group)


def _has_lost_offsets(resource: Resource) -> bool:
    conditions = resource.status.get("conditions")
    return isinstance(conditions, list) and any(
        isinstance(each, Mapping) and each.get("reason") == OFFSETS_LOST for each in conditions
    )


def _source_of(topic: OwnedTopic, facts: TopicDescription) -> str:
    return f"{topic.name}@{topic.id or facts.id}"


def _new_ownership_record(request: ReconcileRequest, spec: SubscriptionSpec) -> OwnershipRecord:
    resource = request.resource
    names = request.names.allocate_group(spec.group, resource.uid)
    topics = (
        OwnedTopic(name=names.retry_topic, role=TopicRole.RETRY),
        OwnedTopic(name=names.dead_topic, role=TopicRole.DEAD),
    )
    return OwnershipRecord(
        uid=resource.uid,
        kind=resource.kind.kind,
        namespace=resource.namespace,
        name=resource.name,
        group=names.group,
        topics=topics,
    )


def _ensure_subscription(
    request: ReconcileRequest, spec: SubscriptionSpec, ownership: OwnershipRecord
) -> ReconcileProblem | None:
    """Plan everything in its order; what prevents the subscription from being ready."""
    key = subscription_key(request.resource.uid)
    if spec.source is None:
        # The dispatcher must stop reading before the topic can be deleted.
        if key in request.observed.routes:
            request.draft.add(RemoveRoute(key))
        # Unknown, because the condition of the source is the one that failed: of two False
        # conditions the later one would show in Ready.
        return ReconcileProblem(
            "NotSubscribed", f"there is no {spec.source_kind} to read from", waiting=True
        )
    channel = usable_topic(request.observed, spec.source)
    if channel is None:
        return ReconcileProblem(
            "TopicNotReady",
            f"the topic of {spec.source_kind} {spec.source.name} is not ready",
            waiting=True,
        )
    problem = _ensure_retry_and_dead_letter_topics(
        request, ownership, topic_bytes_max(channel[1], spec.source_bytes_max)
    ) or _ensure_initial_offsets(request, spec, ownership, channel)
    if problem is not None:
        return problem
    if spec.subscriber is None or not _is_resolved(request):
        return ReconcileProblem(
            "SubscriptionNotConfigured",
            "the subscriber or the dead letter sink is not resolved",
            waiting=True,
        )
    return _ensure_route(request, _route(request, spec, ownership, spec.subscriber, channel))


def _is_resolved(request: ReconcileRequest) -> bool:
    return all(
        request.conditions[name].status is ConditionStatus.TRUE
        for name in (SUBSCRIBER_RESOLVED, DEAD_LETTER_SINK_RESOLVED)
    )


def _unsupported(request: ReconcileRequest) -> str:
    resolved = (
        request.conditions[name] for name in (SUBSCRIBER_RESOLVED, DEAD_LETTER_SINK_RESOLVED)
    )
    return "; ".join(each.message for each in resolved if each.reason == UNSUPPORTED_SCHEME)


def _ensure_retry_and_dead_letter_topics(
    request: ReconcileRequest, ownership: OwnershipRecord, channel_bytes_max: int
) -> ReconcileProblem | None:
    observed, recorded, problem = request.observed, ownership, None
    for held in ownership.topics:
        if held.role not in (TopicRole.RETRY, TopicRole.DEAD):
            continue
        spec = retry_or_dead_letter_topic_spec(
            held.name, channel_bytes_max=channel_bytes_max, brokers=observed.cluster.brokers
        )
        assessment = assess_topic(observed, held, spec, topic_permissions(request.resource))
        recorded = recorded.with_topic(assessment.held)
        if assessment.step:
            request.draft.add(assessment.step)
        problem = problem or assessment.problem
    if recorded != ownership:
        request.draft.add(SaveOwnershipRecord(recorded))
        # What is recorded in this iteration is decided on in the next one.
        problem = problem or ReconcileProblem(
            "TopicCreating", "topics were created and are being recorded", waiting=True
        )
    if problem is not None and problem.waiting:
        request.draft.wait(problem.message)
    return problem


def _ensure_initial_offsets(
    request: ReconcileRequest,
    spec: SubscriptionSpec,
    ownership: OwnershipRecord,
    channel: tuple[OwnedTopic, TopicDescription],
) -> ReconcileProblem | None:
    """Start offsets of the group in the channel topic: committed once for every existing partition,
    then recorded.
    """
    observed, (held, facts) = request.observed, channel
    source = _source_of(held, facts)
    if ownership.source and ownership.source != source:
        return _detach_from_old_topic(request, spec, ownership)
    if not ownership.source:
        return _commit_initial_offsets(request, ownership, source, facts)
    committed = observed.committed.get(ownership.group)
    if committed is not None:
        lost = tuple(
            p for p in range(min(ownership.started, facts.partitions)) if p not in committed
        )
        if lost and observed.groups.get(ownership.group) in (GroupState.EMPTY, GroupState.ABSENT):
            return _restore_lost_offsets(request, ownership, facts, lost)
    if ownership.started < facts.partitions:
        _initialize_new_partitions(request, ownership, facts)
    return None


def _commit_initial_offsets(
    request: ReconcileRequest, ownership: OwnershipRecord, source: str, facts: TopicDescription
) -> ReconcileProblem:
    observed = request.observed
    committed = observed.committed.get(ownership.group)
    waiting = ReconcileProblem(
        "InitialOffsetsNotCommitted",
        f"start offsets of group {ownership.group} are being committed",
        waiting=True,
    )
    request.draft.wait(waiting.message)
    if committed is None:
        return waiting
    absent = tuple(p for p in range(facts.partitions) if p not in committed)
    if not absent:
        started = replace(ownership, source=source, started=facts.partitions)
        request.draft.add(SaveOwnershipRecord(started))
    elif observed.blocked(ownership.group) is None:
        request.draft.add(CommitInitialOffsets(ownership.group, facts.name, at_end=absent))
    rejection = observed.rejections.get(ownership.group)
    if rejection is None:
        return waiting
    return replace(
        waiting, message=f"{waiting.message}; Kafka rejected the commit: {rejection.message}"
    )


def _initialize_new_partitions(
    request: ReconcileRequest, ownership: OwnershipRecord, facts: TopicDescription
) -> None:
    """Added partitions are read from their beginning. A live group does that itself, because only
    its members can commit.
    """
    observed, draft = request.observed, request.draft
    state = observed.groups.get(ownership.group)
    committed = observed.committed.get(ownership.group)
    if state is None or committed is None:
        draft.wait(f"the state of group {ownership.group}")
        return
    absent = tuple(p for p in range(ownership.started, facts.partitions) if p not in committed)
    if absent and state is not GroupState.LIVE:
        if observed.blocked(ownership.group) is None:
            draft.add(CommitInitialOffsets(ownership.group, facts.name, at_beginning=absent))
        draft.wait(f"start offsets of group {ownership.group} in new partitions")
        return
    draft.add(SaveOwnershipRecord(replace(ownership, started=facts.partitions)))


def _restore_lost_offsets(
    request: ReconcileRequest,
    ownership: OwnershipRecord,
    facts: TopicDescription,
    lost: tuple[int, ...],
) -> ReconcileProblem:
    """Kafka has removed offsets: an annotation decides whether events are repeated or skipped."""
    match request.resource.annotations.get(OFFSETS_ANNOTATION):
        case "latest":
            step = CommitInitialOffsets(ownership.group, facts.name, at_end=lost)
            request.draft.add(step)
        case "earliest":
            step = CommitInitialOffsets(ownership.group, facts.name, at_beginning=lost)
            request.draft.add(step)
    return ReconcileProblem(
        OFFSETS_LOST,
        f"Kafka no longer has offsets of group {ownership.group} for {len(lost)} partitions of"
        f" {facts.name}; set annotation {OFFSETS_ANNOTATION}: earliest (repeat events) or latest"
        " (skip events) here",
    )


def _detach_from_old_topic(
    request: ReconcileRequest, spec: SubscriptionSpec, ownership: OwnershipRecord
) -> ReconcileProblem:
    """The source's topic is another one than before: stop, delete the old offsets, start as a new
    subscription does.
    """
    observed, key = request.observed, subscription_key(request.resource.uid)
    problem = ReconcileProblem(
        "NotSubscribed",
        f"the topic of the {spec.source_kind} was replaced; the subscription starts again in the"
        " new one",
        waiting=True,
    )
    request.draft.wait(problem.message)
    if key in observed.routes:
        request.draft.add(RemoveRoute(key))
    elif observed.applied(key):
        match observed.groups.get(ownership.group):
            case GroupState.ABSENT:
                request.draft.add(SaveOwnershipRecord(replace(ownership, source="", started=0)))
            case GroupState.EMPTY if observed.blocked(ownership.group) is None:
                request.draft.add(DeleteGroup(ownership.group))
    return problem


def _route(
    request: ReconcileRequest,
    spec: SubscriptionSpec,
    ownership: OwnershipRecord,
    subscriber: Destination,
    channel: tuple[OwnedTopic, TopicDescription],
) -> Subscription:
    resource, (held, facts) = request.resource, channel
    return Subscription(
        uid=resource.uid,
        generation=resource.generation,
        epoch=request.observed.epoch,
        namespace=resource.namespace,
        name=resource.name,
        kind=resource.kind.kind,
        topic=held.name,
        group=ownership.group,
        retry_topic=ownership.required_topic(TopicRole.RETRY).name,
        dead_topic=ownership.required_topic(TopicRole.DEAD).name,
        subscriber=subscriber,
        filters=spec.filters,
        reply=Reply(topic=held.name) if spec.replies_to_source else None,
        delivery=delivery_spec.merge(spec.delivery, None),
        dead_letter_sink=spec.dead_letter_sink,
        order=spec.order,
        format=Format(spec.delivery.format) if spec.delivery.format else Format.BINARY,
        breaker=spec.breaker,
        event_types=request.observed.system.features.eventtype_auto_create,
        retention_seconds=retention_seconds(facts),
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
    if not observed.serves(DISPATCHER):
        what = f"{resource.kind.kind} {resource.namespace}/{resource.name}"
        request.draft.wait(f"a dispatcher process for {what}")
        return ReconcileProblem(
            "NoDispatcher", "no dispatcher process is alive; start one (headrace dispatcher)"
        )
    if not observed.applied(key) and not was_ready(resource):
        request.draft.wait(f"all processes to read {key}")
        return ReconcileProblem(
            "RoutingRecordNotApplied",
            "not every live process has read the routing record yet",
            waiting=True,
        )
    return None
