"""Channels of a kind that is not Headrace's, with a controller of the test's own, as the template
of a Channel and as the channel of Subscriptions; with the resources in Kafka and in a Kubernetes
API server.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
import yaml

from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    condition,
    headrace_in,
    kafka_for_headrace,
    path_of,
    wait_for_events,
)
from tests.support.kubernetes import CONTROLLER_USER, KubernetesUnderTest
from tests.support.ledger import headers_of, numbered
from tests.support.manifests import Manifest, channel, delivery, reference_to, subscription
from tests.support.pipe_kind import API_VERSION, CRDS, GROUP, KINDS, PipeController
from tests.support.wait_until import wait_until

NAMESPACE = "plumbing"
RBAC = "rbac.authorization.k8s.io"
ROLE = "pipes-channelable-manipulator"
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", params=["standalone", "cluster"])
def headrace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """An installation that has Pipes, and their controller."""
    directory = tmp_path_factory.mktemp("pipes")
    if request.param == "standalone":
        with headrace_in(directory) as system:
            for document in yaml.safe_load_all(CRDS.read_text()):
                path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
                system.call_patiently("POST", path, document)
            yield from _with_controller(system)
        return
    kubernetes: KubernetesUnderTest = request.getfixturevalue("kubernetes")
    with kafka_for_headrace(directory) as apache:
        on_cluster = HeadraceOnKubernetes(apache.bootstrap_servers, directory, kubernetes)
        kubernetes.kubectl("apply", "-f", str(CRDS))
        kubernetes.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        kubernetes.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(_role()))
        try:
            yield from _with_controller(on_cluster.start())
        except BaseException:
            print(on_cluster.processes.report())
            raise
        finally:
            on_cluster.close()
            kubernetes.kubectl("delete", "-f", str(CRDS), "--wait=false", "--ignore-not-found")
            kubernetes.kubectl("delete", "clusterrole,clusterrolebinding", ROLE)


def _with_controller(headrace: HeadraceUnderTest) -> Iterator[HeadraceUnderTest]:
    headrace.ensure_namespace(NAMESPACE)
    pipes = PipeController(headrace.call)
    pipes.start()
    try:
        yield headrace
    finally:
        pipes.stop()


def _role() -> list[Manifest]:
    """The role that the author of a kind adds, and its binding: there is no controller that
    aggregates roles in this cluster.
    """
    verbs = ["create", "get", "list", "watch", "update", "patch"]
    labels = {"duck.knative.dev/channelable": "true"}
    return [
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": ROLE, "labels": labels},
            "rules": [{"apiGroups": [GROUP], "resources": [*KINDS.values()], "verbs": verbs}],
        },
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ROLE},
            "subjects": [{"kind": "User", "name": CONTROLLER_USER, "apiGroup": RBAC}],
            "roleRef": {"kind": "ClusterRole", "name": ROLE, "apiGroup": RBAC},
        },
    ]


def _pipe(name: str, kind: str = "Pipe", **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _templated(name: str, kind: str = "Pipe", **spec: Any) -> Manifest:
    template = {"apiVersion": API_VERSION, "kind": kind}
    return channel(NAMESPACE, name, spec={"channelTemplate": template, **spec})


def _send(headrace: HeadraceUnderTest, manifest: Manifest, number: int) -> None:
    """Post an event to the address that the channel shows."""
    url = _found(headrace, manifest)["status"]["address"]["url"]
    event = numbered(headrace.seed, manifest["metadata"]["name"], number)
    lines = headers_of(event).decode().splitlines()
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    answer = urllib3.request("POST", url, headers=headers, body=event.data, timeout=10.0)
    assert answer.status == 202


def _found(headrace: HeadraceUnderTest, manifest: Manifest) -> Manifest:
    return headrace.get(manifest) or {}


def _names(headrace: HeadraceUnderTest, pipe: Manifest) -> list[str]:
    entries = _found(headrace, pipe).get("spec", {}).get("subscribers") or ()
    return sorted(each["name"] for each in entries)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.clause("C1", "S1", "S7")
def test_a_channel_of_another_kind(headrace: HeadraceUnderTest, kind: str) -> None:
    """The Channel creates the object with the defaults of its schema and shows its address; each
    Subscription, by either name, has an entry and gets every event.
    """
    name = f"template-{kind.lower()}"
    made, pipe = _templated(name, kind, delivery=delivery(retry=3)), _pipe(name, kind)
    one = subscription(made, f"{name}-one", headrace.sinks.url(f"{name}-one"))
    two = subscription(pipe, f"{name}-two", headrace.sinks.url(f"{name}-two"))
    headrace.apply(one, two)
    headrace.apply(made)
    headrace.wait_ready(made, one, two)
    backing = _found(headrace, pipe)
    assert (backing["spec"]["depth"], backing["spec"]["delivery"]) == (7, {"retry": 3})
    assert [each["kind"] for each in backing["metadata"]["ownerReferences"]] == ["Channel"]
    assert _names(headrace, pipe) == [f"{name}-one", f"{name}-two"]
    shown = _found(headrace, made)["status"]
    assert shown["channel"]["kind"] == kind
    assert {each["ready"] for each in shown["subscribers"]} == {"True"}
    _send(headrace, made, 0)
    for each in (one, two):
        wait_for_events(headrace, each["metadata"]["name"], 1)
    headrace.delete(one)
    assert _names(headrace, pipe) == [f"{name}-two"]
    wait_until(
        lambda: len(_found(headrace, made)["status"]["subscribers"]) == 1,
        15,
        "the controller of the kind has seen that",
    )
    _send(headrace, made, 1)
    wait_for_events(headrace, f"{name}-two", 2)
    assert headrace.sinks.events(f"{name}-one") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_entries_of_other_writers_stay(headrace: HeadraceUnderTest, kind: str) -> None:
    """Whether the list has a merge key or not, and while several Subscriptions come and go."""
    pipe = _pipe(f"shared-{kind.lower()}", kind)
    strange = {"uid": "strange", "name": "strange", "generation": 1}
    pipe["spec"]["subscribers"] = [{**strange, "subscriberUri": headrace.sinks.url("strange")}]
    headrace.apply(pipe)
    made = [
        subscription(pipe, f"{kind.lower()}-{each}", "http://127.0.0.1:9/") for each in "abcdef"
    ]
    headrace.apply(*made)
    headrace.wait_ready(*made)
    headrace.delete(*made[:3])
    expected = [each["metadata"]["name"] for each in made[3:]] + ["strange"]
    assert _names(headrace, pipe) == sorted(expected)


@pytest.mark.clause("S6", "S5")
def test_an_edit_and_a_reply(headrace: HeadraceUnderTest) -> None:
    """The entry follows the Subscription; a reply goes to a channel of Headrace's."""
    pipe, results = _pipe("edited"), channel(NAMESPACE, "edited-results")
    asked = subscription(pipe, "asked", headrace.sinks.url("edited-before"))
    headrace.apply(pipe)
    headrace.establish(results)
    headrace.establish(asked, subscription(results, "results", headrace.sinks.url("edited-result")))
    _send(headrace, pipe, 0)
    wait_for_events(headrace, "edited-before", 1)
    asked["spec"]["subscriber"] = reference_to(results)
    headrace.establish(asked)
    _send(headrace, pipe, 1)
    wait_for_events(headrace, "edited-result", 1)
    assert headrace.sinks.events("edited-before") == 1


