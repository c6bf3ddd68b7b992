"""A kind is a CRD file and one module: Queues (`tests.support.queue_kind`) are registered with
the product's controller, and everything works for them without another change.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.resources.naming import retry_group
from headrace_controller.reconcile.registry import Reconcilers
from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    kafka_for_headrace,
    lasting_port,
    wait_for_events,
)
from tests.support.kubernetes import CONTROLLER_USER, KubernetesUnderTest
from tests.support.manifests import Manifest, broker, trigger
from tests.support.processes import ServiceProcess
from tests.support.queue_kind import QUEUES, READERS
from tests.support.roles import rules_of
from tests.support.wait_until import wait_until

pytestmark = pytest.mark.kafka

NAMESPACE = "shop"
ROOT = Path(__file__).parents[2]
CRDS = ROOT / "tests" / "support" / "queue_kind" / "crds.yaml"
TOPIC, GROUP = f"queue-{NAMESPACE}-work", f"queue-reader-{NAMESPACE}-work-reader"


class HeadraceWithQueues(HeadraceUnderTest):
    """Resources are in Kafka."""

    kubeconfig_of_controller: Path | None = None

    def run_with(
        self,
        name: str,
        own: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        command: str = "",
    ) -> ServiceProcess:
        """Like `HeadraceUnderTest.run_with`, with Queues registered in the controller."""
        if name != "controller":
            return super().run_with(name, own, env=env, command=command)
        self._management[name] = lasting_port()
        arguments = {
            "port": self.api_port,
            "ingress_url": self.ingress_url,
            "bootstrap_servers": self.log.bootstrap_servers,
            "management_port": self._management[name],
            "kubeconfig": str(self.kubeconfig_of_controller or ""),
        }
        with_queues = [sys.executable, "-m", "tests.support.queue_kind", json.dumps(arguments)]
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        process = self.processes.start(name, with_queues, env={**self._env, "PYTHONPATH": path})
        self.services[name] = process
        return process

    def install_crds(self) -> None:
        """Apply the CRDs as a user does."""
        for document in yaml.safe_load_all(CRDS.read_text()):
            self.call_patiently(
                "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document
            )


class QueuesOnKubernetes(HeadraceWithQueues, HeadraceOnKubernetes):
    """Resources are in a Kubernetes API server; the controller has the rights that its registered
    kinds need and no others.
    """

    def __init__(
        self, bootstrap_servers: str, directory: Path, kubernetes: KubernetesUnderTest
    ) -> None:
        super().__init__(bootstrap_servers, directory, kubernetes=kubernetes)
        self.kubeconfig_of_controller = self._as_controller
        kubernetes.kubectl("apply", "-f", str(CRDS))
        kubernetes.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        role = _role(rules_of(Reconcilers(QUEUES, READERS)))
        kubernetes.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(role))

    def install_crds(self) -> None:
        """The controller does not start before they exist."""

    def close(self) -> None:
        """Remove the kind too."""
        super().close()
        self.kubernetes.kubectl("delete", "-f", str(CRDS), "--wait=false")
        names = ("clusterrole", "clusterrolebinding")
        for name in names:
            self.kubernetes.kubectl("delete", name, "queues")


def _role(rules: list[dict[str, Any]]) -> list[Manifest]:
    api, metadata = "rbac.authorization.k8s.io", {"name": "queues"}
    subject = {"kind": "User", "name": CONTROLLER_USER, "apiGroup": api}
    reference = {"kind": "ClusterRole", "name": "queues", "apiGroup": api}
    return [
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": rules,
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "subjects": [subject],
            "roleRef": reference,
        },
    ]


@pytest.fixture(params=["standalone", "cluster"])
def headrace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HeadraceWithQueues]:
    """An installation that has Queues."""
    cluster = request.param == "cluster"
    kubernetes = request.getfixturevalue("kubernetes") if cluster else None
    with kafka_for_headrace(tmp_path) as apache:
        headrace = (
            HeadraceWithQueues(apache.bootstrap_servers, tmp_path)
            if kubernetes is None
            else QueuesOnKubernetes(apache.bootstrap_servers, tmp_path, kubernetes)
        )
        try:
            headrace.start()
            headrace.install_crds()
            headrace.ensure_namespace(NAMESPACE)
            yield headrace
        except BaseException:
            print(headrace.processes.report())
            raise
        finally:
            headrace.close()


def _queue(subscriber: Mapping[str, Any] | None = None) -> Manifest:
    return {
        "apiVersion": "test.headrace.dev/v1",
        "kind": "Queue",
        "metadata": {"name": "work", "namespace": NAMESPACE},
        "spec": {"subscriber": subscriber} if subscriber else {},
    }


def _reader() -> Manifest:
    metadata = {"name": "work-reader", "namespace": NAMESPACE}
    return {"apiVersion": "test.headrace.dev/v1", "kind": "QueueReader", "metadata": metadata}


def _post(headrace: HeadraceUnderTest, path: str, identity: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": identity, "ce-source": "/s", "ce-type": "t"}
    assert 202 == headrace.post(path, headers, b"{}")


def _address(headrace: HeadraceUnderTest, manifest: Manifest) -> str:
    return str((headrace.get(manifest) or {}).get("status", {}).get("address", {}).get("url"))


def test_a_kind_that_the_product_does_not_have(headrace: HeadraceWithQueues) -> None:
    """A Queue becomes Ready, accepts events at its address, can be the destination of a Trigger,
    delivers to its subscriber through a child that it owns, follows a change, and leaves nothing
    after its deletion.
    """
    path = f"/queues/{NAMESPACE}/work"
    headrace.establish(_queue())
    assert f"{headrace.ingress_url}{path}" == _address(headrace, _queue())
    assert TOPIC in headrace.log.topics()
    assert headrace.get(_reader()) is None

    headrace.establish(_queue({"uri": headrace.sinks.url("first")}))
    _post(headrace, path, "e.0")
    wait_for_events(headrace, "first", 1)
    reader = headrace.get(_reader())
    assert reader is not None
    assert "work" == reader["metadata"]["ownerReferences"][0]["name"]
    assert GROUP in headrace.log.groups()

    reference = {"apiVersion": "test.headrace.dev/v1", "kind": "Queue", "name": "work"}
    forward = trigger(NAMESPACE, "forward", "")
    forward["spec"]["subscriber"] = {"ref": reference}
    headrace.establish(broker(NAMESPACE), forward)
    _post(headrace, f"/{NAMESPACE}/default", "e.1")
    wait_for_events(headrace, "first", 2)
    headrace.delete(forward, broker(NAMESPACE))

    headrace.establish(_queue({"uri": headrace.sinks.url("second")}))
    _post(headrace, path, "e.2")
    wait_for_events(headrace, "second", 1)

    headrace.delete(_queue())
    assert headrace.get(_reader()) is None
    assert 404 == headrace.post(path, {"ce-specversion": "1.0"})
    wait_until(lambda: not _left(headrace), 30, f"nothing is left; there is {_left(headrace)}")


def _left(headrace: HeadraceUnderTest) -> list[str]:
    names = {TOPIC, GROUP, retry_group(GROUP), f"{GROUP}.dead"}
    return sorted(names & ({*headrace.log.topics()} | headrace.log.groups()))
