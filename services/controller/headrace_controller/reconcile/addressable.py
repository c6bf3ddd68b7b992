"""What every addressable needs: names, a topic, a record in the routing table, an address; each
once the one before was observed.
"""

from dataclasses import dataclass

from headrace.domain.routing import Addressable, addressable_key, route_key
from headrace.resources.broker_config import BYTES_MAX, OVERHEAD_BYTES, TopicConfig
from headrace.resources.condition_types import (
    ADDRESSABLE,
    CONFIG_MAP_UPDATED,
    DATA_PLANE_AVAILABLE,
    PROBE_SUCCEEDED,
    TOPIC_READY,
)
from headrace.resources.conditions import condition_of, failed, happy, unknown
from headrace.resources.control_ports import TopicDescription
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import FINALIZER, INGRESS, ObservedState
from headrace_controller.reconcile.plan import AddFinalizer, PutRoute, SaveOwnershipRecord
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.statuses import condition_of_problem, was_ready
from headrace_controller.reconcile.topic_specs import channel_topic_spec
from headrace_controller.reconcile.topics import assess_topic, topic_permissions


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What one addressable asks for."""

    topic: str
    """The topic name it prefers; another owner's name is not taken."""
    config: TopicConfig | None
    """None while its configuration cannot be read: nothing is changed then."""
    path: str
    """Where events are posted to, under the ingress URL."""
    hosts: tuple[str, ...] = ()
    external_topic: str | None = None
    """An existing topic to use as it is."""


def reconcile_addressable(request: ReconcileRequest, channel: Channel) -> None:
    """Plan the next steps, and decide the conditions from TopicReady to Addressable, and
    `status.address`.

    `spec.delivery`, as far as it is a default, is written into the object with its finalizer.
    """
    ownership = request.ownership
    if FINALIZER not in request.resource.finalizers:
        request.draft.add(AddFinalizer(request.resource, request.resource.spec.get("delivery")))
    elif ownership is None:
        request.draft.add(SaveOwnershipRecord(_new_ownership_record(request, channel)))
    elif channel.config is not None:
        facts = _ensure_topic(request, ownership, channel.config)
        if facts is not None:
            _ensure_route(request, facts, channel, channel.config)
    if "address" not in request.status:
        _keep_address(request, channel)


def usable_topic(
    observed: ObservedState, addressable: Resource
) -> tuple[OwnedTopic, TopicDescription] | None:
    """The addressable's topic if subscriptions may read it: it exists, and is the one that was
    created for (or named by) this addressable.
    """
    ownership = observed.ownership_records.get(addressable.uid)
    held = ownership.topic(TopicRole.CHANNEL) if ownership else None
    facts = observed.topics.get(held.name) if held else None
    if held is None or facts is None or held.stage not in (TopicStage.CREATED, TopicStage.EXTERNAL):
        return None
    return None if held.id and facts.id and held.id != facts.id else (held, facts)


def topic_bytes_max(facts: TopicDescription, default: int = BYTES_MAX) -> int:
    """The largest record that a topic takes; `default` if Kafka does not report it."""
    return int(facts.settings.get("max.message.bytes", default))


def retention_seconds(facts: TopicDescription) -> float | None:
    """How long a topic keeps records; None if without limit, or if Kafka does not report it."""
    retention_ms = int(facts.settings.get("retention.ms", "-1"))
    return retention_ms / 1000 if retention_ms >= 0 else None


def _new_ownership_record(request: ReconcileRequest, channel: Channel) -> OwnershipRecord:
    resource = request.resource
    if channel.external_topic:
        topic = OwnedTopic(
            name=channel.external_topic, role=TopicRole.CHANNEL, stage=TopicStage.EXTERNAL
        )
    else:
        topic = OwnedTopic(
            name=request.names.allocate_topic(channel.topic, resource.uid), role=TopicRole.CHANNEL
        )
    return OwnershipRecord(
        uid=resource.uid,
        kind=resource.kind.kind,
        namespace=resource.namespace,
        name=resource.name,
        topics=(topic,),
    )


