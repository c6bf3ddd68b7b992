"""A Trigger: its names and topics, its group's place in the Broker's topic, its record in the routing table, and only then Ready.

The order is what makes Ready true: an event accepted after it is at an offset the group has not passed, in a topic that every live
dispatcher has been told to read.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headrace.domain.filters import validate as validate_filters
from headrace.domain.routing import Destination, Format, Reply, Subscription, route_key, subscription_key
from headrace.resources import delivery_spec
from headrace.resources import trigger as rules
from headrace.resources.broker_config import BYTES_MAX, InvalidConfig
from headrace.resources.conditions import READY, Condition, condition_of, failed, happy, unknown
from headrace.resources.control_ports import GroupState, TopicFacts
from headrace.resources.destination import Unresolved, resolve
from headrace.resources.holding import HeldTopic, Holding, Role
from headrace.resources.naming import Claims, trigger_group
from headrace.resources.resource import Resource
from headrace_controller.reconcile.brokers import broker_config, retention_seconds, topic_bytes_max, usable_topic
from headrace_controller.reconcile.dependencies import dependency_condition
from headrace_controller.reconcile.health import health_condition
from headrace_controller.reconcile.plan import AddFinalizer, CommitStart, DeleteGroup, Draft, KeepHolding, PutRoute, RemoveRoute
from headrace_controller.reconcile.specs import parking_topic_spec
from headrace_controller.reconcile.statuses import (
    EVENTS_BURIED,
    LETTERS_STAY,
    NO_DEAD_LETTER_SINK,
    OIDC_OFF,
    UNSUPPORTED_SCHEME,
    condition_of_problem,
    dead_letter_status,
    invalid_spec,
    resolved,
    show_fault,
    show_status,
    was_ready,
)
from headrace_controller.reconcile.topics import Problem, examine, permissions_of
from headrace_controller.reconcile.world import DISPATCHER, FINALIZER, OFFSETS_ANNOTATION, World

OFFSETS_LOST = "OffsetsLost"


def reconcile_trigger(world: World, trigger: Resource, claims: Claims, draft: Draft) -> None:
    """Plan what this Trigger needs next, and its status. One that breaks a rule is left as it was, and says so."""
    if trigger.uid in world.faults:
        fault = invalid_spec(world.faults[trigger.uid])
        show_fault(trigger, rules.CONDITIONS, rules.SUBSCRIPTION_READY, fault, draft, now=world.now_text)
        _leave_lost_source(world, trigger, draft)
        return
    decided: dict[str, Condition] = {rules.OIDC_IDENTITY_CREATED: OIDC_OFF}
    status: dict[str, Any] = {}
    broker = _broker(world, trigger, decided)
    if broker is not None and broker.uid in world.faults:
        # What a broken Broker says of delivery must not change how its Triggers deliver.
        show_fault(trigger, rules.CONDITIONS, rules.BROKER_READY, decided[rules.BROKER_READY], draft, now=world.now_text)
        return
    decided[rules.DEPENDENCY_READY] = dependency_condition(world, trigger)
    subscriber = _subscriber(world, trigger, decided, status)
    spec, sink = _delivery(world, trigger, broker, decided, status)
    holding = world.holdings.get(trigger.uid)
    if FINALIZER not in trigger.finalizers:
        draft.add(AddFinalizer(trigger))
    elif holding is None:
        draft.add(KeepHolding(_claim(trigger, claims)))
    else:
        status["annotations"] = {"group.id": holding.group}
        problem = _prepare(world, trigger, broker, holding, draft)
        if problem is None and subscriber is not None and broker is not None and _resolved(decided):
            problem = _route(world, trigger, _subscription(world, trigger, broker, holding, subscriber, spec, sink), draft)
        elif problem is None:
            problem = Problem("SubscriptionNotConfigured", "the subscriber or the dead letter sink is not resolved", waiting=True)
        decided[rules.SUBSCRIPTION_READY] = condition_of_problem(problem) if problem else happy("")
        if problem is None:
            decided[rules.DELIVERY_HEALTHY] = health_condition(world.state_of(trigger.uid), trigger, _unsupported(decided))
    conditions = rules.CONDITIONS.render(decided, before=trigger.status.get("conditions") or (), now=world.now_text)
    show_status(trigger, status, conditions, draft)


def _leave_lost_source(world: World, trigger: Resource, draft: Draft) -> None:
    """Stop what an earlier version of a Trigger that is broken now began, if the Broker it reads from goes: its topic goes with it."""
    route = world.routes.get(_key(trigger))
    if not isinstance(route, Subscription):
        return
    living = (world.holdings.get(each.uid) for each in world.brokers if not each.deleting)
    channels = (holding.topic(Role.CHANNEL) for holding in living if holding)
    if all(channel is None or channel.name != route.topic for channel in channels):
        draft.add(RemoveRoute(_key(trigger)))


def _broker(world: World, trigger: Resource, decided: dict[str, Condition]) -> Resource | None:
    name = rules.broker_name(trigger)
    broker = world.broker(rules.broker_namespace(trigger), name)
    if broker is None or broker.deleting:
        decided[rules.BROKER_READY] = failed("BrokerDoesNotExist", f'Broker "{name}" does not exist')
        return None
    ready = condition_of(broker.status, READY)
    decided[rules.BROKER_READY] = ready or unknown("BrokerNotConfigured", "The Broker has not yet been reconciled.")
    return broker


def _subscriber(world: World, trigger: Resource, decided: dict[str, Condition], status: dict[str, Any]) -> Destination | None:
    try:
        found = _resolve(world, trigger, trigger.spec.get("subscriber") or {})
    except Unresolved as error:
        decided[rules.SUBSCRIBER_RESOLVED] = failed("Unable to get the Subscriber's URI", str(error))
        return None
    decided[rules.SUBSCRIBER_RESOLVED] = resolved(found.url, "spec.subscriber", EVENTS_BURIED)
    fields = {"subscriberUri": found.url, "subscriberCACerts": found.ca_certs, "subscriberAudience": found.audience}
    status |= {key: value for key, value in fields.items() if value}
    return found


def _delivery(
    world: World, trigger: Resource, broker: Resource | None, decided: dict[str, Condition], status: dict[str, Any]
) -> tuple[delivery_spec.DeliverySpec, Destination | None]:
    """The policy that applies, Trigger over Broker field by field, and the dead letter sink's address."""
    spec = delivery_spec.overlay(_delivery_spec(trigger), _delivery_spec(broker) if broker else None)
    if not spec.dead_letter_sink:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = NO_DEAD_LETTER_SINK
        return spec, None
    try:
        sink = _resolve(world, trigger, spec.dead_letter_sink)
    except Unresolved as error:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = failed("Unable to get the dead letter sink's URI", str(error))
        return spec, None
    decided[rules.DEAD_LETTER_SINK_RESOLVED] = resolved(sink.url, "deadLetterSink in spec.delivery", LETTERS_STAY)
    status |= dead_letter_status(sink.url, sink.ca_certs, sink.audience)
    return spec, sink


