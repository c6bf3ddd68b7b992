"""KafkaSources from their examples to a subscriber, wherever the resources are. They read another
Kafka than that of the installation.
"""

import base64
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.test_kafka_source import Outside
from tests.integration.test_legacy import kubectl
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.manifests import broker, trigger
from tests.support.secured_kafka import SecuredKafka, secured_kafka
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAMESPACE = "kafkas"
ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A foreign Kafka, with a plain listener too."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as started:
        yield started


def made(secured: SecuredKafka, *, partitions: int = 2) -> Outside:
    """A new topic of it."""
    address = secured.apache.bootstrap_servers
    topic = KafkaUnderTest(address, Kind.APACHE).create_topic("outside", partitions=partitions)
    return Outside(address, topic, partitions)


def example(path: str, **spec: Any) -> list[dict[str, Any]]:
    """The manifests of an example, in the namespace of these tests."""
    found = list(yaml.safe_load_all((ROOT / "examples" / path).read_text()))
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
        each["spec"] |= spec
    return found


def with_broker(headrace: HeadraceUnderTest, name: str, script: Script) -> dict[str, Any]:
    """A Broker with a subscriber of this name; returns the reference to the Broker."""
    headrace.sinks.script(name, script)
    headrace.establish(broker(NAMESPACE, name))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker=name))
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": name}


def bodies(headrace: HeadraceUnderTest, sink: str) -> list[int]:
    """The data of what a subscriber has got."""
    return [int(each.body) for each in headrace.sinks.requests(sink)]


@pytest.mark.clause("O2", "O8")
def test_the_example_sends_records_to_a_broker(
    headrace: HeadraceUnderTest, secured: SecuredKafka
) -> None:
    """In the order of their keys, from two processes; with the status of Knative."""
    name = f"orders-{uuid.uuid4().hex[:6]}"
    sink = with_broker(headrace, name, Script(record=True))
    given = made(secured)
    given.produce(range(200))
    [source, _] = example(
        "sources/kafka/kafkasource.yaml",
        bootstrapServers=[given.address],
        topics=[given.topic],
        consumerGroup=given.group,
        sink={"ref": sink},
    )
    headrace.establish(source)
    wait_until(lambda: len(set(bodies(headrace, name))) >= 200, 40, "all records arrive")
    first = headrace.sinks.requests(name)[0].headers
    origin = f"/apis/v1/namespaces/{NAMESPACE}/kafkasources/orders#{given.topic}"
    assert (first["ce-type"], first["ce-source"]) == ("dev.knative.kafka.event", origin)
    assert first["ce-key"] in "01234"
    status = (headrace.get(source) or {})["status"]
    assert status["consumers"] == 1
    assert status["ceAttributes"] == [{"type": "dev.knative.kafka.event", "source": origin}]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    expected = (
        "SinkProvided Deployed ConnectionEstablished InitialOffsetsCommitted KeyTypeCorrect"
        " Scheduled Ready"
    )
    assert [conditions[each] for each in expected.split()] == ["True"] * 7
    headrace.delete(source)


def test_the_example_of_2019_reads_a_new_group_from_the_beginning(
    headrace: HeadraceUnderTest, secured: SecuredKafka
) -> None:
    """With texts instead of lists, and a reference as sink."""
    name = f"old-{uuid.uuid4().hex[:6]}"
    sink = with_broker(headrace, name, Script(record=True))
    given, other = made(secured), made(secured)
    given.produce(range(5))
    other.produce(range(5, 9))
    [source] = example(
        "legacy/kafkasource.yaml",
        bootstrapServers=given.address,
        topics=f"{given.topic}, {other.topic}",
        consumerGroup=given.group,
        sink={**sink, "apiVersion": "eventing.knative.dev/v1alpha1"},
    )
    headrace.establish(source)
    wait_until(lambda: set(bodies(headrace, name)) == set(range(9)), 40, "all records arrive")
    headrace.delete(source)


