"""Channels, KafkaChannels and Subscriptions: what each situation shows, and what it sets up."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.errors import Permanent
from headrace.domain.routing import Addressable, DeliveryOrder, Reply, Subscription
from headrace.resources.kinds import (
    BROKER,
    CHANNEL,
    CONFIG_MAP,
    KAFKA_CHANNEL,
    KAFKA_SINK,
    SERVICE,
    SUBSCRIPTION,
)
from headrace.resources.resource import Resource
from headrace_controller.reconcile.kinds import CHANNEL_KINDS, RECONCILERS
from headrace_controller.reconcile.observed_state import Installation
from tests.unit.controller.harness import (
    NAMESPACE,
    ControllerHarness,
    broker,
    config_map,
    manifest,
    settled,
)

MESSAGING = "messaging.knative.dev/v1"
TOPIC = f"knative-messaging-kafka.{NAMESPACE}.orders"
URL = f"http://127.0.0.1:8080/{NAMESPACE}/kafkachannels/orders"
SECURED = {
    "uri": "https://reply.example/",
    "CACerts": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    "audience": "me",
}
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


def channel(name: str = "orders", **spec: Any) -> Resource:
    """A Channel."""
    return manifest(CHANNEL, name, spec=spec)


def kafka_channel(name: str = "orders", **spec: Any) -> Resource:
    """A KafkaChannel."""
    return manifest(KAFKA_CHANNEL, name, spec=spec)


def subscription(
    name: str = "billing",
    *,
    of: str = "orders",
    kind: str = "Channel",
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Resource:
    """A Subscription with a URL for subscriber, unless it has a reply only."""
    if "reply" not in spec:
        spec.setdefault("subscriber", {"uri": "http://sink.example/"})
    named = {"apiVersion": MESSAGING, "kind": kind, "name": of}
    return manifest(SUBSCRIPTION, name, annotations=annotations, spec={"channel": named, **spec})


def subscribed(harness: ControllerHarness) -> dict[str, Subscription]:
    """The routing records of subscriptions by name."""
    return {each.name: each for each in harness.routes().values() if isinstance(each, Subscription)}


@pytest.mark.clause("C1")
async def test_a_channel_is_backed_by_a_kafka_channel_and_shows_its_address() -> None:
    """The backing object has the Channel's name, its delivery, and the Channel for owner."""
    delivery = {"retry": 3}
    harness = await settled(channel(delivery=delivery))
    backing = harness.find(KAFKA_CHANNEL, "orders")
    assert backing is not None
    assert backing.metadata["ownerReferences"][0]["kind"] == "Channel"
    assert backing.spec["delivery"] == delivery
    status = harness.status(CHANNEL, "orders")
    assert status["address"] == {"name": "http", "url": URL}
    assert status["channel"] == {
        "apiVersion": "messaging.knative.dev/v1beta1",
        "kind": "KafkaChannel",
        "name": "orders",
        "namespace": NAMESPACE,
    }
    assert harness.condition(CHANNEL, "orders")[0] == TRUE
    [route] = [each for each in harness.routes().values() if isinstance(each, Addressable)]
    assert route.topic == TOPIC
    assert route.kind == "KafkaChannel"
    assert route.hosts == (f"orders-kn-channel.{NAMESPACE}.svc.cluster.local",)


async def test_the_topic_is_as_the_kafka_channel_says() -> None:
    """Partitions, replicas and retention."""
    harness = await settled(
        kafka_channel(numPartitions=4, replicationFactor=2, retentionDuration="PT1H")
    )
    facts = harness.admin.topics[TOPIC]
    assert (4, "3600000") == (facts.partitions, facts.settings["retention.ms"])


async def test_defaults_are_those_of_knative() -> None:
    """One partition, a week."""
    harness = await settled(kafka_channel())
    facts = harness.admin.topics[TOPIC]
    assert (1, "604800000") == (facts.partitions, facts.settings["retention.ms"])
    found = harness.find(KAFKA_CHANNEL, "orders")
    assert found is not None
    assert found.annotations["messaging.knative.dev/subscribable"] == "v1"


