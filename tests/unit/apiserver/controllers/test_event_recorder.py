"""Events about resources: their names are valid whatever the resource's name, and a terminating
namespace gets none.
"""

from datetime import UTC, datetime

import pytest

from headrace.resources.resource import NamespaceTerminating, Resource
from headrace_apiserver.controllers.event_recorder import EVENT, NORMAL, EventRecorder
from tests.support.api_admission import is_legal_name
from tests.unit.controller.harness import ControllerHarness, broker


async def recorder(harness: ControllerHarness) -> EventRecorder:
    """A recorder on the store of a new installation."""
    await harness.restart()
    return EventRecorder(harness.store, lambda: datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "name", ["b" * 253, "b" * 229 + ".b", "b" * 228 + "-" + "." + "b" * 20, "b." * 126 + "b"]
)
async def test_an_event_has_a_legal_name(name: str) -> None:
    """A name of 253 characters is truncated, and no dot or dash is left before the next dot."""
    harness = ControllerHarness()
    made = await recorder(harness)
    made.event(broker(name), NORMAL, "BrokerReady", "Broker is ready")
    await made.reconcile()
    (event,) = harness.store.list(EVENT)
    assert is_legal_name(event)


async def test_an_event_in_a_namespace_that_is_being_deleted_is_dropped() -> None:
    """The next event is stored."""
    harness = ControllerHarness()
    made = await recorder(harness)
    create = harness.store.create

    async def refuse_one(resource: Resource) -> Resource:
        if "gone" in resource.name:
            raise NamespaceTerminating("it is being terminated")
        return await create(resource)

    harness.store.create = refuse_one  # type: ignore[method-assign]
    made.event(broker("gone"), NORMAL, "BrokerReady", "Broker is ready")
    made.event(broker("there"), NORMAL, "BrokerReady", "Broker is ready")
    await made.reconcile()
    assert [True] == [each.name.startswith("there.") for each in harness.store.list(EVENT)]
