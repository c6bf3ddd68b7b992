"""Kubernetes Events about a new status."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.domain.subscription_state import SubscriptionState
from headrace.resources.condition_types import DELIVERY_HEALTHY
from headrace.resources.conditions import READY, Condition, failed, happy, unknown
from headrace_controller.condition_events import condition_events
from tests.unit.controller.harness import trigger
from tests.unit.controller.reconcile.test_triggers import report_delivery, subscribed


def _status(type_: str, condition: Condition | None) -> Mapping[str, Any]:
    if condition is None:
        return {}
    return {
        "conditions": [
            {
                "type": type_,
                "status": condition.status.value,
                "reason": condition.reason,
                "message": condition.message,
            }
        ]
    }


DOWN = failed("AttemptsFailing", "every attempt fails: 50 %")
WORKS = ("Normal", "DeliveryHealthy", "deliveries work again")


@pytest.mark.parametrize(
    ("type_", "before", "after", "expected"),
    [
        (DELIVERY_HEALTHY, None, happy(""), []),
        (DELIVERY_HEALTHY, None, DOWN, [("Warning", DOWN.reason, DOWN.message)]),
        (DELIVERY_HEALTHY, happy(""), DOWN, [("Warning", DOWN.reason, DOWN.message)]),
        (DELIVERY_HEALTHY, DOWN, failed(DOWN.reason, "every attempt fails: 51 %"), []),
        (DELIVERY_HEALTHY, DOWN, failed("BreakerOpen", "x"), [("Warning", "BreakerOpen", "x")]),
        (DELIVERY_HEALTHY, DOWN, happy(""), [WORKS]),
        (DELIVERY_HEALTHY, DOWN, unknown(), []),
        (DELIVERY_HEALTHY, DOWN, None, []),
        (DELIVERY_HEALTHY, happy(""), happy(""), []),
        (READY, None, happy(""), [("Normal", "TriggerReady", "Trigger is ready")]),
        (READY, happy(""), failed("Lost", "it is"), [("Warning", "Lost", "it is")]),
        (READY, happy(""), happy(""), []),
    ],
)
def test_a_change_of_a_condition_is_an_event(
    type_: str,
    before: Condition | None,
    after: Condition | None,
    expected: list[tuple[str, str, str]],
) -> None:
    """Not a message that changes, and not a condition that begins as True."""
    resource = trigger("orders").with_status(_status(type_, before))
    assert expected == condition_events(resource, _status(type_, after))


async def test_deliveries_that_fail_and_work_again_are_two_events() -> None:
    """However often the dispatchers report, and with the reason of the condition."""
    harness = await subscribed()
    assert [] == [each for each in harness.events if each[2] == "DeliveryHealthy"]
    harness.events.clear()
    for error in ("refused", "refused", "timeout"):
        await report_delivery(harness, SubscriptionState(failing=error))
    await report_delivery(harness, SubscriptionState())
    await report_delivery(harness, SubscriptionState())
    assert [("orders", "Warning", "AttemptsFailing"), ("orders", "Normal", "DeliveryHealthy")] == [
        each[:3] for each in harness.events
    ]
    assert harness.events[0][3].endswith("refused")