def _delivery_spec(resource: Resource) -> delivery_spec.DeliverySpec:
    block = resource.spec.get("delivery")
    return delivery_spec.parse(block if isinstance(block, Mapping) else {}, "spec.delivery")[0]


def _resolve(world: World, trigger: Resource, destination: Mapping[str, Any]) -> Destination:
    return resolve(destination, namespace=trigger.namespace, cluster_domain=world.installation.service_domain, lookup=world.lookup)


def _resolved(decided: Mapping[str, Condition]) -> bool:
    return all(str(decided[name].status) == "True" for name in (rules.SUBSCRIBER_RESOLVED, rules.DEAD_LETTER_SINK_RESOLVED))


def _unsupported(decided: Mapping[str, Condition]) -> str:
    resolved = (decided[rules.SUBSCRIBER_RESOLVED], decided[rules.DEAD_LETTER_SINK_RESOLVED])
    return "; ".join(each.message for each in resolved if each.reason == UNSUPPORTED_SCHEME)


def _claim(trigger: Resource, claims: Claims) -> Holding:
    names = claims.claim_group(trigger_group(trigger.namespace, trigger.name), trigger.uid)
    topics = (HeldTopic(name=names.retry_topic, role=Role.RETRY), HeldTopic(name=names.dead_topic, role=Role.DEAD))
    return Holding(uid=trigger.uid, kind="Trigger", namespace=trigger.namespace, name=trigger.name, group=names.group, topics=topics)


