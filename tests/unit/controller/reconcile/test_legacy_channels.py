"""Channels and provisioners of Knative 0.5: what each situation shows, and what becomes of them."""

from typing import Any

import pytest

from headrace.domain.routing import Addressable
from headrace.resources.kinds import (
    CHANNEL,
    CLUSTER_CHANNEL_PROVISIONER,
    CONFIG_MAP,
    KAFKA_CHANNEL,
    LEGACY_CHANNEL,
)
from headrace.resources.resource import Resource
from tests.support.api_admission import refusal, warnings_of
from tests.unit.controller.harness import (
    NAMESPACE,
    config_map,
    manifest,
    settled,
)

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
URL = f"http://127.0.0.1:8080/{NAMESPACE}/kafkachannels/orders"
HOST = f"orders-kn-channel.{NAMESPACE}.svc.cluster.local"


def legacy_channel(name: str = "orders", *, provisioner: str = "kafka", **spec: Any) -> Resource:
    """A Channel as it was written in 2019."""
    if provisioner:
        spec["provisioner"] = {
            "apiVersion": "eventing.knative.dev/v1alpha1",
            "kind": "ClusterChannelProvisioner",
            "name": provisioner,
        }
    return manifest(LEGACY_CHANNEL, name, spec=spec)


async def test_a_channel_becomes_a_channel_of_today_and_shows_its_address() -> None:
    """The provisioner is the template, the arguments are its spec; `hostname` is a Host that the
    ingress knows.
    """
    harness = await settled(legacy_channel(arguments={"NumPartitions": 4, "replicationFactor": 2}))
    child = harness.find(CHANNEL, "orders")
    assert child is not None
    assert child.metadata["ownerReferences"][0]["apiVersion"] == "eventing.knative.dev/v1alpha1"
    assert child.spec["channelTemplate"] == {
        "apiVersion": "messaging.knative.dev/v1beta1",
        "kind": "KafkaChannel",
        "spec": {"numPartitions": 4, "replicationFactor": 2},
    }
    topic = harness.admin.topics[f"knative-messaging-kafka.{NAMESPACE}.orders"]
    assert (4, 2) == (topic.partitions, topic.replication)
    status = harness.status(LEGACY_CHANNEL, "orders")
    assert status["address"] == {"name": "http", "url": URL, "hostname": HOST}
    assert status["internal"] == {
        "apiVersion": "messaging.knative.dev/v1",
        "kind": "Channel",
        "name": "orders",
        "namespace": NAMESPACE,
    }
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [
        ("Addressable", TRUE),
        ("Provisioned", TRUE),
        ("ProvisionerInstalled", TRUE),
        ("Ready", TRUE),
    ]
    [route] = [each for each in harness.routes().values() if isinstance(each, Addressable)]
    assert HOST in route.hosts


async def test_a_settled_installation_writes_nothing() -> None:
    """Also after topics were described again."""
    harness = await settled(legacy_channel())
    assert [] == await harness.resync()


async def test_without_a_provisioner_the_template_of_the_installation_applies() -> None:
    """As the webhook of 0.5 filled in a provisioner."""
    text = (
        "clusterDefault: {apiVersion: messaging.knative.dev/v1beta1, kind: KafkaChannel, spec:"
        " {numPartitions: 7}}"
    )
    defaults = config_map(
        "default-ch-webhook", {"default-ch-config": text}, namespace="knative-eventing"
    )
    assert defaults.kind == CONFIG_MAP
    harness = await settled(defaults, legacy_channel(provisioner=""))
    backing = harness.find(KAFKA_CHANNEL, "orders")
    assert backing is not None and backing.spec["numPartitions"] == 7
    assert harness.condition(LEGACY_CHANNEL, "orders")[0] == TRUE


async def test_an_unknown_provisioner_is_named_with_the_known_ones() -> None:
    """Nothing is made for it."""
    harness = await settled(legacy_channel(provisioner="gcp-pubsub"))
    assert (FALSE, "UnknownProvisioner") == harness.condition(LEGACY_CHANNEL, "orders")
    message = harness.message(LEGACY_CHANNEL, "orders", "ProvisionerInstalled")
    assert '"gcp-pubsub"' in message
    assert "in-memory, in-memory-channel, kafka, natss" in message
    assert harness.find(CHANNEL, "orders") is None
    assert any(
        "gcp-pubsub" in each for each in warnings_of(legacy_channel(provisioner="gcp-pubsub"))
    )