async def test_the_template_comes_from_the_config_map() -> None:
    """Of the namespace, else of the cluster."""
    document = (
        "clusterDefault: {apiVersion: messaging.knative.dev/v1beta1, kind: KafkaChannel,"
        " spec: {numPartitions: 2}}\n"
        f"namespaceDefaults: {{{NAMESPACE}: {{apiVersion: messaging.knative.dev/v1beta1,"
        " kind: KafkaChannel, spec: {numPartitions: 7}}}"
    )
    harness = ControllerHarness()
    await harness.restart()
    defaults = config_map(
        "default-ch-webhook", {"default-ch-config": document}, namespace="knative-eventing"
    )
    await harness.apply(defaults)
    # As stored by a cluster, which knows no defaults.
    await harness.store.create(channel())
    await harness.settle()
    assert harness.admin.topics[TOPIC].partitions == 7
    assert harness.find(CONFIG_MAP, "default-ch-webhook", "knative-eventing") is not None


async def test_another_default_does_not_change_a_channel_that_exists() -> None:
    """In a cluster the default is computed at each reconcile: events are delivered as before."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.store.create(channel())
    await harness.apply(subscription())
    await harness.settle()
    routes = harness.routes()
    for kind in ("KafkaChannel, spec: {numPartitions: 7}", "OtherChannel"):
        document = f"clusterDefault: {{apiVersion: {MESSAGING}, kind: {kind}}}"
        data = {"default-ch-config": document}
        await harness.apply(config_map("default-ch-webhook", data, namespace="knative-eventing"))
        await harness.settle()
        assert harness.condition(CHANNEL, "orders") == (TRUE, "")
        assert harness.routes() == routes
        assert harness.admin.topics[TOPIC].partitions == 1


async def test_a_template_of_another_kind_is_not_ready() -> None:
    """And says which kinds there are."""
    template = {"apiVersion": MESSAGING, "kind": "OtherChannel"}
    harness = await settled(channel(channelTemplate=template))
    assert harness.condition(CHANNEL, "orders") == (FALSE, "UnsupportedChannelKind")
    assert "KafkaChannel" in harness.message(CHANNEL, "orders", "BackingChannelReady")


async def test_an_object_of_the_name_that_belongs_to_nobody_is_not_taken() -> None:
    """The Channel says what to do."""
    harness = await settled(kafka_channel(numPartitions=2), channel())
    assert harness.condition(CHANNEL, "orders") == (FALSE, "ObjectNotOwned")
    assert harness.admin.topics[TOPIC].partitions == 2


async def test_a_subscription_reads_nothing_from_a_channel_that_another_owner_has() -> None:
    """The Channel of that name has no backing channel."""
    harness = await settled(kafka_channel(), channel(), subscription())
    assert harness.condition(SUBSCRIPTION, "billing") == (UNKNOWN, "ChannelNotReady")
    assert "address" not in harness.status(CHANNEL, "orders")
    assert subscribed(harness) == {}


async def test_an_object_that_cannot_be_created_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the answer of the API server, and not as one that is still being created."""
    harness = ControllerHarness()
    await harness.restart()

    async def refuse(_store: MemoryResourceStore, _resource: Resource) -> Resource:
        raise Permanent("kafkachannels is forbidden")

    monkeypatch.setattr(MemoryResourceStore, "apply", refuse)
    await harness.apply(channel())
    for _ in range(4):
        await harness.run_once()
    assert harness.condition(CHANNEL, "orders") == (FALSE, "ObjectNotApplied")
    assert "forbidden" in harness.message(CHANNEL, "orders", "Ready")


