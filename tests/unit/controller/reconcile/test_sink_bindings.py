"""SinkBindings: what they change in workloads, and undo."""

from dataclasses import replace
from typing import Any

import pytest

from headrace.resources.kinds import DEPLOYMENT, SINK_BINDING
from headrace.resources.resource import Resource, ResourceKind, kind_of_reference
from headrace_controller.reconcile.observed_state import Installation
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, manifest

SINK = "http://sink.example/orders"
IN_CLUSTER = Installation(in_cluster=True)
JOB = kind_of_reference("batch/v1", "Job")
NAMESPACES = replace(kind_of_reference("v1", "Namespace"), namespaced=False)
STATEFUL_SET = kind_of_reference("apps/v1", "StatefulSet")
AVAILABLE = "SinkBindingAvailable"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
OWN = {"name": "A", "value": "1"}


def workload(
    name: str = "till", kind: ResourceKind = DEPLOYMENT, labels: dict[str, str] | None = None
) -> Resource:
    """A workload with two containers and one that runs before them."""
    pod = {
        "initContainers": [{"name": "init", "image": "i"}],
        "containers": [{"name": "main", "image": "m", "env": [OWN]}, {"name": "x", "image": "x"}],
    }
    made = manifest(kind, name, spec={"replicas": 2, "template": {"spec": pod}})
    return made.with_metadata(labels=labels) if labels else made


def binding(name: str = "bind", sink: str = SINK, **subject: Any) -> Resource:
    """A SinkBinding; its subject is the Deployment `till` unless something else is given."""
    fields = {"apiVersion": "apps/v1", "kind": "Deployment", **subject}
    if "selector" not in fields:
        fields.setdefault("name", "till")
    spec = {
        "subject": fields,
        "sink": {"uri": sink},
        "ceOverrides": {"extensions": {"team": "red"}},
    }
    return manifest(SINK_BINDING, name, spec=spec)


async def settled(
    *resources: Resource, installation: Installation = IN_CLUSTER
) -> ControllerHarness:
    """An installation with these resources; workloads as their users write them."""
    harness = ControllerHarness(installation=installation)
    await harness.restart()
    for each in resources:
        await (harness.apply(each) if each.kind == SINK_BINDING else harness.store.create(each))
    await harness.settle()
    return harness


def environments(
    harness: ControllerHarness, name: str = "till", kind: ResourceKind = DEPLOYMENT
) -> list[dict[str, str]]:
    """The variables of every container of a workload."""
    found = harness.find(kind, name)
    assert found is not None
    pod = found.spec["template"]["spec"]
    return [
        {each["name"]: each["value"] for each in container.get("env", ())}
        for container in (*pod["initContainers"], *pod["containers"])
    ]


def sinks(
    harness: ControllerHarness, name: str = "till", kind: ResourceKind = DEPLOYMENT
) -> set[str | None]:
    """What its containers have for K_SINK."""
    return {each.get("K_SINK") for each in environments(harness, name, kind)}


@pytest.mark.clause("O4")
async def test_every_container_gets_the_sink_and_loses_it_with_the_binding() -> None:
    """Its own variables and everything else stay as they are."""
    harness = await settled(workload(), binding())
    bound = {"K_SINK": SINK, "K_CE_OVERRIDES": '{"extensions":{"team":"red"}}'}
    assert environments(harness) == [bound, {"A": "1", **bound}, bound]
    assert harness.condition(SINK_BINDING, "bind") == (TRUE, "")
    assert harness.status(SINK_BINDING, "bind")["sinkUri"] == SINK
    types = {each["type"] for each in harness.status(SINK_BINDING, "bind")["conditions"]}
    assert types == {
        "Ready",
        "SinkProvided",
        AVAILABLE,
        "OIDCIdentityCreated",
        "OIDCTokenSecretCreated",
        "TrustBundlePropagated",
    }
    await harness.delete(SINK_BINDING, "bind")
    await harness.settle()
    assert harness.find(SINK_BINDING, "bind") is None
    found = harness.find(DEPLOYMENT, "till")
    assert found is not None
    assert found.spec == workload().spec
    assert not found.annotations


async def test_another_sink_is_written_and_a_second_look_writes_nothing() -> None:
    """Variables in another order are no reason to write."""
    harness = await settled(workload(), binding())
    await harness.apply(binding(sink="http://sink.example/other"))
    await harness.settle()
    assert sinks(harness) == {"http://sink.example/other"}
    found = harness.find(DEPLOYMENT, "till")
    assert found is not None
    pod = found.spec["template"]["spec"]
    pod = {**pod, "containers": [{**each, "env": each["env"][::-1]} for each in pod["containers"]]}
    spec = {**found.spec, "template": {"spec": pod}}
    await harness.store.replace(Resource(DEPLOYMENT, {**found.object, "spec": spec}))
    assert await harness.settle() == []


