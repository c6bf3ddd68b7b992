"""The API server with a kind that Headrace does not have: it knows no eventing kind itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import urllib3

from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.field_errors import FieldError
from headrace.resources.resource import Resource, ResourceKind
from headrace.runtime.clock import SystemClock
from headrace.runtime.health import Health
from headrace_apiserver.admission.plugin import AdmissionPlugin, Document
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.core_definitions import core_definitions
from headrace_apiserver.listener import ApiListener
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.server import ApiServer
from headrace_apiserver.server_options import ApiServerOptions
from headrace_apiserver.strategy import KindStrategy
from tests.unit.apiserver.kinds.test_catalog import gadget

GADGET = ResourceKind(
    group="shop.dev",
    version="v1",
    kind="Gadget",
    plural="gadgets",
    singular="gadget",
    has_status=False,
)
GADGETS = "/apis/shop.dev/v1/namespaces/shop/gadgets"


def _paint(resource: Resource) -> Resource:
    spec = {"color": "white", **resource.spec}
    return Resource(resource.kind, {**resource.object, "spec": spec})


def _validate(resource: Resource) -> list[FieldError]:
    if resource.spec["color"] == "plaid":
        return [FieldError("invalid value: plaid", ("spec.color",))]
    return []


def _validate_update(new: Resource, old: Resource) -> list[FieldError]:
    if new.spec["color"] != old.spec["color"]:
        return [FieldError("immutable field", ("spec.color",))]
    return []


RULES = KindStrategy(
    set_defaults=_paint,
    validate=_validate,
    validate_update=_validate_update,
    warnings=lambda resource: [f"{resource.spec['color']} gadgets are rare"],
)


class Signed(AdmissionPlugin):
    """Annotates every object with its user."""

    def mutate(
        self, scope: RequestScope, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """See AdmissionPlugin."""
        metadata = {**draft["metadata"], "annotations": {"by": scope.user.name}}
        return {**draft, "metadata": metadata}


class Client:
    """Requests to the API, in a thread, since the server runs on the loop of the test."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = urllib3.PoolManager(timeout=10, retries=False)

    def request(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, Any], list[str]]:
        """Code, document and warnings of one request."""
        response = self._http.request(method, self._url + path, json=body)
        return response.status, json.loads(response.data), response.headers.getlist("warning")


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A server of Gadgets."""
    store, clock = MemoryResourceStore(clock=SystemClock()), SystemClock()
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"color": {"type": "string"}}},
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    api = ApiServer(
        store,
        Catalog([gadget(versions=[version])], core=core_definitions(), reconciled=(GADGET,)),
        clock,
        strategies=lambda: {(GADGET.group, GADGET.kind): RULES},
        plugins=(Signed(),),
        namespaces=("shop",),
    )
    listener = ApiListener(ApiServerOptions(host="127.0.0.1", port=0), api, Health())
    await store.start()
    await listener.start()
    yield Client(listener.url)
    await listener.stop()
    await store.stop()


async def test_rules_plugins_and_namespaces_are_injected(client: Client) -> None:
    """Defaults, validation, immutability, warnings, annotations, and the namespace at the start."""

    async def ask(method: str, path: str, spec: object = None) -> tuple[int, Any, list[str]]:
        body = None if spec is None else {"metadata": {"name": "g"}, "spec": spec}
        return await asyncio.to_thread(client.request, method, path, body)

    code, made, warnings = await ask("POST", GADGETS, {})
    assert (201, "white", {"by": "headrace"}) == (
        code,
        made["spec"]["color"],
        made["metadata"]["annotations"],
    )
    assert ['299 - "white gadgets are rare"'] == warnings
    code, status, _ = await ask("POST", GADGETS, {"color": "plaid"})
    assert (400, "validation failed: invalid value: plaid: spec.color") == (code, status["message"])
    code, status, _ = await ask("PUT", f"{GADGETS}/g", {"color": "red"})
    assert (400, "validation failed: immutable field: spec.color") == (code, status["message"])
    assert 404 == (await ask("GET", "/apis/eventing.knative.dev/v1/brokers"))[0]
    names = [
        each["metadata"]["name"] for each in (await ask("GET", "/api/v1/namespaces"))[1]["items"]
    ]
    assert ["default", "kube-public", "kube-system", "shop"] == names
