"""The chart in a real API server: every object is accepted strictly; install, upgrade, uninstall.

There are no nodes and no controller manager, so no pod runs here.
"""

import base64
import json
import os
import re
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.testing

from headrace_cli.main import application
from headrace_controller.settings import ControllerSettings
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    RELEASE,
    VALUE_SETS,
    component,
    file_of,
    helm,
    objects,
)
from tests.support.kubernetes import KubernetesUnderTest, empty_api_server, tool
from tests.unit.apiserver.running_api import running_api

DEFINED_ELSEWHERE = {
    "HTTPRoute",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "ServiceMonitor",
}
"""Kinds of operators that are not part of Kubernetes."""
CRDS = CHART / "files" / "crds"
EVENT_POLICIES = "eventpolicies.eventing.knative.dev"
SECRET_BYTES_MAX = 1024 * 1024
"""What a Secret may have, in which helm stores a release."""


@pytest.fixture(name="cluster", scope="module")
def _cluster() -> Iterator[KubernetesUnderTest]:
    """An API server with the namespaces, and nothing of Headrace."""
    if tool("helm") is None:
        pytest.skip("not proven here: needs helm, see .ci/kube-tools")
    with empty_api_server() as started:
        for name in (NAMESPACE, "shop", "orders"):
            started.kubectl("create", "namespace", name)
        started.kubectl(
            "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted"
        )
        yield started


def _helm(cluster: KubernetesUnderTest, command: str, *arguments: str) -> str:
    done = helm(
        command, RELEASE, *arguments, "-n", NAMESPACE, "--kubeconfig", str(cluster.kubeconfig)
    )
    return done.stdout + done.stderr


def _names(cluster: KubernetesUnderTest, kind: str) -> set[str]:
    found = cluster.kubectl("get", kind, "-n", NAMESPACE, "-o", "name").stdout
    return {each.partition("/")[2] for each in found.split()}


def _get(cluster: KubernetesUnderTest, kind: str, name: str) -> dict[str, Any]:
    text = cluster.kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json").stdout
    return dict(json.loads(text))


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_every_object_is_accepted(cluster: KubernetesUnderTest, value_set: str) -> None:
    """Server-side apply in a dry run, which refuses unknown and doubled fields, into a namespace
    that enforces the restricted profile for pods and warns for templates.
    """
    documents = [each for each in objects(value_set) if each["kind"] not in DEFINED_ELSEWHERE]
    done = cluster.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "--force-conflicts",
        "-f",
        "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}),
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert "" == done.stderr
    assert len(documents) == len(done.stdout.splitlines())


def test_install_upgrade_and_uninstall(cluster: KubernetesUnderTest) -> None:
    """As in the documentation; the definitions outlive the release."""
    values = ("-f", str(file_of("default")))
    notes = _helm(cluster, "install", str(CHART), *values)
    assert "helm test headrace --namespace knative-eventing" in notes
    assert {"headrace-ingress", "headrace-controller", "headrace-sources"} == _names(
        cluster, "deployments"
    )
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker"}
    broker_text = json.dumps({**broker, "metadata": {"name": "default", "namespace": "shop"}})
    cluster.kubectl("create", "-f", "-", stdin=broker_text)

    _helm(
        cluster, "upgrade", str(CHART), *values, "--set", "ingress.replicas=3,sources.enabled=false"
    )
    assert 3 == _get(cluster, "deployment", "headrace-ingress")["spec"]["replicas"]
    assert "headrace-sources" not in _names(cluster, "deployments")
    _helm(cluster, "rollback", "1")
    assert 2 == _get(cluster, "deployment", "headrace-ingress")["spec"]["replicas"]

    releases = json.loads(
        cluster.kubectl("get", "secrets", "-n", NAMESPACE, "-l", "owner=helm", "-o", "json").stdout
    )["items"]
    assert 3 == len(releases)
    assert SECRET_BYTES_MAX / 2 > max(len(each["data"]["release"]) for each in releases)

    text = _helm(cluster, "uninstall")
    assert "kept due to the resource policy" in text
    assert set() == _names(cluster, "deployments") | _names(cluster, "networkpolicies")
    assert "default" in cluster.kubectl("get", "brokers", "-n", "shop").stdout

    # A definition that kubectl has created is taken over with the options that Helm has for it.
    cluster.kubectl("delete", "crd", EVENT_POLICIES)
    cluster.kubectl("apply", "--server-side", "-f", str(CRDS / "eventpolicy.yaml"))
    _helm(cluster, "install", str(CHART), *values, "--take-ownership", "--force-conflicts")
    labels = _get(cluster, "crd", EVENT_POLICIES)["metadata"]["labels"]
    assert "Helm" == labels["app.kubernetes.io/managed-by"]
    _helm(cluster, "uninstall")