def test_the_secured_example_and_its_secret(
    headrace: HeadraceUnderTest, secured: SecuredKafka
) -> None:
    """A wrong password is named within seconds; the right one in the Secret is enough. What the
    sink does not take goes to the dead letter sink.
    """
    name = f"dead-{uuid.uuid4().hex[:6]}"
    dead = with_broker(headrace, name, Script(record=True))
    given = made(secured)
    headrace.sinks.script(f"refusing-{name}", Script(status=400))
    [_, source] = example(
        "sources/kafka/kafkasource.yaml",
        bootstrapServers=[secured.sasl_address],
        topics=[given.topic],
        initialOffset="earliest",
        sink={"uri": headrace.sinks.url(f"refusing-{name}")},
        delivery={"retry": 0, "deadLetterSink": {"ref": dead}},
    )
    given.produce(range(3), keys=0)

    def secret(password: bytes) -> dict[str, Any]:
        values = {
            "sasl.mechanism": b"SCRAM-SHA-512",
            "user": b"headrace",
            "password": password,
            "ca.crt": secured.authority.file.read_bytes(),
        }
        data = {key: base64.b64encode(value).decode() for key, value in values.items()}
        metadata = {"name": "kafka", "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}

    headrace.apply(secret(b"wrong-password"))
    headrace.apply(source)

    def refused() -> bool:
        found = condition(headrace.get(source) or {}, "ConnectionEstablished")
        return found.get("reason") == "Refused" and "spec.net" in found["message"]

    wait_until(refused, 30, "the refusal is shown")
    assert "wrong-password" not in json.dumps(headrace.get(source))
    headrace.apply(secret(secured.password.read_bytes()))
    headrace.wait_ready(source, seconds=60)
    wait_until(lambda: set(bodies(headrace, name)) == set(range(3)), 40, "dead letters arrive")
    assert headrace.sinks.requests(name)[0].headers["ce-knativeerrorcode"] == "400"
    headrace.delete(source)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_scales_it_to_zero_and_back(
    headrace: HeadraceUnderTest, secured: SecuredKafka
) -> None:
    """It continues where it was; nothing that was written meanwhile is lost."""
    name = f"scaled-{uuid.uuid4().hex[:6]}"
    sink = with_broker(headrace, name, Script(record=True))
    given = made(secured, partitions=1)
    [source, _] = example(
        "sources/kafka/kafkasource.yaml",
        bootstrapServers=[given.address],
        topics=[given.topic],
        sink={"ref": sink},
        initialOffset="latest",
    )
    del source["spec"]["consumerGroup"]
    headrace.establish(source)
    given.produce(range(3))
    wait_until(lambda: set(bodies(headrace, name)) == set(range(3)), 40, "records arrive")
    scale = ("scale", "kafkasource.sources.knative.dev/orders", "-n", NAMESPACE)
    kubectl(headrace, *scale, "--replicas", "0")

    def is_off() -> bool:
        status = (headrace.get(source) or {}).get("status", {})
        deployed = condition({"status": status}, "Deployed")
        return (status.get("consumers"), deployed.get("reason")) == (0, "Paused")

    wait_until(is_off, 20, "it is shown to be off")
    given.produce(range(3, 6))
    kubectl(headrace, *scale, "--replicas", "2")
    wait_until(lambda: set(bodies(headrace, name)) == set(range(6)), 40, "records arrive")
    wait_until(
        lambda: (headrace.get(source) or {})["status"].get("consumers") == 2, 20, "it is shown"
    )
    headrace.wait_ready(source)
    headrace.delete(source)


@pytest.mark.parametrize("ordering", ["ordered", "unordered"])
def test_a_killed_process_loses_nothing(
    headrace: HeadraceUnderTest, secured: SecuredKafka, ordering: str
) -> None:
    """Every number that was written arrives, and few of them twice: those that were on their way in
    the process that was killed.
    """
    if "sources-1" not in headrace.services:
        pytest.skip("`headrace up` is one process, and no process survives it")
    name = f"ledger-{uuid.uuid4().hex[:6]}"
    sink = with_broker(headrace, name, Script(record=True))
    given = made(secured, partitions=4)
    [source, _] = example(
        "sources/kafka/kafkasource.yaml",
        bootstrapServers=[given.address],
        topics=[given.topic],
        consumerGroup=given.group,
        ordering=ordering,
        sink={"ref": sink},
    )
    headrace.establish(source)
    for part in range(10):
        given.produce(range(part * 200, part * 200 + 200), keys=50)
        if part == 4:
            wait_until(lambda: bodies(headrace, name), 40, "records arrive")
            headrace.services["sources-1"].kill()
    wait_until(lambda: set(bodies(headrace, name)) == set(range(2_000)), 60, "all arrive")
    repeated = len(bodies(headrace, name)) - 2_000
    print(f"{repeated} of 2000 arrived twice")
    assert repeated <= 1_000
    options = headrace.options_of_sources()
    headrace.run_with("sources-1", ["--port", "0", "--instance", "sources-1", *options])
    headrace.wait_until_ready("sources-1")
    headrace.delete(source)


def test_a_wrong_label_is_named(headrace: HeadraceUnderTest, secured: SecuredKafka) -> None:
    """With the values that it may have."""
    given = made(secured)
    [source, _] = example(
        "sources/kafka/kafkasource.yaml",
        bootstrapServers=[given.address],
        topics=[given.topic],
        sink={"uri": headrace.sinks.url("none")},
    )
    label = "kafkasources.sources.knative.dev/key-type"
    source["metadata"] |= {"name": "labelled", "labels": {label: "double"}}
    headrace.apply(source)

    def shown() -> bool:
        found = condition(headrace.get(source) or {}, "KeyTypeCorrect")
        return found.get("status") == "False" and "byte-array" in found["message"]

    wait_until(shown, 20, "the label is named")
    headrace.delete(source)
