"""Channels in other backends than Kafka: what each situation shows, and what it sets up."""

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.domain.errors import LogUnavailable, WriteRefused
from headrace.domain.routing import Addressable, Delays, Reply, Subscription
from headrace.resources.control_ports import TopicDescription
from headrace.resources.kinds import (
    CHANNEL,
    IN_MEMORY_CHANNEL,
    KAFKA_CHANNEL,
    NATS_JETSTREAM_CHANNEL,
    OWNERSHIP_RECORD,
    SUBSCRIPTION,
)
from headrace.resources.resource import Resource, ResourceKind
from headrace_controller.backend_by_name import create_backend
from headrace_controller.reconcile.observed_state import Installation
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, manifest
from tests.unit.controller.reconcile.test_channels import channel, subscription

INGRESS = "http://127.0.0.1:8080"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
PREFIXES = {IN_MEMORY_CHANNEL: "in-memory", NATS_JETSTREAM_CHANNEL: "jetstream"}


class NatsAdmin(MemoryTopicAdmin):
    """The topic admin of a NATS server that can be stopped."""

    away = False
    full = False

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        if self.away and topics:
            raise LogUnavailable("no NATS server answers")
        return await super().describe(topics, settings=settings)

    async def add_replicas(self, topic: str, total: int) -> None:
        if self.full:
            raise WriteRefused(f"topic {topic}: no suitable peers for placement")
        await super().add_replicas(topic, total)


class Installed(ControllerHarness):
    """A controller with all backends."""

    nats: NatsAdmin


async def installed(*, nats: bool = True, **fields: Any) -> Installed:
    """A started controller, with a NATS server or without."""
    harness = Installed(served=("kafka", "in-memory", "jetstream"), **fields)
    harness.nats = NatsAdmin(brokers=1)
    harness.backend = create_backend(
        harness.admin, harness.clock, jetstream=harness.nats if nats else None
    )
    await harness.restart()
    return harness


def of(kind: ResourceKind, name: str = "orders", **spec: Any) -> Resource:
    """A channel of this kind."""
    return manifest(kind, name, spec=spec)


def reading(kind: ResourceKind, name: str = "billing", **spec: Any) -> Resource:
    """A Subscription to the channel `orders` of this kind."""
    found = subscription(name, kind=kind.kind, **spec)
    reference = {**found.spec["channel"], "apiVersion": kind.api_version}
    return Resource(
        found.kind, {**found.object, "spec": {**found.object["spec"], "channel": reference}}
    )


def route(harness: ControllerHarness, kind: type[Any]) -> Any:
    """The only route of this kind."""
    [found] = [each for each in harness.routes().values() if isinstance(each, kind)]
    return found


@pytest.mark.parametrize("kind", PREFIXES, ids=lambda kind: kind.kind)
async def test_channel_and_subscription_are_in_the_backend_of_the_kind(kind: ResourceKind) -> None:
    harness, prefix = await installed(), PREFIXES[kind]
    await harness.apply(of(kind), reading(kind))
    await harness.settle()

    assert (TRUE, "") == harness.condition(kind, "orders")
    assert (TRUE, "") == harness.condition(SUBSCRIPTION, "billing")
    channel, reader = route(harness, Addressable), route(harness, Subscription)
    assert f"{prefix}:channel.{NAMESPACE}.orders" == channel.topic == reader.topic
    group = f"{prefix}:subscription.{NAMESPACE}.orders.{reader.uid}"
    assert (group, f"{group}.retry", f"{group}.dead") == (
        reader.group,
        reader.retry_topic,
        reader.dead_topic,
    )
    assert (f"/{NAMESPACE}/{kind.plural}/orders",) == channel.paths
    assert INGRESS + channel.paths[0] == harness.status(kind, "orders")["address"]["url"]
    delays = [each for each in harness.routes().values() if isinstance(each, Delays)]
    assert {"kafka", prefix} == {each.backend for each in delays}
    assert not [name for name in harness.admin.topics if prefix in name]
    assert [] == await harness.settle()


