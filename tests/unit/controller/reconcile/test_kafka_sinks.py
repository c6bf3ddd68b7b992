"""What a KafkaSink becomes: a topic or none, a record in the routing table, conditions."""

from typing import Any

import pytest

from headrace.domain.routing import Addressable, EventSource, Format
from headrace.resources.control_ports import TopicSpec
from headrace.resources.kinds import BROKER, KAFKA_SINK, PING_SOURCE
from headrace.resources.resource import Resource
from tests.unit.controller.harness import ControllerHarness, broker, manifest, settled

CREATED: dict[str, Any] = {"numPartitions": 3, "replicationFactor": 1}


def sink(name: str = "archive", *, namespace: str = "shop", **spec: Any) -> Resource:
    """A KafkaSink."""
    return manifest(KAFKA_SINK, name, namespace=namespace, spec={"topic": "orders", **spec})


async def with_topic(*resources: Resource, topic: str = "orders") -> ControllerHarness:
    """An installation with a topic of a user's own."""
    harness = ControllerHarness()
    settings = {"max.message.bytes": "500000"}
    spec = TopicSpec(name=topic, partitions=2, replication=1, settings=settings)
    await harness.admin.create([spec])
    await harness.restart()
    await harness.apply(*resources)
    await harness.settle()
    return harness


def route(harness: ControllerHarness, name: str = "archive") -> Addressable:
    """Its record."""
    [found] = [
        each
        for each in harness.routes().values()
        if isinstance(each, Addressable) and each.name == name
    ]
    return found


async def test_a_topic_is_created_for_it_and_deleted_with_it() -> None:
    """It has Knative's conditions, a path and a host."""
    harness = await settled(sink(**CREATED))
    assert harness.admin.topics["orders"].partitions == 3
    status = harness.status(KAFKA_SINK, "archive")
    assert {each["type"]: each["status"] for each in status["conditions"]} == dict.fromkeys(
        (
            *("TopicReady", "DataPlaneAvailable", "ConfigMapUpdated", "ProbeSucceeded"),
            *("Addressable", "EventPoliciesReady", "Ready"),
        ),
        "True",
    )
    found = route(harness)
    assert (found.topic, found.kind, found.format) == ("orders", "KafkaSink", Format.BINARY)
    assert found.paths == ("/shop/kafkasinks/archive",)
    assert found.hosts == ("archive-kafka-sink.shop.svc.cluster.local",)
    assert status["address"] == {
        "name": "http",
        "url": "http://127.0.0.1:8080/shop/kafkasinks/archive",
        "hostname": "archive-kafka-sink.shop.svc.cluster.local",
    }
    await harness.delete(KAFKA_SINK, "archive")
    await harness.settle()
    assert "orders" not in harness.admin.topics
    assert harness.routes().keys() == {"delays"}
    assert harness.find(KAFKA_SINK, "archive") is None


async def test_a_topic_that_exists_is_used_as_it_is() -> None:
    """Its own limit decides what is accepted, and it outlives the sink. One that is missing is a
    condition.
    """
    harness = await settled(sink())
    assert harness.condition(KAFKA_SINK, "archive", "TopicReady") == ("False", "TopicNotPresent")
    harness = await with_topic(sink(contentMode="structured"))
    assert harness.condition(KAFKA_SINK, "archive") == ("True", "")
    found = route(harness)
    assert (found.event_bytes_max, found.format) == (500_000 - 65_536, Format.JSON)
    await harness.apply(sink(contentMode="binary"))
    await harness.settle()
    assert route(harness).format is Format.BINARY
    await harness.delete(KAFKA_SINK, "archive")
    await harness.settle()
    assert "orders" in harness.admin.topics


async def test_a_topic_that_exists_is_not_taken_over() -> None:
    """A sink that would create it could delete it later."""
    harness = await with_topic(sink(**CREATED))
    assert harness.condition(KAFKA_SINK, "archive") == ("False", "TopicNotOwned")
    assert "leave out spec.numPartitions" in harness.message(KAFKA_SINK, "archive", "Ready")
    await harness.delete(KAFKA_SINK, "archive")
    await harness.settle()
    assert "orders" in harness.admin.topics


