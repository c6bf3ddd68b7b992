"""What every addressable needs: names, a topic, a record in the routing table, an address; each
once the one before was observed.
"""

from dataclasses import dataclass

from headrace.domain.backend_name import IN_MEMORY, JETSTREAM, KAFKA, backend_of
from headrace.domain.routing import Addressable, Format, addressable_key, route_key
from headrace.resources.broker_config import OVERHEAD_BYTES, TopicConfig
from headrace.resources.condition_types import (
    ADDRESSABLE,
    CONFIG_MAP_UPDATED,
    DATA_PLANE_AVAILABLE,
    PROBE_SUCCEEDED,
    SCHEMA_VALIDATION,
    TOPIC_READY,
)
from headrace.resources.conditions import condition_of, failed, happy, unknown
from headrace.resources.ownership_record import OwnershipRecord
from headrace_controller.reconcile.backend import ObservedChannel
from headrace_controller.reconcile.event_schemas import validation_condition
from headrace_controller.reconcile.observed_state import FINALIZER, INGRESS
from headrace_controller.reconcile.plan import AddFinalizer, PutRoute, SaveOwnershipRecord
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.registry_settings import auto_creates, schema_validation
from headrace_controller.reconcile.statuses import condition_of_problem, was_ready

_NO_INGRESS = {
    KAFKA: "no ingress process is alive; start one (headrace ingress)",
    IN_MEMORY: "no process that serves in-memory channels is alive; start one (headrace in-memory)",
    JETSTREAM: "no ingress process that is connected to NATS is alive; set HEADRACE_NATS_SERVERS"
    " for the ingress",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressableSpec:
    """What one addressable asks for."""

    topic: str
    """The topic name it prefers; another owner's name is not taken."""
    config: TopicConfig | None
    """None while its configuration cannot be read: nothing is changed then."""
    path: str
    """Where events are posted to, under the ingress URL."""
    hosts: tuple[str, ...] = ()
    """Host names by which events may be posted to any path."""
    url: str | None = None
    """The address to show, if it is not the path under the ingress URL."""
    hostname: str | None = None
    """The host that clients of v1alpha1 look for, one of `hosts`, if it is shown."""
    external_topic: str | None = None
    """An existing topic to use as it is."""
    format: Format = Format.BINARY
    """How events are written to the topic."""


def reconcile_addressable(request: ReconcileRequest, channel: AddressableSpec) -> None:
    """Plan the next steps, and decide the conditions from TopicReady to Addressable, and
    `status.address`.

    `spec.delivery`, as far as it is a default, is written into the object with its finalizer.
    """
    ownership = request.ownership
    validation = validation_condition(request.observed, request.resource)
    if validation is not None:
        request.conditions[SCHEMA_VALIDATION] = validation
    if FINALIZER not in request.resource.finalizers:
        request.draft.add(AddFinalizer(request.resource, request.resource.spec.get("delivery")))
    elif ownership is None:
        claimed = request.backend.claim_channel(
            request.resource, request.names, topic=channel.topic, external=channel.external_topic
        )
        request.draft.add(SaveOwnershipRecord(claimed))
    elif channel.config is not None:
        found = _ensure_channel(request, ownership, channel.config)
        if found is not None:
            _ensure_route(request, found, channel, channel.config)
    if "address" not in request.status:
        _keep_address(request, channel)


def _ensure_channel(
    request: ReconcileRequest, ownership: OwnershipRecord, config: TopicConfig
) -> ObservedChannel | None:
    """Plan what the channel needs; the channel once it can be used."""
    result = request.backend.ensure_channel(
        request.observed, request.resource, ownership, config, request.draft
    )
    if result.problem:
        request.conditions[TOPIC_READY] = condition_of_problem(result.problem)
    else:
        reason = "PartitionsDiffer" if result.note else ""
        request.conditions[TOPIC_READY] = happy(reason, result.note)
    return result.channel


def _ensure_route(
    request: ReconcileRequest, found: ObservedChannel, channel: AddressableSpec, config: TopicConfig
) -> None:
    observed, resource, conditions = request.observed, request.resource, request.conditions
    route = Addressable(
        uid=resource.uid,
        generation=resource.generation,
        epoch=observed.epoch,
        namespace=resource.namespace,
        name=resource.name,
        kind=resource.kind.kind,
        topic=found.topic,
        paths=(channel.path,),
        hosts=channel.hosts,
        event_bytes_max=(found.bytes_max or config.bytes_max) - OVERHEAD_BYTES,
        event_types=auto_creates(observed, resource),
        validation=schema_validation(observed, resource),
        format=channel.format,
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
    backend = backend_of(found.topic)
    if not observed.serves(INGRESS, backend):
        conditions[DATA_PLANE_AVAILABLE] = failed("NoIngress", _NO_INGRESS[backend])
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


def _keep_address(request: ReconcileRequest, channel: AddressableSpec) -> None:
    """Keep the address that was shown while the routing record behind it is in effect, whatever
    else is wrong: events are still accepted there.

    Removing an address would leave everything that refers to this addressable without a
    destination, for a typo in a ConfigMap.
    """
    key, status = addressable_key(request.resource.uid), request.resource.status
    if (
        not status.get("address")
        or key not in request.observed.routes
        or key in request.observed.removed_routes
    ):
        return
    for name in (CONFIG_MAP_UPDATED, DATA_PLANE_AVAILABLE, PROBE_SUCCEEDED):
        present = condition_of(status, name)
        if present is not None:
            request.conditions.setdefault(name, present)
    request.conditions[ADDRESSABLE] = happy("")
    request.status["address"] = _address(request, channel)


def _address(request: ReconcileRequest, channel: AddressableSpec) -> dict[str, str]:
    ingress = request.observed.installation.ingress_of(backend_of(channel.topic))
    shown = {"name": "http", "url": channel.url or ingress + channel.path}
    return {**shown, "hostname": channel.hostname} if channel.hostname else shown