@pytest.mark.parametrize("kind", PREFIXES, ids=lambda kind: kind.kind)
async def test_nothing_is_left_of_a_channel_and_its_subscription(kind: ResourceKind) -> None:
    harness = await installed()
    await harness.apply(of(kind), reading(kind))
    await harness.settle()

    await harness.delete(SUBSCRIPTION, "billing")
    await harness.delete(kind, "orders")
    await harness.settle()

    assert harness.find(kind, "orders") is None
    assert harness.find(SUBSCRIPTION, "billing") is None
    assert [] == [each for each in harness.routes().values() if not isinstance(each, Delays)]
    kept = [name for name in harness.nats.topics if "delay" not in name]
    assert all(name.endswith(".dead") for name in kept)
    if kind == IN_MEMORY_CHANNEL:
        records = [each.name for each in harness.store.list(OWNERSHIP_RECORD)]
        assert ["delays"] == records


async def test_a_channel_that_is_recreated_starts_again() -> None:
    harness = await installed()
    await harness.apply(of(IN_MEMORY_CHANNEL), reading(IN_MEMORY_CHANNEL))
    await harness.settle()

    await harness.delete(IN_MEMORY_CHANNEL, "orders")
    await harness.settle()
    assert UNKNOWN == harness.condition(SUBSCRIPTION, "billing", "AddedToChannel")[0]
    await harness.apply(of(IN_MEMORY_CHANNEL))
    await harness.settle()

    assert (TRUE, "") == harness.condition(SUBSCRIPTION, "billing")


async def test_a_subscription_before_its_channel_waits_to_know_the_backend() -> None:
    harness = await installed()
    await harness.apply(reading(IN_MEMORY_CHANNEL))
    await harness.settle()
    assert (UNKNOWN, "NotSubscribed") == harness.condition(
        SUBSCRIPTION, "billing", "AddedToChannel"
    )

    await harness.apply(of(IN_MEMORY_CHANNEL))
    await harness.settle()

    assert (TRUE, "") == harness.condition(SUBSCRIPTION, "billing")
    assert route(harness, Subscription).group.startswith("in-memory:")


async def test_a_channel_that_moves_to_another_backend_needs_another_subscription() -> None:
    harness = await installed()
    await harness.apply(channel("orders"), subscription("billing"))
    await harness.settle()

    await harness.delete(CHANNEL, "orders")
    await harness.delete(KAFKA_CHANNEL, "orders")
    await harness.settle()
    template = {"apiVersion": IN_MEMORY_CHANNEL.api_version, "kind": IN_MEMORY_CHANNEL.kind}
    await harness.apply(channel("orders", channelTemplate=template))
    await harness.settle()

    assert (FALSE, "OtherBackend") == harness.condition(SUBSCRIPTION, "billing")
    assert "delete it and create it again" in harness.message(SUBSCRIPTION, "billing", "Ready")


async def test_an_in_memory_channel_says_that_events_may_be_lost() -> None:
    """So does the Channel in front of it, which is what its user looks at."""
    harness = await installed()
    template = {"apiVersion": IN_MEMORY_CHANNEL.api_version, "kind": IN_MEMORY_CHANNEL.kind}
    await harness.apply(channel("orders", channelTemplate=template))
    await harness.settle()

    for kind in (CHANNEL, IN_MEMORY_CHANNEL):
        assert (TRUE, "") == harness.condition(kind, "orders")
        assert (FALSE, "InMemory") == harness.condition(kind, "orders", "Durable")
    for name in ("ServiceReady", "EndpointsReady", "DispatcherReady", "Addressable"):
        assert TRUE == harness.condition(IN_MEMORY_CHANNEL, "orders", name)[0]


@pytest.mark.parametrize(
    ("stream", "lost"),
    [
        ({"storage": "Memory"}, True),
        ({"storage": "Memory", "replicas": 1}, True),
        ({"storage": "Memory", "replicas": 3}, False),
        ({"storage": "File"}, False),
        ({}, False),
    ],
)
async def test_a_stream_in_the_memory_of_one_server_says_that_events_may_be_lost(
    stream: Mapping[str, Any], lost: bool
) -> None:
    harness = await installed()
    harness.nats.brokers = 3
    await harness.apply(of(NATS_JETSTREAM_CHANNEL, stream={"config": dict(stream)}))
    await harness.settle()

    assert (TRUE, "") == harness.condition(NATS_JETSTREAM_CHANNEL, "orders")
    conditions = harness.status(NATS_JETSTREAM_CHANNEL, "orders")["conditions"]
    durable = [each for each in conditions if each["type"] == "Durable"]
    assert lost == bool(durable)
    for each in durable:
        assert (FALSE, "MemoryStorage", "Info") == (
            each["status"],
            each["reason"],
            each["severity"],
        )
        assert "create it again with storage: File" in each["message"]


