"""ContainerSources and SinkBindings by their examples: programs that send to a Broker from this
machine, and Deployments in a real API server.
"""

import base64
import copy
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.installations import installation
from tests.support.manifests import broker, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAMESPACE = "default"
ROOT = Path(__file__).parents[2]
PROCESSES = {"HEADRACE_SOURCES_CONTAINERS": "process"}
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(
    scope="module", params=[pytest.param("apache", marks=pytest.mark.kafka), "embedded"]
)
def headrace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """An installation without a cluster, which runs containers as processes."""
    directory = tmp_path_factory.mktemp("containers")
    with installation(request.param, request, directory, env=PROCESSES, sources=1) as started:
        yield started


@pytest.fixture(scope="module", params=[pytest.param("kubernetes", marks=pytest.mark.kafka)])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """An installation in a cluster."""
    with installation(request.param, request, tmp_path_factory.mktemp("cluster")) as started:
        yield started


def example(path: str) -> dict[str, Any]:
    """The manifest of an example."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "examples" / path).read_text())
    found["metadata"]["namespace"] = NAMESPACE
    return found


def programs() -> list[psutil.Process]:
    """The running programs of the example."""
    found = []
    for each in psutil.process_iter(["cmdline", "status"]):
        command = each.info["cmdline"] or []
        is_gone = each.info["status"] == psutil.STATUS_ZOMBIE
        if "com.example.heartbeat" in " ".join(command) and not is_gone:
            found.append(each)
    return found


@pytest.mark.clause("O4")
def test_the_example_sends_to_a_broker(headrace: HeadraceUnderTest) -> None:
    """The program of the example, with overrides; it ends with the source."""
    name = "heartbeat"
    headrace.sinks.script(name, Script(record=True))
    headrace.establish(broker(NAMESPACE, "default"))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker="default"))
    source = example("sources/container/heartbeat.yaml")
    headrace.establish(source)
    wait_until(lambda: len(headrace.sinks.requests(name)) >= 2, 20, "events arrive")
    first = headrace.sinks.requests(name)[0]
    assert first.body == b'{"label": "alive"}'
    assert first.headers["ce-type"] == "com.example.heartbeat"
    assert first.headers["ce-team"] == "red"
    for type_ in ("SinkBindingReady", "ReceiveAdapterReady"):
        assert condition(headrace.get(source) or {}, type_)["status"] == "True"
    headrace.delete(source)
    wait_until(lambda: not programs(), 20, "the program has ended")


def test_a_program_that_fails_is_shown(headrace: HeadraceUnderTest) -> None:
    """With what it wrote last; it works after it was put right."""
    source = example("sources/container/heartbeat.yaml")
    source["metadata"]["name"] = "failing"
    spec = copy.deepcopy(source["spec"])
    [container] = source["spec"]["template"]["spec"]["containers"]
    container["args"] = ["raise SystemExit('no such till')"]
    headrace.establish(broker(NAMESPACE, "default"))
    headrace.apply(source)

    def shown() -> bool:
        ready = condition(headrace.get(source) or {}, "Ready")
        return ready.get("status") == "False" and "no such till" in ready.get("message", "")

    wait_until(shown, 20, "the failure is shown")
    headrace.update(source, lambda found: {**found, "spec": spec})
    headrace.wait_ready(source)
    headrace.delete(source)


def test_a_program_is_started_again_with_a_secret_that_changes(headrace: HeadraceUnderTest) -> None:
    """Its variable has the new value within seconds, and one program runs."""
    name = "labelled"
    headrace.sinks.script(name, Script(record=True))
    source = example("sources/container/heartbeat.yaml")
    source["metadata"]["name"] = name
    source["spec"]["sink"] = {"uri": headrace.sinks.url(name)}
    [container] = source["spec"]["template"]["spec"]["containers"]
    reference = {"secretKeyRef": {"name": name, "key": "label"}}
    container["env"] = [{"name": "LABEL", "valueFrom": reference}]
    metadata = {"name": name, "namespace": NAMESPACE}
    counts = []
    for label in ("first", "second"):
        data = {"label": base64.b64encode(label.encode()).decode()}
        headrace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        if label == "first":
            headrace.establish(source)
        body = b'{"label": "%s"}' % label.encode()
        wait_until(
            lambda body=body: body in [each.body for each in headrace.sinks.requests(name)],  # type: ignore[misc]
            30,
            f"the program has the {label} value",
        )
        counts.append(len(programs()))
    # The program and its guard, both times.
    assert counts == [2, 2]
    headrace.delete(source)


def test_no_program_is_left_after_kill_9(headrace: HeadraceUnderTest) -> None:
    """Of the sources service, or of `headrace up`; the next process starts it again."""
    source = example("sources/container/heartbeat.yaml")
    source["metadata"]["name"] = "killed"
    headrace.establish(broker(NAMESPACE, "default"))
    headrace.establish(source)
    wait_until(programs, 20, "the program runs")
    before = {each.pid for each in programs()}
    [service] = [each for each in headrace.services if each.startswith("sources")] or ["up"]
    os.kill(headrace.services[service].pid, signal.SIGKILL)
    wait_until(lambda: not before & {each.pid for each in programs()}, 20, "it has ended")
    headrace.services[service].wait(10.0)
    headrace.services[service].start()
    headrace.wait_until_ready(service)
    if service == "up":
        return  # Its resources were in memory.
    wait_until(programs, 40, "the program runs again")
    headrace.delete(source)


def test_a_binding_without_a_cluster_says_so(headrace: HeadraceUnderTest) -> None:
    """And shows the URL that a program may be given by hand."""
    binding = example("kubernetes/sources/sinkbinding.yaml")
    headrace.establish(broker(NAMESPACE, "default"))
    headrace.apply(binding)

    def shown() -> bool:
        found = headrace.get(binding) or {}
        return condition(found, "SinkBindingAvailable").get("reason") == "NoWorkloads"

    wait_until(shown, 20, "the reason is shown")
    status = (headrace.get(binding) or {})["status"]
    assert status["sinkUri"] == f"{headrace.ingress_url}/{NAMESPACE}/default"
    headrace.delete(binding)


# In a cluster.


def deployment(name: str, **labels: str) -> dict[str, Any]:
    """A Deployment."""
    labels = {"app": name, **labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [
                        {
                            "name": "main",
                            "image": "till:1",
                            "env": [{"name": "A", "value": "1"}],
                            "resources": {"limits": {"cpu": "0.5"}},
                        }
                    ]
                },
            },
        },
    }


def variables(headrace: HeadraceUnderTest, manifest: dict[str, Any]) -> dict[str, str]:
    """The environment of the first container."""
    pod = (headrace.get(manifest) or {})["spec"]["template"]["spec"]
    return {each["name"]: each["value"] for each in pod["containers"][0].get("env", ())}


@pytest.mark.clause("O4")
def test_a_cluster_runs_a_deployment(cluster: HeadraceUnderTest) -> None:
    """With the sink in its environment, also after the sink was changed; nothing is written again
    and again.
    """
    cluster.establish(broker(NAMESPACE, "default"), broker(NAMESPACE, "other"))
    source = example("sources/container/heartbeat.yaml")
    [container] = source["spec"]["template"]["spec"]["containers"]
    container["resources"] = {"requests": {"cpu": 1, "memory": "1024Mi"}}
    cluster.apply(source)
    made = deployment("heartbeat-deployment")
    wait_until(lambda: cluster.get(made), 20, "the Deployment exists")
    sink = f"{cluster.ingress_url}/{NAMESPACE}/"
    expected = {
        "LABEL": "alive",
        "K_SINK": f"{sink}default",
        "K_CE_OVERRIDES": '{"extensions":{"team":"red"}}',
    }
    assert variables(cluster, made) == expected
    found = cluster.get(made) or {}
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/heartbeat-deployment"
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "replicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "conditions": [{"type": "Available", "status": "True"}],
    }
    cluster.call("PUT", f"{path}/status", {**found, "status": status})
    cluster.wait_ready(source)
    binding = example("kubernetes/sources/sinkbinding.yaml")
    binding["metadata"]["name"] = "heartbeat-sinkbinding"
    cluster.wait_ready(binding)
    version = (cluster.get(made) or {})["metadata"]["resourceVersion"]
    # A reconcile of something else, which looks at this source too.
    cluster.establish(broker(NAMESPACE, "third"))
    assert (cluster.get(made) or {})["metadata"]["resourceVersion"] == version

    def to_other(found: dict[str, Any]) -> dict[str, Any]:
        found["spec"]["sink"]["ref"]["name"] = "other"
        return found

    cluster.update(source, to_other)
    wait_until(
        lambda: variables(cluster, made)["K_SINK"] == f"{sink}other", 20, "the sink is changed"
    )
    cluster.delete(source)


def test_a_cluster_has_its_deployment_back(cluster: HeadraceUnderTest) -> None:
    """After a client has changed or deleted it; then nothing is written again and again."""
    cluster.establish(broker(NAMESPACE, "default"))
    source = example("sources/container/heartbeat.yaml")
    source["metadata"]["name"] = "repaired"
    cluster.apply(source)
    made = deployment("repaired-deployment")
    wait_until(lambda: cluster.get(made), 20, "the Deployment exists")
    expected = variables(cluster, made)
    applied = "headrace.dev/applied-generation"

    def is_settled() -> bool:
        metadata = (cluster.get(made) or {}).get("metadata", {})
        seen = metadata.get("labels", {}).get(applied)
        return bool(seen) and seen == str(metadata["generation"])

    def as_before() -> bool:
        return is_settled() and variables(cluster, made) == expected

    wait_until(is_settled, 20, "the controller has seen what it applied")

    def change(found: dict[str, Any]) -> dict[str, Any]:
        found["spec"]["minReadySeconds"] = 5
        found["spec"]["template"]["spec"]["containers"][0].update(image="mine:1", env=[])
        return found

    cluster.update(made, change)
    wait_until(as_before, 20, "the change is undone")
    found = cluster.get(made) or {}
    [container] = found["spec"]["template"]["spec"]["containers"]
    assert "python:3.13-slim-bookworm" == container["image"]
    assert 5 == found["spec"]["minReadySeconds"], "what the source does not define stays"
    cluster.establish(broker(NAMESPACE, "another"))
    assert (cluster.get(made) or {})["metadata"]["generation"] == found["metadata"]["generation"]
    cluster.delete(made)
    wait_until(as_before, 20, "it is created again")
    cluster.delete(source)


def test_a_binding_follows_the_label_of_its_namespace(cluster: HeadraceUnderTest) -> None:
    """The controller reads namespaces with the role of examples/kubernetes."""
    cluster.establish(broker(NAMESPACE, "default"))
    workload = deployment("labelled", app="till")
    cluster.apply(workload)
    binding = example("kubernetes/sources/sinkbinding.yaml")
    binding["metadata"]["name"] = "labelled"
    cluster.establish(binding)
    assert "K_SINK" in variables(cluster, workload)
    assert isinstance(cluster, HeadraceOnKubernetes)
    label = "bindings.knative.dev/exclude"
    cluster.kubernetes.kubectl("label", "namespace", NAMESPACE, f"{label}=true")
    try:
        wait_until(lambda: variables(cluster, workload) == {"A": "1"}, 20, "it is unbound")
        wait_until(
            lambda: (
                condition(cluster.get(binding) or {}, "Ready").get("reason") == "NamespaceExcluded"
            ),
            20,
            "the reason is shown",
        )
    finally:
        cluster.kubernetes.kubectl("label", "namespace", NAMESPACE, f"{label}-")
    wait_until(lambda: "K_SINK" in variables(cluster, workload), 20, "it is bound again")
    cluster.delete(binding)


@pytest.mark.clause("O4")
def test_a_binding_changes_deployments_and_undoes_it(cluster: HeadraceUnderTest) -> None:
    """By name and by labels, now and later; values that the API server wrote stay as they are."""
    cluster.establish(broker(NAMESPACE, "default"))
    selected, excluded = (
        deployment("selected", app="till"),
        deployment("excluded", app="till", **{"bindings.knative.dev/exclude": "true"}),
    )
    cluster.apply(selected, excluded)
    before = (cluster.get(selected) or {})["spec"]
    binding = example("kubernetes/sources/sinkbinding.yaml")
    cluster.establish(binding)
    bound = {
        "A": "1",
        "K_SINK": f"{cluster.ingress_url}/{NAMESPACE}/default",
    }
    assert variables(cluster, selected) == bound
    assert variables(cluster, excluded) == {"A": "1"}
    later = deployment("later", app="till")
    cluster.apply(later)
    wait_until(lambda: variables(cluster, later) == bound, 20, "a later one is bound")

    def leave(found: dict[str, Any]) -> dict[str, Any]:
        found["metadata"]["labels"]["app"] = "other"
        return found

    cluster.update(later, leave)
    wait_until(lambda: variables(cluster, later) == {"A": "1"}, 20, "it is bound no longer")
    cluster.delete(binding)
    assert (cluster.get(selected) or {})["spec"] == before
    cluster.delete(selected, excluded, later)


def test_a_job_that_exists_is_named(cluster: HeadraceUnderTest) -> None:
    """Its pod template cannot be changed; the API server refuses it."""
    cluster.establish(broker(NAMESPACE, "default"))
    job = deployment("nightly")
    job |= {"apiVersion": "batch/v1", "kind": "Job"}
    del job["spec"]["selector"]
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    cluster.apply(job)
    binding = example("kubernetes/sources/sinkbinding.yaml")
    binding["metadata"]["name"] = "nightly"
    binding["spec"]["subject"] = {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly"}
    cluster.apply(binding)

    def shown() -> bool:
        ready = condition(cluster.get(binding) or {}, "Ready")
        return ready.get("reason") == "JobNotChangeable"

    wait_until(shown, 20, "the reason is shown")
    assert variables(cluster, job) == {"A": "1"}
    cluster.delete(binding)
    path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/nightly"
    # By default a Job waits for a garbage collector, which this cluster has not.
    cluster.call("DELETE", path, {"propagationPolicy": "Background"})
    wait_until(lambda: cluster.get(job) is None, 20, "the Job is deleted")


@pytest.mark.clause("O4")
def test_the_example_of_2019(cluster: HeadraceUnderTest) -> None:
    """Its program gets argument and variable of its time."""
    cluster.establish(broker(NAMESPACE, "default"))
    source = example("legacy/containersource.yaml")
    source["spec"]["sink"] = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "name": "default",
    }
    cluster.apply(source)
    made = deployment("heartbeats-deployment")
    wait_until(lambda: cluster.get(made), 20, "the Deployment exists")
    sink = f"{cluster.ingress_url}/{NAMESPACE}/default"
    assert variables(cluster, made) == {"K_SINK": sink, "SINK": sink}
    pod = (cluster.get(made) or {})["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["--period=1", f"--sink={sink}"]
    cluster.delete(source)
