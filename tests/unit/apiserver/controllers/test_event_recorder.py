"""Events about resources: their names are valid whatever the resource's name, and a terminating
namespace gets none.
"""

import asyncio
from datetime import UTC, datetime

import pytest

from headrace.domain.errors import LogUnavailable
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


async def test_events_are_written_side_by_side() -> None:
    """A store that groups its writes needs few of them for a thousand Triggers that become
    Ready.
    """
    harness = ControllerHarness()
    made = await recorder(harness)
    create, running, most = harness.store.create, 0, 0

    async def slow(resource: Resource) -> Resource:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await create(resource)

    harness.store.create = slow  # type: ignore[method-assign]
    for number in range(120):
        made.event(broker(f"b{number}"), NORMAL, "BrokerReady", "Broker is ready")
    await made.reconcile()
    assert (120, 50) == (len(harness.store.list(EVENT)), most)


async def test_an_error_of_the_store_is_raised() -> None:
    """The control loop logs it and tries the rest later."""
    harness = ControllerHarness()
    made = await recorder(harness)

    async def away(resource: Resource) -> Resource:
        raise LogUnavailable(f"{resource.name}: Kafka is away")

    harness.store.create = away  # type: ignore[method-assign]
    made.event(broker(), NORMAL, "BrokerReady", "Broker is ready")
    with pytest.raises(LogUnavailable, match="Kafka is away"):
        await made.reconcile()