async def test_streams_get_more_replicas_when_there_are_more_servers() -> None:
    """Those of the controller; how many the channel's stream has is for its user to say."""
    harness = await installed()
    await harness.apply(of(NATS_JETSTREAM_CHANNEL), reading(NATS_JETSTREAM_CHANNEL))
    await harness.settle()
    assert {1} == {each.replication for each in harness.nats.topics.values()}

    harness.nats.brokers = 3
    await harness.resync()

    channel = route(harness, Subscription).topic
    replicas = {name: each.replication for name, each in harness.nats.topics.items()}
    assert {name: 1 if name == channel else 3 for name in replicas} == replicas
    assert len(replicas) == 7
    assert (TRUE, "") == harness.condition(SUBSCRIPTION, "billing")
    assert [] == await harness.resync()


async def test_streams_that_get_no_more_replicas_are_used_as_they_are() -> None:
    """The servers have no room, for example: it is tried again, and nothing stops meanwhile."""
    harness = await installed()
    await harness.apply(of(NATS_JETSTREAM_CHANNEL), reading(NATS_JETSTREAM_CHANNEL))
    await harness.settle()

    harness.nats.brokers, harness.nats.full = 3, True
    await harness.resync()
    assert {1} == {each.replication for each in harness.nats.topics.values()}
    assert (TRUE, "") == harness.condition(SUBSCRIPTION, "billing")

    harness.nats.full = False
    await harness.resync()
    assert {1, 3} == {each.replication for each in harness.nats.topics.values()}


async def test_a_channel_whose_backend_no_process_serves_says_what_to_start() -> None:
    harness = await installed()
    harness.served = ("kafka",)
    await harness.report()
    await harness.apply(of(IN_MEMORY_CHANNEL), of(NATS_JETSTREAM_CHANNEL))
    await harness.settle()

    for kind, text in (
        (IN_MEMORY_CHANNEL, "start one (headrace in-memory)"),
        (NATS_JETSTREAM_CHANNEL, "set HEADRACE_NATS_SERVERS for the ingress"),
    ):
        assert (FALSE, "NoIngress") == harness.condition(kind, "orders", "DataPlaneAvailable")
        assert text in harness.message(kind, "orders", "DataPlaneAvailable")


async def test_the_address_of_an_in_memory_channel_is_that_of_the_process_that_has_it() -> None:
    url = "http://in-memory.example"
    harness = await installed(installation=Installation(in_memory_url=f"{url}/"))
    await harness.apply(of(IN_MEMORY_CHANNEL), of(KAFKA_CHANNEL, "paid"))
    await harness.apply(reading(IN_MEMORY_CHANNEL, reply={"ref": _ref(KAFKA_CHANNEL, "paid")}))
    await harness.settle()

    path = f"/{NAMESPACE}/inmemorychannels/orders"
    assert url + path == harness.status(IN_MEMORY_CHANNEL, "orders")["address"]["url"]
    assert INGRESS in harness.status(KAFKA_CHANNEL, "paid")["address"]["url"]


async def test_replies_to_another_backend_are_posted() -> None:
    """A process may serve one backend only: it cannot append to the topic of another."""
    harness = await installed()
    await harness.apply(of(IN_MEMORY_CHANNEL), of(KAFKA_CHANNEL, "paid"))
    await harness.apply(of(IN_MEMORY_CHANNEL, "shipped"))
    sink = {"uri": "http://sink.example/"}
    for name, kind in (("paid", KAFKA_CHANNEL), ("shipped", IN_MEMORY_CHANNEL)):
        reply = {"ref": _ref(kind, name)}
        await harness.apply(reading(IN_MEMORY_CHANNEL, name, subscriber=sink, reply=reply))
    await harness.settle()

    replies = {
        each.name: each.reply
        for each in harness.routes().values()
        if isinstance(each, Subscription)
    }
    assert {
        "paid": Reply(url=f"{INGRESS}/{NAMESPACE}/kafkachannels/paid"),
        "shipped": Reply(topic=f"in-memory:channel.{NAMESPACE}.shipped"),
    } == replies


