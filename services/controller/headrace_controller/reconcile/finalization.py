"""Clean-up of owners that are being deleted, of owners that disappeared, and of what is kept for a
grace period.

It is driven by the ownership record, not by the resource, so that nothing is left behind when a
resource disappeared without a finalizer. The order: the routing record is removed; every live
process has read that; the backend waits until no consumer is left, deletes what the owner has, and
retires or deletes the ownership record; then the finalizer is removed and the name can be used
again.
"""

from collections.abc import Iterable

from headrace.domain.routing import (
    Addressable,
    EventSource,
    Subscription,
    addressable_key,
    subscription_key,
)
from headrace.resources.ownership_record import OwnershipRecord, TopicRole
from headrace_controller.reconcile.backend import BackendDecisions, Progress
from headrace_controller.reconcile.observed_state import FINALIZER, ObservedState
from headrace_controller.reconcile.plan import Draft, RemoveFinalizer, RemoveRoute, WriteTombstone
from headrace_controller.reconcile.registry import ReconcileRequest


def finalize(request: ReconcileRequest) -> None:
    """Plan the next steps for an owner that is being deleted."""
    observed, ownership, draft = request.observed, request.ownership, request.draft
    if ownership is None or ownership.retired_until is not None:
        if FINALIZER in request.resource.finalizers:
            draft.add(RemoveFinalizer(request.resource))
    elif remove_routes(observed, ownership, draft) is Progress.DONE:
        request.backend.retire(observed, ownership, draft, orphaned=False)


def finalize_orphaned(
    observed: ObservedState, ownership: OwnershipRecord, backend: BackendDecisions, draft: Draft
) -> None:
    """Plan the next steps for an owner that does not exist and was never seen being deleted.

    Its finalizer should have kept it. So it was removed by hand, or these are other resources:
    restored from a backup, of another cluster, in a namespace that is not served. It can no longer
    be served, but nothing is deleted before the grace period is over: this may be an accident.
    """
    if remove_routes(observed, ownership, draft) is Progress.DONE:
        backend.retire(observed, ownership, draft, orphaned=True)


def finalize_retired(
    observed: ObservedState, ownership: OwnershipRecord, backend: BackendDecisions, draft: Draft
) -> None:
    """Plan the end of a retired ownership record once the grace period is over."""
    if ownership.retired_until is None or observed.now < ownership.retired_until:
        draft.requeue(ownership.retired_until or observed.now)
    else:
        backend.purge_retired(observed, ownership, draft)


def remove_orphaned_routes(observed: ObservedState, owners: Iterable[str], draft: Draft) -> None:
    """Remove routing records without an owner: written late by a controller that was replaced, or
    left over from a lost store.
    """
    known = frozenset(owners)
    for key, route in observed.routes.items():
        if (isinstance(route, Addressable | Subscription) and route.uid not in known) or (
            # A source has no ownership record, so other namespaces are not known.
            isinstance(route, EventSource)
            and route.uid not in known
            and observed.installation.serves(route.namespace)
        ):
            draft.add(RemoveRoute(key))


def write_tombstones(observed: ObservedState, draft: Draft) -> None:
    """Write tombstones for what this controller or an earlier one removed from the routing
    table.
    """
    draft.add(
        *(
            WriteTombstone(key)
            for key, epoch in observed.removed_routes.items()
            if epoch <= observed.epoch and key not in observed.routes
        )
    )


def remove_routes(observed: ObservedState, ownership: OwnershipRecord, draft: Draft) -> Progress:
    """Remove the owner's routing records; done once every live process has read that, and has ended
    what it did for a subscription.
    """
    progress = Progress.DONE
    for key in _keys_of(ownership):
        if key in observed.routes:
            draft.add(RemoveRoute(key))
            progress = Progress.PENDING
        elif not observed.applied(key):
            draft.wait(f"all processes to read the removal of {key}")
            progress = Progress.PENDING
    if progress is Progress.DONE and observed.state_of(ownership.uid).draining:
        draft.wait(f"dispatchers to end their requests for {ownership.uid}")
        progress = Progress.PENDING
    return progress


def _keys_of(ownership: OwnershipRecord) -> list[str]:
    keys = [subscription_key(ownership.uid)] if ownership.group else []
    if ownership.topic(TopicRole.CHANNEL) or not keys:
        keys.append(addressable_key(ownership.uid))
    return keys
