"""Subscription of Knative 0.5: today's Subscription of the same name, which it owns."""

from collections.abc import Iterable, Mapping

from headrace.resources import legacy_subscription as rules
from headrace.resources.condition_types import ADDED_TO_CHANNEL
from headrace.resources.conditions import unknown
from headrace.resources.destination import Unresolved
from headrace.resources.kinds import LEGACY_SUBSCRIPTION, SUBSCRIPTION
from headrace.resources.resource import Reference, Resource
from headrace.resources.subscription import CHANNEL_READY, REFERENCES_RESOLVED
from headrace_controller.reconcile.objects import (
    condition_from,
    ensure_object,
    named_object,
    owned_object,
)
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    condition_of_problem,
    set_invalid_status,
    set_status,
)

_CONDITIONS: Mapping[str, str] = {
    rules.RESOLVED: REFERENCES_RESOLVED,
    ADDED_TO_CHANNEL: ADDED_TO_CHANNEL,
    rules.CHANNEL_READY: CHANNEL_READY,
}
"""Condition of today's Subscription by the condition of 0.5."""
_ADDRESSES: Mapping[str, str] = {"subscriberURI": "subscriberUri", "replyURI": "replyUri"}


def decide(request: ReconcileRequest) -> None:
    """Plan today's Subscription, and a status that shows its state. An invalid Subscription is left
    as it was, and its status says why.
    """
    if set_invalid_status(request, rules.CONDITIONS, rules.RESOLVED):
        return
    subscription = request.resource
    spec = rules.todays_spec(subscription)
    wanted = named_object(SUBSCRIPTION, subscription.namespace, subscription.name, spec=spec)
    try:
        problem = ensure_object(request, wanted)
        child = owned_object(request, wanted)
    except Unresolved as error:
        request.conditions[rules.RESOLVED] = unknown("SubscriptionUnknown", str(error))
    else:
        if child is not None:
            _show(request, child)
        if problem is not None:
            request.conditions[rules.RESOLVED] = condition_of_problem(problem)
    set_status(request, rules.CONDITIONS)


def _show(request: ReconcileRequest, child: Resource) -> None:
    """Show the state of today's Subscription, and the addresses that it resolved."""
    for name, todays in _CONDITIONS.items():
        request.conditions[name] = condition_from(child, todays)
    resolved = child.status.get("physicalSubscription")
    if isinstance(resolved, Mapping):
        shown = {old: resolved[new] for old, new in _ADDRESSES.items() if resolved.get(new)}
        request.status["physicalSubscription"] = shown


def _children(subscription: Resource) -> Iterable[Reference]:
    name = (subscription.namespace, subscription.name)
    return (Reference(SUBSCRIPTION.api_version, SUBSCRIPTION.kind, *name),)


RECONCILER = KindReconciler(
    kind=LEGACY_SUBSCRIPTION,
    rules=rules.RULES,
    children=_children,
    decide=decide,
    owns=(SUBSCRIPTION,),
)