@pytest.mark.parametrize("spec", [{}, CREATED])
async def test_the_topic_of_another_resource_is_not_written_to(spec: dict[str, Any]) -> None:
    """What is in a Broker's topic has passed the Broker's own checks."""
    taken = sink(topic="knative-broker-shop-default", **spec)
    harness = await settled(broker(), taken)
    assert harness.condition(KAFKA_SINK, "archive") == ("False", "TopicTaken")
    message = harness.message(KAFKA_SINK, "archive", "Ready")
    assert message.startswith("topic knative-broker-shop-default is that of Broker shop/default")
    assert harness.condition(BROKER, "default") == ("True", "")
    await harness.delete(BROKER, "default")
    await harness.settle()
    await harness.delete(KAFKA_SINK, "archive")
    await harness.settle()
    assert harness.find(KAFKA_SINK, "archive") is None


@pytest.mark.parametrize("topic", ["headrace.resources", "headrace.routing", "headrace.delay.10s"])
async def test_a_topic_of_headrace_is_not_written_to(topic: str) -> None:
    """Neither by a sink nor by a Broker."""
    external = {"kafka.eventing.knative.dev/external.topic": topic}
    harness = await with_topic(sink(topic=topic), broker(annotations=external), topic=topic)
    assert harness.condition(KAFKA_SINK, "archive", "TopicReady") == ("False", "TopicReserved")
    assert harness.condition(BROKER, "default", "TopicReady") == ("False", "TopicReserved")
    assert not [each for each in harness.routes().values() if isinstance(each, Addressable)]


async def test_a_reserved_topic_is_not_created_under_another_name() -> None:
    """The name of a Broker's topic may get a hash, a user's own may not."""
    harness = await settled(sink(topic="headrace.resources", **CREATED))
    assert harness.condition(KAFKA_SINK, "archive") == ("False", "TopicReserved")
    assert {each.rpartition(".")[0] for each in harness.admin.topics} == {"headrace.delay"}


async def test_several_sinks_may_have_a_topic_that_none_of_them_creates() -> None:
    """One writes it in another form, for example. One that is created has one sink."""
    others = (sink("too", contentMode="structured"), sink("other", namespace="elsewhere"))
    harness = await with_topic(sink(), *others)
    assert harness.condition(KAFKA_SINK, "archive") == ("True", "")
    assert harness.condition(KAFKA_SINK, "too") == ("True", "")
    assert {"archive", "too", "other"} == {
        each.name for each in harness.routes().values() if isinstance(each, Addressable)
    }
    harness = await settled(sink(**CREATED))
    await harness.apply(*others)
    await harness.settle()
    assert harness.condition(KAFKA_SINK, "archive") == ("True", "")
    assert harness.condition(KAFKA_SINK, "too") == ("False", "TopicTaken")
    assert "leave out spec.numPartitions" in harness.message(KAFKA_SINK, "too", "Ready")


async def test_another_kafka_is_named() -> None:
    """With the one that it may be. A sink that worked continues to."""
    servers = ["elsewhere:9092", "kafka.elsewhere:9092"]
    harness = await settled(sink(bootstrapServers=servers, **CREATED))
    assert harness.condition(KAFKA_SINK, "archive", "TopicReady") == ("False", "OtherKafka")
    message = harness.message(KAFKA_SINK, "archive", "Ready")
    assert "elsewhere:9092, kafka.elsewhere:9092" in message
    assert "memory:9092" in message
    assert "orders" not in harness.admin.topics
    await harness.apply(sink(bootstrapServers=["kafka:9093,memory:9092"], **CREATED))
    await harness.settle()
    assert harness.condition(KAFKA_SINK, "archive") == ("True", "")
    await harness.apply(sink(bootstrapServers=servers, **CREATED))
    await harness.settle()
    assert harness.condition(KAFKA_SINK, "archive") == ("False", "OtherKafka")
    assert "url" in harness.status(KAFKA_SINK, "archive")["address"]
    assert route(harness).topic == "orders"


async def test_a_source_appends_to_the_topic_where_that_is_the_same() -> None:
    """Not in another form, and not where the topic has two sinks with rules of their own."""
    reference = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "KafkaSink"}
    source = manifest(PING_SOURCE, "beat", spec={"sink": {"ref": {**reference, "name": "archive"}}})

    async def topic_of(*sinks: Resource) -> str | None:
        harness = await with_topic(*sinks, source)
        [found] = [each for each in harness.routes().values() if isinstance(each, EventSource)]
        return found.sink_topic

    assert await topic_of(sink()) == "orders"
    assert await topic_of(sink(contentMode="structured")) is None
    assert await topic_of(sink(), sink("too")) is None
