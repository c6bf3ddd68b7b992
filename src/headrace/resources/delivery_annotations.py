"""The annotations by which a Trigger or a Subscription sets how its events are delivered."""

from headrace.domain.field_errors import FieldError, invalid
from headrace.domain.routing import DeliveryOrder
from headrace.resources.resource import Resource

ORDER_ANNOTATION = "kafka.eventing.knative.dev/delivery.order"
BREAKER_ANNOTATION = "headrace.dev/breaker"


def order_of(subscription: Resource) -> DeliveryOrder:
    """Whether events are delivered in order; unordered unless the annotation says otherwise."""
    return (
        DeliveryOrder.ORDERED
        if subscription.annotations.get(ORDER_ANNOTATION) == DeliveryOrder.ORDERED
        else DeliveryOrder.UNORDERED
    )


def has_breaker(subscription: Resource) -> bool:
    """Whether a failing subscriber is probed with single requests instead of being sent
    every event.
    """
    return subscription.annotations.get(BREAKER_ANNOTATION) != "disabled"


def validate_annotations(subscription: Resource) -> list[FieldError]:
    """The errors in these annotations."""
    order = subscription.annotations.get(ORDER_ANNOTATION)
    if order is None or order in list(DeliveryOrder):
        return []
    where = f"metadata.annotations[{ORDER_ANNOTATION}]"
    return [invalid(order, where, "expected ordered or unordered")]
