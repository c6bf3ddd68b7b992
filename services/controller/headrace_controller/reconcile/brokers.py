"""A Broker: its names, its topic, its record in the routing table, its address; each only when the one before is seen done."""

from collections.abc import Mapping
from typing import Any

from headrace.domain.routing import Addressable, addressable_key, route_key
from headrace.resources import broker as rules
from headrace.resources.broker_config import OVERHEAD_BYTES, InvalidConfig, TopicConfig, read_config
from headrace.resources.conditions import Condition, condition_of, failed, happy, unknown
from headrace.resources.control_ports import TopicFacts
from headrace.resources.destination import Unresolved, resolve
from headrace.resources.holding import HeldTopic, Holding, Role, Stage
from headrace.resources.naming import Claims, broker_topic
from headrace.resources.resource import Resource
from headrace.resources.system_config import SYSTEM_NAMESPACE
from headrace_controller.reconcile.plan import AddFinalizer, Draft, KeepHolding, PutRoute
from headrace_controller.reconcile.specs import channel_topic_spec
from headrace_controller.reconcile.statuses import (
    LETTERS_STAY,
    NO_DEAD_LETTER_SINK,
    POLICIES_OFF,
    condition_of_problem,
    dead_letter_status,
    invalid_spec,
    resolved,
    show_fault,
    show_status,
    was_ready,
)
from headrace_controller.reconcile.topics import Finding, examine, permissions_of
from headrace_controller.reconcile.world import FINALIZER, INGRESS, World


def reconcile_broker(world: World, broker: Resource, claims: Claims, draft: Draft) -> None:
    """Plan what this Broker needs next, and its status. One that breaks a rule is left as it was, and says so."""
    fault = _fault(world, broker)
    if fault is not None:
        show_fault(broker, rules.CONDITIONS, rules.CONFIG_PARSED, fault, draft, now=world.now_text)
        return
    decided: dict[str, Condition] = {rules.EVENT_POLICIES_READY: POLICIES_OFF, **_system_condition(world)}
    status: dict[str, Any] = {}
    config = _config(world, broker, decided)
    _dead_letter_sink(world, broker, decided, status)
    holding = world.holdings.get(broker.uid)
    if FINALIZER not in broker.finalizers:
        draft.add(AddFinalizer(broker, broker.spec.get("delivery")))
    elif holding is None:
        draft.add(KeepHolding(_claim(broker, claims)))
    elif config is not None:
        finding = _topic(world, broker, holding, config, draft, decided)
        if finding.facts is not None and finding.problem is None:
            _route(world, broker, finding.facts, draft, decided, status)
    if "address" not in status:
        _stay(world, broker, decided, status)
    conditions = rules.CONDITIONS.render(decided, before=broker.status.get("conditions") or (), now=world.now_text)
    show_status(broker, status, conditions, draft)


def _fault(world: World, broker: Resource) -> Condition | None:
    if broker.uid in world.faults:
        return invalid_spec(world.faults[broker.uid])
    if rules.is_ours(broker):
        return None
    changed = f'"{rules.KAFKA_CLASS}" became "{broker.annotations.get(rules.CLASS_ANNOTATION, "")}"'
    remedy = f"set {rules.CLASS_ANNOTATION} back to {rules.KAFKA_CLASS}, or delete this Broker and create it again"
    return failed("ClassChanged", f"Immutable annotations changed (-old +new): annotations: {changed}; {remedy}")


def _system_condition(world: World) -> dict[str, Condition]:
    """A condition for information, and only when there is something to say: a ConfigMap for all resources that cannot be used."""
    told = "; ".join(f"configmap {SYSTEM_NAMESPACE}/{name}: {problem}" for name, problem in sorted(world.system_problems.items()))
    return {rules.SYSTEM_CONFIG_VALID: failed("InvalidConfigMap", f"{told}; what was in force before stays")} if told else {}


def is_held(world: World, broker: Resource) -> bool:
    """Whether this Broker is ours to look after: of our class, or made when it was. A class must not change."""
    return rules.is_ours(broker) or (world.holdings.get(broker.uid) is not None)


def usable_topic(world: World, broker: Resource) -> tuple[HeldTopic, TopicFacts] | None:
    """The Broker's topic when subscriptions may read it: it exists and is the one that was made for (or named by) it."""
    holding = world.holdings.get(broker.uid)
    held = holding.topic(Role.CHANNEL) if holding else None
    facts = world.topics.get(held.name) if held else None
    if held is None or facts is None or held.stage not in (Stage.MADE, Stage.EXTERNAL):
        return None
    return None if held.id and facts.id and held.id != facts.id else (held, facts)


def address_of(world: World, broker: Resource) -> str:
    """Where its events are posted to."""
    return world.installation.ingress_url.rstrip("/") + _path(broker)


def _address(world: World, broker: Resource) -> dict[str, str]:
    return {"name": "http", "url": address_of(world, broker)}


def topic_bytes_max(facts: TopicFacts, default: int) -> int:
    """The largest record a topic takes; `default` where Kafka does not say."""
    return int(facts.settings.get("max.message.bytes", default))


def retention_seconds(facts: TopicFacts) -> float | None:
    """How long a topic keeps records; None where it does for ever, or Kafka does not say."""
    kept_ms = int(facts.settings.get("retention.ms", "-1"))
    return kept_ms / 1000 if kept_ms >= 0 else None


def _path(broker: Resource) -> str:
    return f"/{broker.namespace}/{broker.name}"