async def test_a_selector_binds_what_matches_now_and_later() -> None:
    """What no longer matches is bound no longer; an empty set is no fault."""
    selector = {
        "matchLabels": {"app": "shop"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["cache"]}],
    }
    harness = await settled(
        workload("cache", labels={"app": "shop", "tier": "cache"}),
        workload("other", labels={"app": "bank"}),
        workload("out", labels={"app": "shop", "bindings.knative.dev/exclude": "true"}),
        binding(selector=selector),
    )
    assert harness.condition(SINK_BINDING, "bind", AVAILABLE) == (TRUE, "NoSubjects")
    await harness.store.create(workload("web", labels={"app": "shop", "tier": "web"}))
    await harness.settle()
    assert sinks(harness, "web") == {SINK}
    assert [sinks(harness, name) for name in ("cache", "other", "out")] == [{None}] * 3
    found = harness.find(DEPLOYMENT, "web")
    assert found is not None
    await harness.store.replace(found.with_metadata(labels={"app": "bank"}))
    await harness.settle()
    assert sinks(harness, "web") == {None}


def namespace(labels: dict[str, str]) -> Resource:
    """The namespace of these tests."""
    metadata = {"name": NAMESPACE, "labels": labels}
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    return Resource(NAMESPACES, document)


async def test_a_namespace_is_left_alone_as_its_label_says() -> None:
    """What was bound before is bound no longer; without the label it is bound again."""
    harness = await settled(workload(), binding())
    await harness.store.create(namespace({"bindings.knative.dev/exclude": "true"}))
    await harness.settle()
    assert sinks(harness) == {None}
    assert harness.condition(SINK_BINDING, "bind") == (FALSE, "NamespaceExcluded")
    assert "bindings.knative.dev/exclude" in harness.message(SINK_BINDING, "bind", AVAILABLE)
    found = harness.store.get(NAMESPACES, "", NAMESPACE)
    await harness.store.replace(found.with_metadata(labels={"other": "true"}))
    await harness.settle()
    assert sinks(harness) == {SINK}


async def test_a_controller_of_some_namespaces_does_not_read_them() -> None:
    """It has no permission to; the label of workloads works."""
    installation = Installation(in_cluster=True, namespaces=(NAMESPACE,))
    excluded = namespace({"bindings.knative.dev/exclude": "true"})
    harness = await settled(excluded, workload(), binding(), installation=installation)
    assert sinks(harness) == {SINK}


async def test_a_subject_of_another_kind_takes_the_place_of_the_first() -> None:
    """What was bound before is bound no longer, also after the controller was started again."""
    harness = await settled(workload(), workload(kind=STATEFUL_SET), binding())
    assert (sinks(harness), sinks(harness, kind=STATEFUL_SET)) == ({SINK}, {None})
    await harness.restart()
    await harness.apply(binding(kind="StatefulSet"))
    await harness.settle()
    assert (sinks(harness), sinks(harness, kind=STATEFUL_SET)) == ({None}, {SINK})


async def test_a_missing_subject_is_named_and_bound_later() -> None:
    """The condition has its kind and name."""
    harness = await settled(binding())
    assert harness.condition(SINK_BINDING, "bind") == (FALSE, "SubjectMissing")
    assert 'Deployment "till"' in harness.message(SINK_BINDING, "bind", AVAILABLE)
    await harness.store.create(workload())
    await harness.settle()
    assert sinks(harness) == {SINK}
    assert harness.condition(SINK_BINDING, "bind") == (TRUE, "")


async def test_a_job_that_exists_cannot_be_bound() -> None:
    """The condition says what to do; one that has the variables already is fine."""
    harness = await settled(workload(kind=JOB), binding(apiVersion="batch/v1", kind="Job"))
    assert harness.condition(SINK_BINDING, "bind") == (FALSE, "JobNotChangeable")
    assert f"K_SINK={SINK}" in harness.message(SINK_BINDING, "bind", AVAILABLE)
    assert sinks(harness, kind=JOB) == {None}


async def test_two_bindings_do_not_change_one_workload_in_turn() -> None:
    """The second one says which the first is, and takes over when that is gone."""
    harness = await settled(workload(), binding())
    await harness.apply(binding("second", "http://sink.example/other"))
    await harness.settle()
    assert sinks(harness) == {SINK}
    assert harness.condition(SINK_BINDING, "second") == (FALSE, "AlreadyBound")
    assert "SinkBinding bind" in harness.message(SINK_BINDING, "second", AVAILABLE)
    await harness.delete(SINK_BINDING, "bind")
    await harness.settle()
    assert sinks(harness) == {"http://sink.example/other"}


async def test_an_object_without_containers_is_named() -> None:
    """Such as a ConfigMap."""
    pipe = manifest(kind_of_reference("shop.example/v1", "Pipe"), "till", spec={})
    harness = await settled(pipe, binding(apiVersion="shop.example/v1", kind="Pipe"))
    assert harness.condition(SINK_BINDING, "bind") == (FALSE, "UnsupportedSubject")


async def test_without_a_cluster_there_is_nothing_to_bind() -> None:
    """The status shows the sink all the same, and the binding can be deleted."""
    harness = await settled(binding(), installation=Installation())
    assert harness.status(SINK_BINDING, "bind")["sinkUri"] == SINK
    assert harness.condition(SINK_BINDING, "bind") == (FALSE, "NoWorkloads")
    assert "only a cluster" in harness.message(SINK_BINDING, "bind", AVAILABLE)
    await harness.delete(SINK_BINDING, "bind")
    await harness.settle()
    assert harness.find(SINK_BINDING, "bind") is None
