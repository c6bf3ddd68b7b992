"""ContainerSources in a cluster, and what the adapter gets elsewhere."""

from typing import Any

import pytest

from headrace.domain.routing import EventSource, source_key
from headrace.resources.container_source import APPLIED_GENERATION
from headrace.resources.kinds import (
    CONTAINER_SOURCE,
    DEPLOYMENT,
    LEGACY_CONTAINER_SOURCE,
    SINK_BINDING,
)
from headrace.resources.resource import Resource, ResourceKind
from headrace_controller.reconcile.observed_state import Installation
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, manifest

SINK = "http://sink.example/orders"
IN_CLUSTER = Installation(in_cluster=True)
LEGACY_SINK = {"apiVersion": "v1", "kind": "Service", "name": "orders"}
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


def source(*containers: dict[str, Any], name: str = "till", **spec: Any) -> Resource:
    """A ContainerSource."""
    template = {"spec": {"containers": list(containers) or [{"image": "till:1"}]}}
    fields = {"template": template, "sink": {"uri": SINK}, **spec}
    annotations = fields.pop("annotations", None)
    return manifest(CONTAINER_SOURCE, name, spec=fields, annotations=annotations)


def legacy(**spec: Any) -> Resource:
    """A ContainerSource of Knative 0.5."""
    return manifest(LEGACY_CONTAINER_SOURCE, "till", spec={"sink": LEGACY_SINK, **spec})


async def settled(*resources: Resource, installation: Installation) -> ControllerHarness:
    """An installation with these resources."""
    harness = ControllerHarness(
        installation=installation, services=("ingress", "dispatcher", "sources")
    )
    await harness.restart()
    await harness.apply(*resources)
    await harness.settle()
    return harness


def deployment(harness: ControllerHarness) -> Resource:
    """The Deployment of the source."""
    found = harness.find(DEPLOYMENT, "till-deployment")
    assert found is not None
    return found


def containers(harness: ControllerHarness) -> list[dict[str, Any]]:
    """Its containers."""
    found: list[dict[str, Any]] = deployment(harness).spec["template"]["spec"]["containers"]
    return found


async def serve(harness: ControllerHarness, status: str, **more: str) -> None:
    """What the Deployment controller of a cluster does."""
    found = deployment(harness)
    condition = {"type": "Available", "status": status, **more}
    shown = {"observedGeneration": found.generation, "conditions": [condition]}
    await harness.store.replace_status(found.with_status(shown).with_metadata(resourceVersion=None))
    await harness.settle()


def config(harness: ControllerHarness, kind: ResourceKind = CONTAINER_SOURCE) -> dict[str, Any]:
    """What the adapter gets."""
    found = harness.find(kind, "till")
    assert found is not None
    route = harness.routes()[source_key(found.uid)]
    assert isinstance(route, EventSource)
    assert route.adapter == "container"
    return dict(route.config)


@pytest.mark.clause("O4")
async def test_a_cluster_runs_a_deployment_bound_to_the_sink() -> None:
    """Both are owned by the source, which is Ready when they are."""
    harness = await settled(
        source(ceOverrides={"extensions": {"team": "red"}}), installation=IN_CLUSTER
    )
    [container] = containers(harness)
    assert container == {
        "name": "till-0",
        "image": "till:1",
        "env": [
            {"name": "K_SINK", "value": SINK},
            {"name": "K_CE_OVERRIDES", "value": '{"extensions":{"team":"red"}}'},
        ],
    }
    found = deployment(harness)
    labels = found.spec["selector"]["matchLabels"]
    assert labels["sources.knative.dev/containerSource"] == "till"
    assert found.spec["template"]["metadata"]["labels"] == labels
    binding = harness.find(SINK_BINDING, "till-sinkbinding")
    assert binding is not None
    assert binding.spec["subject"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": NAMESPACE,
        "name": "till-deployment",
    }
    for child in (found, binding):
        assert [each["kind"] for each in child.metadata["ownerReferences"]] == ["ContainerSource"]
    assert harness.condition(CONTAINER_SOURCE, "till") == (UNKNOWN, "DeploymentUnavailable")
    await serve(harness, TRUE)
    assert harness.condition(CONTAINER_SOURCE, "till") == (TRUE, "")
    assert harness.condition(SINK_BINDING, "till-sinkbinding") == (TRUE, "")
    assert harness.status(CONTAINER_SOURCE, "till")["sinkUri"] == SINK
    assert not any(key.startswith("source") for key in harness.routes())
    await serve(harness, FALSE, reason="MinimumReplicasUnavailable", message="too few")
    assert harness.condition(CONTAINER_SOURCE, "till", "ReceiveAdapterReady") == (
        FALSE,
        "MinimumReplicasUnavailable",
    )