async def test_in_a_cluster_the_address_is_a_service() -> None:
    """An ExternalName of the ingress, owned by the channel and deleted with it."""
    installation = Installation(in_cluster=True, ingress_url="http://ingress.headrace.svc")
    harness = await settled(kafka_channel(), installation=installation)
    service = harness.find(SERVICE, "orders-kn-channel")
    assert service is not None
    assert service.spec == {"type": "ExternalName", "externalName": "ingress.headrace.svc"}
    url = f"http://orders-kn-channel.{NAMESPACE}.svc.cluster.local"
    assert harness.status(KAFKA_CHANNEL, "orders")["address"]["url"] == url
    await harness.delete(KAFKA_CHANNEL, "orders")
    await harness.settle()
    assert harness.find(SERVICE, "orders-kn-channel") is None
    assert harness.find(KAFKA_CHANNEL, "orders") is None


@pytest.mark.parametrize(
    "ingress", ["https://ingress.shop.svc", "http://ingress:8080", "http://10.0.0.1", "http://i/p"]
)
async def test_an_ingress_that_no_service_can_name_is_addressed_directly(ingress: str) -> None:
    """An ExternalName has no scheme, port or path, and no IP address."""
    harness = await settled(
        kafka_channel(), installation=Installation(in_cluster=True, ingress_url=ingress)
    )
    address = harness.status(KAFKA_CHANNEL, "orders")["address"]["url"]
    assert address == f"{ingress}/{NAMESPACE}/kafkachannels/orders"
    found = harness.condition(KAFKA_CHANNEL, "orders", "ChannelServiceReady")
    assert found == (TRUE, "NoExternalName")
    assert harness.find(SERVICE, "orders-kn-channel") is None


async def test_a_service_of_another_owner_is_not_shown_as_address() -> None:
    """The address is the path, and the condition says why."""
    taken = manifest(SERVICE, "orders-kn-channel", spec={"type": "ClusterIP"})
    installation = Installation(in_cluster=True, ingress_url="http://ingress.headrace.svc")
    harness = ControllerHarness(installation=installation)
    await harness.restart()
    await harness.store.create(taken)
    await harness.apply(kafka_channel())
    await harness.settle()
    assert harness.condition(KAFKA_CHANNEL, "orders") == (FALSE, "ObjectNotOwned")
    address = harness.status(KAFKA_CHANNEL, "orders")["address"]["url"]
    assert address == f"http://ingress.headrace.svc/{NAMESPACE}/kafkachannels/orders"


@pytest.mark.clause("C1", "S7")
async def test_each_subscription_has_a_group_of_its_own() -> None:
    """Named as Knative names it, and Ready once the dispatchers read for it."""
    harness = await settled(channel(), subscription("billing"), subscription("shipping"))
    routes = subscribed(harness)
    assert {"billing", "shipping"} == routes.keys()
    for name, route in routes.items():
        assert route.group == f"kafka.{NAMESPACE}.orders.{route.uid}"
        assert (route.topic, route.filters, route.reply) == (TOPIC, (), None)
        assert route.kind == "Subscription"
        assert harness.condition(SUBSCRIPTION, name) == (TRUE, "")
    expected = [
        {"uid": each.uid, "observedGeneration": 1, "ready": TRUE}
        for each in sorted(routes.values(), key=lambda each: each.uid)
    ]
    assert harness.status(KAFKA_CHANNEL, "orders")["subscribers"] == expected
    assert harness.status(CHANNEL, "orders")["subscribers"] == expected


@pytest.mark.parametrize("kind", ["Channel", "KafkaChannel"])
@pytest.mark.clause("S1", "S3")
async def test_a_subscription_may_precede_its_channel(kind: str) -> None:
    """It is not Ready until the channel is, and says why."""
    harness = await settled(subscription(kind=kind))
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "ChannelReferenceFailed")
    assert "not found" in harness.message(SUBSCRIPTION, "billing", "Ready")
    assert subscribed(harness) == {}
    await harness.apply(channel() if kind == "Channel" else kafka_channel())
    await harness.settle()
    assert harness.condition(SUBSCRIPTION, "billing") == (TRUE, "")


async def test_a_channel_of_a_kind_that_is_not_served_is_named() -> None:
    """The message lists the kinds that are."""
    harness = await settled(subscription(kind="OtherChannel"))
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "ChannelReferenceFailed")
    message = harness.message(SUBSCRIPTION, "billing", "Ready")
    assert "OtherChannel of messaging.knative.dev/v1 is not a kind of channel here" in message


