"""The decision over all resources: each by its kind's reconciler, then what has no owner."""

from collections.abc import Iterator

from headrace.resources.broker_config import BYTES_MAX
from headrace.resources.naming import NameAllocator
from headrace_controller.reconcile.backend import BackendDecisions
from headrace_controller.reconcile.finalization import (
    finalize_orphaned,
    finalize_retired,
    remove_orphaned_routes,
    write_tombstones,
)
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import Draft, Plan
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest, Reconcilers

SLICE_RESOURCES = 10
"""Resources per slice: 2 to 3 ms of work. A request to the API waits for several slices."""


def reconcile(observed: ObservedState, reconcilers: Reconcilers, backend: BackendDecisions) -> Plan:
    """Decide what to do next.

    A converged state gives a plan without steps. From any state, executing a plan's steps in order,
    all or only some of them, observing and deciding again leads to a converged state.
    """
    plans = reconcile_in_slices(observed, reconcilers, backend)
    return next(plan for plan in plans if plan is not None)


def reconcile_in_slices(
    observed: ObservedState, reconcilers: Reconcilers, backend: BackendDecisions
) -> Iterator[Plan | None]:
    """`reconcile` in slices: None after each of them, the plan at the end.

    With a thousand Triggers a reconcile takes a third of a second, which is too long to block other
    users of the thread (such as the API).
    """
    draft = Draft()
    names = NameAllocator(
        {
            name: uid
            for uid, ownership in observed.ownership_records.items()
            for name in ownership.names
        }
    )
    size = _largest_channel(observed, reconcilers)
    backend.prepare(observed, draft, record_bytes_max=size)
    resources = [
        (reconciler, resource)
        for reconciler in reconcilers
        for resource in observed.of(reconciler.kind)
    ]
    for number, (reconciler, resource) in enumerate(resources):
        if number % SLICE_RESOURCES == SLICE_RESOURCES - 1:
            yield None
        with draft.isolated(resource):
            _reconcile_one(reconciler, ReconcileRequest(observed, resource, names, draft, backend))
    for reconciler in reconcilers:
        if reconciler.decide_all is not None:
            reconciler.decide_all(observed, draft)
    _clean_up(observed, {resource.uid for _, resource in resources}, backend, draft)
    yield draft.finish()


def _reconcile_one(reconciler: KindReconciler, request: ReconcileRequest) -> None:
    if not request.resource.deleting:
        reconciler.decide(request)
    elif reconciler.finalize is not None:
        reconciler.finalize(request)


def _clean_up(
    observed: ObservedState, existing: set[str], backend: BackendDecisions, draft: Draft
) -> None:
    for uid, ownership in observed.ownership_records.items():
        if ownership.retired_until is not None:
            finalize_retired(observed, ownership, backend, draft)
        elif (
            uid not in existing
            and ownership.namespace  # a record without one is the backend's own
            and observed.installation.serves(ownership.namespace)
        ):
            finalize_orphaned(observed, ownership, backend, draft)
    remove_orphaned_routes(observed, existing | set(observed.ownership_records), draft)
    write_tombstones(observed, draft)


def _largest_channel(observed: ObservedState, reconcilers: Reconcilers) -> int:
    """The largest record that a channel is configured for: what the backend shares between channels
    must take it.
    """
    return max(
        (
            each.channel_bytes_max(observed, resource)
            for each in reconcilers
            for resource in observed.of(each.kind)
        ),
        default=BYTES_MAX,
    )