async def test_a_change_reaches_the_deployment() -> None:
    """Another sink, another image, and the switch."""
    harness = await settled(source(), installation=IN_CLUSTER)
    await harness.apply(source({"image": "till:2"}, sink={"uri": "http://sink.example/other"}))
    await harness.settle()
    [container] = containers(harness)
    assert container["image"] == "till:2"
    assert container["env"] == [{"name": "K_SINK", "value": "http://sink.example/other"}]
    assert deployment(harness).spec["replicas"] == 1
    await harness.apply(source(annotations={"headrace.dev/paused": "true"}))
    await harness.settle()
    assert deployment(harness).spec["replicas"] == 0
    assert harness.condition(CONTAINER_SOURCE, "till", "ReceiveAdapterReady") == (TRUE, "Paused")


async def test_values_that_a_cluster_writes_in_another_form_are_no_change() -> None:
    """`500m` for `0.5`, and defaults beside what was given."""
    harness = await settled(
        source({"image": "till:1", "resources": {"limits": {"cpu": "0.5"}}}),
        installation=IN_CLUSTER,
    )
    found = deployment(harness)
    template = found.spec["template"]
    pod = {**template["spec"], "restartPolicy": "Always"}
    pod["containers"] = [{**pod["containers"][0], "resources": {"limits": {"cpu": "500m"}}}]
    spec = {**found.spec, "template": {**template, "spec": pod}}
    # An API server does so when the object is written, which is one change and not two.
    seen = {**found.metadata["labels"], APPLIED_GENERATION: str(found.generation + 1)}
    written = Resource(DEPLOYMENT, {**found.object, "spec": spec}).with_metadata(labels=seen)
    await harness.store.replace(written)
    assert await harness.settle() == []


async def test_a_deployment_that_was_changed_is_repaired() -> None:
    """By whatever client, and whatever of it; what it does not define is left alone. The condition
    is not about what the client made.
    """
    harness = await settled(source({"image": "till:1", "args": ["--a"]}), installation=IN_CLUSTER)
    before = containers(harness)
    found = deployment(harness)
    template = found.spec["template"]
    pod = {**template["spec"], "containers": [{"name": "till-0", "image": "mine:1"}]}
    spec = {**found.spec, "template": {**template, "spec": pod}, "minReadySeconds": 5}
    await harness.store.replace(Resource(DEPLOYMENT, {**found.object, "spec": spec}))
    await harness.settle()
    assert containers(harness) == before
    assert deployment(harness).spec["minReadySeconds"] == 5
    assert await harness.settle() == []
    version = deployment(harness).version
    await harness.restart()
    await harness.settle()
    assert deployment(harness).version == version, "a controller that starts knows it too"


async def test_a_deployment_that_was_changed_while_no_controller_ran_is_repaired() -> None:
    """What was applied is in the Deployment."""
    harness = await settled(source(), installation=IN_CLUSTER)
    before = containers(harness)
    found = deployment(harness)
    template = found.spec["template"]
    pod = {**template["spec"], "containers": [{"name": "till-0", "image": "mine:1"}]}
    spec = {**found.spec, "template": {**template, "spec": pod}}
    await harness.store.replace(Resource(DEPLOYMENT, {**found.object, "spec": spec}))
    await harness.restart()
    await harness.settle()
    assert containers(harness) == before


@pytest.mark.parametrize("kind", [DEPLOYMENT, SINK_BINDING], ids=lambda kind: kind.kind)
async def test_what_was_deleted_is_created_again(kind: ResourceKind) -> None:
    """The Deployment and the SinkBinding."""
    harness = await settled(source(), installation=IN_CLUSTER)
    suffix = kind.kind.lower()
    name = f"till-{suffix}"
    await harness.delete(kind, name)
    await harness.settle()
    assert harness.find(kind, name) is not None
    assert containers(harness)[0]["env"] == [{"name": "K_SINK", "value": SINK}]


