"""A KafkaSink from its example to a record that any Kafka client reads, wherever the resources
are.
"""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.log_view import Found
from tests.support.wait_until import wait_until

NAMESPACE = "sinks"
EXAMPLE = Path(__file__).parents[2] / "examples" / "kafka-sink" / "kafkasink.yaml"
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def example(topic: str) -> list[dict[str, Any]]:
    """The manifests of the example, in the namespace of these tests, with another topic."""
    found = list(yaml.safe_load_all(EXAMPLE.read_text()))
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
    found[1]["spec"]["topic"] = topic
    return found


def event(id: str) -> dict[str, str]:
    """The headers of an event with a key."""
    attributes = {"specversion": "1.0", "id": id, "source": "/shop", "type": "order.created"}
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    return {**headers, "ce-partitionkey": "lisbon", "content-type": "application/json"}


def records_of(headrace: HeadraceUnderTest, topic: str, count: int) -> list[Found]:
    """What a Kafka client reads, once there are so many."""
    found: list[Found] = []

    def complete() -> bool:
        found[:] = headrace.log.records(topic)
        return len(found) >= count

    wait_until(complete, 30, f"{count} records in {topic}", every=0.3)
    return found


@pytest.mark.clause("KafkaSink")
def test_the_example_writes_the_events_of_a_broker(headrace: HeadraceUnderTest) -> None:
    """In binary mode, with the key; then in structured mode, by path and by host. The topic is
    deleted with the sink that created it.
    """
    topic = f"orders-{uuid.uuid4().hex[:6]}"
    manifests = example(topic)
    _, sink, _ = manifests
    headrace.establish(*manifests)
    assert headrace.post(f"/{NAMESPACE}/default", event("1"), b'{"order": 1}') == 202
    [first] = records_of(headrace, topic, 1)
    assert (first.key, first.value) == (b"lisbon", b'{"order": 1}')
    assert first.attributes()["type"] == "order.created"
    assert first.headers["content-type"] == b"application/json"
    sink["spec"]["contentMode"] = "structured"
    headrace.establish(sink)
    status = (headrace.get(sink) or {})["status"]
    path = f"/{NAMESPACE}/kafkasinks/orders"
    assert status["address"]["url"] == f"{headrace.ingress_url}{path}"
    assert headrace.post(path, event("2"), b'{"order": 2}') == 202
    by_host = {**event("3"), "host": status["address"]["hostname"]}
    assert headrace.post("/any/path", by_host, b'{"order": 3}') == 202
    assert headrace.post(f"/{NAMESPACE}/default", event("4"), b'{"order": 4}') == 202
    structured = [
        each
        for each in records_of(headrace, topic, 4)
        if each.headers.get("content-type") == b"application/cloudevents+json"
    ]
    assert {each.key for each in structured} == {b"lisbon"}
    found = {json.loads(each.value or b"")["id"]: each for each in structured}
    assert set(found) == {"2", "3", "4"}
    assert json.loads(found["4"].value or b"")["data"] == {"order": 4}
    assert not [name for name in found["4"].headers if name.startswith("ce_")]
    headrace.delete(*reversed(manifests))
    wait_until(lambda: not headrace.log.ends([topic]), 30, "the topic is deleted")


def test_the_kafka_of_the_installation_and_another_one(headrace: HeadraceUnderTest) -> None:
    """The condition names both, within seconds; a topic of that name is not created anywhere."""
    topic = f"elsewhere-{uuid.uuid4().hex[:6]}"
    _, sink, _ = example(topic)
    sink["metadata"]["name"] = "elsewhere"
    sink["spec"]["bootstrapServers"] = ["kafka.elsewhere.example:9092"]
    headrace.apply(sink)

    def named() -> bool:
        found = condition(headrace.get(sink) or {}, "TopicReady")
        return found.get("reason") == "OtherKafka"

    wait_until(named, 20, "the other Kafka is named")
    message = condition(headrace.get(sink) or {}, "Ready")["message"]
    assert "kafka.elsewhere.example:9092" in message
    assert headrace.log.bootstrap_servers in message
    assert topic not in headrace.log.topics()
    sink["spec"]["bootstrapServers"] = [headrace.log.bootstrap_servers]
    headrace.establish(sink)
    headrace.delete(sink)