async def test_channels_can_be_left_to_another_controller() -> None:
    """Nothing of them is touched; Brokers work."""
    reconcilers = RECONCILERS.without(*CHANNEL_KINDS)
    harness = await settled(
        channel(), kafka_channel("other"), subscription(), broker(), reconcilers=reconcilers
    )
    assert {"/".join(key.split("/")[:1]) for key in harness.routes()} == {"addressable", "delays"}
    for kind, name in ((CHANNEL, "orders"), (KAFKA_CHANNEL, "other"), (SUBSCRIPTION, "billing")):
        found = harness.find(kind, name)
        assert found is not None
        assert (found.status, found.finalizers) == ({}, ())


@pytest.mark.clause("S3")
async def test_a_subscription_is_not_ready_while_its_channel_is_not() -> None:
    """An unresolved dead letter sink of the channel, for example."""
    lost = {"ref": {"apiVersion": MESSAGING, "kind": "Channel", "name": "nowhere"}}
    harness = await settled(kafka_channel(delivery={"deadLetterSink": lost}), subscription())
    status, _ = harness.condition(SUBSCRIPTION, "billing", "ChannelReady")
    assert status == UNKNOWN
    assert harness.condition(SUBSCRIPTION, "billing")[0] != TRUE


@pytest.mark.clause("S4")
async def test_the_physical_subscription_shows_what_was_resolved() -> None:
    """Subscriber, reply and dead letter sink."""
    sink = {"uri": "http://dead.example/"}
    harness = await settled(
        channel(),
        subscription(
            subscriber={"uri": "http://sink.example/"},
            reply={"uri": "http://reply.example/"},
            delivery={"deadLetterSink": sink},
        ),
    )
    assert harness.status(SUBSCRIPTION, "billing")["physicalSubscription"] == {
        "subscriberUri": "http://sink.example/",
        "replyUri": "http://reply.example/",
        "deadLetterSinkUri": "http://dead.example/",
    }


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("subscriber", "SubscriberResolveFailed"),
        ("reply", "ReplyResolveFailed"),
        ("deadLetterSink", "DeadLetterSinkResolveFailed"),
    ],
)
@pytest.mark.clause("S4")
async def test_what_cannot_be_resolved_is_named_and_not_shown(field: str, reason: str) -> None:
    """The other URLs stay."""
    lost = {"ref": {"apiVersion": MESSAGING, "kind": "Channel", "name": "nowhere"}}
    spec: dict[str, Any] = {"subscriber": {"uri": "http://sink.example/"}}
    spec |= {"delivery": {field: lost}} if field == "deadLetterSink" else {field: lost}
    harness = await settled(channel(), subscription(**spec))
    assert harness.condition(SUBSCRIPTION, "billing", "ReferencesResolved") == (FALSE, reason)
    assert harness.condition(SUBSCRIPTION, "billing")[0] == FALSE
    shown = harness.status(SUBSCRIPTION, "billing")["physicalSubscription"]
    assert f"{field}Uri" not in shown
    assert ("subscriberUri" in shown) == (field != "subscriber")


