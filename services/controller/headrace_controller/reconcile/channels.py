"""Channel: an addressable that is backed by an object of the kind that its template names."""

from collections.abc import Iterable

from headrace.resources import channel as rules
from headrace.resources.condition_types import (
    ADDRESSABLE,
    DEAD_LETTER_SINK_RESOLVED,
    EVENT_POLICIES_READY,
)
from headrace.resources.conditions import Condition, condition_of, failed, happy, unknown
from headrace.resources.kinds import CHANNEL
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace_controller.reconcile.channel_lookup import (
    BACKENDS,
    BACKING_KINDS,
    backing_channel,
    backing_kind,
)
from headrace_controller.reconcile.objects import ensure_object, readiness_of, reference_to
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    EVENT_POLICIES_DISABLED,
    condition_of_problem,
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
    backing = backing_channel(observed, channel)
    if backing is None:
        request.conditions[rules.BACKING_CHANNEL_READY] = _create(request)
    elif backing.deleting:
        text = f"{backing.kind.kind} {backing.name} is being deleted, and then created again"
        request.conditions[rules.BACKING_CHANNEL_READY] = unknown("BackingChannelDeleted", text)
        request.draft.wait(text)
    else:
        # Template and delivery are immutable: there is nothing to change once it exists.
        request.conditions[rules.BACKING_CHANNEL_READY] = readiness_of(request, backing)
        _show(request, backing)
    set_status(request, rules.CONDITIONS)


def _create(request: ReconcileRequest) -> Condition:
    """Plan the backing object; the condition until it is there."""
    template = request.resource.spec["channelTemplate"]
    kind = backing_kind(template)
    if kind is None:
        return failed(
            "UnsupportedChannelKind",
            f"no channel of kind {template['kind']} in {template['apiVersion']} can be created;"
            f" spec.channelTemplate may name {BACKING_KINDS} of {CHANNEL.group}",
        )
    problem = ensure_object(request, _wanted(request.resource, kind))
    return condition_of_problem(problem) if problem else unknown()


def _show(request: ReconcileRequest, backing: Resource) -> None:
    """Show the address, the subscribers and the dead letter sink of the backing object."""
    request.status["channel"] = {
        "apiVersion": backing.kind.api_version,
        "kind": backing.kind.kind,
        "name": backing.name,
        "namespace": backing.namespace,
    }
    status = backing.status
    request.status.update({name: status[name] for name in _COPIED if status.get(name)})
    request.conditions[DEAD_LETTER_SINK_RESOLVED] = (
        condition_of(status, DEAD_LETTER_SINK_RESOLVED) or unknown()
    )
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
    return Resource(kind, {**_named_as(channel, kind).object, "spec": spec})


def _named_as(channel: Resource, kind: ResourceKind) -> Resource:
    metadata = {"name": channel.name, "namespace": channel.namespace}
    return Resource(kind, {"metadata": metadata})


def _children(channel: Resource) -> Iterable[Reference]:
    kind = backing_kind(channel.spec.get("channelTemplate"))
    return () if kind is None else (reference_to(_named_as(channel, kind)),)


RECONCILER = KindReconciler(
    kind=CHANNEL,
    rules=rules.RULES,
    children=_children,
    decide=decide,
    owns=tuple(BACKENDS),
)
