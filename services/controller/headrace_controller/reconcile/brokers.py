"""Broker: an addressable whose topic is configured by a ConfigMap, of the Kafka class."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from headrace.resources import broker as rules
from headrace.resources.broker_config import BYTES_MAX, InvalidConfig, TopicConfig, read_config
from headrace.resources.condition_types import EVENT_POLICIES_READY
from headrace.resources.conditions import Condition, failed, happy
from headrace.resources.destination import Unresolved
from headrace.resources.kinds import BROKER
from headrace.resources.legacy_broker import with_template
from headrace.resources.naming import broker_host, broker_topic
from headrace.resources.resource import Reference, Resource
from headrace.resources.system_config import SYSTEM_NAMESPACE
from headrace_controller.reconcile.addressable import AddressableSpec, reconcile_addressable
from headrace_controller.reconcile.finalization import finalize
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.references import dead_letter_sink_of, named
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    EVENT_POLICIES_DISABLED,
    resolve_dead_letter_sink,
    set_fault_status,
    set_invalid_status,
    set_status,
)


def decide(request: ReconcileRequest) -> None:
    """Plan what a Broker needs next, and its status. An invalid one is left as it was, and its
    status says why.
    """
    observed, broker = request.observed, request.resource
    if not is_managed(observed, broker):
        return
    if set_invalid_status(request, rules.CONDITIONS, rules.CONFIG_PARSED):
        return
    if not rules.is_ours(broker):
        set_fault_status(request, rules.CONDITIONS, rules.CONFIG_PARSED, _class_changed(broker))
        return
    request.conditions[EVENT_POLICIES_READY] = EVENT_POLICIES_DISABLED
    request.conditions.update(_system_condition(observed))
    config = _config(request)
    sink = (broker.spec.get("delivery") or {}).get("deadLetterSink")
    resolve_dead_letter_sink(request, sink, "spec.delivery.deadLetterSink")
    host = broker_host(broker.namespace, broker.name, observed.installation.cluster_domain)
    reconcile_addressable(
        request,
        AddressableSpec(
            topic=broker_topic(broker.namespace, broker.name),
            external_topic=broker.annotations.get(rules.EXTERNAL_TOPIC_ANNOTATION),
            config=config,
            path=f"/{broker.namespace}/{broker.name}",
            hosts=(host,),
            hostname=host,
        ),
    )
    set_status(request, rules.CONDITIONS)


def is_managed(observed: ObservedState, broker: Resource) -> bool:
    """Whether this controller is responsible for the Broker: it has the Kafka class, or had it when
    it was created (the class must not change).
    """
    return rules.is_ours(broker) or observed.ownership_records.get(broker.uid) is not None


def channel_bytes_max(observed: ObservedState, broker: Resource) -> int:
    """The largest record that the Broker's topic is configured to take; the default of topics if
    that cannot be read.
    """
    return observed.derived(_sizes).get(broker.uid, BYTES_MAX)


def _sizes(observed: ObservedState) -> Mapping[str, int]:
    """The sizes of all Brokers whose configuration can be read, by uid: each Trigger needs that of
    its Broker.
    """
    found = {}
    for broker in observed.of(BROKER):
        if rules.is_ours(broker) and broker.uid not in observed.validation_errors:
            with suppress(InvalidConfig):
                found[broker.uid] = _read_config(observed, broker).bytes_max
    return found


def _class_changed(broker: Resource) -> Condition:
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
    """An informational condition, shown only if a ConfigMap that applies to all resources is
    invalid.
    """
    problems = "; ".join(
        f"configmap {SYSTEM_NAMESPACE}/{name}: {problem}"
        for name, problem in sorted(observed.system_problems.items())
    )
    message = f"{problems}; the last valid content stays in effect"
    return {rules.SYSTEM_CONFIG_VALID: failed("InvalidConfigMap", message)} if problems else {}


def _config(request: ReconcileRequest) -> TopicConfig | None:
    try:
        config = _read_config(request.observed, request.resource)
    except InvalidConfig as error:
        request.conditions[rules.CONFIG_PARSED] = failed("InvalidConfiguration", str(error))
        return None
    reason = "FewerReplicas" if config.warnings else "KeysNotUsed" if config.unused else ""
    message = "; ".join((*config.warnings, *config.unused))
    request.conditions[rules.CONFIG_PARSED] = happy(reason, message)
    return config


def _read_config(observed: ObservedState, broker: Resource) -> TopicConfig:
    """The topic configuration. Raises InvalidConfig; the ConfigMap that is the default need not
    exist.
    """
    ref = broker.spec.get("config") or rules.DEFAULT_CONFIG
    namespace, name = str(ref.get("namespace")), str(ref.get("name"))
    try:
        found = observed.lookup("v1", "ConfigMap", namespace, name)
    except Unresolved as error:
        raise InvalidConfig(str(error)) from error
    is_default = {key: ref.get(key) for key in rules.DEFAULT_CONFIG} == rules.DEFAULT_CONFIG
    if found is None and not is_default:
        raise InvalidConfig(f'configmap "{name}" not found in namespace "{namespace}"')
    data = (found or {}).get("data")
    config = read_config(
        data if isinstance(data, Mapping) else {}, brokers=observed.cluster.brokers
    )
    return with_template(config, broker.spec)


def _references(broker: Resource) -> Iterator[Reference]:
    config = broker.spec.get("config") or rules.DEFAULT_CONFIG
    return named(broker, config, dead_letter_sink_of(broker))


RECONCILER = KindReconciler(
    kind=BROKER,
    rules=rules.RULES,
    references=_references,
    channel_bytes_max=channel_bytes_max,
    decide=decide,
    finalize=finalize,
)
