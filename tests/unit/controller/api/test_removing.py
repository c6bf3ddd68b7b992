"""Deleting a collection: what the client is told of it when the store fails in the middle."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import Request

from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Resource, ResourceKind, StandingBy
from headrace_controller.api.access import LOCAL
from headrace_controller.api.doors.answers import Presentation
from headrace_controller.api.doors.house_rules import HouseRules
from headrace_controller.api.doors.reading import ReadingDoors
from headrace_controller.api.doors.removing import RemovingDoors
from headrace_controller.api.kinds.packaged import load_catalog
from headrace_controller.api.requests.calls import Call
from headrace_controller.api.requests.targets import Target
from headrace_controller.api.watching.watches import WatchHub

CATALOG = load_catalog()


class Failing(MemoryResourceStore):
    """A store that refuses one object at once, and takes its time for the others."""

    async def delete(self, kind: ResourceKind, namespace: str, name: str, **options: Any) -> Resource | None:
        """Delete, or fail."""
        if name == "refused":
            raise StandingBy("another controller writes")
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().delete(kind, namespace, name, **options)


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _call() -> Call:
    served = CATALOG.of_path("", "v1", "configmaps")
    assert served is not None
    scope = {"type": "http", "method": "DELETE", "path": "/", "headers": [], "query_string": b""}
    presentation = Presentation(served, lambda: datetime.fromtimestamp(0, UTC))
    target = Target("", "v1", "configmaps", "default")
    return Call(request=Request(scope, _nothing), target=target, served=served, user=LOCAL, presentation=presentation)


async def test_nothing_runs_on_behind_a_failure() -> None:
    """The failure is told when all deletes that were under way have ended, so that a client that lists next sees what came of them."""
    store = Failing(clock=MemoryClock())
    await store.start()
    for name in ("a", "refused", "z"):
        await store.create(Resource(CONFIG_MAP, {"metadata": {"name": name, "namespace": "default"}}))
    reading = ReadingDoors(store, WatchHub(lambda: store.position))
    doors = RemovingDoors(store, reading, HouseRules(store, CATALOG), lambda: "")
    with pytest.raises(StandingBy):
        await doors.delete_collection(_call())
    assert ["refused"] == [each.name for each in store.list(CONFIG_MAP)]