async def test_a_template_may_name_each_kind() -> None:
    harness = await installed()
    for kind in PREFIXES:
        template = {"apiVersion": kind.api_version, "kind": kind.kind}
        await harness.apply(channel(kind.plural, channelTemplate=template))
    await harness.settle()

    for kind in PREFIXES:
        assert (TRUE, "") == harness.condition(CHANNEL, kind.plural)
        assert kind.kind == harness.status(CHANNEL, kind.plural)["channel"]["kind"]


async def test_without_a_nats_server_the_channel_says_what_to_set() -> None:
    harness = await installed(nats=False)
    await harness.apply(of(NATS_JETSTREAM_CHANNEL), of(KAFKA_CHANNEL))
    await harness.settle()

    assert (FALSE, "BackendNotConfigured") == harness.condition(NATS_JETSTREAM_CHANNEL, "orders")
    text = harness.message(NATS_JETSTREAM_CHANNEL, "orders", "TopicReady")
    assert "set HEADRACE_NATS_SERVERS" in text
    assert (TRUE, "") == harness.condition(KAFKA_CHANNEL, "orders")
    assert "delays/jetstream" not in harness.routes()


async def test_a_backend_that_is_away_holds_up_only_what_is_in_it() -> None:
    harness = await installed()
    await harness.apply(of(NATS_JETSTREAM_CHANNEL), reading(NATS_JETSTREAM_CHANNEL))
    await harness.settle()
    routes = harness.routes()

    harness.nats.away = True
    await harness.apply(of(KAFKA_CHANNEL), of(NATS_JETSTREAM_CHANNEL, "late"))
    await harness.resync()

    assert (TRUE, "") == harness.condition(KAFKA_CHANNEL, "orders")
    assert (UNKNOWN, "BackendUnavailable") == harness.condition(NATS_JETSTREAM_CHANNEL, "late")
    assert "no NATS server answers" in harness.message(NATS_JETSTREAM_CHANNEL, "orders", "Ready")
    assert "url" in harness.status(NATS_JETSTREAM_CHANNEL, "orders")["address"]
    assert routes.items() <= harness.routes().items()

    await harness.delete(SUBSCRIPTION, "billing")
    await harness.settle()
    assert harness.find(SUBSCRIPTION, "billing") is not None  # Its stream cannot be cleaned up yet.

    harness.nats.away = False
    await harness.resync()
    assert (TRUE, "") == harness.condition(NATS_JETSTREAM_CHANNEL, "orders")
    assert (TRUE, "") == harness.condition(NATS_JETSTREAM_CHANNEL, "late")
    assert harness.find(SUBSCRIPTION, "billing") is None


async def test_the_stream_has_the_settings_of_the_spec() -> None:
    harness = await installed()
    config = {"maxAge": "1h30m", "maxBytes": 5_000_000, "maxMsgs": 1000, "storage": "Memory"}
    stream = {"overrideName": "ORDERS", "config": config}
    await harness.apply(of(NATS_JETSTREAM_CHANNEL, stream=stream))
    await harness.settle()

    assert {
        "max.message.bytes": "851968",
        "retention.ms": "5400000",
        "retention.bytes": "5000000",
        "jetstream.retention.messages": "1000",
        "jetstream.storage": "memory",
        "jetstream.discard": "new",
    } == harness.nats.topics["jetstream:ORDERS"].settings

    stream["config"] = {**config, "maxAge": "2h"}
    await harness.apply(of(NATS_JETSTREAM_CHANNEL, stream=stream))
    await harness.resync()

    assert "7200000" == harness.nats.topics["jetstream:ORDERS"].settings["retention.ms"]


def _ref(kind: ResourceKind, name: str) -> dict[str, str]:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "name": name}


async def test_retries_have_the_replicas_that_a_cluster_allows_when_they_are_created() -> None:
    """Also when it became complete a moment ago: the controller had seen one server."""
    harness = await installed()
    await harness.apply(of(NATS_JETSTREAM_CHANNEL, "before"))
    await harness.settle()
    harness.nats.brokers = 3

    replicated = {"config": {"replicas": 3}}
    await harness.apply(of(NATS_JETSTREAM_CHANNEL, stream=replicated))
    await harness.apply(reading(NATS_JETSTREAM_CHANNEL))
    await harness.settle()

    reader = route(harness, Subscription)
    names = (reader.topic, reader.retry_topic, reader.dead_topic)
    assert [3, 3, 3] == [harness.nats.topics[name].replication for name in names]