@pytest.mark.clause("S5")
async def test_replies_to_an_addressable_go_straight_to_its_topic() -> None:
    """By reference or by its address; elsewhere by HTTP; without a reply they are discarded."""
    results = {"ref": {"apiVersion": MESSAGING, "kind": "Channel", "name": "results"}}
    to_broker = {
        "ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
    }
    subscriber = {"uri": "http://sink.example/"}

    def to_sink(mode: str) -> dict[str, Any]:
        reference = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "KafkaSink"}
        return {"ref": {**reference, "name": mode}}

    def sink(mode: str) -> Resource:
        created = {"numPartitions": 1, "replicationFactor": 1}
        spec = {"topic": f"of-{mode}", "contentMode": mode, **created}
        return manifest(KAFKA_SINK, mode, spec=spec)

    harness = await settled(
        channel(),
        channel("results"),
        broker(),
        sink("binary"),
        sink("structured"),
        subscription("reference", subscriber=subscriber, reply=results),
        subscription("broker", subscriber=subscriber, reply=to_broker),
        subscription("sink", subscriber=subscriber, reply=to_sink("binary")),
        subscription("structured", subscriber=subscriber, reply=to_sink("structured")),
        subscription("address", subscriber=subscriber, reply={"uri": URL}),
        subscription("elsewhere", subscriber=subscriber, reply={"uri": "http://reply.example/"}),
        subscription("secured", subscriber=subscriber, reply=SECURED),
        subscription("none"),
    )
    replies = {name: route.reply for name, route in subscribed(harness).items()}
    assert replies == {
        "reference": Reply(topic=f"knative-messaging-kafka.{NAMESPACE}.results"),
        "broker": Reply(topic=f"knative-broker-{NAMESPACE}-default"),
        "sink": Reply(topic="of-binary"),
        "structured": Reply(url=f"http://127.0.0.1:8080/{NAMESPACE}/kafkasinks/structured"),
        "address": Reply(topic=TOPIC),
        "elsewhere": Reply(url="http://reply.example/"),
        "secured": Reply(url=SECURED["uri"], ca_certs=SECURED["CACerts"], audience="me"),
        "none": None,
    }


async def test_a_subscription_with_a_reply_only_forwards_events() -> None:
    """The reply's receiver is then the subscriber."""
    results = {"ref": {"apiVersion": MESSAGING, "kind": "Channel", "name": "results"}}
    harness = await settled(channel(), channel("results"), subscription(reply=results))
    route = subscribed(harness)["billing"]
    assert route.subscriber.url == URL.replace("orders", "results")
    assert route.reply is None


async def test_delivery_is_the_subscriptions_own_else_the_channels() -> None:
    """As one block; the channel's dead letter sink applies where the Subscription names none."""
    sink = {"uri": "http://dead.example/"}
    harness = await settled(
        channel(delivery={"retry": 7, "timeout": "PT3S", "deadLetterSink": sink}),
        subscription("plain"),
        subscription("own", delivery={"retry": 2}),
    )
    routes = subscribed(harness)
    assert (routes["plain"].delivery.retry, routes["plain"].delivery.timeout_seconds) == (7, 3.0)
    assert (routes["own"].delivery.retry, routes["own"].delivery.timeout_seconds) == (2, 30.0)
    for route in routes.values():
        assert route.dead_letter_sink is not None
        assert route.dead_letter_sink.url == "http://dead.example/"


async def test_order_is_set_by_annotation() -> None:
    """As a Trigger's."""
    annotations = {"kafka.eventing.knative.dev/delivery.order": "ordered"}
    harness = await settled(channel(), subscription(annotations=annotations))
    assert subscribed(harness)["billing"].order is DeliveryOrder.ORDERED


@pytest.mark.clause("S6")
async def test_subscriber_reply_and_delivery_may_change() -> None:
    """Without a new group or a new start."""
    harness = await settled(channel(), subscription())
    before = subscribed(harness)["billing"]
    await harness.apply(
        subscription(
            subscriber={"uri": "http://other.example/"},
            reply={"uri": "http://reply.example/"},
            delivery={"retry": 1},
        )
    )
    await harness.settle()
    after = subscribed(harness)["billing"]
    assert (before.group, before.uid) == (after.group, after.uid)
    assert after.subscriber.url == "http://other.example/"
    assert (after.reply, after.delivery.retry) == (Reply(url="http://reply.example/"), 1)


async def test_a_deleted_channel_takes_its_topic_and_stops_its_subscriptions() -> None:
    """The Subscription stays and says that its channel is missing; it starts again in the next
    one.
    """
    harness = await settled(channel(), subscription())
    await harness.delete(CHANNEL, "orders")
    await harness.delete(KAFKA_CHANNEL, "orders")  # what garbage collection does
    await harness.settle()
    assert harness.find(KAFKA_CHANNEL, "orders") is None
    assert TOPIC not in harness.admin.topics
    assert subscribed(harness) == {}
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "ChannelReferenceFailed")
    await harness.apply(channel())
    await harness.settle()
    assert harness.condition(SUBSCRIPTION, "billing") == (TRUE, "")


