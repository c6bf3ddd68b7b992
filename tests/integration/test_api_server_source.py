"""ApiServerSource from a manifest to a subscriber, in a cluster and with Headrace's own API."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.installations import EVERYWHERE, installation
from tests.support.manifests import broker, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "sources" / "apiserversource"
RBAC = EXAMPLES / "kubernetes" / "sources" / "apiserversource-rbac.yaml"
NAMESPACE = "watched"
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module", params=EVERYWHERE)
def headrace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """One installation for all tests here."""
    directory = tmp_path_factory.mktemp("api-server-source")
    with installation(request.param, request, directory, sources=1) as started:
        allow(started, NAMESPACE, "configmaps")
        yield started


def source(
    name: str, sink: dict[str, Any], *, namespace: str = NAMESPACE, **more: Any
) -> dict[str, Any]:
    """An ApiServerSource of the ConfigMaps with a label of this name."""
    selector = {"matchLabels": {"watch": name}}
    resources = [{"apiVersion": "v1", "kind": "ConfigMap", "selector": selector}]
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "ApiServerSource",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"resources": resources, "sink": sink, **more},
    }


def config_map(name: str, label: str, namespace: str = NAMESPACE, data: str = "") -> dict[str, Any]:
    """What is watched."""
    metadata = {"name": name, "namespace": namespace, "labels": {"watch": label}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": data}}


def allow(headrace: HeadraceUnderTest, namespace: str, resource: str) -> None:
    """Create a namespace, and in a cluster let the sources service read a resource there."""
    headrace.ensure_namespace(namespace)
    if isinstance(headrace, HeadraceOnKubernetes):
        kubectl = headrace.kubernetes.kubectl
        name = ("watch-" + resource, "-n", namespace)
        kubectl("create", "role", *name, "--verb=get,list,watch", f"--resource={resource}")
        account = "--serviceaccount=knative-eventing:headrace-sources"
        kubectl("create", "rolebinding", *name, f"--role={name[0]}", account)


def _types(headrace: HeadraceUnderTest, sink: str) -> list[tuple[str, str]]:
    """What a sink has received: what happened, to what."""
    return [
        (each.headers["ce-type"].rpartition(".")[2], each.headers["ce-name"])
        for each in headrace.sinks.requests(sink)
    ]


def test_a_missing_right_is_named_and_granted(headrace: HeadraceUnderTest) -> None:
    """In a cluster; Headrace's own API has no roles."""
    if not isinstance(headrace, HeadraceOnKubernetes):
        pytest.skip("there are no roles in Headrace's own API")
    name = "forbidden"
    wanted = source(name, {"uri": headrace.sinks.url(name)}, namespace=name)
    headrace.apply(wanted)

    def named() -> bool:
        found = condition(headrace.get(wanted) or {}, "SufficientPermissions")
        return found.get("status") == "False"

    wait_until(named, 20, "the missing right is named")
    ready = condition(headrace.get(wanted) or {}, "Ready")
    assert ready["reason"] == "InsufficientPermissions"
    assert 'cannot list resource "configmaps"' in ready["message"]
    assert "bind a Role with" in ready["message"]
    allow(headrace, name, "configmaps")
    headrace.wait_ready(wanted)
    headrace.delete(wanted)


def test_changes_of_objects_reach_a_broker(headrace: HeadraceUnderTest) -> None:
    """With the object as data; the status shows namespaces and kinds of events."""
    name = "objects"
    headrace.sinks.script(name, Script(record=True))
    headrace.establish(broker(NAMESPACE, name))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker=name))
    old = config_map("old", name)
    headrace.apply(old)
    ref = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": name}
    wanted = source(name, {"ref": ref}, mode="Resource")
    headrace.establish(wanted)
    headrace.apply(config_map("new", name, data="1"), config_map("other", "other"))
    headrace.apply(config_map("new", name, data="2"))
    headrace.delete(old)
    wait_until(lambda: len(_types(headrace, name)) >= 3, 20, "three events arrive")
    assert sorted(_types(headrace, name)) == [("add", "new"), ("delete", "old"), ("update", "new")]
    [added] = [
        each for each in headrace.sinks.requests(name) if each.headers["ce-type"].endswith("add")
    ]
    assert added.headers["ce-type"] == "dev.knative.apiserver.resource.add"
    assert added.headers["ce-subject"] == f"/apis/v1/namespaces/{NAMESPACE}/configmaps/new"
    assert json.loads(added.body)["data"] == {"key": "1"}
    status = (headrace.get(wanted) or {})["status"]
    assert status["namespaces"] == [NAMESPACE]
    types = [each["type"] for each in status["ceAttributes"]]
    assert types == [
        f"dev.knative.apiserver.resource.{verb}" for verb in ("add", "update", "delete")
    ]
    assert {each["source"] for each in status["ceAttributes"]} == {added.headers["ce-source"]}

    def registered() -> bool:
        path = f"/apis/eventing.knative.dev/v1beta2/namespaces/{NAMESPACE}/eventtypes"
        items = headrace.call("GET", path)["items"]
        return set(types) <= {each["spec"]["type"] for each in items}

    wait_until(registered, 20, "the types of events are registered")
    headrace.delete(wanted, config_map("new", name), config_map("other", "other"))


