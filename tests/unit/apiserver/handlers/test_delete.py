"""Deleting a collection: what the client is told of it when the store fails in the middle."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import Request

from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import NotLeader, Resource, ResourceKind
from headrace_apiserver.admission_plugins import AdmissionPlugins
from headrace_apiserver.authentication import LOOPBACK_USER
from headrace_apiserver.handlers.delete import DeleteHandlers
from headrace_apiserver.handlers.get import GetHandlers
from headrace_apiserver.handlers.responses import ResponseFormatter
from headrace_apiserver.kinds.builtin_crds import load_catalog
from headrace_apiserver.requests.request_info import RequestInfo
from headrace_apiserver.requests.request_scope import RequestScope
from headrace_apiserver.watch.cacher import Cacher

CATALOG = load_catalog()


class Failing(MemoryResourceStore):
    """A store that refuses one object at once, and takes its time for the others."""

    async def delete(
        self, kind: ResourceKind, namespace: str, name: str, **options: Any
    ) -> Resource | None:
        """Delete, or fail."""
        if name == "refused":
            raise NotLeader("another controller writes")
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().delete(kind, namespace, name, **options)


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _call() -> RequestScope:
    served = CATALOG.of_path("", "v1", "configmaps")
    assert served is not None
    scope = {"type": "http", "method": "DELETE", "path": "/", "headers": [], "query_string": b""}
    formatter = ResponseFormatter(served, lambda: datetime.fromtimestamp(0, UTC))
    info = RequestInfo("", "v1", "configmaps", "default")
    return RequestScope(
        request=Request(scope, _nothing),
        info=info,
        served=served,
        user=LOOPBACK_USER,
        formatter=formatter,
    )


async def test_nothing_runs_on_behind_a_failure() -> None:
    """The failure is told when all deletes that were under way have ended, so that a client that
    lists next sees what came of them.
    """
    store = Failing(clock=MemoryClock())
    await store.start()
    for name in ("a", "refused", "z"):
        await store.create(
            Resource(CONFIG_MAP, {"metadata": {"name": name, "namespace": "default"}})
        )
    reading = GetHandlers(store, Cacher(lambda: store.resource_version))
    doors = DeleteHandlers(store, reading, AdmissionPlugins(store, CATALOG), lambda: "")
    with pytest.raises(NotLeader):
        await doors.delete_collection(_call())
    assert ["refused"] == [each.name for each in store.list(CONFIG_MAP)]
