"""Sequence: a channel in front of each step, and a Subscription that passes the reply of a step to
the channel of the next one.
"""

from collections.abc import Iterator

from headrace.resources import flow
from headrace.resources import sequence as rules
from headrace.resources.flow import ENTRIES_MAX
from headrace.resources.kinds import SEQUENCE, SUBSCRIPTION
from headrace.resources.resource import Resource
from headrace_controller.reconcile.channel_lookup import BACKENDS
from headrace_controller.reconcile.flow_layout import FlowLayout, Link, child_names
from headrace_controller.reconcile.flow_removal import drained_subscriptions
from headrace_controller.reconcile.flows import decide_flow
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import set_status


def layout_of(observed: ObservedState, sequence: Resource) -> FlowLayout:
    """The children: channel i leads to step i, and its reply to channel i + 1 or out of the
    Sequence.
    """
    steps = rules.steps(sequence)[:ENTRIES_MAX]
    wanted = [rules.child_name(sequence.name, index) for index in range(len(steps))]
    indexes = (rules.index_of(sequence.name, name) for name in child_names(observed, sequence))
    removed = sorted(each for each in indexes if each is not None and each >= len(steps))
    links = [
        Link(
            name=name,
            channel=name,
            subscriber=rules.destination_of(step),
            next=following,
            reply=None if following else sequence.spec.get("reply"),
            delivery=step.get("delivery"),
        )
        for name, following, step in zip(wanted, [*wanted[1:], None], steps, strict=True)
    ]
    return FlowLayout(
        flow=sequence,
        channels=tuple(wanted),
        links=tuple(links),
        removed=(tuple(rules.child_name(sequence.name, index) for index in removed),),
    )


def decide(request: ReconcileRequest) -> None:
    """Plan the children of a Sequence, and its status."""
    sequence = request.resource
    layout = layout_of(request.observed, sequence)
    children = decide_flow(request, layout)
    if children is None:
        return
    request.status["channelStatuses"] = [
        children.channels[name].entry("channel", sequence.namespace) for name in layout.channels
    ]
    request.status["subscriptionStatuses"] = [
        children.links[link.name].entry("subscription", sequence.namespace) for link in layout.links
    ]
    set_status(request, flow.CONDITIONS)


def _drained(observed: ObservedState, sequence: Resource) -> Iterator[Resource]:
    return drained_subscriptions(observed, layout_of(observed, sequence))


RECONCILER = KindReconciler(
    kind=SEQUENCE,
    rules=rules.RULES,
    decide=decide,
    drained=_drained,
    owns=(*BACKENDS, SUBSCRIPTION),
)
