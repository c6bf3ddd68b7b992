"""Every pod of the chart: hardened, probed, with requests, and spread."""

from typing import Any

import pytest

from tests.chart.rendering import VALUE_SETS, component, named, of_kind, pods, services

LOCKED_DOWN: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
USES_THE_API = {"controller", "sources", "test"}
SHUTDOWN_SECONDS = 20 + 5
"""What the ingress, which needs most, takes at most: delay and drain."""


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_pods_conform_to_the_restricted_profile(value_set: str) -> None:
    """User 65532, no privileges, nothing writable in the image; no host namespace."""
    found = list(pods(value_set))
    assert len(found) >= 4
    for _, pod in found:
        assert {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        } == pod["securityContext"]
        assert set(pod) & {"hostNetwork", "hostPID", "hostIPC", "initContainers"} == set()
        assert [LOCKED_DOWN] == [each["securityContext"] for each in pod["containers"]]
        assert {"emptyDir", "secret", "projected"} >= {
            kind for volume in pod["volumes"] for kind in volume if kind != "name"
        }


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_no_pod_has_service_links(value_set: str) -> None:
    """A Service named headrace-ingress would set HEADRACE_INGRESS_PORT to a URL."""
    assert {False} == {pod["enableServiceLinks"] for _, pod in pods(value_set)}


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_only_pods_that_use_the_api_have_a_token(value_set: str) -> None:
    """The controller, the sources service and the test, and none of them in standalone mode."""
    expected = set() if value_set.startswith("standalone") else USES_THE_API
    holders = {name for name, pod in pods(value_set) if pod["automountServiceAccountToken"]}
    assert expected == holders
    accounts = of_kind(value_set, "ServiceAccount")
    assert {False} == {each["automountServiceAccountToken"] for each in accounts}


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_each_service_is_probed(value_set: str) -> None:
    """Never on `/startupz`, which fails while Kafka is not available: that would restart pods."""
    for container in services(value_set).values():
        paths = {
            probe: container[probe]["httpGet"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert {
            "startupProbe": {"path": "/livez", "port": "management"},
            "livenessProbe": {"path": "/livez", "port": "management"},
            "readinessProbe": {"path": "/readyz", "port": "management"},
        } == paths
        assert "management" in {port["name"] for port in container["ports"]}


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_each_container_has_requests_and_a_limit_of_memory(value_set: str) -> None:
    """Without a limit of CPU, which would delay requests while the node has time."""
    for _, pod in pods(value_set):
        for container in pod["containers"]:
            assert {"cpu", "memory"} == set(container["resources"]["requests"])
            assert {"memory"} == set(container["resources"]["limits"])


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_pods_have_time_to_shut_down(value_set: str) -> None:
    """Longer than a service takes at most."""
    for name, pod in pods(value_set):
        assert name == "test" or pod["terminationGracePeriodSeconds"] > SHUTDOWN_SECONDS


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_each_mount_has_a_volume_and_each_volume_a_mount(value_set: str) -> None:
    """By name."""
    for _, pod in pods(value_set):
        mounts = {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]}
        assert {volume["name"] for volume in pod["volumes"]} == mounts


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_the_state_directory_of_a_dispatcher_is_a_volume(value_set: str) -> None:
    """What is there must outlive a restart of the container; in-memory channels have one too."""
    for name, container in services(value_set).items():
        variables = {each["name"]: each.get("value") for each in container["env"]}
        directory = variables.get("HEADRACE_DISPATCHER_STATE_DIRECTORY")
        assert (directory is not None) == (name in ("dispatcher", "in-memory"))
        if directory is not None:
            assert {"name": "state", "mountPath": directory} in container["volumeMounts"]


def test_dispatchers_have_lasting_names() -> None:
    """Those of the pods of a StatefulSet: static membership needs the name again after a crash."""
    dispatcher = named("default", "StatefulSet", "headrace-dispatcher")
    assert "Parallel" == dispatcher["spec"]["podManagementPolicy"]
    assert (
        dispatcher["spec"]["serviceName"]
        == named("default", "Service", "headrace-dispatcher")["metadata"]["name"]
    )
    [instance] = [
        each
        for each in services("default")["dispatcher"]["env"]
        if each["name"] == "HEADRACE_DISPATCHER_INSTANCE"
    ]
    assert {"fieldRef": {"fieldPath": "metadata.name"}} == instance["valueFrom"]


def test_one_process_has_the_in_memory_channels() -> None:
    """Two would have different events; they must not overlap either."""
    spec = named("everything", "Deployment", "headrace-events-in-memory")["spec"]
    assert (1, {"type": "Recreate"}) == (spec["replicas"], spec["strategy"])


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_pods_are_spread_over_nodes_and_zones(value_set: str) -> None:
    """Each component by its own pods, unless the values have other constraints."""
    for each in of_kind(value_set, "Deployment", "StatefulSet"):
        found = each["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        if (value_set, component(each)) == ("everything", "dispatcher"):
            assert [] == found
            continue
        keys = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert keys == [constraint["topologyKey"] for constraint in found]
        assert [each["spec"]["selector"]] * 2 == [
            constraint["labelSelector"] for constraint in found
        ]


def test_values_of_common_reach_every_pod() -> None:
    """And those of a component count first."""
    rendered = dict(pods("everything"))
    rendered.pop("test")
    assert {"ingress", "dispatcher", "controller", "sources", "in-memory"} == set(rendered)
    for pod in rendered.values():
        assert {"kubernetes.io/os": "linux"} == pod["nodeSelector"]
        assert "system-cluster-critical" == pod["priorityClassName"]
        assert ["dedicated"] == [each["key"] for each in pod["tolerations"]]
        assert {"nodeAffinity"} == set(pod["affinity"])
        assert [{"name": "registry-credentials"}] == pod["imagePullSecrets"]
        assert {"name": "more", "emptyDir": {}} in pod["volumes"]
    levels = {
        name: next(v["value"] for v in c["env"] if v["name"] == "HEADRACE_LOG_LEVEL")
        for name, c in services("everything").items()
    }
    assert ("debug", "info") == (levels["controller"], levels["ingress"])


def test_images_have_a_digest_or_a_tag() -> None:
    """The default is the chart's version of the application, without a registry."""
    images = {name: each["image"] for name, each in services("everything").items()}
    assert images["sources"].startswith("registry.example.com/team/headrace-with-java@sha256:0123")
    assert "registry.example.com/team/headrace/ingress:2.0" == images["ingress"]
    assert "Always" == services("everything")["ingress"]["imagePullPolicy"]
    # The ingress's image has the process for in-memory channels too.
    assert "registry.example.com/team/headrace/ingress:0.1.0" == images["in-memory"]
    assert {f"headrace/{name}:0.1.0" for name in services("default")} == {
        each["image"] for each in services("default").values()
    }