def test_after_a_restart_there_is_no_storm(headrace: HeadraceUnderTest) -> None:
    """What changed while the service was down is sent, and nothing else; the controller, whose API
    forgets its history when it stops, is started again too.
    """
    if "sources-0" not in headrace.services:
        pytest.skip("`headrace up` on the embedded Kafka keeps nothing over a restart")
    name = "restarted"
    headrace.sinks.script(name, Script(record=True))
    wanted = source(name, {"uri": headrace.sinks.url(name)})
    headrace.establish(wanted)
    objects = {each: config_map(each, name) for each in ("kept", "changed", "removed")}
    headrace.apply(*objects.values())
    wait_until(lambda: len(_types(headrace, name)) == 3, 20, "all are sent")
    headrace.services["sources-0"].terminate()
    headrace.services["sources-0"].wait(15.0)
    headrace.apply(config_map("changed", name, data="2"), config_map("added", name))
    headrace.delete(objects["removed"])
    headrace.services["controller"].terminate()
    headrace.services["controller"].wait(15.0)
    headrace.run("controller")
    headrace.wait_until_ready("controller")
    headrace.run("sources-0")
    wait_until(lambda: len(_types(headrace, name)) >= 6, 40, "what has changed is sent")
    headrace.apply(config_map("last", name))
    wait_until(lambda: ("add", "last") in _types(headrace, name), 20, "the next change is sent")
    assert sorted(_types(headrace, name)[3:]) == [
        ("add", "added"),
        ("add", "last"),
        ("delete", "removed"),
        ("update", "changed"),
    ]
    headrace.delete(wanted)


def test_no_change_is_lost_when_the_service_is_killed(headrace: HeadraceUnderTest) -> None:
    """With changes under way; a few are sent twice, with the same id."""
    if "sources-0" not in headrace.services:
        pytest.skip("`headrace up` on the embedded Kafka keeps nothing over a restart")
    name = "killed"
    headrace.sinks.script(name, Script(record=True))
    wanted = source(name, {"uri": headrace.sinks.url(name)})
    headrace.establish(wanted)
    names = [f"{name}-{number}" for number in range(60)]
    for each in names:
        headrace.apply(config_map(each, name))
        if each in (names[0], names[30]):
            headrace.services["sources-0"].kill()
            headrace.run("sources-0")
    wait_until(
        lambda: {name for _, name in _types(headrace, name)} == set(names), 60, "all are sent"
    )
    requests = headrace.sinks.requests(name)
    assert {each.headers["ce-type"].rpartition(".")[2] for each in requests} == {"add"}
    assert len({each.headers["ce-id"] for each in requests}) == len(names)
    headrace.delete(wanted)


def test_an_api_server_that_is_away_for_a_while(headrace: HeadraceUnderTest) -> None:
    """The source shows it, and continues: the controller's API has no history after its start."""
    if "controller" not in headrace.services or isinstance(headrace, HeadraceOnKubernetes):
        pytest.skip("only the controller's API can be stopped alone")
    name = "away"
    headrace.sinks.script(name, Script(record=True))
    wanted = source(name, {"uri": headrace.sinks.url(name)})
    headrace.establish(wanted)
    headrace.apply(config_map("kept", name), config_map("changed", name))
    wait_until(lambda: len(_types(headrace, name)) == 2, 20, "both are sent")
    headrace.services["controller"].terminate()
    headrace.services["controller"].wait(15.0)
    wait_until(lambda: "watch_failed" in headrace.services["sources-0"].output(), 20, "it is seen")
    headrace.run("controller")
    headrace.wait_until_ready("controller")
    headrace.apply(config_map("changed", name, data="2"))
    wait_until(lambda: len(_types(headrace, name)) >= 3, 40, "the change is sent")
    assert _types(headrace, name)[2:] == [("update", "changed")]
    headrace.wait_ready(wanted)
    headrace.delete(wanted)


