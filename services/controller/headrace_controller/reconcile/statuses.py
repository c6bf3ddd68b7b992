"""What the statuses of all kinds have in common: conditions with the generation they are about,
destinations, and why a resource is not acted on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.routing import Destination
from headrace.resources.condition_types import DEAD_LETTER_SINK_RESOLVED, SUBSCRIBER_RESOLVED
from headrace.resources.conditions import (
    HAPPY,
    READY,
    Condition,
    ConditionSet,
    ConditionStatus,
    condition_of,
    failed,
    happy,
    is_true,
    unknown,
)
from headrace.resources.destination import Unresolved, resolve, unsupported
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import FINALIZER
from headrace_controller.reconcile.plan import ReconcileProblem, SetStatus
from headrace_controller.reconcile.registry import ReconcileRequest

INVALID_SPEC = "InvalidSpec"
UNSUPPORTED_SCHEME = "UnsupportedScheme"
EVENT_POLICIES_DISABLED = happy(
    "OIDCDisabled", 'Feature "authentication-oidc" must be enabled to support Authorization'
)
OIDC_DISABLED = happy("authentication-oidc feature disabled")
NO_DEAD_LETTER_SINK = happy("DeadLetterSinkNotConfigured", "No dead letter sink is configured.")
SUBSCRIBER, REPLY, DEAD_LETTER_SINK = "subscriber", "reply", "deadLetterSink"
"""The prefixes of the fields in a status that show a resolved destination."""
DEAD_LETTERS_RETAINED = "dead letters stay in their topic until then"
EVENTS_DEAD_LETTERED = (
    "until then its events become dead letters at once, with the reason unsupported-scheme"
)
_CONDITION_FIELDS = ("conditions", "observedGeneration")


def set_status(
    request: ReconcileRequest,
    conditions: ConditionSet,
    *,
    when_ready: Condition = HAPPY,
    is_derived: bool = False,
) -> None:
    """Plan the status that was decided on, if it differs from the present one. `when_ready` is the
    condition Ready if nothing is wrong. `is_derived`: no decision depends on what the status was
    before, so that an interim one may be left out.
    """
    before = request.resource.status.get("conditions") or ()
    entries = conditions.render(
        request.conditions, before=before, now=request.observed.now_text, when_ready=when_ready
    )
    _plan_status(request, request.status, entries, is_derived=is_derived)


def set_fault_status(
    request: ReconcileRequest, conditions: ConditionSet, name: str, fault: Condition
) -> None:
    """Plan a status that says, in condition `name`, why the resource is not acted on. Its other
    conditions and fields stay as they are: what was set up before keeps running.
    """
    resource = request.resource
    present = {
        each: found
        for each in conditions.dependents
        if (found := condition_of(resource.status, each))
    }
    before = resource.status.get("conditions")
    entries = conditions.render(
        {**present, name: fault},
        before=before if isinstance(before, list) else (),
        now=request.observed.now_text,
    )
    kept = {key: value for key, value in resource.status.items() if key not in _CONDITION_FIELDS}
    _plan_status(request, kept, entries)


def _plan_status(
    request: ReconcileRequest,
    fields: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    *,
    is_derived: bool = False,
) -> None:
    """A generation counts as observed once Ready is True or False: while Ready is Unknown, a client
    that waits for this generation must not conclude that it is in effect.
    """
    resource = request.resource
    undecided = any(entry["type"] == READY and entry["status"] == "Unknown" for entry in entries)
    observed = resource.status.get("observedGeneration") if undecided else resource.generation
    status = {**fields, "conditions": list(entries)} | (
        {} if observed is None else {"observedGeneration": observed}
    )
    if status != resource.status:
        interim = (
            is_derived and undecided and request.draft.has_steps and _is_being_set_up(resource)
        )
        request.draft.add(SetStatus(resource, status, interim=interim))


def _is_being_set_up(resource: Resource) -> bool:
    """Whether Ready is Unknown. Of a resource without a status, whether it has no finalizer yet: a
    status that is written together with that is refused, because it is of an older version.
    """
    ready = condition_of(resource.status, READY)
    if ready is None:
        return FINALIZER not in resource.finalizers
    return ready.status is ConditionStatus.UNKNOWN


def set_invalid_status(request: ReconcileRequest, conditions: ConditionSet, name: str) -> bool:
    """Plan a status that says, in condition `name`, why the resource is invalid; False if it is
    not. An invalid resource is left as it was.
    """
    fault = request.observed.validation_errors.get(request.resource.uid)
    if fault is None:
        return False
    set_fault_status(request, conditions, name, failed(INVALID_SPEC, fault))
    return True


def live_addressable(
    request: ReconcileRequest,
    name: str,
    addressable: Resource | None,
    *,
    missing: Condition,
    readiness: Callable[[Resource], Condition],
) -> Resource | None:
    """The addressable that a subscription reads from, unless it is being deleted. Condition `name`
    says whether it is ready: `missing` if there is none.
    """
    if addressable is None or addressable.deleting:
        request.conditions[name] = missing
        return None
    request.conditions[name] = readiness(addressable)
    return addressable


def condition_of_problem(problem: ReconcileProblem) -> Condition:
    """A problem as a condition: Unknown if it is temporary, False if it needs action."""
    return (unknown if problem.waiting else failed)(problem.reason, problem.message)


def was_ready(resource: Resource) -> bool:
    """Whether the present generation has been Ready before.

    A process that starts reads the whole routing table before it serves, so a record that all live
    processes had read once is read by all of them.
    """
    return resource.status.get("observedGeneration") == resource.generation and is_true(
        resource.status, READY
    )


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a destination in a spec resolves to."""

    destination: Destination | None
    """None if it cannot be resolved at the moment."""
    condition: Condition
    """Whether it was resolved. True also for a URL that can never be called: the condition then has
    the reason UNSUPPORTED_SCHEME, and says what becomes of the events.
    """
    fields: Mapping[str, str] = field(default_factory=dict)
    """The fields of a status that show it: `<prefix>Uri` and so on."""


