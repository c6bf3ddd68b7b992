"""Objects that a resource owns, with the Queues of `tests.support.queue_kind`: created, kept as
wanted, never taken from another owner, and deleted first.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.resources.resource import Resource
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.plan import ApplyObject, DeleteObject, Step
from headrace_controller.reconcile.registry import Reconcilers
from tests.support.queue_kind import QUEUE, QUEUES, READER, READERS
from tests.unit.controller.harness import ControllerHarness, manifest

SPEC = {"subscriber": {"uri": "http://sink.example/"}}


@pytest.fixture
async def harness() -> ControllerHarness:
    """An installation with Queues."""
    made = ControllerHarness(reconcilers=Reconcilers(*RECONCILERS, QUEUES, READERS))
    await made.restart()
    return made


async def create(harness: ControllerHarness, spec: Mapping[str, Any] = SPEC) -> Resource:
    """A queue that has settled, with its reader."""
    await harness.store.create(manifest(QUEUE, "work", spec=dict(spec)))
    await harness.settle()
    found = harness.find(QUEUE, "work")
    assert found is not None
    return found


def objects(steps: list[Step]) -> list[str]:
    """The steps about objects."""
    return [type(step).__name__ for step in steps if isinstance(step, ApplyObject | DeleteObject)]


async def test_a_child_is_created_with_its_owner_and_becomes_ready(
    harness: ControllerHarness,
) -> None:
    """Afterwards nothing is planned."""
    queue = await create(harness)
    reader = harness.find(READER, "work-reader")
    assert reader is not None
    assert [(queue.uid, True)] == [
        (each["uid"], each["controller"]) for each in reader.metadata["ownerReferences"]
    ]
    assert ("True", "") == harness.condition(QUEUE, "work")
    assert [] == await harness.resync()


async def test_a_changed_child_is_corrected_and_keeps_the_fields_of_others(
    harness: ControllerHarness,
) -> None:
    """Only what the owner says is its own."""
    await create(harness)
    reader = harness.find(READER, "work-reader")
    assert reader is not None
    edited = {**reader.spec, "queue": "other", "note": "x"}
    await harness.store.replace(Resource(READER, {**reader.object, "spec": edited}))
    assert ["ApplyObject"] == objects(await harness.settle())
    corrected = harness.find(READER, "work-reader")
    assert corrected is not None
    assert ("work", "x") == (corrected.spec["queue"], corrected.spec["note"])


async def test_a_child_is_deleted_when_it_is_not_wanted(harness: ControllerHarness) -> None:
    """And the queue stays Ready."""
    queue = await create(harness)
    await harness.store.replace(Resource(QUEUE, {**queue.object, "spec": {}}))
    assert ["DeleteObject"] == objects(await harness.settle())
    assert harness.find(READER, "work-reader") is None
    assert ("True", "") == harness.condition(QUEUE, "work")


async def test_an_object_of_another_owner_is_left_alone(harness: ControllerHarness) -> None:
    """Neither changed nor deleted; the condition says what to do."""
    foreign = await harness.store.create(manifest(READER, "work-reader", spec={"queue": "mine"}))
    await create(harness)
    assert ("False", "ObjectNotOwned") == harness.condition(QUEUE, "work")
    assert "delete it, or rename this resource" in harness.message(QUEUE, "work", "ReaderReady")
    await harness.delete(QUEUE, "work")
    await harness.settle()
    found = harness.find(READER, "work-reader")
    assert found is not None
    assert (foreign.uid, foreign.spec, False) == (found.uid, found.spec, found.deleting)
    assert harness.find(QUEUE, "work") is None


async def test_a_child_goes_before_its_owner_and_nothing_is_left(
    harness: ControllerHarness,
) -> None:
    """Its consumers must have left before the topic is deleted."""
    topics = set(harness.admin.topics)
    queue = await create(harness)
    await harness.delete(QUEUE, "work")
    assert ["DeleteObject"] == objects(await harness.settle())
    assert harness.find(READER, "work-reader") is None
    assert harness.find(QUEUE, "work") is None
    assert not any(queue.uid in key for key in harness.routes())
    left = {name for name in set(harness.admin.topics) - topics if "queue" in name}
    assert {"queue-reader-shop-work-reader.dead"} == left
