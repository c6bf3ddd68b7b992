"""Channel: an addressable that is backed by an object of the kind that its template names."""

from collections.abc import Iterable

from headrace.resources import channel as rules
from headrace.resources.condition_types import (
    ADDRESSABLE,
    DEAD_LETTER_SINK_RESOLVED,
    EVENT_POLICIES_READY,
)
from headrace.resources.conditions import condition_of, failed, happy, unknown
from headrace.resources.kinds import CHANNEL, KAFKA_CHANNEL
from headrace.resources.resource import Reference, Resource
from headrace_controller.reconcile.channelables import (
    BACKING_KINDS,
    backing_channel,
    backing_kind,
)
from headrace_controller.reconcile.objects import ensure_object, readiness_of, reference_to
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    EVENT_POLICIES_DISABLED,
    condition_of_problem,
    invalid_spec,
    set_fault_status,
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
    if channel.uid in observed.validation_errors:
        fault = invalid_spec(observed.validation_errors[channel.uid])
        set_fault_status(request, rules.CONDITIONS, rules.BACKING_CHANNEL_READY, fault)
        return
    request.conditions[EVENT_POLICIES_READY] = EVENT_POLICIES_DISABLED
    backing = _backing(channel)
    if backing is None:
        kind = channel.spec["channelTemplate"]["kind"]
        request.conditions[rules.BACKING_CHANNEL_READY] = failed(
            "UnsupportedChannelKind",
            f"no channel of kind {kind} can be created; spec.channelTemplate.kind may be"
            f" {BACKING_KINDS}",
        )
    else:
        problem = ensure_object(request, backing)
        request.conditions[rules.BACKING_CHANNEL_READY] = (
            condition_of_problem(problem) if problem else readiness_of(request, backing)
        )
        _show(request, backing)
    set_status(request, rules.CONDITIONS)


def _show(request: ReconcileRequest, backing: Resource) -> None:
    """Show the address, the subscribers and the dead letter sink of the backing object."""
    request.status["channel"] = {
        "apiVersion": backing.kind.api_version,
        "kind": backing.kind.kind,
        "name": backing.name,
        "namespace": backing.namespace,
    }
    present = backing_channel(request.observed, request.resource)
    status = present.status if present is not None else {}
    request.status.update({name: status[name] for name in _COPIED if status.get(name)})
    request.conditions[DEAD_LETTER_SINK_RESOLVED] = (
        condition_of(status, DEAD_LETTER_SINK_RESOLVED) or unknown()
    )
    request.conditions[ADDRESSABLE] = (
        happy("")
        if "address" in request.status
        else unknown("NoAddress", f"{backing.kind.kind} {backing.name} has no address yet")
    )


def _backing(channel: Resource) -> Resource | None:
    """The backing object as it should be; None if its kind is not served here."""
    template = channel.spec["channelTemplate"]
    kind = backing_kind(template)
    if kind is None:
        return None
    spec = dict(template.get("spec") or {})
    if channel.spec.get("delivery") is not None:
        spec["delivery"] = channel.spec["delivery"]
    metadata = {"name": channel.name, "namespace": channel.namespace}
    return Resource(kind, {"metadata": metadata, "spec": spec})


def _children(channel: Resource) -> Iterable[Reference]:
    kind = backing_kind(channel.spec.get("channelTemplate"))
    if kind is None:
        return ()
    metadata = {"name": channel.name, "namespace": channel.namespace}
    return (reference_to(Resource(kind, {"metadata": metadata})),)


RECONCILER = KindReconciler(
    kind=CHANNEL,
    rules=rules.RULES,
    children=_children,
    decide=decide,
    owns=(KAFKA_CHANNEL,),
)
