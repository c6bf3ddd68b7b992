"""The manifests of Knative 0.5 in `examples/legacy`, over a real Kafka, with the resources in Kafka
and in a Kubernetes API server: applied unchanged, they deliver events.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.embedded_headrace import EmbeddedHeadrace, embedded_headrace_in
from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    Refused,
    condition,
    lasting_port,
)
from tests.support.manifests import Manifest
from tests.support.nats_server import NatsServer
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "legacy"
KINDS = ("clusterchannelprovisioner", "channel", "subscription", "broker", "trigger", "eventtype")
VIEWER, FUNCTION = "127.0.0.1:8090", "127.0.0.1:8091"
OLD = "v1alpha1.eventing.knative.dev"
pytestmark = pytest.mark.timeout(120)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


def example(headrace: HeadraceUnderTest, name: str, **hosts: str) -> str:
    """The text of an example; only where the events go to is another place in a test."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    sinks = headrace.sinks.url("").removeprefix("http://").rstrip("/")
    for usual, used in {VIEWER: sinks, **hosts}.items():
        text = text.replace(usual, used)
    return text.replace("port: 8090", f"port: {sinks.rpartition(':')[2]}")


def manifests(text: str, namespace: str) -> list[Manifest]:
    """The objects in a text, in a namespace."""
    found: list[Manifest] = [each for each in yaml.safe_load_all(text) if each]
    for each in found:
        each["metadata"]["namespace"] = namespace
    return found


def post(headrace: HeadraceUnderTest, path: str, data: Any, **headers: str) -> None:
    """Send an event, which is accepted."""
    event = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/shop",
        "content-type": "application/json",
    }
    assert headrace.post(path, event | headers, json.dumps(data).encode()) == 202


def received(headrace: HeadraceUnderTest, sink: str, count: int = 1) -> list[dict[str, str]]:
    """The headers of the requests at a sink, once there are so many."""
    wait_until(
        lambda: len(headrace.sinks.requests(sink)) >= count, 20, f"{count} events at {sink!r}"
    )
    return [dict(each.headers) for each in headrace.sinks.requests(sink)]


def test_one_of_each_kind_delivers(headrace: HeadraceUnderTest) -> None:
    """By the address of the Channel, its hostname, and the Broker's address and hostname; the
    Trigger passes what its sourceAndType names.
    """
    applied = [
        each for kind in KINDS[1:] for each in manifests(example(headrace, kind), "one-of-each")
    ]
    for sink in ("billing", "paid"):
        headrace.sinks.script(sink, Script(record=True))
    headrace.establish(*applied)
    orders, _, broker, *_ = ((headrace.get(each) or {})["status"] for each in applied)
    path = orders["address"]["url"].removeprefix(headrace.ingress_url)
    if not isinstance(headrace, HeadraceOnKubernetes):
        assert path == "/one-of-each/kafkachannels/orders"
    kind = {"ce-type": "order.paid"}
    post(headrace, "/one-of-each/kafkachannels/orders", 1, **kind)
    post(headrace, "/", 2, host=orders["address"]["hostname"], **kind)
    assert len(received(headrace, "billing", 2)) == 2
    post(headrace, "/one-of-each/default", 3, **{"ce-type": "order.lost"})
    post(headrace, "/one-of-each/default", 4, **kind)
    post(headrace, "/", 5, host=broker["address"]["hostname"], **kind)
    assert ["order.paid"] * 2 == [each["ce-type"] for each in received(headrace, "paid", 2)]


def test_the_walk_through_answers(headrace: HeadraceUnderTest) -> None:
    """A Channel, a function as subscriber by `dnsName`, its replies in a second Channel, and a
    Service that gets them.
    """
    function = f"127.0.0.1:{lasting_port()}"
    text = example(headrace, "walk-through", **{FUNCTION: function})
    applied = manifests(text, "walk")
    if isinstance(headrace, HeadraceOnKubernetes):
        # No DNS resolves the name of the Service for the dispatcher of the test.
        host = applied[4]["spec"]["externalName"], applied[4]["spec"]["ports"][0]["port"]
        applied[3]["spec"]["subscriber"] = {"dnsName": "{}:{}".format(*host)}
    headrace.sinks.script("", Script(record=True))
    process = headrace.processes.start(
        "function", [sys.executable, str(EXAMPLES / "function.py"), function.rpartition(":")[2]]
    )
    try:
        headrace.apply(*applied)
        headrace.wait_ready(*applied[:4])
        post(headrace, "/walk/kafkachannels/questions", "who?", **{"ce-type": "question"})
        [answer] = received(headrace, "")
        assert (answer["ce-type"], answer["ce-id"]) == ("answer", "answer-to-1")
        [body] = [each.body for each in headrace.sinks.requests("")]
        assert json.loads(body) == "you asked: who?"
    finally:
        process.terminate()


def test_a_channel_in_memory_delivers(headrace: HeadraceUnderTest) -> None:
    """As most Channels of 2019 were made."""
    if not isinstance(headrace, EmbeddedHeadrace):
        pytest.skip("only `headrace up` serves InMemoryChannels by itself")
    assert_delivers(headrace, "in-memory-channel", "inmemorychannels")


def test_natss_is_served_by_jetstream(private_nats: NatsServer, tmp_path: Path) -> None:
    """NATS Streaming, which the provisioner of 2019 is named after, is no more."""
    env = {"HEADRACE_NATS_SERVERS": private_nats.url}
    with embedded_headrace_in(tmp_path, env=env) as headrace:
        assert_delivers(headrace, "natss", "natsjetstreamchannels")


