"""Channel: an addressable that is backed by an object of the kind that its template names."""

from collections.abc import Iterator

from headrace.resources import channel as rules
from headrace.resources.condition_types import (
    ADDRESSABLE,
    DEAD_LETTER_SINK_RESOLVED,
    DURABLE,
    EVENT_POLICIES_READY,
    SCHEMA_VALIDATION,
)
from headrace.resources.conditions import (
    READY,
    Condition,
    condition_of,
    failed,
    happy,
    unknown,
)
from headrace.resources.destination import Unresolved
from headrace.resources.kinds import CHANNEL
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace_controller.reconcile.channel_lookup import (
    BACKENDS,
    BACKING_KINDS,
    backing_channel,
    backing_kind,
)
from headrace_controller.reconcile.foreign_channels import (
    LABELLED,
    NotAChannel,
    NotReadYet,
    definitions,
    foreign_backing,
    foreign_kind,
    foreign_kinds,
)
from headrace_controller.reconcile.objects import (
    ensure_created,
    ensure_object,
    named_object,
    readiness_of,
    reference_to,
)
from headrace_controller.reconcile.references import dead_letter_sink_of, named
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    EVENT_POLICIES_DISABLED,
    condition_of_problem,
    resolve_dead_letter_sink,
    set_fault_status,
    set_invalid_status,
    set_status,
)

_COPIED = (
    "address",
    "subscribers",
    "deadLetterSinkUri",
    "deadLetterSinkCACerts",
    "deadLetterSinkAudience",
)


def decide(request: ReconcileRequest) -> None:
    """Plan the backing object, and a status that shows its state. An invalid Channel is left as it
    was, and its status says why.
    """
    observed, channel = request.observed, request.resource
    if set_invalid_status(request, rules.CONDITIONS, rules.BACKING_CHANNEL_READY):
        return
    request.conditions[EVENT_POLICIES_READY] = EVENT_POLICIES_DISABLED
    try:
        served = backing_channel(observed, channel)
        backing = served or foreign_backing(observed, channel)
    except NotReadYet as error:
        request.draft.wait(str(error))
        return
    except NotAChannel as error:
        request.conditions[rules.BACKING_CHANNEL_READY] = _unsupported(str(error))
    except Unresolved as error:
        # The channel may work all the same: what is known of it stays.
        fault = failed("ChannelFailure", str(error))
        set_fault_status(request, rules.CONDITIONS, rules.BACKING_CHANNEL_READY, fault)
        return
    else:
        request.conditions[rules.BACKING_CHANNEL_READY] = _backing_condition(request, backing)
        if backing is not None and not backing.deleting:
            _show(request, backing)
    set_status(request, rules.CONDITIONS)


def _backing_condition(request: ReconcileRequest, backing: Resource | None) -> Condition:
    """Plan the backing object if there is none; condition BackingChannelReady."""
    if backing is None:
        return _create(request)
    if backing.deleting:
        text = f"{backing.kind.kind} {backing.name} is being deleted, and then created again"
        request.draft.wait(text)
        return unknown("BackingChannelDeleted", text)
    # Template and delivery are immutable: there is nothing to change once it exists.
    if foreign_kind(backing.object) is None:
        return readiness_of(request, backing)
    # Every Subscription changes the generation, which says nothing about the channel itself.
    return condition_of(backing.status, READY) or unknown(
        "BackingChannelNotConfigured",
        f"BackingChannel has not yet been reconciled: the controller of {backing.kind.kind} has not"
        f" written the status of {backing.name}",
    )


def _create(request: ReconcileRequest) -> Condition:
    """Plan the backing object; the condition until it is there."""
    template = request.resource.spec["channelTemplate"]
    served, foreign = backing_kind(template), foreign_kind(template)
    if served is not None:
        problem = ensure_object(request, _wanted(request.resource, served))
    elif foreign is not None:
        problem = ensure_created(request, _wanted(request.resource, foreign))
    else:
        return _unsupported(f"{template['kind']} of {template['apiVersion']} cannot back a Channel")
    return condition_of_problem(problem) if problem else unknown()


def _unsupported(problem: str) -> Condition:
    kinds = f"{BACKING_KINDS} of {CHANNEL.group}, and {LABELLED}"
    return failed("UnsupportedChannelKind", f"{problem}; spec.channelTemplate may name {kinds}")


def _show(request: ReconcileRequest, backing: Resource) -> None:
    """Show the address, the subscribers and the dead letter sink of the backing object."""
    request.status["channel"] = reference_to(backing).fields
    status = backing.status
    if foreign_kind(backing.object) is not None:
        # Its controller need not resolve it: the Subscriptions pass it on as a URL.
        sink = (request.resource.spec.get("delivery") or {}).get("deadLetterSink")
        resolve_dead_letter_sink(request, sink, "spec.delivery.deadLetterSink")
    request.status.update({name: status[name] for name in _COPIED if status.get(name)})
    shown = condition_of(status, DEAD_LETTER_SINK_RESOLVED)
    if shown is not None or DEAD_LETTER_SINK_RESOLVED not in request.conditions:
        request.conditions[DEAD_LETTER_SINK_RESOLVED] = shown or unknown()
    for name in (DURABLE, SCHEMA_VALIDATION):
        remark = condition_of(status, name)
        if remark is not None:
            request.conditions[name] = remark
    request.conditions[ADDRESSABLE] = (
        happy("")
        if "address" in request.status
        else unknown("NoAddress", f"{backing.kind.kind} {backing.name} has no address yet")
    )


def _wanted(channel: Resource, kind: ResourceKind) -> Resource:
    """The backing object as it is created."""
    spec = dict(channel.spec["channelTemplate"].get("spec") or {})
    if channel.spec.get("delivery") is not None:
        spec["delivery"] = channel.spec["delivery"]
    return named_object(kind, channel.namespace, channel.name, spec=spec)


def _children(channel: Resource) -> Iterator[Reference]:
    served = backing_kind(channel.spec.get("channelTemplate"))
    for kind in (*((served,) if served else ()), *foreign_kinds(channel)):
        yield Reference(kind.api_version, kind.kind, channel.namespace, channel.name)


def _references(channel: Resource) -> Iterator[Reference]:
    yield from definitions(*foreign_kinds(channel))
    yield from named(channel, dead_letter_sink_of(channel))


RECONCILER = KindReconciler(
    kind=CHANNEL,
    rules=rules.RULES,
    references=_references,
    children=_children,
    decide=decide,
    owns=tuple(BACKENDS),
)
