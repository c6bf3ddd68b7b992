"""The chart in a real cluster, with Kafka in a pod: installed, tested, rolled, its pods deleted,
upgraded and rolled back while events are sent. None is lost, and none is refused twice.
"""

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import CHART, ROOT
from tests.support.kubernetes import tool
from tests.support.wait_until import wait_until

KUBECONFIG = os.environ.get("HEADRACE_TEST_CLUSTER", "")
REGISTRY = os.environ.get("HEADRACE_TEST_IMAGE_REGISTRY", "")
TAG = os.environ.get("HEADRACE_TEST_IMAGE_TAG", "local")
NAMESPACE, RELEASE = "headrace-test", "headrace"
HERE = Path(__file__).parent
CALL_SECONDS = 60.0
ROLLOUT_SECONDS = 240.0
DRAIN_SECONDS = 120.0
WORKLOADS = {
    "controller": f"deployment/{RELEASE}-controller",
    "ingress": f"deployment/{RELEASE}-ingress",
    "dispatcher": f"statefulset/{RELEASE}-dispatcher",
    "sources": f"deployment/{RELEASE}-sources",
}
VALUES = (
    f"kafka.bootstrapServers=kafka.{NAMESPACE}.svc:9092",
    f"image.registry={REGISTRY}",
    f"image.tag={TAG}",
    "ingress.replicas=2",
    "dispatcher.replicas=2",
    "controller.replicas=2",
    # The test has installed them, or it could not have installed the chart.
    "crds.keep=false",
)

pytestmark = [
    pytest.mark.skipif(
        not KUBECONFIG,
        reason="installs the chart in a cluster: run by `make test-chart`",
    ),
    pytest.mark.timeout(1800),
]


class Cluster:
    """kubectl and helm, as the user of the kubeconfig."""

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = CALL_SECONDS) -> str:
        """Run kubectl in the namespace of the test; its output. AssertionError if it fails."""
        return _run(_kubectl(*arguments), stdin=stdin, seconds=seconds)

    def helm(self, *arguments: str) -> str:
        """Run helm likewise."""
        return _run(_helm(*arguments), seconds=2 * ROLLOUT_SECONDS)

    def rolled_out(self, workload: str) -> None:
        """Wait until all pods of a workload are those of its newest template, and ready."""
        self.kubectl(
            "rollout",
            "status",
            workload,
            f"--timeout={ROLLOUT_SECONDS:.0f}s",
            seconds=ROLLOUT_SECONDS + 9,
        )

    def pods(self, component: str) -> list[str]:
        """The names of the pods of a component."""
        label = f"app.kubernetes.io/component={component}"
        return self.kubectl("get", "pods", "-l", label, "-o", "name").split()

    def state(self) -> str:
        """Pods, events and the ends of logs, for a failed test."""
        parts = [
            ("get", "pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            *(
                ("logs", "-l", f"app.kubernetes.io/component={each}", "--tail=20", "--prefix")
                for each in WORKLOADS
            ),
        ]
        return "\n".join(_run(_kubectl(*part), check=False) for part in parts)


def _kubectl(*arguments: str) -> list[str]:
    return ["kubectl", "--kubeconfig", KUBECONFIG, "--namespace", NAMESPACE, *arguments]


def _helm(*arguments: str) -> list[str]:
    program = tool("helm")
    assert program is not None, "needs helm: .ci/kube-tools builds it"
    return [program, "--kubeconfig", KUBECONFIG, "--namespace", NAMESPACE, *arguments]


def _run(
    command: list[str], *, stdin: str = "", seconds: float = CALL_SECONDS, check: bool = True
) -> str:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The namespace with Kafka and the chart of this commit's parent; removed afterwards, with what
    the chart has installed outside of it.
    """
    found = Cluster()
    _run(_kubectl("create", "namespace", NAMESPACE))
    try:
        found.kubectl("apply", "-f", str(HERE / "kafka.yaml"))
        found.rolled_out("deployment/kafka")
        yield found
    except BaseException:
        print(found.state())
        raise
    finally:
        if not os.environ.get("HEADRACE_TEST_CLUSTER_KEEP"):
            for command in (
                _kubectl("delete", "brokers,triggers", "--all", "--timeout=30s"),
                _helm("uninstall", RELEASE, "--wait", "--timeout", "120s"),
                _kubectl("delete", "namespace", NAMESPACE, "--timeout=120s"),
            ):
                _run(command, seconds=150, check=False)


@pytest.fixture(scope="module")
def parent_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of the commit before."""
    archive = subprocess.run(
        ["git", "archive", "HEAD~1", "charts/headrace"],
        cwd=ROOT,
        capture_output=True,
        timeout=CALL_SECONDS,
        check=False,
    )
    if archive.returncode:
        pytest.skip("there is no commit before this one in the checkout, or it has no chart")
    directory = tmp_path_factory.mktemp("parent")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(directory, filter="data")
    return directory / "charts" / "headrace"


