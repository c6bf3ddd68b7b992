"""Trigger: a subscription to a Broker, with a filter, a dependency and the Broker's delivery
defaults.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.resources import delivery_spec
from headrace.resources import trigger as rules
from headrace.resources.broker_config import BYTES_MAX
from headrace.resources.condition_types import OIDC_IDENTITY_CREATED, SUBSCRIPTION_READY
from headrace.resources.conditions import READY, Condition, condition_of, failed, unknown
from headrace.resources.delivery_annotations import has_breaker, order_of
from headrace.resources.kinds import BROKER, TRIGGER
from headrace.resources.naming import trigger_group
from headrace.resources.resource import Reference, Resource
from headrace_controller.reconcile.brokers import channel_bytes_max, is_managed
from headrace_controller.reconcile.dependencies import dependency_condition
from headrace_controller.reconcile.finalization import finalize
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.references import dead_letter_sink_of, named, ref_of
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    OIDC_DISABLED,
    live_addressable,
    resolve_dead_letter_sink,
    resolve_subscriber,
    set_fault_status,
    set_invalid_status,
    set_status,
)
from headrace_controller.reconcile.subscription_steps import (
    SubscriptionSpec,
    reconcile_subscription,
    remove_route_to_lost_topic,
)


def decide(request: ReconcileRequest) -> None:
    """Plan what a Trigger needs next, and its status. An invalid one is left as it was, and its
    status says why.
    """
    observed, trigger = request.observed, request.resource
    broker = _broker_of(observed, trigger)
    if broker is not None and not is_managed(observed, broker):
        return  # Its Broker is of another class, and so another controller is responsible for both.
    if set_invalid_status(request, rules.CONDITIONS, SUBSCRIPTION_READY):
        remove_route_to_lost_topic(request)
        return
    request.conditions[OIDC_IDENTITY_CREATED] = OIDC_DISABLED
    name = rules.broker_name(trigger)
    missing = failed("BrokerDoesNotExist", f'Broker "{name}" does not exist')
    broker = live_addressable(
        request, rules.BROKER_READY, broker, missing=missing, readiness=_readiness
    )
    if broker is not None and broker.uid in observed.validation_errors:
        # The delivery settings of an invalid Broker must not change how its Triggers deliver.
        fault = request.conditions[rules.BROKER_READY]
        set_fault_status(request, rules.CONDITIONS, rules.BROKER_READY, fault)
        return
    request.conditions[rules.DEPENDENCY_READY] = dependency_condition(observed, trigger)
    subscriber = resolve_subscriber(
        request, trigger.spec.get("subscriber") or {}, "spec.subscriber"
    )
    delivery = delivery_spec.overlay(
        _delivery_spec(trigger), _delivery_spec(broker) if broker else None
    )
    sink = resolve_dead_letter_sink(
        request, delivery.dead_letter_sink, "deadLetterSink in spec.delivery"
    )
    reconcile_subscription(
        request,
        SubscriptionSpec(
            group=trigger_group(trigger.namespace, trigger.name),
            addressable_kind=BROKER.kind,
            addressable=broker,
            addressable_bytes_max=channel_bytes_max(observed, broker) if broker else BYTES_MAX,
            subscriber=subscriber,
            replies_to_channel=True,
            delivery=delivery,
            dead_letter_sink=sink,
            filters=rules.filters_of(trigger),
            order=order_of(trigger),
            breaker=has_breaker(trigger),
        ),
    )
    set_status(request, rules.CONDITIONS, is_derived=True)


def _broker_of(observed: ObservedState, trigger: Resource) -> Resource | None:
    return observed.get(BROKER, rules.broker_namespace(trigger), rules.broker_name(trigger))


def _readiness(broker: Resource) -> Condition:
    """Condition BrokerReady of a Trigger."""
    return condition_of(broker.status, READY) or unknown(
        "BrokerNotConfigured", "The Broker has not yet been reconciled."
    )


def _delivery_spec(resource: Resource) -> delivery_spec.DeliverySpec:
    block = resource.spec.get("delivery")
    return delivery_spec.parse(block if isinstance(block, Mapping) else {}, "spec.delivery")[0]


def _references(trigger: Resource) -> Iterator[Reference]:
    return named(
        trigger,
        ref_of(trigger.spec.get("subscriber")),
        dead_letter_sink_of(trigger),
        _dependency(trigger),
    )


def _dependency(trigger: Resource) -> Any:
    try:
        return rules.dependency_of(trigger)
    except ValueError:
        return None


RECONCILER = KindReconciler(
    kind=TRIGGER,
    rules=rules.RULES,
    references=_references,
    addressable=_broker_of,
    decide=decide,
    finalize=finalize,
)
