"""Parallel: one channel that every branch reads through its filter, and a channel behind each
filter for the branch's subscriber.
"""

from collections.abc import Iterator

from headrace.resources import flow
from headrace.resources import parallel as rules
from headrace.resources.flow import ENTRIES_MAX
from headrace.resources.kinds import PARALLEL, SUBSCRIPTION
from headrace.resources.resource import Resource
from headrace_controller.reconcile.branch_numbers import numbers_of
from headrace_controller.reconcile.channel_lookup import BACKENDS
from headrace_controller.reconcile.flow_layout import FlowLayout, Link, child_names
from headrace_controller.reconcile.flow_removal import drained_subscriptions
from headrace_controller.reconcile.flows import decide_flow
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import set_status


def layout_of(observed: ObservedState, parallel: Resource) -> FlowLayout:
    """The children: the filter of branch i reads the first channel and replies to channel i, which
    the subscriber of branch i reads.
    """
    branches = rules.branches(parallel)[:ENTRIES_MAX]
    ingress = rules.ingress_name(parallel.name)
    numbers = numbers_of(observed, parallel)[:ENTRIES_MAX]
    names = [_names(parallel, number) for number in numbers]
    present = (rules.number_of(parallel.name, name) for name in child_names(observed, parallel))
    removed = sorted({each for each in present if each is not None} - set(numbers))
    links = []
    for (filter_name, name), branch in zip(names, branches, strict=True):
        links += [
            Link(
                name=filter_name,
                channel=ingress,
                subscriber=branch.get("filter") or None,
                next=name,
            ),
            Link(
                name=name,
                channel=name,
                subscriber=branch.get("subscriber"),
                reply=branch.get("reply") or parallel.spec.get("reply"),
                delivery=branch.get("delivery"),
            ),
        ]
    return FlowLayout(
        flow=parallel,
        channels=(ingress, *(name for _, name in names)),
        links=tuple(links),
        removed=tuple(_names(parallel, number) for number in removed),
    )


def _names(parallel: Resource, number: int) -> tuple[str, str]:
    """The names of the children of a branch: of its filter, and those behind it."""
    return rules.filter_name(parallel.name, number), rules.branch_name(parallel.name, number)


def decide(request: ReconcileRequest) -> None:
    """Plan the children of a Parallel, and its status."""
    parallel = request.resource
    layout = layout_of(request.observed, parallel)
    children = decide_flow(request, layout)
    if children is None:
        return
    ingress, namespace = layout.channels[0], parallel.namespace
    request.status["ingressChannelStatus"] = children.channels[ingress].entry("channel", namespace)
    request.status["branchStatuses"] = [
        {
            "filterSubscriptionStatus": children.links[link.name].entry("subscription", namespace),
            "filterChannelStatus": children.channels[link.next].entry("channel", namespace),
            "subscriberSubscriptionStatus": children.links[link.next].entry(
                "subscription", namespace
            ),
        }
        for link in layout.readers(ingress)
        if link.next is not None
    ]
    set_status(request, flow.CONDITIONS)


def _drained(observed: ObservedState, parallel: Resource) -> Iterator[Resource]:
    return drained_subscriptions(observed, layout_of(observed, parallel))


RECONCILER = KindReconciler(
    kind=PARALLEL,
    rules=rules.RULES,
    decide=decide,
    drained=_drained,
    owns=(*BACKENDS, SUBSCRIPTION),
)