class LoadInPods:
    """The sender and the sink."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def start(self) -> None:
        """Start both, and wait until events arrive."""
        cluster = self._cluster
        programs = [f"--from-file={HERE / name}.py" for name in ("sender", "sink")]
        made = cluster.kubectl(
            "create", "configmap", "programs", *programs, "--dry-run=client", "-o", "yaml"
        )
        cluster.kubectl("apply", "-f", "-", stdin=made)
        image = "/".join(part for part in (REGISTRY, f"headrace/cli:{TAG}") if part)
        url = f"http://{RELEASE}-ingress.{NAMESPACE}.svc/{NAMESPACE}/orders"
        text = (HERE / "load.yaml").read_text().replace("IMAGE", image).replace("URL", url)
        everything = text.split("---\n")
        cluster.kubectl("apply", "-f", "-", stdin="---\n".join(everything[:-1]))
        for kind, name in (("broker", "orders"), ("trigger", "everything"), ("pod", "sink")):
            cluster.kubectl("wait", "--for=condition=Ready", f"{kind}/{name}", "--timeout=60s")
        cluster.kubectl("apply", "-f", "-", stdin=everything[-1])
        wait_until(self.received, CALL_SECONDS, "events arrive", every=1.0)

    def received(self) -> set[str]:
        """The ids that the sink has accepted."""
        return self._lines("sink", "cat /tmp/received 2>/dev/null || true")

    def stop(self) -> tuple[set[str], dict[str, Any]]:
        """Stop to send; the accepted ids and the counts."""
        self._lines("sender", "touch /tmp/stop")
        wait_until(
            lambda: self._lines("sender", "ls /tmp") >= {"counts.json"},
            CALL_SECONDS,
            "the senders end",
            every=1.0,
        )
        counts = json.loads(
            self._cluster.kubectl("exec", "sender", "--", "cat", "/tmp/counts.json")
        )
        return self._lines("sender", "cat /tmp/accepted-*"), counts

    def _lines(self, pod: str, script: str) -> set[str]:
        return set(self._cluster.kubectl("exec", pod, "--", "sh", "-c", script).split())


def test_nothing_is_lost_while_everything_is_replaced(cluster: Cluster, parent_chart: Path) -> None:
    """The chart of the commit before is installed; under load it is upgraded to this one and rolled
    back, each service is restarted, and each pod is deleted.
    """
    options = [part for value in VALUES for part in ("--set", value)]
    wait = ("--wait", "--timeout", f"{ROLLOUT_SECONDS:.0f}s")
    cluster.helm("install", RELEASE, str(parent_chart), *options, *wait)
    print(cluster.helm("test", RELEASE, "--timeout", "120s"))
    load = LoadInPods(cluster)
    load.start()
    # The annotation makes every pod a new one, also where the charts differ in nothing else.
    newer = (*options, "--set-string", "common.podAnnotations.upgraded=yes")
    cluster.helm("upgrade", RELEASE, str(CHART), *newer, *wait)
    for workload in WORKLOADS.values():
        cluster.kubectl("rollout", "restart", workload)
        cluster.rolled_out(workload)
    for component, workload in WORKLOADS.items():
        for pod in cluster.pods(component):
            cluster.kubectl("delete", pod, "--wait=true", seconds=2 * CALL_SECONDS)
            cluster.rolled_out(workload)
    cluster.helm("rollback", RELEASE, "1", *wait)
    cluster.helm("upgrade", RELEASE, str(CHART), *newer, *wait)
    print(cluster.helm("test", RELEASE, "--timeout", "120s"))
    accepted, counts = load.stop()
    print(f"accepted {len(accepted)}, sent twice {counts['retried']}")
    wait_until(lambda: accepted <= load.received(), DRAIN_SECONDS, "all arrive", every=2.0)
    assert counts["refused"] == []
    assert len(accepted) > 1000