def _prepare(world: World, trigger: Resource, broker: Resource | None, holding: Holding, draft: Draft) -> Problem | None:
    """Everything before the routing record; returns what stands in the way, None when nothing does."""
    if broker is None:
        # The channel is gone or going: the dispatcher must stop reading before the topic can be deleted under it.
        if _key(trigger) in world.routes:
            draft.add(RemoveRoute(_key(trigger)))
        # Unknown, for BrokerReady is what failed: of two that are False the later one would show in Ready, and that is this one.
        return Problem("NotSubscribed", "there is no Broker to read from", waiting=True)
    channel = usable_topic(world, broker)
    if channel is None:
        return Problem("TopicNotReady", f"the topic of Broker {broker.name} is not ready", waiting=True)
    problem = _parking_topics(world, trigger, broker, holding, channel[1], draft)
    return problem or _place(world, trigger, holding, channel, draft)


def _parking_topics(
    world: World, trigger: Resource, broker: Resource, holding: Holding, channel: TopicFacts, draft: Draft
) -> Problem | None:
    try:
        bytes_max = topic_bytes_max(channel, broker_config(world, broker).bytes_max)
    except InvalidConfig:
        bytes_max = topic_bytes_max(channel, BYTES_MAX)
    seen, problem = holding, None
    for held in holding.topics:
        spec = parking_topic_spec(held.name, channel_bytes_max=bytes_max, brokers=world.cluster.brokers)
        finding = examine(world, held, spec, permissions_of(trigger))
        seen = seen.with_topic(finding.held)
        if finding.step:
            draft.add(finding.step)
        problem = problem or finding.problem
    if seen != holding:
        draft.add(KeepHolding(seen))
        # What is recorded next round is decided upon next round.
        problem = problem or Problem("TopicCreating", "topics were made and are being recorded", waiting=True)
    if problem is not None and problem.waiting:
        draft.wait(problem.message)
    return problem


def _place(world: World, trigger: Resource, holding: Holding, channel: tuple[HeldTopic, TopicFacts], draft: Draft) -> Problem | None:
    """The group's place in the channel topic: committed once for every partition that exists, then recorded."""
    held, facts = channel
    source = f"{held.name}@{held.id or facts.id}"
    if holding.source and holding.source != source:
        return _leave_old_source(world, trigger, holding, draft)
    committed = world.committed.get(holding.group)
    if not holding.source:
        return _start(world, holding, source, facts, draft)
    if committed is not None:
        lost = tuple(p for p in range(min(holding.started, facts.partitions)) if p not in committed)
        if lost and world.groups.get(holding.group) in (GroupState.EMPTY, GroupState.ABSENT):
            return _lost_offsets(trigger, holding, facts, lost, draft)
    if holding.started < facts.partitions:
        return _grow(world, holding, facts, draft)
    return None


def _start(world: World, holding: Holding, source: str, facts: TopicFacts, draft: Draft) -> Problem | None:
    committed = world.committed.get(holding.group)
    waiting = Problem("InitialOffsetsNotCommitted", f"start offsets of group {holding.group} are being committed", waiting=True)
    draft.wait(waiting.message)
    if committed is None:
        return waiting
    absent = tuple(p for p in range(facts.partitions) if p not in committed)
    if not absent:
        draft.add(KeepHolding(replace(holding, source=source, started=facts.partitions)))
    elif world.blocked(holding.group) is None:
        draft.add(CommitStart(holding.group, facts.name, at_end=absent))
    refusal = world.refusals.get(holding.group)
    return replace(waiting, message=f"{waiting.message}; Kafka refused: {refusal.message}") if refusal else waiting