def test_the_permissions_of_the_test_are_enough(
    cluster: KubernetesUnderTest, tmp_path: Path
) -> None:
    """Broker and Trigger are created, read and deleted with the token of the test's account. They
    do not become Ready, because no controller runs.
    """
    for kind in ("broker", "trigger"):
        crd = str(CRDS / f"{kind}.yaml")
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", crd)
        cluster.kubectl("wait", "--for=condition=Established", "-f", crd)
    hooks = [each for each in objects("default") if component(each) == "test"]
    accounts = {"items": [each for each in hooks if each["kind"] != "Pod"]}
    listed = json.dumps({"apiVersion": "v1", "kind": "List", **accounts})
    cluster.kubectl("apply", "-f", "-", stdin=listed)
    token = cluster.kubectl("create", "token", "headrace-test", "-n", NAMESPACE).stdout
    (tmp_path / "token").write_text(token)
    connection = {
        "HEADRACE_SERVER": cluster.server,
        "HEADRACE_API_TOKEN_FILE": str(tmp_path / "token"),
        "HEADRACE_CERTIFICATE_AUTHORITY": str(cluster.ca),
    }

    def headrace(*arguments: str, stdin: str | None = None) -> typer.testing.Result:
        given = [*arguments, "--namespace", NAMESPACE]
        return typer.testing.CliRunner().invoke(
            application(given), given, env=connection, input=stdin
        )

    applied = headrace("apply", "-f", "-", "--wait", "--timeout", "1", stdin=_manifests())
    assert 1 == applied.exit_code
    assert "headrace-test" in applied.output
    assert "orbidden" not in applied.output
    for kind in ("trigger", "broker"):
        deleted = headrace("delete", kind, "headrace-test", "--ignore-not-found")
        assert 0 == deleted.exit_code, deleted.output
    found = cluster.kubectl("get", "brokers,triggers", "-n", NAMESPACE, "-o", "name").stdout
    assert "" == found


def _manifests() -> str:
    """Those in the script of the test."""
    script = (CHART / "files" / "helm-test.sh").read_text(encoding="utf-8")
    [text] = re.findall(r"<<END\n(.*?)^END$", script, re.MULTILINE | re.DOTALL)
    values = {"NAME": "headrace-test", "host": "10.0.0.1", "VIEWER_PORT": "8090"}
    return string.Template(text).substitute(values)


def test_the_notes_of_the_standalone_mode_can_be_followed(
    cluster: KubernetesUnderTest, tmp_path: Path
) -> None:
    """Its commands, with kubectl alone, lead to the controller's API. No pod runs here: a
    controller with the Secret of the release answers at another port instead of the forwarded one.
    """
    notes = _helm(cluster, "install", str(CHART), "-f", str(file_of("standalone")))
    try:
        data = _get(cluster, "secret", "headrace-api")["data"]
        for name, text in data.items():
            (tmp_path / name).write_bytes(base64.b64decode(text))
            (tmp_path / name).chmod(0o600)
        settings = ControllerSettings(
            port=0,
            token_file=tmp_path / "token",
            tls_cert_file=tmp_path / "tls.crt",
            tls_key_file=tmp_path / "tls.key",
        )
        with running_api(settings) as api:
            port = urlsplit(api.url).port
            commands = "\n".join(
                re.findall(r"^  (.*)$", notes.partition("forwarded port")[2], re.M)
            )
            assert "kubectl port-forward --namespace knative-eventing service/" in commands
            assert "headrace " not in commands.replace("headrace --", "")
            script = re.sub(r"^kubectl port-forward .*$", "", commands, flags=re.MULTILINE)
            script = script.replace("https://localhost:8001", f"https://localhost:{port}")
            done = subprocess.run(
                ["sh", "-eu", "-c", script],
                cwd=tmp_path,
                env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert 0 == done.returncode, done.stdout + done.stderr
        assert "broker.eventing.knative.dev/default created" in done.stdout
        assert "NAME" in done.stdout.splitlines()[-2]
        assert "default" in done.stdout.splitlines()[-1]
        assert 0o600 == (tmp_path / "headrace.token").stat().st_mode & 0o777
    finally:
        _helm(cluster, "uninstall")


def test_token_and_certificate_are_kept_at_an_upgrade(cluster: KubernetesUnderTest) -> None:
    """Clients would otherwise be refused after it."""
    values = ("-f", str(file_of("standalone")))
    _helm(cluster, "install", str(CHART), *values)
    try:
        before = _get(cluster, "secret", "headrace-api")["data"]
        assert {"token", "ca.crt", "tls.crt", "tls.key"} == set(before)
        _helm(cluster, "upgrade", str(CHART), *values, "--set", "ingress.replicas=3")
        assert before == _get(cluster, "secret", "headrace-api")["data"]
    finally:
        _helm(cluster, "uninstall")
