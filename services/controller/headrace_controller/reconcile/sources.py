"""What every source needs that the sources service runs: its sink, a record in the routing table,
conditions from what the processes report, and EventTypes.

A kind is a `SourceKind`: which adapter runs it, with which configuration, and which conditions and
status fields the adapter reports.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.domain.backend_name import IN_MEMORY, backend_of
from headrace.domain.delivery import DeliveryPolicy
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.routing import Addressable, Destination, EventSource, Format, source_key
from headrace.domain.source_report import SourceCondition, SourceReport
from headrace.resources import source as common
from headrace.resources.condition_types import (
    DEAD_LETTER_SINK_RESOLVED,
    DELIVERY_HEALTHY,
    OIDC_IDENTITY_CREATED,
)
from headrace.resources.conditions import (
    HAPPY,
    Condition,
    ConditionSet,
    ConditionStatus,
    condition_of,
    failed,
    happy,
    unknown,
)
from headrace.resources.delivery_spec import merge, parse
from headrace.resources.event_type import TypeDescription, owner_uid, source_event_type
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import EVENT_TYPE
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace.resources.server_side_apply import is_applied
from headrace_controller.reconcile.observed_state import FINALIZER, SOURCES, ObservedState
from headrace_controller.reconcile.plan import (
    AddFinalizer,
    ApplyObject,
    DeleteObject,
    PutRoute,
    RemoveFinalizer,
    RemoveRoute,
)
from headrace_controller.reconcile.references import dead_letter_sink_of, named, ref_of
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    OIDC_DISABLED,
    resolve_dead_letter_sink,
    resolve_target,
    set_fault_status,
    set_invalid_status,
    set_status,
)

SINK = "sink"
_NO_PROCESS = (
    "no process of the sources service is alive; start one (headrace sources), and look at its log"
)
_EVENT_TYPES_MAX = 64
"""EventTypes that are created for one source."""


class InvalidSource(Exception):
    """The spec passed validation and cannot be run all the same; the message says what to change.

    `condition` becomes False.
    """

    def __init__(self, reason: str, message: str, *, condition: str = common.DEPLOYED) -> None:
        super().__init__(message)
        self.reason = reason
        self.condition = condition


EventTypes = Sequence[tuple[str, str]]
"""Type and source of the events that a source sends: `status.ceAttributes`. The source is empty if
it is not known beforehand.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind:
    """One kind of sources."""

    kind: ResourceKind
    rules: KindRules
    adapter: str | Callable[[Resource], str]
    config: Callable[[ReconcileRequest], Mapping[str, Any]]
    """The configuration of the adapter. Raises InvalidSource."""
    conditions: ConditionSet
    event_types: Callable[[Resource], EventTypes] = lambda _: ()
    """From the resource with the fields of the status that the adapter has published."""
    described: Mapping[str, TypeDescription] = field(default_factory=dict)
    """What the definition of the kind says about its types of events, by type."""
    fields: tuple[str, ...] = ()
    """The fields of the status that the adapter publishes."""
    finalizes: bool = False
    """Whether the adapter has something to remove in the outside system."""
    is_off: Callable[[Resource], bool] = lambda _: False
    """Whether the spec switches the source off, beside the annotation."""
    references: Callable[[Resource], Iterable[Reference]] = lambda _: ()
    """Objects that the configuration depends on, beside the sinks."""
    todays: Callable[[Resource], Resource] = lambda source: source
    """The resource with the spec of today that has the same effect, for a kind of Knative 0.5.
    Everything but the rules of the kind sees this one.
    """

    def reconciler(self) -> KindReconciler:
        """What the registry needs."""
        return KindReconciler(
            kind=self.kind,
            rules=self.rules,
            references=self._references,
            decide=self._decide,
            finalize=self._finalize if self.finalizes else None,
            owns=(EVENT_TYPE,),
        )

    def _references(self, resource: Resource) -> Iterator[Reference]:
        source = self.todays(resource)
        yield from named(source, ref_of(common.sink_of(source)), dead_letter_sink_of(source))
        yield from self.references(source)

    def _as_todays(self, request: ReconcileRequest) -> ReconcileRequest:
        """Only for reading: what is written to the resource has its own spec."""
        return replace(request, resource=self.todays(request.resource))

    def _decide(self, request: ReconcileRequest) -> None:
        source = request.resource
        if set_invalid_status(request, self.conditions, common.DEPLOYED):
            return
        if self.finalizes and FINALIZER not in source.finalizers:
            request.draft.add(AddFinalizer(source))
            return
        request = self._as_todays(request)
        source = request.resource
        sink = _resolve_sink(request)
        dead_letter_sink = _resolve_dead_letter_sink(request)
        request.conditions[OIDC_IDENTITY_CREATED] = OIDC_DISABLED
        self._keep_fields(request)
        event_types = self.event_types(source.with_status(request.status))
        request.status["ceAttributes"] = [
            {"type": type_, **({"source": origin} if origin else {})}
            for type_, origin in event_types
        ]
        if not request.status["ceAttributes"]:
            del request.status["ceAttributes"]
        off = self._off(source)
        if off is not None:
            self._pause(request, off)
        elif sink is not None:
            try:
                config = self.config(request)
            except InvalidSource as error:
                request.conditions[error.condition] = failed(error.reason, str(error))
                self._keep_conditions(request)
            else:
                self._run(request, self._route(request, sink, dead_letter_sink, config))
        else:
            self._wait_for_sink(request)
        self._ensure_event_types(request, event_types)
        set_status(request, self.conditions, when_ready=off or HAPPY)

    def _route(
        self,
        request: ReconcileRequest,
        sink: Destination,
        dead_letter_sink: Destination | None,
        config: Mapping[str, Any],
    ) -> EventSource:
        source = request.resource
        overrides = common.extensions_of(source)
        return replace(
            self._bare_route(request, self._adapter(source), config),
            sink=sink,
            sink_topic=_topic_of(request.observed, sink),
            extensions={name.lower(): str(value) for name, value in overrides.items()},
            delivery=_delivery_of(source),
            dead_letter_sink=dead_letter_sink,
        )

    def _bare_route(
        self, request: ReconcileRequest, adapter: str, config: Mapping[str, Any]
    ) -> EventSource:
        """The record without a sink."""
        source = request.resource
        return EventSource(
            uid=source.uid,
            generation=source.generation,
            epoch=request.observed.epoch,
            namespace=source.namespace,
            name=source.name,
            kind=source.kind.kind,
            adapter=adapter,
            config=config,
            published=self._published(source),
        )

    def _adapter(self, source: Resource) -> str:
        return self.adapter if isinstance(self.adapter, str) else self.adapter(source)

    def _published(self, source: Resource) -> Mapping[str, Any]:
        return {name: source.status[name] for name in self.fields if name in source.status}

    def _keep_fields(self, request: ReconcileRequest) -> None:
        """The published fields: as reported, else as they were."""
        request.status.update(self._published(request.resource))
        report = request.observed.report_of(request.resource.uid)
        for name, value in (report.fields if report is not None else {}).items():
            if name in self.fields and value is not None:
                request.status[name] = value
            elif name in self.fields:
                request.status.pop(name, None)

    def _run(self, request: ReconcileRequest, route: EventSource) -> None:
        """Plan the record, and set the conditions that the processes report."""
        observed, key = request.observed, source_key(route.uid)
        if observed.routes.get(key) != route:
            request.draft.add(PutRoute(route))
        report = observed.report_of(route.uid)
        names = [
            name
            for name in self.conditions.dependents
            if name not in (common.SINK_PROVIDED, OIDC_IDENTITY_CREATED)
        ]
        if not observed.serves(SOURCES):
            request.draft.wait("a process of the sources service")
            waiting = unknown("NoSourcesProcess", _NO_PROCESS)
            request.conditions.update(dict.fromkeys(names, waiting))
        elif report is None or report.generation < route.generation:
            waiting = unknown("Starting", "the source is being started")
            request.conditions.update(dict.fromkeys(names, waiting))
        else:
            for name in names:
                request.conditions[name] = _condition(report.conditions.get(name), report)
            health = report.conditions.get(DELIVERY_HEALTHY)
            request.conditions[DELIVERY_HEALTHY] = (
                failed(health.reason, health.message) if health is not None else happy("")
            )

    def _keep_conditions(self, request: ReconcileRequest) -> None:
        """What was set up before keeps running, and its conditions stay."""
        for name in self.conditions.dependents:
            present = condition_of(request.resource.status, name)
            if present is not None:
                request.conditions.setdefault(name, present)

    def _stop(self, request: ReconcileRequest) -> None:
        """Plan that no process runs the source. Its record stays: a removed one means that the
        resource is gone, and the cursor with it.
        """
        route = request.observed.routes.get(source_key(request.resource.uid))
        if isinstance(route, EventSource) and not route.paused:
            epoch = request.observed.epoch
            request.draft.add(PutRoute(replace(route, epoch=epoch, paused=True)))

    def _ensure_event_types(self, request: ReconcileRequest, event_types: EventTypes) -> None:
        """Plan an EventType for each kind of event that goes to an object, as Knative does, and
        that there are no others. What a user has added to one stays.
        """
        source, observed = request.resource, request.observed
        present = {
            each.name: each for each in observed.derived(_event_types_by_owner).get(source.uid, ())
        }
        wanted = {each.name: each for each in self._wanted_event_types(source, event_types)}
        for name, found in present.items():
            if name not in wanted and not found.deleting:
                request.draft.add(DeleteObject(found))
        for name, event_type in wanted.items():
            if name in present:
                if not is_applied(event_type, present[name]):
                    request.draft.add(ApplyObject(event_type))
            # One of that name without this owner is a user's, or of a source that is gone.
            elif observed.get(EVENT_TYPE, event_type.namespace, name) is None:
                request.draft.add(ApplyObject(event_type))

    def _wanted_event_types(self, source: Resource, event_types: EventTypes) -> Iterator[Resource]:
        reference = ref_of(common.sink_of(source))
        if not isinstance(reference, Mapping):
            return
        for type_, origin in event_types[:_EVENT_TYPES_MAX]:
            sent = ObservedEventType(source.uid, type_, origin)
            yield source_event_type(source, reference, sent, self.described.get(type_))

    def _off(self, source: Resource) -> Condition | None:
        """How a source that is switched off shows it; None for one that runs."""
        if common.is_paused(source):
            return common.PAUSED
        return happy("Paused", "switched off by the spec") if self.is_off(source) else None

    def _pause(self, request: ReconcileRequest, off: Condition) -> None:
        self._stop(request)
        for name in self.conditions.dependents:
            request.conditions.setdefault(name, off)

    def _wait_for_sink(self, request: ReconcileRequest) -> None:
        """Without a sink nothing is read, so that nothing is read in vain."""
        self._stop(request)
        for name in self.conditions.dependents:
            request.conditions.setdefault(name, unknown("NoSink", "there is no sink to send to"))

    def _finalize(self, request: ReconcileRequest) -> None:
        """Let the adapter remove what the source has outside; then the record, then the
        finalizer.
        """
        observed, source, draft = request.observed, request.resource, request.draft
        key = source_key(source.uid)
        route = observed.routes.get(key)
        report = observed.report_of(source.uid)
        if FINALIZER not in source.finalizers:
            return
        published = self._published(source)
        if not isinstance(route, EventSource) and not published:
            draft.add(RemoveFinalizer(source))
        elif report is not None and report.finalized:
            draft.add(RemoveRoute(key), RemoveFinalizer(source))
        else:
            self._request_finalization(request, route if isinstance(route, EventSource) else None)

    def _request_finalization(self, request: ReconcileRequest, present: EventSource | None) -> None:
        observed, source = request.observed, request.resource
        if present is not None:
            adapter, config = present.adapter, present.config
        else:
            try:
                config = self.config(self._as_todays(request))
            except InvalidSource:
                request.draft.add(RemoveFinalizer(source))
                return
            adapter = self._adapter(source)
        wanted = replace(self._bare_route(request, adapter, config), finalizing=True)
        if observed.routes.get(source_key(source.uid)) != wanted:
            request.draft.add(PutRoute(wanted))
        request.draft.wait(f"the sources service to remove what {source.name} has outside")
        report = observed.report_of(source.uid)
        fault = next(
            (
                failed(each.reason, f"{each.message}; the resource is deleted after that works")
                for each in (report.conditions.values() if report is not None else ())
                if each.status is False
            ),
            None
            if observed.serves(SOURCES)
            else unknown("NoSourcesProcess", f"{_NO_PROCESS}; the resource is deleted after that"),
        )
        if fault is not None:
            set_fault_status(request, self.conditions, common.DEPLOYED, fault)


