"""A Trigger: its names and topics, its group's place in the Broker's topic, its record in the
routing table, and only then Ready.

The order is what makes Ready true: an event accepted after it is at an offset the group has not
passed, in a topic that every live dispatcher has been told to read.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headrace.domain.filters import validate as validate_filters
from headrace.domain.routing import (
    Destination,
    Format,
    Reply,
    Subscription,
    route_key,
    subscription_key,
)
from headrace.resources import delivery_spec
from headrace.resources import trigger as rules
from headrace.resources.broker_config import BYTES_MAX, InvalidConfig
from headrace.resources.conditions import READY, Condition, condition_of, failed, happy, unknown
from headrace.resources.control_ports import GroupState, TopicDescription
from headrace.resources.destination import Unresolved, resolve
from headrace.resources.naming import NameAllocator, trigger_group
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole
from headrace.resources.resource import Resource
from headrace_controller.reconcile.brokers import (
    broker_config,
    retention_seconds,
    topic_bytes_max,
    usable_topic,
)
from headrace_controller.reconcile.delivery_health import health_condition
from headrace_controller.reconcile.dependencies import dependency_condition
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
    Draft,
    PutRoute,
    RemoveRoute,
    SaveOwnershipRecord,
)
from headrace_controller.reconcile.statuses import (
    DEAD_LETTERS_RETAINED,
    EVENTS_DEAD_LETTERED,
    NO_DEAD_LETTER_SINK,
    OIDC_DISABLED,
    UNSUPPORTED_SCHEME,
    condition_of_problem,
    dead_letter_status,
    invalid_spec,
    resolved,
    set_fault_status,
    set_status,
    was_ready,
)
from headrace_controller.reconcile.topic_specs import retry_or_dead_letter_topic_spec
from headrace_controller.reconcile.topics import ReconcileProblem, assess_topic, topic_permissions

OFFSETS_LOST = "OffsetsLost"


def reconcile_trigger(
    observed: ObservedState, trigger: Resource, allocator: NameAllocator, draft: Draft
) -> None:
    """Plan what this Trigger needs next, and its status. One that breaks a rule is left as it was,
    and says so.
    """
    if trigger.uid in observed.validation_errors:
        fault = invalid_spec(observed.validation_errors[trigger.uid])
        set_fault_status(
            trigger, rules.CONDITIONS, rules.SUBSCRIPTION_READY, fault, draft, now=observed.now_text
        )
        _remove_route_to_lost_topic(observed, trigger, draft)
        return
    decided: dict[str, Condition] = {rules.OIDC_IDENTITY_CREATED: OIDC_DISABLED}
    status: dict[str, Any] = {}
    broker = _broker(observed, trigger, decided)
    if broker is not None and broker.uid in observed.validation_errors:
        # What a broken Broker says of delivery must not change how its Triggers deliver.
        set_fault_status(
            trigger,
            rules.CONDITIONS,
            rules.BROKER_READY,
            decided[rules.BROKER_READY],
            draft,
            now=observed.now_text,
        )
        return
    decided[rules.DEPENDENCY_READY] = dependency_condition(observed, trigger)
    subscriber = _subscriber(observed, trigger, decided, status)
    spec, sink = _delivery(observed, trigger, broker, decided, status)
    ownership = observed.ownership_records.get(trigger.uid)
    if FINALIZER not in trigger.finalizers:
        draft.add(AddFinalizer(trigger))
    elif ownership is None:
        draft.add(SaveOwnershipRecord(_new_ownership_record(trigger, allocator)))
    else:
        status["annotations"] = {"group.id": ownership.group}
        problem = _prepare(observed, trigger, broker, ownership, draft)
        if problem is None and subscriber is not None and broker is not None and _resolved(decided):
            problem = _route(
                observed,
                trigger,
                _subscription(observed, trigger, broker, ownership, subscriber, spec, sink),
                draft,
            )
        elif problem is None:
            problem = ReconcileProblem(
                "SubscriptionNotConfigured",
                "the subscriber or the dead letter sink is not resolved",
                waiting=True,
            )
        decided[rules.SUBSCRIPTION_READY] = condition_of_problem(problem) if problem else happy("")
        if problem is None:
            decided[rules.DELIVERY_HEALTHY] = health_condition(
                observed.state_of(trigger.uid), trigger, _unsupported(decided)
            )
    conditions = rules.CONDITIONS.render(
        decided, before=trigger.status.get("conditions") or (), now=observed.now_text
    )
    set_status(trigger, status, conditions, draft)


def _remove_route_to_lost_topic(observed: ObservedState, trigger: Resource, draft: Draft) -> None:
    """Stop what an earlier version of a Trigger that is broken now began, if the Broker it reads
    from goes: its topic goes with it.
    """
    route = observed.routes.get(_key(trigger))
    if not isinstance(route, Subscription):
        return
    living = (
        observed.ownership_records.get(each.uid) for each in observed.brokers if not each.deleting
    )
    channels = (ownership.topic(TopicRole.CHANNEL) for ownership in living if ownership)
    if all(channel is None or channel.name != route.topic for channel in channels):
        draft.add(RemoveRoute(_key(trigger)))


def _broker(
    observed: ObservedState, trigger: Resource, decided: dict[str, Condition]
) -> Resource | None:
    name = rules.broker_name(trigger)
    broker = observed.broker(rules.broker_namespace(trigger), name)
    if broker is None or broker.deleting:
        decided[rules.BROKER_READY] = failed(
            "BrokerDoesNotExist", f'Broker "{name}" does not exist'
        )
        return None
    ready = condition_of(broker.status, READY)
    decided[rules.BROKER_READY] = ready or unknown(
        "BrokerNotConfigured", "The Broker has not yet been reconciled."
    )
    return broker


def _subscriber(
    observed: ObservedState,
    trigger: Resource,
    decided: dict[str, Condition],
    status: dict[str, Any],
) -> Destination | None:
    try:
        found = _resolve(observed, trigger, trigger.spec.get("subscriber") or {})
    except Unresolved as error:
        decided[rules.SUBSCRIBER_RESOLVED] = failed(
            "Unable to get the Subscriber's URI", str(error)
        )
        return None
    decided[rules.SUBSCRIBER_RESOLVED] = resolved(
        found.url, "spec.subscriber", EVENTS_DEAD_LETTERED
    )
    fields = {
        "subscriberUri": found.url,
        "subscriberCACerts": found.ca_certs,
        "subscriberAudience": found.audience,
    }
    status |= {key: value for key, value in fields.items() if value}
    return found


def _delivery(
    observed: ObservedState,
    trigger: Resource,
    broker: Resource | None,
    decided: dict[str, Condition],
    status: dict[str, Any],
) -> tuple[delivery_spec.DeliverySpec, Destination | None]:
    """The policy that applies, Trigger over Broker field by field, and the dead letter sink's
    address.
    """
    spec = delivery_spec.overlay(
        _delivery_spec(trigger), _delivery_spec(broker) if broker else None
    )
    if not spec.dead_letter_sink:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = NO_DEAD_LETTER_SINK
        return spec, None
    try:
        sink = _resolve(observed, trigger, spec.dead_letter_sink)
    except Unresolved as error:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = failed(
            "Unable to get the dead letter sink's URI", str(error)
        )
        return spec, None
    decided[rules.DEAD_LETTER_SINK_RESOLVED] = resolved(
        sink.url, "deadLetterSink in spec.delivery", DEAD_LETTERS_RETAINED
    )
    status |= dead_letter_status(sink.url, sink.ca_certs, sink.audience)
    return spec, sink


def _delivery_spec(resource: Resource) -> delivery_spec.DeliverySpec:
    block = resource.spec.get("delivery")
    return delivery_spec.parse(block if isinstance(block, Mapping) else {}, "spec.delivery")[0]


def _resolve(
    observed: ObservedState, trigger: Resource, destination: Mapping[str, Any]
) -> Destination:
    return resolve(
        destination,
        namespace=trigger.namespace,
        cluster_domain=observed.installation.service_domain,
        lookup=observed.lookup,
    )


def _resolved(decided: Mapping[str, Condition]) -> bool:
    return all(
        str(decided[name].status) == "True"
        for name in (rules.SUBSCRIBER_RESOLVED, rules.DEAD_LETTER_SINK_RESOLVED)
    )


def _unsupported(decided: Mapping[str, Condition]) -> str:
    resolved = (decided[rules.SUBSCRIBER_RESOLVED], decided[rules.DEAD_LETTER_SINK_RESOLVED])
    return "; ".join(each.message for each in resolved if each.reason == UNSUPPORTED_SCHEME)


def _new_ownership_record(trigger: Resource, allocator: NameAllocator) -> OwnershipRecord:
    names = allocator.allocate_group(trigger_group(trigger.namespace, trigger.name), trigger.uid)
    topics = (
        OwnedTopic(name=names.retry_topic, role=TopicRole.RETRY),
        OwnedTopic(name=names.dead_topic, role=TopicRole.DEAD),
    )
    return OwnershipRecord(
        uid=trigger.uid,
        kind="Trigger",
        namespace=trigger.namespace,
        name=trigger.name,
        group=names.group,
        topics=topics,
    )


def _prepare(
    observed: ObservedState,
    trigger: Resource,
    broker: Resource | None,
    ownership: OwnershipRecord,
    draft: Draft,
) -> ReconcileProblem | None:
    """Everything before the routing record; returns what stands in the way, None when
    nothing does.
    """
    if broker is None:
        # The channel is gone or going: the dispatcher must stop reading before the topic can be
        # deleted under it.
        if _key(trigger) in observed.routes:
            draft.add(RemoveRoute(_key(trigger)))
        # Unknown, for BrokerReady is what failed: of two that are False the later one would show in
        # Ready, and that is this one.
        return ReconcileProblem("NotSubscribed", "there is no Broker to read from", waiting=True)
    channel = usable_topic(observed, broker)
    if channel is None:
        return ReconcileProblem(
            "TopicNotReady", f"the topic of Broker {broker.name} is not ready", waiting=True
        )
    problem = _parking_topics(observed, trigger, broker, ownership, channel[1], draft)
    return problem or _ensure_initial_offsets(observed, trigger, ownership, channel, draft)


def _parking_topics(
    observed: ObservedState,
    trigger: Resource,
    broker: Resource,
    ownership: OwnershipRecord,
    channel: TopicDescription,
    draft: Draft,
) -> ReconcileProblem | None:
    try:
        bytes_max = topic_bytes_max(channel, broker_config(observed, broker).bytes_max)
    except InvalidConfig:
        bytes_max = topic_bytes_max(channel, BYTES_MAX)
    seen, problem = ownership, None
    for held in ownership.topics:
        spec = retry_or_dead_letter_topic_spec(
            held.name, channel_bytes_max=bytes_max, brokers=observed.cluster.brokers
        )
        assessment = assess_topic(observed, held, spec, topic_permissions(trigger))
        seen = seen.with_topic(assessment.held)
        if assessment.step:
            draft.add(assessment.step)
        problem = problem or assessment.problem
    if seen != ownership:
        draft.add(SaveOwnershipRecord(seen))
        # What is recorded next round is decided upon next round.
        problem = problem or ReconcileProblem(
            "TopicCreating", "topics were made and are being recorded", waiting=True
        )
    if problem is not None and problem.waiting:
        draft.wait(problem.message)
    return problem


def _ensure_initial_offsets(
    observed: ObservedState,
    trigger: Resource,
    ownership: OwnershipRecord,
    channel: tuple[OwnedTopic, TopicDescription],
    draft: Draft,
) -> ReconcileProblem | None:
    """The group's place in the channel topic: committed once for every partition that exists, then
    recorded.
    """
    held, facts = channel
    source = f"{held.name}@{held.id or facts.id}"
    if ownership.source and ownership.source != source:
        return _detach_from_old_topic(observed, trigger, ownership, draft)
    committed = observed.committed.get(ownership.group)
    if not ownership.source:
        return _commit_initial_offsets(observed, ownership, source, facts, draft)
    if committed is not None:
        lost = tuple(
            p for p in range(min(ownership.started, facts.partitions)) if p not in committed
        )
        if lost and observed.groups.get(ownership.group) in (GroupState.EMPTY, GroupState.ABSENT):
            return _lost_offsets(trigger, ownership, facts, lost, draft)
    if ownership.started < facts.partitions:
        return _initialize_new_partitions(observed, ownership, facts, draft)
    return None


def _commit_initial_offsets(
    observed: ObservedState,
    ownership: OwnershipRecord,
    source: str,
    facts: TopicDescription,
    draft: Draft,
) -> ReconcileProblem | None:
    committed = observed.committed.get(ownership.group)
    waiting = ReconcileProblem(
        "InitialOffsetsNotCommitted",
        f"start offsets of group {ownership.group} are being committed",
        waiting=True,
    )
    draft.wait(waiting.message)
    if committed is None:
        return waiting
    absent = tuple(p for p in range(facts.partitions) if p not in committed)
    if not absent:
        draft.add(SaveOwnershipRecord(replace(ownership, source=source, started=facts.partitions)))
    elif observed.blocked(ownership.group) is None:
        draft.add(CommitInitialOffsets(ownership.group, facts.name, at_end=absent))
    rejection = observed.rejections.get(ownership.group)
    return (
        replace(waiting, message=f"{waiting.message}; Kafka refused: {rejection.message}")
        if rejection
        else waiting
    )


def _initialize_new_partitions(
    observed: ObservedState, ownership: OwnershipRecord, facts: TopicDescription, draft: Draft
) -> ReconcileProblem | None:
    """Partitions were added: they are read from their beginning. A live group sees to that itself,
    for only its members can commit.
    """
    state = observed.groups.get(ownership.group)
    committed = observed.committed.get(ownership.group)
    if state is None or committed is None:
        draft.wait(f"the state of group {ownership.group}")
        return None
    absent = tuple(p for p in range(ownership.started, facts.partitions) if p not in committed)
    if absent and state is not GroupState.LIVE:
        if observed.blocked(ownership.group) is None:
            draft.add(CommitInitialOffsets(ownership.group, facts.name, at_beginning=absent))
        draft.wait(f"group {ownership.group} to get its place in new partitions")
        return None
    draft.add(SaveOwnershipRecord(replace(ownership, started=facts.partitions)))
    return None


def _lost_offsets(
    trigger: Resource,
    ownership: OwnershipRecord,
    facts: TopicDescription,
    lost: tuple[int, ...],
    draft: Draft,
) -> ReconcileProblem:
    choice = trigger.annotations.get(OFFSETS_ANNOTATION)
    if choice == "latest":
        draft.add(CommitInitialOffsets(ownership.group, facts.name, at_end=lost))
    elif choice == "earliest":
        draft.add(CommitInitialOffsets(ownership.group, facts.name, at_beginning=lost))
    told = (
        f"Kafka has no offsets of group {ownership.group} for {len(lost)} partitions of"
        f" {facts.name} any more"
    )
    return ReconcileProblem(
        OFFSETS_LOST,
        f"{told}; set annotation {OFFSETS_ANNOTATION}: earliest (repeat) or latest (skip) here",
    )


def _detach_from_old_topic(
    observed: ObservedState, trigger: Resource, ownership: OwnershipRecord, draft: Draft
) -> ReconcileProblem:
    """The Broker's topic is another one than before (made again): stop, forget the old offsets,
    start as a new subscription does.
    """
    problem = ReconcileProblem(
        "NotSubscribed",
        "the Broker's topic is a new one; the subscription starts again in it",
        waiting=True,
    )
    draft.wait(problem.message)
    key = _key(trigger)
    if key in observed.routes:
        draft.add(RemoveRoute(key))
    elif observed.applied(key):
        match observed.groups.get(ownership.group):
            case GroupState.ABSENT:
                draft.add(SaveOwnershipRecord(replace(ownership, source="", started=0)))
            case GroupState.EMPTY if observed.blocked(ownership.group) is None:
                draft.add(DeleteGroup(ownership.group))
    return problem


def _subscription(
    observed: ObservedState,
    trigger: Resource,
    broker: Resource,
    ownership: OwnershipRecord,
    subscriber: Destination,
    spec: delivery_spec.DeliverySpec,
    sink: Destination | None,
) -> Subscription:
    channel = observed.ownership_records[broker.uid].required_topic(TopicRole.CHANNEL).name
    source = usable_topic(observed, broker)
    return Subscription(
        uid=trigger.uid,
        generation=trigger.generation,
        epoch=observed.epoch,
        namespace=trigger.namespace,
        name=trigger.name,
        topic=channel,
        group=ownership.group,
        retry_topic=ownership.required_topic(TopicRole.RETRY).name,
        dead_topic=ownership.required_topic(TopicRole.DEAD).name,
        subscriber=subscriber,
        filters=rules.filters_of(trigger),
        reply=Reply(topic=channel),
        delivery=delivery_spec.merge(spec, None),
        dead_letter_sink=sink,
        order=rules.order_of(trigger),
        format=Format(spec.format) if spec.format else Format.BINARY,
        breaker=rules.has_breaker(trigger),
        event_types=observed.system.features.eventtype_auto_create,
        retention_seconds=retention_seconds(source[1]) if source else None,
    )


def _route(
    observed: ObservedState, trigger: Resource, route: Subscription, draft: Draft
) -> ReconcileProblem | None:
    wrong = validate_filters(list(route.filters), "spec.filters")
    if wrong:
        # The data plane keeps the last good record: a filter it cannot compile must not stop what
        # runs.
        return ReconcileProblem("FilterInvalid", "; ".join(error.headline for error in wrong))
    key = route_key(route)
    if observed.routes.get(key) != route:
        draft.add(PutRoute(route))
        if not was_ready(trigger):
            return ReconcileProblem(
                "RoutingRecordPending", "the routing record is being written", waiting=True
            )
    if not observed.serves(DISPATCHER):
        draft.wait(f"a dispatcher process for Trigger {trigger.namespace}/{trigger.name}")
        return ReconcileProblem(
            "NoDispatcher", "no dispatcher process is alive; start one (headrace dispatcher)"
        )
    if not observed.applied(key) and not was_ready(trigger):
        draft.wait(f"all processes to read {key}")
        return ReconcileProblem(
            "RoutingRecordNotApplied",
            "not every live process has read the routing record yet",
            waiting=True,
        )
    return None


def _key(trigger: Resource) -> str:
    return subscription_key(trigger.uid)
