"""Objects of any kind that a resource owns: created, kept as wanted, and deleted with it."""

from typing import Any

from headrace.resources.conditions import (
    READY,
    Condition,
    ConditionStatus,
    condition_of,
    unknown,
)
from headrace.resources.destination import Unresolved
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace.resources.server_side_apply import is_applied
from headrace_controller.reconcile.backend import Progress
from headrace_controller.reconcile.plan import (
    ApplyObject,
    CreateObject,
    DeleteObject,
    ReconcileProblem,
)
from headrace_controller.reconcile.registry import ReconcileRequest


def owned(owner: Resource, wanted: Resource) -> Resource:
    """`wanted` with `owner` as its controller: it is deleted by garbage collection when the owner
    is.
    """
    reference = {
        "apiVersion": owner.kind.api_version,
        "kind": owner.kind.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
    }
    document = {
        "apiVersion": wanted.kind.api_version,
        "kind": wanted.kind.kind,
        **wanted.object,
    }
    return Resource(wanted.kind, document).with_metadata(ownerReferences=[reference])


def named_object(kind: ResourceKind, namespace: str, name: str, **fields: Any) -> Resource:
    """An object as it is wanted, with `fields` such as `spec` beside its name."""
    return Resource(kind, {"metadata": {"name": name, "namespace": namespace}, **fields})


def reference_to(child: Resource) -> Reference:
    """What the owner's kind must add to its references, so that the child is observed."""
    return Reference(child.kind.api_version, child.kind.kind, child.namespace, child.name)


def ensure_object(request: ReconcileRequest, wanted: Resource) -> ReconcileProblem | None:
    """Plan that the owned object `wanted` exists with these fields; what is in the way.

    An object of that name that the resource does not own is left alone.
    """
    return _ensure(request, wanted, ApplyObject)


def ensure_created(request: ReconcileRequest, wanted: Resource) -> ReconcileProblem | None:
    """As `ensure_object`, for an object that is not changed once it exists."""
    return _ensure(request, wanted, CreateObject)


def _ensure(
    request: ReconcileRequest, wanted: Resource, step: type[ApplyObject] | type[CreateObject]
) -> ReconcileProblem | None:
    wanted = owned(request.resource, wanted)
    try:
        present = _present(request, wanted)
    except Unresolved as error:
        return ReconcileProblem("ObjectUnknown", str(error), waiting=True)
    if present is not None and not is_owned(request.resource, present):
        text = (
            f'{wanted.kind.kind} "{wanted.name}" exists and belongs to another owner; delete it, or'
            " rename this resource"
        )
        return ReconcileProblem("ObjectNotOwned", text)
    if present is not None and (step is CreateObject or is_applied(wanted, present)):
        return None
    request.draft.add(step(wanted))
    failure = request.observed.failed_steps.get(object_name(wanted))
    if failure is not None:
        return ReconcileProblem("ObjectNotApplied", failure.message)
    if present is None:
        text = f"{wanted.kind.kind} {wanted.name} is being created"
        return ReconcileProblem("ObjectNotCreated", text, waiting=True)
    return None


def object_name(resource: Resource) -> str:
    """The key of failed steps about an object: kind, group, namespace and name. There are kinds of
    one name in two groups.
    """
    kind = resource.kind
    name = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return f"{name} {resource.namespace}/{resource.name}"


def subscriber_name(channel: Resource, uid: str) -> str:
    """The key of failed steps about the entry of a Subscription in a channel of another
    controller.
    """
    return f"subscriber {uid} of {object_name(channel)}"


def remove_object(request: ReconcileRequest, child: Resource) -> Progress:
    """Plan that the owned object of `child`'s kind and name is deleted; done once it does not
    exist.
    """
    try:
        present = _present(request, child)
    except Unresolved as error:
        request.draft.wait(str(error))
        return Progress.PENDING
    if present is None or not is_owned(request.resource, present):
        return Progress.DONE
    if not present.deleting:
        request.draft.add(DeleteObject(present))
    request.draft.wait(f"{child.kind.kind} {child.namespace}/{child.name} to be deleted")
    return Progress.PENDING


def readiness_of(request: ReconcileRequest, child: Resource) -> Condition:
    """The Ready condition of an owned object, once it is about the object's newest generation."""
    present = _present(request, child)
    kind = child.kind.kind
    if present is None or present.status.get("observedGeneration") != present.generation:
        return unknown(f"{kind}NotReconciled", f"{kind} {child.name} has not yet been reconciled")
    return condition_of(present.status, READY) or unknown(
        f"{kind}NotReconciled", f"{kind} {child.name} has no Ready condition"
    )


def _present(request: ReconcileRequest, child: Resource) -> Resource | None:
    kind = child.kind
    found = request.observed.lookup(kind.api_version, kind.kind, child.namespace, child.name)
    return None if found is None else Resource(kind, found)


def condition_from(child: Resource, name: str) -> Condition:
    """Condition `name` of an owned object, for its owner's status; True only if it is about the
    object's newest generation.
    """
    kind, found = child.kind.kind, condition_of(child.status, name)
    is_current = child.status.get("observedGeneration") == child.generation
    if found is None or (found.status is ConditionStatus.TRUE and not is_current):
        return unknown(f"{kind}NotReconciled", f"{kind} {child.name} has not yet been reconciled")
    return found


def owned_object(request: ReconcileRequest, child: Resource) -> Resource | None:
    """The object of `child`'s kind and name, if the resource owns it and it is not being deleted.
    Raises Unresolved if its kind cannot be read.
    """
    found = _present(request, child)
    if found is None or found.deleting or not is_owned(request.resource, found):
        return None
    return found


def is_owned(owner: Resource, child: Resource) -> bool:
    """Whether `owner` is the controller of `child`."""
    references = child.metadata.get("ownerReferences") or ()
    return any(each.get("uid") == owner.uid and each.get("controller") for each in references)
