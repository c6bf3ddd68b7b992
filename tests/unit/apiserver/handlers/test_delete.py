"""Deletion of a collection while the store fails for one of its objects."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import Request

from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import NotLeader, Resource, ResourceKind
from headrace_apiserver.admission.plugin import AdmissionChain
from headrace_apiserver.authentication import LOOPBACK_USER
from headrace_apiserver.handlers.delete import DeleteHandlers
from headrace_apiserver.handlers.get import GetHandlers
from headrace_apiserver.registry import ObjectRegistry
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.request_info import RequestInfo
from headrace_apiserver.responses import ResponseFormatter
from headrace_apiserver.watch.cacher import Cacher
from headrace_controller.builtin_crds import load_catalog

CATALOG = load_catalog()


class Failing(MemoryResourceStore):
    """A store that rejects one object at once and is slower for the others."""

    async def delete(
        self, kind: ResourceKind, namespace: str, name: str, **options: Any
    ) -> Resource | None:
        """Delete or fail."""
        if name == "rejected":
            raise NotLeader("another controller writes")
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().delete(kind, namespace, name, **options)


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _scope() -> RequestScope:
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


async def test_no_delete_continues_after_a_failure() -> None:
    """The response with the failure is sent when all concurrent deletes have ended, so that a
    client that lists next sees their results.
    """
    store = Failing(clock=MemoryClock())
    await store.start()
    for name in ("a", "rejected", "z"):
        await store.create(
            Resource(CONFIG_MAP, {"metadata": {"name": name, "namespace": "default"}})
        )
    registry = ObjectRegistry(
        store, CATALOG, AdmissionChain(()), lambda: datetime.fromtimestamp(0, UTC)
    )
    handlers = DeleteHandlers(registry, GetHandlers(store, Cacher(lambda: store.resource_version)))
    with pytest.raises(NotLeader):
        await handlers.delete_collection(_scope())
    assert ["rejected"] == [each.name for each in store.list(CONFIG_MAP)]
