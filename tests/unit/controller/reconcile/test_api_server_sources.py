"""ApiServerSources: the configuration that the adapter gets, and the status that it publishes."""

from typing import Any

from headrace.domain.ports import Instance
from headrace.domain.routing import EventSource
from headrace.domain.source_report import SourceCondition, SourceReport
from headrace.resources.kinds import API_SERVER_SOURCE, EVENT_TYPE
from headrace_controller.reconcile.observed_state import SOURCES
from tests.unit.controller.harness import ControllerHarness, broker, manifest, settled

SERVER = "https://10.96.0.1:443"
SPEC: dict[str, Any] = {
    "resources": [
        {"apiVersion": "v1", "kind": "Event"},
        {"apiVersion": "apps/v1", "kind": "Deployment", "selector": {"matchLabels": {"app": "a"}}},
    ],
    "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
}


async def route_of(**spec: Any) -> tuple[ControllerHarness, EventSource]:
    """An installation with one ApiServerSource, and the record of it."""
    harness = await settled(broker(), manifest(API_SERVER_SOURCE, "watch", spec={**SPEC, **spec}))
    [route] = [each for each in harness.routes().values() if isinstance(each, EventSource)]
    return harness, route


async def test_the_configuration_of_the_adapter() -> None:
    """Selectors are texts; what is left out is not there."""
    _, route = await route_of()
    assert route.adapter == "kubernetes"
    assert route.config == {
        "mode": "Reference",
        "serviceAccountName": "default",
        "resources": [
            {"apiVersion": "v1", "kind": "Event", "selector": ""},
            {"apiVersion": "apps/v1", "kind": "Deployment", "selector": "app=a"},
        ],
    }


async def test_everything_that_can_be_configured() -> None:
    """The empty selector of namespaces is not the same as none."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment"}
    _, route = await route_of(
        owner=owner, mode="Resource", serviceAccountName="watcher", namespaceSelector={}
    )
    assert route.config["owner"] == owner
    assert route.config["mode"] == "Resource"
    assert route.config["serviceAccountName"] == "watcher"
    assert route.config["namespaceSelector"] == ""
    requirement = {"key": "team", "operator": "Exists"}
    _, route = await route_of(namespaceSelector={"matchExpressions": [requirement]})
    assert route.config["namespaceSelector"] == "team"


async def test_what_the_adapter_publishes() -> None:
    """Namespaces and kinds of events are in the status, and each kind becomes an EventType."""
    harness, route = await route_of()
    attributes = [{"type": "dev.knative.apiserver.ref.add", "source": SERVER}]
    denied = SourceCondition(False, "InsufficientPermissions", "may not list events")
    report = SourceReport(
        route.generation,
        {"Deployed": SourceCondition(True), "SufficientPermissions": denied},
        {"namespaces": ["shop"], "ceAttributes": attributes},
    )
    applied = len(harness.routing.records) - 1
    await harness.instances.report(
        Instance(SOURCES, SOURCES, applied, 0, sources={route.uid: report})
    )
    for _ in range(4):
        await harness.loop.run_once()
    status = harness.status(API_SERVER_SOURCE, "watch")
    assert status["namespaces"] == ["shop"]
    assert status["ceAttributes"] == attributes
    assert harness.condition(API_SERVER_SOURCE, "watch") == ("False", "InsufficientPermissions")
    [event_type] = harness.store.list(EVENT_TYPE, "shop")
    assert (event_type.spec["type"], event_type.spec["source"]) == (attributes[0]["type"], SERVER)
