"""`helm test`: the script of its pod, run on this machine against `headrace up`, and the form in
which the pod gets it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.rendering import CHART, VALUE_SETS, Object, component, named, of_kind
from tests.support.certificates import Authority
from tests.support.embedded_headrace import embedded_headrace_in
from tests.support.headrace_under_test import HeadraceUnderTest, lasting_port
from tests.support.wait_until import wait_until

SCRIPT = CHART / "files" / "helm-test.sh"
NAME = "headrace-test"


def _pod(value_set: str) -> Object:
    [found] = of_kind(value_set, "Pod")
    return found


def _run(
    system: HeadraceUnderTest, directory: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the script as the pod does, with its variables."""
    variables = {
        "NAME": NAME,
        "NAMESPACE": "default",
        "TIMEOUT_SECONDS": "30",
        "VIEWER_PORT": str(lasting_port()),
        "WORK": str(directory),
        "POD_IP": "127.0.0.1",
        "HEADRACE_INGRESS": system.ingress_url,
        "INGRESS_CA": "",
        "HEADRACE_SERVER": f"http://127.0.0.1:{system.api_port}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }
    assert set(variables) - {"PATH", "PYTHONUNBUFFERED"} <= _variables("standalone")
    return subprocess.run(
        ["sh", "-c", SCRIPT.read_text(encoding="utf-8")],
        env={**variables, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _variables(value_set: str) -> set[str]:
    [container] = _pod(value_set)["spec"]["containers"]
    return {each["name"] for each in container["env"]}


def test_an_event_is_sent_and_its_delivery_awaited(tmp_path: Path) -> None:
    """Broker and Trigger are removed afterwards."""
    with embedded_headrace_in(tmp_path) as system:
        done = _run(system, tmp_path)
        assert 0 == done.returncode, done.stdout + done.stderr
        assert re.search(r"the event helm-test-\d+ was delivered", done.stdout)
        wait_until(lambda: not _left(system), 20, "Broker and Trigger are removed")


def test_the_certificate_of_the_ingress_is_verified(tmp_path: Path) -> None:
    """With the authority in the Secret of the certificate; without it the event is not sent."""
    authority = Authority(tmp_path / "ca")
    certificate = authority.sign("ingress")
    https = {
        "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE": str(certificate.certificate),
        "HEADRACE_INGRESS_TLS_KEY_FILE": str(certificate.key),
    }
    with embedded_headrace_in(tmp_path / "up", env=https) as system:
        url = f"https://127.0.0.1:{system.ingress_port}"
        done = _run(system, tmp_path, HEADRACE_INGRESS=url, INGRESS_CA=str(authority.file))
        assert 0 == done.returncode, done.stdout + done.stderr
        assert re.search(r"the event helm-test-\d+ was delivered", done.stdout)
        wait_until(lambda: not _left(system), 20, "Broker and Trigger are removed")
        missing = str(tmp_path / "ca.crt")
        done = _run(system, tmp_path, HEADRACE_INGRESS=url, INGRESS_CA=missing)
        assert 2 == done.returncode, done.stdout + done.stderr
        assert "has no ca.crt" in done.stdout
        assert "certificate verify failed" in done.stderr


def test_the_test_sends_to_the_name_of_the_certificate() -> None:
    """Not to the Service, and trusts the authority of the Secret if it has one."""
    [container] = _pod("https")["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert "https://events.example.com" == variables["HEADRACE_INGRESS"]
    assert "/etc/headrace/certificate/ca.crt" == variables["INGRESS_CA"]
    [volume] = [each for each in _pod("https")["spec"]["volumes"] if each["name"] == "certificate"]
    assert volume["secret"]["optional"]
    assert [{"key": "ca.crt", "path": "ca.crt"}] == volume["secret"]["items"]


def _left(system: HeadraceUnderTest) -> list[str]:
    """Brokers and Triggers of the test."""
    lists = [
        system.request_api(
            "GET", f"/apis/eventing.knative.dev/v1/namespaces/default/{kind}", None
        ).json()
        for kind in ("brokers", "triggers")
    ]
    names = [each["metadata"]["name"] for found in lists for each in found["items"]]
    return [name for name in names if name == NAME]


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_the_pod_runs_the_script(value_set: str) -> None:
    """Kubernetes replaces `$(NAME)` of variables that the container has, and two dollar signs."""
    [container] = _pod(value_set)["spec"]["containers"]
    assert ["sh", "-c"] == container["command"]
    [text] = container["args"]
    assert SCRIPT.read_text(encoding="utf-8").strip() == text.strip()
    assert "$$" not in text
    replaced = {f"$({name})" for name in _variables(value_set)}
    assert [] == [each for each in replaced if each in text]


def test_each_variable_of_the_script_is_set() -> None:
    """The script ends at one that is not."""
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", SCRIPT.read_text(encoding="utf-8")))
    assert used <= _variables("default")


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_everything_of_the_test_is_removed_after_it(value_set: str) -> None:
    """The pod starts last."""
    hooks = [
        each
        for each in of_kind(value_set, "Pod", "ServiceAccount", "Role", "RoleBinding")
        if component(each) == "test"
    ]
    for each in hooks:
        annotations = each["metadata"]["annotations"]
        assert "before-hook-creation,hook-succeeded" == annotations["helm.sh/hook-delete-policy"]
        weight = "0" if each["kind"] == "Pod" else "-1"
        assert weight == annotations["helm.sh/hook-weight"]


@pytest.mark.parametrize(
    ("value_set", "namespace"),
    [("default", "knative-eventing"), ("namespaced", "shop"), ("standalone", "knative-eventing")],
)
def test_the_broker_is_in_a_namespace_that_is_served(value_set: str, namespace: str) -> None:
    """And it is addressed by the Service of the ingress."""
    [container] = _pod(value_set)["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert namespace == variables["NAMESPACE"]
    assert named(value_set, "Service", "headrace-ingress")
    assert (
        "http://headrace-ingress.knative-eventing.svc.cluster.local"
        == (variables["HEADRACE_INGRESS"])
    )