async def test_a_deleted_subscription_leaves_its_dead_letters_only() -> None:
    """And disappears from the channel's status."""
    harness = await settled(channel(), subscription())
    group = subscribed(harness)["billing"].group
    await harness.delete(SUBSCRIPTION, "billing")
    await harness.settle()
    assert harness.find(SUBSCRIPTION, "billing") is None
    assert [f"{group}.dead"] == [name for name in harness.admin.topics if name.startswith(group)]
    assert harness.status(KAFKA_CHANNEL, "orders")["subscribers"] == []


@pytest.mark.parametrize("kind", [CHANNEL, KAFKA_CHANNEL, SUBSCRIPTION])
async def test_an_invalid_object_of_a_cluster_is_left_as_it_was(kind: Any) -> None:
    """Its status says what is wrong."""
    harness = await settled(channel(), subscription())
    routes = dict(harness.routes())
    name = "billing" if kind is SUBSCRIPTION else "orders"
    found = harness.find(kind, name)
    assert found is not None
    spec = {**found.spec, "delivery": {"retry": -1}}
    await harness.store.replace(replace(found, object={**found.object, "spec": spec}))
    await harness.settle()
    assert harness.condition(kind, name)[0] == FALSE
    assert "spec.delivery.retry" in harness.message(kind, name, "Ready")
    assert harness.routes().keys() == routes.keys()


async def test_an_invalid_channel_does_not_change_its_subscriptions() -> None:
    """They deliver as before, and say what is wrong with the channel."""
    harness = await settled(kafka_channel(delivery={"retry": 3}), subscription(kind="KafkaChannel"))
    before = subscribed(harness)["billing"]
    found = harness.find(KAFKA_CHANNEL, "orders")
    assert found is not None
    spec = {**found.spec, "delivery": {"retry": -1}}
    await harness.store.replace(replace(found, object={**found.object, "spec": spec}))
    await harness.settle()
    assert subscribed(harness)["billing"].delivery == before.delivery
    assert "retry" in harness.message(SUBSCRIPTION, "billing", "ChannelReady")


@pytest.mark.parametrize("odd", ["x", 5, [], {"kind": 5}, {"apiVersion": 5, "kind": {}}])
async def test_objects_of_any_shape_stop_nobody_else(odd: Any) -> None:
    """As a cluster without admission may have stored them: they are invalid, a Broker is Ready."""
    harness = ControllerHarness()
    await harness.restart()
    for kind, spec in (
        (CHANNEL, {"channelTemplate": odd, "delivery": odd, "subscribers": odd}),
        (KAFKA_CHANNEL, {"numPartitions": odd, "retentionDuration": odd, "subscribers": odd}),
        (SUBSCRIPTION, {"channel": odd, "subscriber": odd, "reply": odd, "delivery": odd}),
    ):
        await harness.store.create(manifest(kind, "odd", spec=spec))
    named = {"apiVersion": MESSAGING, "kind": "Channel", "name": "odd"}
    valid = {"channel": named, "subscriber": {"uri": "http://sink.example/"}}
    await harness.store.create(manifest(SUBSCRIPTION, "valid", spec=valid))
    await harness.apply(broker())
    await harness.settle()
    assert harness.condition(BROKER, "default") == (TRUE, "")
    for kind in (CHANNEL, KAFKA_CHANNEL, SUBSCRIPTION):
        assert harness.condition(kind, "odd") == (FALSE, "InvalidSpec")
    assert harness.condition(SUBSCRIPTION, "valid") == (UNKNOWN, "ChannelNotReady")


async def test_a_settled_installation_writes_nothing() -> None:
    """Statuses refer to each other: none may make another change without end."""
    harness = await settled(channel(), subscription("billing"), subscription("shipping"))
    assert await harness.resync() == []
    await harness.restart()
    await harness.settle()
    assert await harness.resync() == []