def test_a_deleted_channel_takes_its_object(headrace: HeadraceUnderTest) -> None:
    """The Subscription says what is missing, and can be deleted; without a cluster the object is
    deleted with its owner.
    """
    made, pipe = _templated("doomed"), _pipe("doomed")
    waiting = subscription(made, "doomed", headrace.sinks.url("doomed"))
    headrace.establish(made, waiting)
    headrace.delete(made)
    if isinstance(headrace, HeadraceOnKubernetes):
        headrace.call("DELETE", path_of(pipe))  # Nothing collects garbage in this cluster.
    wait_until(lambda: headrace.get(pipe) is None, 15, "the Pipe is gone")
    wait_until(
        lambda: (
            condition(_found(headrace, waiting), "Ready").get("reason") == "ChannelReferenceFailed"
        ),
        15,
        "the Subscription says that its channel is missing",
    )
    headrace.delete(waiting)


def test_a_kind_that_is_gone_holds_up_no_deletion(headrace: HeadraceUnderTest) -> None:
    """Its definition is deleted, with its objects; the Subscription says so, and can be deleted. No
    test may follow that needs the kind.
    """
    pipe = _pipe("last", "KeyedPipe")
    left = subscription(pipe, "last", headrace.sinks.url("last"))
    headrace.apply(pipe)
    headrace.establish(left)
    definition = f"{KINDS['KeyedPipe']}.{GROUP}"
    headrace.call("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition}")
    wait_until(
        lambda: (
            condition(_found(headrace, left), "Ready").get("reason") == "ChannelReferenceFailed"
        ),
        15,
        "the Subscription says that its channel is missing",
    )
    headrace.delete(left)