def test_filters_need_the_feature(headrace: HeadraceUnderTest) -> None:
    """With Knative's message, from the API itself or in the status."""
    name = "filtered"
    wanted = source(
        name, {"uri": headrace.sinks.url(name)}, filters=[{"suffix": {"type": ".delete"}}]
    )
    headrace.sinks.script(name, Script(record=True))
    features = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-features", "namespace": "knative-eventing"},
        "data": {"new-apiserversource-filters": "enabled"},
    }
    message = "Filters is not empty but the NewAPIServerFilters feature is disabled."
    if isinstance(headrace, HeadraceOnKubernetes):
        headrace.apply(wanted)
        wait_until(
            lambda: message in str((headrace.get(wanted) or {}).get("status")), 20, "it is refused"
        )
    else:
        with pytest.raises(AssertionError, match=message):
            headrace.apply(wanted)
    headrace.apply(features)
    try:
        wait_until(lambda: _applied(headrace, wanted), 20, "it is accepted")
        headrace.wait_ready(wanted)
        headrace.apply(config_map("one", name))
        headrace.delete(config_map("one", name))
        wait_until(lambda: _types(headrace, name), 20, "an event arrives")
        assert _types(headrace, name) == [("delete", "one")]
        headrace.delete(wanted)
    finally:
        headrace.delete(features)


def _applied(headrace: HeadraceUnderTest, wanted: dict[str, Any]) -> bool:
    try:
        headrace.apply(wanted)
    except AssertionError:
        return False
    return True


def test_events_of_a_namespace_as_in_knative_0_5(headrace: HeadraceUnderTest) -> None:
    """The manifest is unchanged: the sink is a reference."""
    name = "legacy"
    allow(headrace, name, "events")
    headrace.sinks.script(name, Script(record=True))
    headrace.establish(broker(NAMESPACE, name))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker=name))
    wanted = yaml.safe_load((EXAMPLE / "kuberneteseventsource.yaml").read_text())
    wanted["metadata"]["namespace"] = NAMESPACE
    wanted["spec"]["namespace"] = wanted["spec"]["sink"]["name"] = name
    headrace.establish(wanted)
    about = {"apiVersion": "v1", "kind": "Pod", "name": "busybox", "namespace": name}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "started", "namespace": name},
        "involvedObject": about,
        "reason": "Started",
        "message": "Started container",
        "type": "Normal",
    }
    headrace.apply(event)
    wait_until(lambda: headrace.sinks.requests(name), 20, "the event arrives")
    [request] = headrace.sinks.requests(name)
    assert request.headers["ce-type"] == "dev.knative.k8s.event"
    assert request.headers["ce-source"] == f"/apis/v1/namespaces/{name}/pods/busybox"
    document = json.loads(request.body)
    assert request.headers["ce-id"] == document["metadata"]["uid"]
    assert document["message"] == "Started container"
    headrace.delete(wanted)


def test_the_example(headrace: HeadraceUnderTest) -> None:
    """As it is, but for the subscriber; in a cluster with its roles."""
    namespace, sink = "example", "example"
    headrace.ensure_namespace(namespace)
    if isinstance(headrace, HeadraceOnKubernetes):
        headrace.kubernetes.kubectl("apply", "-n", namespace, "-f", str(RBAC))
    headrace.sinks.script(sink, Script(record=True))
    documents = list(yaml.safe_load_all((EXAMPLE / "apiserversource.yaml").read_text()))
    for each in documents:
        each["metadata"]["namespace"] = namespace
        if each["kind"] == "Trigger":
            each["spec"]["subscriber"]["uri"] = headrace.sinks.url(sink)
    headrace.establish(*documents)
    metadata = {"name": "prices", "namespace": namespace, "labels": {"app": "shop"}}
    changed = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}
    headrace.apply(changed)
    wait_until(lambda: _types(headrace, sink) == [("add", "prices")], 20, "the event arrives")
    headrace.delete(documents[-1])