async def test_arguments_that_change_have_no_effect_and_the_status_says_so() -> None:
    """As in 0.5, where the topic was made once."""
    harness = await settled(legacy_channel(arguments={"NumPartitions": 2}))
    await harness.apply(legacy_channel(arguments={"NumPartitions": 3}))
    await harness.settle()
    assert harness.condition(LEGACY_CHANNEL, "orders")[0] == TRUE
    assert (FALSE, "ArgumentsChanged") == harness.condition(
        LEGACY_CHANNEL, "orders", "ArgumentsApplied"
    )
    assert harness.admin.topics[f"knative-messaging-kafka.{NAMESPACE}.orders"].partitions == 2


async def test_unknown_arguments_are_named() -> None:
    """0.5 ignored them silently."""
    harness = await settled(legacy_channel(arguments={"NumPartition": 2}))
    message = harness.message(LEGACY_CHANNEL, "orders", "ArgumentsApplied")
    assert message == "the provisioner kafka has no such arguments: NumPartition"


async def test_subscribers_in_the_spec_are_not_used() -> None:
    """The controller of 0.5 wrote them; an export has them."""
    exported = legacy_channel(subscribable={"subscribers": [{"subscriberURI": "http://old/"}]})
    harness = await settled(exported)
    assert harness.condition(LEGACY_CHANNEL, "orders")[0] == TRUE
    assert (FALSE, "SubscribersNotUsed") == harness.condition(
        LEGACY_CHANNEL, "orders", "SubscribersUsed"
    )
    assert any("subscribable" in each for each in warnings_of(exported))


async def test_a_channel_of_today_with_the_name_is_left_alone() -> None:
    """It has another owner, and the status says what to do."""
    harness = await settled(manifest(CHANNEL, "orders", spec={}))
    await harness.apply(legacy_channel(arguments={"NumPartitions": 5}))
    await harness.settle()
    assert (FALSE, "ObjectNotOwned") == harness.condition(LEGACY_CHANNEL, "orders")
    assert "address" not in harness.status(LEGACY_CHANNEL, "orders")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"provisioner": {"kind": "ClusterChannelProvisioner"}},
            "missing field(s): spec.provisioner.name",
        ),
        (
            {"provisioner": {"name": "kafka", "kind": "Secret"}},
            "invalid value: Secret: spec.provisioner.kind\n"
            "only 'ClusterChannelProvisioner' kind is allowed",
        ),
        (
            {"provisioner": {"name": "kafka"}, "arguments": {"NumPartitions": 0}},
            "invalid value: 0: spec.arguments.NumPartitions\nexpected a number from 1 to 10000",
        ),
        (
            {"subscribable": {"subscribers": [{"uid": "u"}]}},
            "missing field(s): spec.subscribable.subscriber[0].replyURI,"
            " spec.subscribable.subscriber[0].subscriberURI\nexpected at least one of, got none",
        ),
    ],
)
def test_what_is_wrong_is_refused(spec: dict[str, Any], expected: str) -> None:
    """In the words of 0.5 where it had a rule."""
    assert expected == refusal(manifest(LEGACY_CHANNEL, "c", spec=spec))


def test_the_provisioner_is_immutable() -> None:
    """The arguments are not."""
    old = legacy_channel()
    message = refusal(legacy_channel(provisioner="natss"), old=old)
    assert message.startswith("Immutable fields changed (-old +new): spec.provisioner\n")


async def test_provisioners_are_always_there() -> None:
    """Owned by nobody, Ready, and created again when deleted; one that a user made says whether it
    is known.
    """
    harness = await settled(manifest(CLUSTER_CHANNEL_PROVISIONER, "mine", namespace="", spec={}))
    for name in ("in-memory", "in-memory-channel", "kafka", "natss"):
        found = harness.find(CLUSTER_CHANNEL_PROVISIONER, name, "")
        assert found is not None and "ownerReferences" not in found.metadata
        assert found.status["conditions"][-1]["status"] == TRUE
    mine = harness.status(CLUSTER_CHANNEL_PROVISIONER, "mine", "")["conditions"]
    assert {"UnknownProvisioner"} == {each["reason"] for each in mine}
    await harness.delete(CLUSTER_CHANNEL_PROVISIONER, "kafka", "")
    await harness.settle()
    assert harness.find(CLUSTER_CHANNEL_PROVISIONER, "kafka", "") is not None


@pytest.mark.parametrize(
    ("provisioner", "kind"),
    [
        ("in-memory", "InMemoryChannel"),
        ("in-memory-channel", "InMemoryChannel"),
        ("natss", "NatsJetStreamChannel"),
    ],
)
async def test_each_provisioner_stands_for_a_kind_of_channel(provisioner: str, kind: str) -> None:
    """Whether that kind is served is shown by the Channel of today, and so by this one."""
    harness = await settled(legacy_channel(provisioner=provisioner))
    child = harness.find(CHANNEL, "orders")
    assert child is not None and child.spec["channelTemplate"]["kind"] == kind
    assert harness.condition(LEGACY_CHANNEL, "orders") == harness.condition(CHANNEL, "orders")