def _condition(found: SourceCondition | None, report: SourceReport) -> Condition:
    if found is None:
        deployed = report.conditions.get(common.DEPLOYED)
        if deployed is not None and deployed.status is False:
            return unknown(deployed.reason, deployed.message)
        return unknown("Starting", "the source has not reported it yet")
    status = {
        True: ConditionStatus.TRUE,
        False: ConditionStatus.FALSE,
        None: ConditionStatus.UNKNOWN,
    }[found.status]
    return Condition(status, found.reason, found.message)


def _resolve_sink(request: ReconcileRequest) -> Destination | None:
    sink = common.sink_of(request.resource)
    if sink is None:
        text = "spec.sink is missing; set it to where the events go"
        request.conditions[common.SINK_PROVIDED] = failed("Missing", text)
        return None
    found = resolve_target(request, sink, SINK, path="spec.sink", reason="NotFound")
    request.conditions[common.SINK_PROVIDED] = found.condition
    request.status.update(found.fields)
    return found.destination


def _resolve_dead_letter_sink(request: ReconcileRequest) -> Destination | None:
    block = request.resource.spec.get("delivery")
    sink = block.get("deadLetterSink") if isinstance(block, Mapping) else None
    if not sink:
        return None
    destination = resolve_dead_letter_sink(request, sink, "spec.delivery.deadLetterSink")
    # Shown beside the conditions of the kind, whose Ready does not depend on it.
    del request.conditions[DEAD_LETTER_SINK_RESOLVED]
    return destination


def _topic_of(observed: ObservedState, sink: Destination) -> str | None:
    """The topic to which events are appended instead of posting them; None if they are posted."""
    addressable = observed.addressable_at(sink.url)
    if (
        addressable is None
        or addressable.format is not Format.BINARY
        or backend_of(addressable.topic) == IN_MEMORY
    ):
        return None
    # The sources service finds the rules of its sink by the topic, so it must have one owner.
    shared = observed.derived(_addressables_by_topic)[addressable.topic] > 1
    return None if shared else addressable.topic


def _addressables_by_topic(observed: ObservedState) -> Counter[str]:
    """How many addressables write to each topic."""
    return Counter(each.topic for each in observed.routes.values() if isinstance(each, Addressable))


def _delivery_of(source: Resource) -> DeliveryPolicy:
    block = source.spec.get("delivery")
    parsed, _ = parse(block if isinstance(block, Mapping) else {}, "spec.delivery")
    return merge(parsed, None)


def _event_types_by_owner(observed: ObservedState) -> Mapping[str, Sequence[Resource]]:
    found: dict[str, list[Resource]] = {}
    for each in observed.of(EVENT_TYPE):
        found.setdefault(owner_uid(each), []).append(each)
    return found
