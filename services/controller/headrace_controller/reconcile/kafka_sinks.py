"""KafkaSink: an addressable whose topic is a user's own, in the Kafka of this installation."""

from collections.abc import Iterator, Mapping, Sequence

from headrace.resources import kafka_sink as rules
from headrace.resources.condition_types import EVENT_POLICIES_READY, TOPIC_READY
from headrace.resources.conditions import failed
from headrace.resources.kinds import KAFKA_SINK
from headrace.resources.naming import RESERVED, folded, reserved_message, sink_host
from headrace.resources.ownership_record import OwnershipRecord, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.addressable import AddressableSpec, reconcile_addressable
from headrace_controller.reconcile.finalization import finalize
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import ReconcileProblem
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    EVENT_POLICIES_DISABLED,
    set_invalid_status,
    set_status,
)

_SHOWN_MAX = 5


def decide(request: ReconcileRequest) -> None:
    """Plan what a KafkaSink needs next, and its status. One with a problem is left as it was."""
    observed, sink = request.observed, request.resource
    if set_invalid_status(request, rules.CONDITIONS, TOPIC_READY):
        return
    request.conditions[EVENT_POLICIES_READY] = EVENT_POLICIES_DISABLED
    problem = _problem(observed, sink)
    if problem is not None:
        request.conditions[TOPIC_READY] = failed(problem.reason, problem.message)
    # A name is not claimed while there is a problem with it.
    if problem is None or request.ownership is not None:
        topic, creates = sink.spec["topic"], rules.creates_topic(sink)
        host = sink_host(sink.namespace, sink.name, observed.installation.cluster_domain)
        reconcile_addressable(
            request,
            AddressableSpec(
                topic=topic,
                external_topic=None if creates else topic,
                config=None if problem else rules.topic_config(sink),
                path=f"/{sink.namespace}/{KAFKA_SINK.plural}/{sink.name}",
                hosts=(host,),
                hostname=host,
                format=rules.format_of(sink),
            ),
        )
    set_status(request, rules.CONDITIONS)


def _problem(observed: ObservedState, sink: Resource) -> ReconcileProblem | None:
    asked, own = rules.bootstrap_servers(sink), observed.cluster.addresses
    if asked and own and not set(asked) & set(own):
        text = (
            f"spec.bootstrapServers names another Kafka ({_shown(asked)}) than that of this"
            f" installation ({_shown(own)}), which is the only one that is written to; name that"
            " one, or leave the field out. A subscriber of your own can write to another Kafka"
        )
        return ReconcileProblem("OtherKafka", text)
    topic = sink.spec["topic"]
    if topic in RESERVED:
        return ReconcileProblem("TopicReserved", reserved_message(topic))
    for owner in observed.derived(_owners).get(folded(topic), ()):
        if owner.uid != sink.uid and not (_is_external(owner) and not rules.creates_topic(sink)):
            text = (
                f"topic {topic} is that of {owner.kind} {owner.namespace}/{owner.name}; create a"
                " KafkaSink with another spec.topic. Several KafkaSinks have one topic if none of"
                " them creates it: leave out spec.numPartitions"
            )
            return ReconcileProblem("TopicTaken", text)
    return None


def _is_external(owner: OwnershipRecord) -> bool:
    """Whether the topic is a user's own. In others are only events that their owner accepted."""
    held = owner.topic(TopicRole.CHANNEL)
    return held is not None and held.stage is TopicStage.EXTERNAL


def _owners(observed: ObservedState) -> Mapping[str, Sequence[OwnershipRecord]]:
    """The records that have a topic of this name."""
    found: dict[str, list[OwnershipRecord]] = {}
    for name, record in _topics(observed):
        found.setdefault(name, []).append(record)
    return found


def _topics(observed: ObservedState) -> Iterator[tuple[str, OwnershipRecord]]:
    for record in observed.ownership_records.values():
        for topic in record.topics:
            yield folded(topic.name), record


def _shown(addresses: Sequence[str]) -> str:
    more = f" and {len(addresses) - _SHOWN_MAX} more" if len(addresses) > _SHOWN_MAX else ""
    return ", ".join(each[:100] for each in addresses[:_SHOWN_MAX]) + more


RECONCILER = KindReconciler(kind=KAFKA_SINK, rules=rules.RULES, decide=decide, finalize=finalize)