def resolve_target(
    request: ReconcileRequest,
    destination: Mapping[str, Any],
    prefix: str,
    *,
    path: str,
    reason: str,
) -> Resolution:
    """Resolve the destination at `path` of the resource; a condition that it is not has `reason`.
    `prefix` is that of its fields in the status: `subscriber`, `reply` or `deadLetterSink`.
    """
    try:
        found = resolve_destination(request, destination)
    except Unresolved as error:
        return Resolution(None, failed(reason, str(error)))
    problem = unsupported(found.url, path)
    consequence = DEAD_LETTERS_RETAINED if prefix == DEAD_LETTER_SINK else EVENTS_DEAD_LETTERED
    condition = happy(UNSUPPORTED_SCHEME, f"{problem}; {consequence}") if problem else happy("")
    return Resolution(found, condition, _destination_fields(prefix, found))


def resolve_subscriber(
    request: ReconcileRequest, destination: Mapping[str, Any], path: str
) -> Destination | None:
    """Resolve the subscriber that `path` of the resource names, into condition and status; None if
    that is not possible.
    """
    reason = "Unable to get the Subscriber's URI"
    found = resolve_target(request, destination, SUBSCRIBER, path=path, reason=reason)
    request.conditions[SUBSCRIBER_RESOLVED] = found.condition
    request.status.update(found.fields)
    return found.destination


def resolve_dead_letter_sink(
    request: ReconcileRequest, destination: Mapping[str, Any] | None, path: str
) -> Destination | None:
    """Resolve the dead letter sink that `path` of the resource names, into condition and status;
    None if there is none, or if it cannot be resolved.
    """
    if not destination:
        request.conditions[DEAD_LETTER_SINK_RESOLVED] = NO_DEAD_LETTER_SINK
        return None
    reason = "Unable to get the dead letter sink's URI"
    found = resolve_target(request, destination, DEAD_LETTER_SINK, path=path, reason=reason)
    request.conditions[DEAD_LETTER_SINK_RESOLVED] = found.condition
    request.status.update(found.fields)
    return found.destination


def resolve_destination(request: ReconcileRequest, destination: Mapping[str, Any]) -> Destination:
    """The URL of a destination in the resource's spec. Raises Unresolved."""
    return resolve(
        destination,
        namespace=request.resource.namespace,
        cluster_domain=request.observed.installation.service_domain,
        lookup=request.observed.lookup,
    )


def _destination_fields(prefix: str, found: Destination) -> dict[str, str]:
    fields = {
        f"{prefix}Uri": found.url,
        f"{prefix}CACerts": found.ca_certs,
        f"{prefix}Audience": found.audience,
    }
    return {key: value for key, value in fields.items() if value}