def assert_delivers(headrace: HeadraceUnderTest, provisioner: str, plural: str) -> None:
    """The examples of a Channel and a Subscription deliver with another provisioner, by the
    Channel's address and its hostname.
    """
    text = "---\n".join(example(headrace, kind) for kind in ("channel", "subscription"))
    applied = manifests(text.replace("name: kafka", f"name: {provisioner}"), provisioner)
    del applied[0]["spec"]["arguments"]
    applied[1]["spec"]["subscriber"]["uri"] = headrace.sinks.url(provisioner)
    headrace.sinks.script(provisioner, Script(record=True))
    headrace.establish(*applied)
    host = (headrace.get(applied[0]) or {})["status"]["address"]["hostname"]
    post(headrace, f"/{provisioner}/{plural}/orders", 1, **{"ce-type": "order.paid"})
    post(headrace, "/", 2, host=host, **{"ce-type": "order.paid"})
    assert len(received(headrace, provisioner, 2)) == 2


def kubectl(headrace: HeadraceUnderTest, *arguments: str, text: str | None = None) -> str:
    """kubectl against the API of the installation."""
    if isinstance(headrace, HeadraceOnKubernetes):
        done = headrace.kubernetes.kubectl(*arguments, stdin=text)
        return done.stdout + done.stderr
    if not headrace.kubeconfig.exists():
        pytest.skip("the embedded installation writes no kubeconfig")
    done = subprocess.run(
        ["kubectl", *arguments],
        env={**os.environ, "KUBECONFIG": str(headrace.kubeconfig)},
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout + done.stderr


@needs_kubectl
def test_kubectl_applies_them_unchanged(headrace: HeadraceUnderTest) -> None:
    """`create`, then `apply` of the same files changes nothing; each is read in either version."""
    headrace.ensure_namespace("by-hand")
    within = ("-n", "by-hand")
    texts = [example(headrace, kind) for kind in KINDS[1:]]
    text = "---\n".join(texts)
    kubectl(headrace, "create", "--save-config", "-f", "-", *within, text=text)
    kubectl(headrace, "apply", "-f", "-", text=example(headrace, KINDS[0]))
    for what in ("channel", "subscription", "broker", "trigger"):
        kubectl(
            headrace,
            "wait",
            f"{what}.{OLD}",
            "--all",
            "--for=condition=Ready",
            "--timeout=30s",
            *within,
        )
    applied = kubectl(headrace, "apply", "-f", "-", *within, text=text)
    assert applied.count("unchanged") == len(texts), applied
    assert "deprecated" in applied

    def read(what: str) -> dict[str, Any]:
        output = kubectl(headrace, "get", what, "-o", "json", *within)
        document: dict[str, Any] = json.loads(output[output.index("{") : output.rindex("}") + 1])
        return document

    old, new = read(f"triggers.{OLD}/paid"), read("triggers.v1.eventing.knative.dev/paid")
    stated = {"type": "order.paid", "source": ""}
    assert old["spec"]["filter"] == {"sourceAndType": stated}
    assert old["spec"]["broker"] == "default"
    if not isinstance(headrace, HeadraceOnKubernetes):  # which converts nothing
        assert new["spec"]["filter"] == {"attributes": {"type": "order.paid"}}
    for version in ("v1", "v1alpha1"):
        found = read(f"brokers.{version}.eventing.knative.dev/default")
        assert found["status"]["address"]["hostname"] == (
            "default-broker.by-hand.svc.cluster.local"
        )
    assert read(f"eventtypes.{OLD}/order.paid")["spec"]["broker"] == "default"
    assert read("channels.messaging.knative.dev/orders")["spec"]["channelTemplate"]["spec"] == {
        "numPartitions": 3,
        "replicationFactor": 1,
    }
    columns = kubectl(headrace, "get", f"channels.{OLD}", *within).splitlines()
    assert ["NAME", "READY", "REASON", "HOSTNAME", "AGE"] == columns[0].split() or (
        ["NAME", "READY", "REASON", "HOSTNAME", "AGE"] == columns[1].split()
    )


@needs_kubectl
def test_kubectl_means_the_channels_of_today(headrace: HeadraceUnderTest) -> None:
    """In the controller's API. In a cluster the group of 0.5 is the first in the alphabet; the
    short names are unambiguous in both.
    """
    [channel] = manifests(example(headrace, "channel"), "two-kinds")
    headrace.establish(channel)

    def listed(what: str) -> str:
        return kubectl(headrace, "get", what, "-n", "two-kinds")

    if not isinstance(headrace, HeadraceOnKubernetes):
        assert "URL" in listed("channels")
    assert "HOSTNAME" in listed("chan")
    assert "URL" in listed("ch")


def test_a_provisioner_that_is_deleted_is_there_again(headrace: HeadraceUnderTest) -> None:
    """Owned by nobody, and Ready."""
    path = "/apis/eventing.knative.dev/v1alpha1/clusterchannelprovisioners/natss"
    before = headrace.call("GET", path)
    headrace.call("DELETE", path)

    def is_new() -> bool:
        try:
            found = headrace.call("GET", path)
        except Refused as refused:
            assert refused.status == 404, refused
            return False
        ready = condition(found, "Ready").get("status") == "True"
        return ready and found["metadata"]["uid"] != before["metadata"]["uid"]

    wait_until(is_new, 20, "the provisioner is created again")


def test_what_is_deleted_takes_its_object_of_today_along(headrace: HeadraceUnderTest) -> None:
    """By its owner reference, which garbage collection follows."""
    if isinstance(headrace, HeadraceOnKubernetes):
        pytest.skip("an API server alone collects no garbage")
    [old] = manifests(example(headrace, "channel"), "gone")
    new = {**old, "apiVersion": "messaging.knative.dev/v1"}
    headrace.establish(old)
    headrace.delete(old)
    wait_until(lambda: headrace.get(new) is None, 20, "today's Channel is gone")