async def test_no_container_runs_without_a_sink() -> None:
    """It would fail: K_SINK is missing. The missing sink is named."""
    sink = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "orders"}}
    harness = await settled(source(sink=sink), installation=IN_CLUSTER)
    assert harness.find(DEPLOYMENT, "till-deployment") is None
    assert harness.condition(CONTAINER_SOURCE, "till") == (FALSE, "NotFound")
    assert '"orders" not found' in harness.message(CONTAINER_SOURCE, "till", "SinkProvided")


async def test_a_deployment_of_another_owner_stays() -> None:
    """The condition says what to do."""
    other = manifest(DEPLOYMENT, "till-deployment", spec={"replicas": 3})
    harness = ControllerHarness(installation=IN_CLUSTER)
    await harness.restart()
    await harness.store.create(other)
    await harness.apply(source())
    await harness.settle()
    assert deployment(harness).spec == {"replicas": 3}
    assert harness.condition(CONTAINER_SOURCE, "till") == (FALSE, "ObjectNotOwned")


@pytest.mark.clause("O4")
async def test_a_legacy_source_gets_what_its_program_reads() -> None:
    """Argument and variable of Knative 0.5, beside those of today."""
    harness = await settled(
        legacy(image="till:1", args=["--x"], env=[{"name": "A", "value": "1"}]),
        installation=IN_CLUSTER,
    )
    [container] = containers(harness)
    url = f"http://orders.{NAMESPACE}.svc.cluster.local"
    assert container["args"] == ["--x", f"--sink={url}"]
    assert container["env"] == [
        {"name": "A", "value": "1"},
        {"name": "K_SINK", "value": url},
        {"name": "SINK", "value": url},
    ]
    await serve(harness, TRUE)
    assert harness.condition(LEGACY_CONTAINER_SOURCE, "till") == (TRUE, "")


async def test_elsewhere_an_adapter_gets_the_containers() -> None:
    """With the sink, and Secrets by reference."""
    env = [
        {"name": "PLAIN", "value": "1"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "c", "key": "token"}}},
        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    container = {"image": "till:1", "command": ["run"], "args": ["-x"], "env": env}
    harness = await settled(
        source(container, ceOverrides={"extensions": {"team": "red"}}),
        installation=Installation(),
    )
    assert config(harness) == {
        "sink": SINK,
        "extensions": {"team": "red"},
        "containers": [
            {
                "name": "till-0",
                "image": "till:1",
                "command": ["run"],
                "args": ["-x"],
                "env": [
                    {"name": "PLAIN", "value": "1"},
                    {"name": "TOKEN", "secretKeyRef": {"name": "c", "key": "token"}},
                    {"name": "NAMESPACE", "value": NAMESPACE},
                ],
            }
        ],
    }
    assert harness.find(DEPLOYMENT, "till-deployment") is None
    assert harness.find(SINK_BINDING, "till-sinkbinding") is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"envFrom": [{"secretRef": {"name": "x"}}]}, "containers[0].envFrom"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}, "containers[0].volumeMounts"),
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}]},
            "containers[0].env[0].valueFrom.configMapKeyRef",
        ),
    ],
)
async def test_what_only_a_cluster_can_do_is_named(fields: dict[str, Any], path: str) -> None:
    """Rather than run with less than the template says."""
    harness = await settled(source({"image": "till:1", **fields}), installation=Installation())
    assert harness.condition(CONTAINER_SOURCE, "till") == (FALSE, "OnlyInCluster")
    assert path in harness.message(CONTAINER_SOURCE, "till", "ReceiveAdapterReady")


async def test_a_legacy_source_elsewhere() -> None:
    """The adapter is informed that its program is one of that time."""
    sink = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "orders"}
    broker = manifest(
        ResourceKind(
            group="eventing.knative.dev",
            version="v1",
            kind="Broker",
            plural="brokers",
            singular="broker",
        ),
        "orders",
        spec={},
    )
    harness = await settled(broker, legacy(image="till:1", sink=sink), installation=Installation())
    found = config(harness, LEGACY_CONTAINER_SOURCE)
    assert found["legacy"] is True
    assert found["sink"].endswith(f"/{NAMESPACE}/orders")
    assert found["containers"] == [{"name": "source", "image": "till:1"}]