def _claim(broker: Resource, claims: Claims) -> Holding:
    external = broker.annotations.get(rules.EXTERNAL_TOPIC_ANNOTATION)
    if external:
        topic = HeldTopic(name=external, role=Role.CHANNEL, stage=Stage.EXTERNAL)
    else:
        topic = HeldTopic(name=claims.claim_topic(broker_topic(broker.namespace, broker.name), broker.uid), role=Role.CHANNEL)
    return Holding(uid=broker.uid, kind="Broker", namespace=broker.namespace, name=broker.name, topics=(topic,))


def broker_config(world: World, broker: Resource) -> TopicConfig:
    """What its topic is to be like. Raises InvalidConfig; a ConfigMap that was only named by default need not exist."""
    ref = broker.spec.get("config") or rules.DEFAULT_CONFIG
    try:
        found = world.lookup("v1", "ConfigMap", str(ref.get("namespace")), str(ref.get("name")))
    except Unresolved as error:
        raise InvalidConfig(str(error)) from error
    if found is None and {key: ref.get(key) for key in rules.DEFAULT_CONFIG} != rules.DEFAULT_CONFIG:
        raise InvalidConfig(f'configmap "{ref.get("name")}" not found in namespace "{ref.get("namespace")}"')
    data = (found or {}).get("data")
    return read_config(data if isinstance(data, Mapping) else {}, brokers=world.cluster.brokers)


def _config(world: World, broker: Resource, decided: dict[str, Condition]) -> TopicConfig | None:
    try:
        config = broker_config(world, broker)
    except InvalidConfig as error:
        decided[rules.CONFIG_PARSED] = failed("InvalidConfiguration", str(error))
        return None
    reason = "FewerReplicas" if config.warnings else "KeysNotUsed" if config.unused else ""
    decided[rules.CONFIG_PARSED] = happy(reason, "; ".join((*config.warnings, *config.unused)))
    return config


def _dead_letter_sink(world: World, broker: Resource, decided: dict[str, Condition], status: dict[str, Any]) -> None:
    sink = (broker.spec.get("delivery") or {}).get("deadLetterSink")
    if not sink:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = NO_DEAD_LETTER_SINK
        return
    try:
        found = resolve(sink, namespace=broker.namespace, cluster_domain=world.installation.service_domain, lookup=world.lookup)
    except Unresolved as error:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = failed("Unable to get the dead letter sink's URI", str(error))
        return
    decided[rules.DEAD_LETTER_SINK_RESOLVED] = resolved(found.url, "spec.delivery.deadLetterSink", LETTERS_STAY)
    status |= dead_letter_status(found.url, found.ca_certs, found.audience)


def _topic(world: World, broker: Resource, holding: Holding, config: TopicConfig, draft: Draft, decided: dict[str, Condition]) -> Finding:
    held = holding.own_topic(Role.CHANNEL)
    finding = examine(world, held, channel_topic_spec(held.name, config), permissions_of(broker))
    if finding.step:
        draft.add(finding.step)
    if finding.held != held:
        draft.add(KeepHolding(holding.with_topic(finding.held)))
    decided[rules.TOPIC_READY] = happy("PartitionsDiffer" if finding.note else "", finding.note)
    if finding.problem:
        decided[rules.TOPIC_READY] = condition_of_problem(finding.problem)
        if finding.problem.waiting:
            draft.wait(finding.problem.message)
    return finding


def _route(world: World, broker: Resource, facts: TopicFacts, draft: Draft, decided: dict[str, Condition], status: dict[str, Any]) -> None:
    limit = topic_bytes_max(facts, broker_config(world, broker).bytes_max)
    route = Addressable(
        uid=broker.uid,
        generation=broker.generation,
        epoch=world.epoch,
        namespace=broker.namespace,
        name=broker.name,
        topic=facts.name,
        paths=(_path(broker),),
        event_bytes_max=limit - OVERHEAD_BYTES,
        event_types=world.system.features.eventtype_auto_create,
    )
    key = route_key(route)
    if world.routes.get(key) != route:
        draft.add(PutRoute(route))
        decided[rules.CONFIG_MAP_UPDATED] = unknown("RoutingRecordPending", "the routing record is being written")
        if not was_ready(broker):
            return
    decided[rules.CONFIG_MAP_UPDATED] = happy("")
    if not world.serves(INGRESS):
        decided[rules.DATA_PLANE_AVAILABLE] = failed("NoIngress", "no ingress process is alive; start one (headrace ingress)")
        draft.wait(f"an ingress process for Broker {broker.namespace}/{broker.name}")
        return
    decided[rules.DATA_PLANE_AVAILABLE] = happy("")
    if not world.applied(key) and not was_ready(broker):
        decided[rules.PROBE_SUCCEEDED] = unknown("RoutingRecordNotApplied", "not every live process has read the routing record yet")
        draft.wait(f"all processes to read {key}")
        return
    decided[rules.PROBE_SUCCEEDED] = happy("")
    decided[rules.ADDRESSABLE] = happy("")
    status["address"] = _address(world, broker)


def _stay(world: World, broker: Resource, decided: dict[str, Condition], status: dict[str, Any]) -> None:
    """Keep the address that was shown while the routing record behind it is in force, whatever else is wrong: events are still taken there.

    An address that goes away leaves everybody who refers to this Broker without a destination, for a typo in a ConfigMap.
    """
    key = addressable_key(broker.uid)
    if not broker.status.get("address") or key not in world.routes or key in world.removals:
        return
    for name in (rules.CONFIG_MAP_UPDATED, rules.DATA_PLANE_AVAILABLE, rules.PROBE_SUCCEEDED):
        standing = condition_of(broker.status, name)
        if standing is not None:
            decided.setdefault(name, standing)
    decided[rules.ADDRESSABLE] = happy("")
    status["address"] = _address(world, broker)