def _ensure_topic(
    request: ReconcileRequest, ownership: OwnershipRecord, config: TopicConfig
) -> TopicDescription | None:
    """Plan what the topic needs; the topic once it can be used."""
    held = ownership.required_topic(TopicRole.CHANNEL)
    assessment = assess_topic(
        request.observed,
        held,
        channel_topic_spec(held.name, config),
        topic_permissions(request.resource),
    )
    if assessment.step:
        request.draft.add(assessment.step)
    if assessment.held != held:
        request.draft.add(SaveOwnershipRecord(ownership.with_topic(assessment.held)))
    if assessment.problem:
        request.conditions[TOPIC_READY] = condition_of_problem(assessment.problem)
        if assessment.problem.waiting:
            request.draft.wait(assessment.problem.message)
        return None
    reason = "PartitionsDiffer" if assessment.note else ""
    request.conditions[TOPIC_READY] = happy(reason, assessment.note)
    return assessment.facts


def _ensure_route(
    request: ReconcileRequest, facts: TopicDescription, channel: Channel, config: TopicConfig
) -> None:
    observed, resource, conditions = request.observed, request.resource, request.conditions
    route = Addressable(
        uid=resource.uid,
        generation=resource.generation,
        epoch=observed.epoch,
        namespace=resource.namespace,
        name=resource.name,
        kind=resource.kind.kind,
        topic=facts.name,
        paths=(channel.path,),
        hosts=channel.hosts,
        event_bytes_max=topic_bytes_max(facts, config.bytes_max) - OVERHEAD_BYTES,
        event_types=observed.system.features.eventtype_auto_create,
    )
    key = route_key(route)
    if observed.routes.get(key) != route:
        request.draft.add(PutRoute(route))
        conditions[CONFIG_MAP_UPDATED] = unknown(
            "RoutingRecordPending", "the routing record is being written"
        )
        if not was_ready(resource):
            return
    conditions[CONFIG_MAP_UPDATED] = happy("")
    if not observed.serves(INGRESS):
        conditions[DATA_PLANE_AVAILABLE] = failed(
            "NoIngress", "no ingress process is alive; start one (headrace ingress)"
        )
        what = f"{resource.kind.kind} {resource.namespace}/{resource.name}"
        request.draft.wait(f"an ingress process for {what}")
        return
    conditions[DATA_PLANE_AVAILABLE] = happy("")
    if not observed.applied(key) and not was_ready(resource):
        conditions[PROBE_SUCCEEDED] = unknown(
            "RoutingRecordNotApplied", "not every live process has read the routing record yet"
        )
        request.draft.wait(f"all processes to read {key}")
        return
    conditions[PROBE_SUCCEEDED] = happy("")
    conditions[ADDRESSABLE] = happy("")
    request.status["address"] = _address(request, channel)


def _keep_address(request: ReconcileRequest, channel: Channel) -> None:
    """Keep the address that was shown while the routing record behind it is in effect, whatever
    else is wrong: events are still accepted there.

    Removing an address would leave everything that refers to this addressable without a
    destination, for a typo in a ConfigMap.
    """
    key, status = addressable_key(request.resource.uid), request.resource.status
    if (
        not status.get("address")
        or key not in request.observed.routes
        or key in request.observed.removals
    ):
        return
    for name in (CONFIG_MAP_UPDATED, DATA_PLANE_AVAILABLE, PROBE_SUCCEEDED):
        present = condition_of(status, name)
        if present is not None:
            request.conditions.setdefault(name, present)
    request.conditions[ADDRESSABLE] = happy("")
    request.status["address"] = _address(request, channel)


def _address(request: ReconcileRequest, channel: Channel) -> dict[str, str]:
    ingress = request.observed.installation.ingress_url.rstrip("/")
    return {"name": "http", "url": ingress + channel.path}
