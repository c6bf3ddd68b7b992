"""A Broker: its names, its topic, its record in the routing table, its address; each only when the
one before is seen done.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.routing import Addressable, addressable_key, route_key
from headrace.resources import broker as rules
from headrace.resources.broker_config import OVERHEAD_BYTES, InvalidConfig, TopicConfig, read_config
from headrace.resources.conditions import Condition, condition_of, failed, happy, unknown
from headrace.resources.control_ports import TopicDescription
from headrace.resources.destination import Unresolved, resolve
from headrace.resources.naming import NameAllocator, broker_topic
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace.resources.system_config import SYSTEM_NAMESPACE
from headrace_controller.reconcile.observed_state import FINALIZER, INGRESS, ObservedState
from headrace_controller.reconcile.plan import AddFinalizer, Draft, PutRoute, SaveOwnershipRecord
from headrace_controller.reconcile.statuses import (
    DEAD_LETTERS_RETAINED,
    EVENT_POLICIES_DISABLED,
    NO_DEAD_LETTER_SINK,
    condition_of_problem,
    dead_letter_status,
    invalid_spec,
    resolved,
    set_fault_status,
    set_status,
    was_ready,
)
from headrace_controller.reconcile.topic_specs import channel_topic_spec
from headrace_controller.reconcile.topics import TopicAssessment, assess_topic, topic_permissions


def reconcile_broker(
    observed: ObservedState, broker: Resource, allocator: NameAllocator, draft: Draft
) -> None:
    """Plan what this Broker needs next, and its status. One that breaks a rule is left as it was,
    and says so.
    """
    fault = _fault(observed, broker)
    if fault is not None:
        set_fault_status(
            broker, rules.CONDITIONS, rules.CONFIG_PARSED, fault, draft, now=observed.now_text
        )
        return
    decided: dict[str, Condition] = {
        rules.EVENT_POLICIES_READY: EVENT_POLICIES_DISABLED,
        **_system_condition(observed),
    }
    status: dict[str, Any] = {}
    config = _config(observed, broker, decided)
    _dead_letter_sink(observed, broker, decided, status)
    ownership = observed.ownership_records.get(broker.uid)
    if FINALIZER not in broker.finalizers:
        draft.add(AddFinalizer(broker, broker.spec.get("delivery")))
    elif ownership is None:
        draft.add(SaveOwnershipRecord(_new_ownership_record(broker, allocator)))
    elif config is not None:
        assessment = _topic(observed, broker, ownership, config, draft, decided)
        if assessment.facts is not None and assessment.problem is None:
            _route(observed, broker, assessment.facts, draft, decided, status)
    if "address" not in status:
        _keep_address(observed, broker, decided, status)
    conditions = rules.CONDITIONS.render(
        decided, before=broker.status.get("conditions") or (), now=observed.now_text
    )
    set_status(broker, status, conditions, draft)


def _fault(observed: ObservedState, broker: Resource) -> Condition | None:
    if broker.uid in observed.validation_errors:
        return invalid_spec(observed.validation_errors[broker.uid])
    if rules.is_ours(broker):
        return None
    changed = f'"{rules.KAFKA_CLASS}" became "{broker.annotations.get(rules.CLASS_ANNOTATION, "")}"'
    remedy = (
        f"set {rules.CLASS_ANNOTATION} back to {rules.KAFKA_CLASS}, or delete this Broker and"
        " create it again"
    )
    return failed(
        "ClassChanged",
        f"Immutable annotations changed (-old +new): annotations: {changed}; {remedy}",
    )


def _system_condition(observed: ObservedState) -> dict[str, Condition]:
    """A condition for information, and only when there is something to say: a ConfigMap for all
    resources that cannot be used.
    """
    told = "; ".join(
        f"configmap {SYSTEM_NAMESPACE}/{name}: {problem}"
        for name, problem in sorted(observed.system_problems.items())
    )
    return (
        {
            rules.SYSTEM_CONFIG_VALID: failed(
                "InvalidConfigMap", f"{told}; what was in force before stays"
            )
        }
        if told
        else {}
    )


def is_managed(observed: ObservedState, broker: Resource) -> bool:
    """Whether this Broker is ours to look after: of our class, or made when it was. A class must
    not change.
    """
    return rules.is_ours(broker) or (observed.ownership_records.get(broker.uid) is not None)


def usable_topic(
    observed: ObservedState, broker: Resource
) -> tuple[OwnedTopic, TopicDescription] | None:
    """The Broker's topic when subscriptions may read it: it exists and is the one that was made for
    (or named by) it.
    """
    ownership = observed.ownership_records.get(broker.uid)
    held = ownership.topic(TopicRole.CHANNEL) if ownership else None
    facts = observed.topics.get(held.name) if held else None
    if held is None or facts is None or held.stage not in (TopicStage.CREATED, TopicStage.EXTERNAL):
        return None
    return None if held.id and facts.id and held.id != facts.id else (held, facts)


def address_of(observed: ObservedState, broker: Resource) -> str:
    """Where its events are posted to."""
    return observed.installation.ingress_url.rstrip("/") + _path(broker)


def _address(observed: ObservedState, broker: Resource) -> dict[str, str]:
    return {"name": "http", "url": address_of(observed, broker)}


def topic_bytes_max(facts: TopicDescription, default: int) -> int:
    """The largest record a topic takes; `default` where Kafka does not say."""
    return int(facts.settings.get("max.message.bytes", default))


def retention_seconds(facts: TopicDescription) -> float | None:
    """How long a topic keeps records; None where it does for ever, or Kafka does not say."""
    kept_ms = int(facts.settings.get("retention.ms", "-1"))
    return kept_ms / 1000 if kept_ms >= 0 else None


def _path(broker: Resource) -> str:
    return f"/{broker.namespace}/{broker.name}"


def _new_ownership_record(broker: Resource, allocator: NameAllocator) -> OwnershipRecord:
    external = broker.annotations.get(rules.EXTERNAL_TOPIC_ANNOTATION)
    if external:
        topic = OwnedTopic(name=external, role=TopicRole.CHANNEL, stage=TopicStage.EXTERNAL)
    else:
        topic = OwnedTopic(
            name=allocator.allocate_topic(broker_topic(broker.namespace, broker.name), broker.uid),
            role=TopicRole.CHANNEL,
        )
    return OwnershipRecord(
        uid=broker.uid, kind="Broker", namespace=broker.namespace, name=broker.name, topics=(topic,)
    )


def broker_config(observed: ObservedState, broker: Resource) -> TopicConfig:
    """What its topic is to be like. Raises InvalidConfig; a ConfigMap that was only named by
    default need not exist.
    """
    ref = broker.spec.get("config") or rules.DEFAULT_CONFIG
    try:
        found = observed.lookup("v1", "ConfigMap", str(ref.get("namespace")), str(ref.get("name")))
    except Unresolved as error:
        raise InvalidConfig(str(error)) from error
    if (
        found is None
        and {key: ref.get(key) for key in rules.DEFAULT_CONFIG} != rules.DEFAULT_CONFIG
    ):
        raise InvalidConfig(
            f'configmap "{ref.get("name")}" not found in namespace "{ref.get("namespace")}"'
        )
    data = (found or {}).get("data")
    return read_config(data if isinstance(data, Mapping) else {}, brokers=observed.cluster.brokers)


def _config(
    observed: ObservedState, broker: Resource, decided: dict[str, Condition]
) -> TopicConfig | None:
    try:
        config = broker_config(observed, broker)
    except InvalidConfig as error:
        decided[rules.CONFIG_PARSED] = failed("InvalidConfiguration", str(error))
        return None
    reason = "FewerReplicas" if config.warnings else "KeysNotUsed" if config.unused else ""
    decided[rules.CONFIG_PARSED] = happy(reason, "; ".join((*config.warnings, *config.unused)))
    return config


def _dead_letter_sink(
    observed: ObservedState, broker: Resource, decided: dict[str, Condition], status: dict[str, Any]
) -> None:
    sink = (broker.spec.get("delivery") or {}).get("deadLetterSink")
    if not sink:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = NO_DEAD_LETTER_SINK
        return
    try:
        found = resolve(
            sink,
            namespace=broker.namespace,
            cluster_domain=observed.installation.service_domain,
            lookup=observed.lookup,
        )
    except Unresolved as error:
        decided[rules.DEAD_LETTER_SINK_RESOLVED] = failed(
            "Unable to get the dead letter sink's URI", str(error)
        )
        return
    decided[rules.DEAD_LETTER_SINK_RESOLVED] = resolved(
        found.url, "spec.delivery.deadLetterSink", DEAD_LETTERS_RETAINED
    )
    status |= dead_letter_status(found.url, found.ca_certs, found.audience)


def _topic(
    observed: ObservedState,
    broker: Resource,
    ownership: OwnershipRecord,
    config: TopicConfig,
    draft: Draft,
    decided: dict[str, Condition],
) -> TopicAssessment:
    held = ownership.required_topic(TopicRole.CHANNEL)
    assessment = assess_topic(
        observed, held, channel_topic_spec(held.name, config), topic_permissions(broker)
    )
    if assessment.step:
        draft.add(assessment.step)
    if assessment.held != held:
        draft.add(SaveOwnershipRecord(ownership.with_topic(assessment.held)))
    decided[rules.TOPIC_READY] = happy(
        "PartitionsDiffer" if assessment.note else "", assessment.note
    )
    if assessment.problem:
        decided[rules.TOPIC_READY] = condition_of_problem(assessment.problem)
        if assessment.problem.waiting:
            draft.wait(assessment.problem.message)
    return assessment


def _route(
    observed: ObservedState,
    broker: Resource,
    facts: TopicDescription,
    draft: Draft,
    decided: dict[str, Condition],
    status: dict[str, Any],
) -> None:
    limit = topic_bytes_max(facts, broker_config(observed, broker).bytes_max)
    route = Addressable(
        uid=broker.uid,
        generation=broker.generation,
        epoch=observed.epoch,
        namespace=broker.namespace,
        name=broker.name,
        topic=facts.name,
        paths=(_path(broker),),
        event_bytes_max=limit - OVERHEAD_BYTES,
        event_types=observed.system.features.eventtype_auto_create,
    )
    key = route_key(route)
    if observed.routes.get(key) != route:
        draft.add(PutRoute(route))
        decided[rules.CONFIG_MAP_UPDATED] = unknown(
            "RoutingRecordPending", "the routing record is being written"
        )
        if not was_ready(broker):
            return
    decided[rules.CONFIG_MAP_UPDATED] = happy("")
    if not observed.serves(INGRESS):
        decided[rules.DATA_PLANE_AVAILABLE] = failed(
            "NoIngress", "no ingress process is alive; start one (headrace ingress)"
        )
        draft.wait(f"an ingress process for Broker {broker.namespace}/{broker.name}")
        return
    decided[rules.DATA_PLANE_AVAILABLE] = happy("")
    if not observed.applied(key) and not was_ready(broker):
        decided[rules.PROBE_SUCCEEDED] = unknown(
            "RoutingRecordNotApplied", "not every live process has read the routing record yet"
        )
        draft.wait(f"all processes to read {key}")
        return
    decided[rules.PROBE_SUCCEEDED] = happy("")
    decided[rules.ADDRESSABLE] = happy("")
    status["address"] = _address(observed, broker)


def _keep_address(
    observed: ObservedState, broker: Resource, decided: dict[str, Condition], status: dict[str, Any]
) -> None:
    """Keep the address that was shown while the routing record behind it is in force, whatever else
    is wrong: events are still taken there.

    An address that goes away leaves everybody who refers to this Broker without a destination, for
    a typo in a ConfigMap.
    """
    key = addressable_key(broker.uid)
    if not broker.status.get("address") or key not in observed.routes or key in observed.removals:
        return
    for name in (rules.CONFIG_MAP_UPDATED, rules.DATA_PLANE_AVAILABLE, rules.PROBE_SUCCEEDED):
        standing = condition_of(broker.status, name)
        if standing is not None:
            decided.setdefault(name, standing)
    decided[rules.ADDRESSABLE] = happy("")
    status["address"] = _address(observed, broker)