def _grow(world: World, holding: Holding, facts: TopicFacts, draft: Draft) -> Problem | None:
    """Partitions were added: they are read from their beginning. A live group sees to that itself, for only its members can commit."""
    state = world.groups.get(holding.group)
    committed = world.committed.get(holding.group)
    if state is None or committed is None:
        draft.wait(f"the state of group {holding.group}")
        return None
    absent = tuple(p for p in range(holding.started, facts.partitions) if p not in committed)
    if absent and state is not GroupState.LIVE:
        if world.blocked(holding.group) is None:
            draft.add(CommitStart(holding.group, facts.name, at_zero=absent))
        draft.wait(f"group {holding.group} to get its place in new partitions")
        return None
    draft.add(KeepHolding(replace(holding, started=facts.partitions)))
    return None


def _lost_offsets(trigger: Resource, holding: Holding, facts: TopicFacts, lost: tuple[int, ...], draft: Draft) -> Problem:
    choice = trigger.annotations.get(OFFSETS_ANNOTATION)
    if choice == "latest":
        draft.add(CommitStart(holding.group, facts.name, at_end=lost))
    elif choice == "earliest":
        draft.add(CommitStart(holding.group, facts.name, at_zero=lost))
    told = f"Kafka has no offsets of group {holding.group} for {len(lost)} partitions of {facts.name} any more"
    return Problem(OFFSETS_LOST, f"{told}; set annotation {OFFSETS_ANNOTATION}: earliest (repeat) or latest (skip) here")


def _leave_old_source(world: World, trigger: Resource, holding: Holding, draft: Draft) -> Problem:
    """The Broker's topic is another one than before (made again): stop, forget the old offsets, start as a new subscription does."""
    problem = Problem("NotSubscribed", "the Broker's topic is a new one; the subscription starts again in it", waiting=True)
    draft.wait(problem.message)
    key = _key(trigger)
    if key in world.routes:
        draft.add(RemoveRoute(key))
    elif world.applied(key):
        match world.groups.get(holding.group):
            case GroupState.ABSENT:
                draft.add(KeepHolding(replace(holding, source="", started=0)))
            case GroupState.EMPTY if world.blocked(holding.group) is None:
                draft.add(DeleteGroup(holding.group))
    return problem


def _subscription(
    world: World,
    trigger: Resource,
    broker: Resource,
    holding: Holding,
    subscriber: Destination,
    spec: delivery_spec.DeliverySpec,
    sink: Destination | None,
) -> Subscription:
    channel = world.holdings[broker.uid].own_topic(Role.CHANNEL).name
    source = usable_topic(world, broker)
    return Subscription(
        uid=trigger.uid,
        generation=trigger.generation,
        epoch=world.epoch,
        namespace=trigger.namespace,
        name=trigger.name,
        topic=channel,
        group=holding.group,
        retry_topic=holding.own_topic(Role.RETRY).name,
        dead_topic=holding.own_topic(Role.DEAD).name,
        subscriber=subscriber,
        filters=rules.filters_of(trigger),
        reply=Reply(topic=channel),
        delivery=delivery_spec.merge(spec, None),
        dead_letter_sink=sink,
        order=rules.order_of(trigger),
        format=Format(spec.format) if spec.format else Format.BINARY,
        breaker=rules.has_breaker(trigger),
        event_types=world.system.features.eventtype_auto_create,
        retention_seconds=retention_seconds(source[1]) if source else None,
    )


def _route(world: World, trigger: Resource, route: Subscription, draft: Draft) -> Problem | None:
    wrong = validate_filters(list(route.filters), "spec.filters")
    if wrong:
        # The data plane keeps the last good record: a filter it cannot compile must not stop what runs.
        return Problem("FilterInvalid", "; ".join(error.headline for error in wrong))
    key = route_key(route)
    if world.routes.get(key) != route:
        draft.add(PutRoute(route))
        if not was_ready(trigger):
            return Problem("RoutingRecordPending", "the routing record is being written", waiting=True)
    if not world.serves(DISPATCHER):
        draft.wait(f"a dispatcher process for Trigger {trigger.namespace}/{trigger.name}")
        return Problem("NoDispatcher", "no dispatcher process is alive; start one (headrace dispatcher)")
    if not world.applied(key) and not was_ready(trigger):
        draft.wait(f"all processes to read {key}")
        return Problem("RoutingRecordNotApplied", "not every live process has read the routing record yet", waiting=True)
    return None


def _key(trigger: Resource) -> str:
    return subscription_key(trigger.uid)
