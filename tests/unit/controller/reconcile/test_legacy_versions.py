"""Brokers, Triggers and EventTypes of v1alpha1, as a store without conversion has them: in the
version of today, with the fields as they were written.
"""

from dataclasses import replace
from typing import Any

import pytest

from headrace.domain.routing import Addressable, Subscription
from headrace.resources.kinds import BROKER, EVENT_TYPE, LEGACY_CHANNEL, TRIGGER
from headrace.resources.resource import Resource
from tests.support.api_admission import admit, refusal
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, manifest
from tests.unit.controller.reconcile.test_legacy_channels import legacy_channel

OLD_BROKER, OLD_TRIGGER = (replace(kind, version="v1alpha1") for kind in (BROKER, TRIGGER))
TOPIC = f"knative-broker-{NAMESPACE}-default"


async def stored(*resources: Resource) -> ControllerHarness:
    """An installation in a cluster: nobody has set defaults or converted anything."""
    made = ControllerHarness()
    await made.restart()
    for each in resources:
        await made.store.create(each)
    await made.settle()
    return made


def provisioned(name: str, **arguments: Any) -> dict[str, Any]:
    """A channel template of 0.5."""
    return {"provisioner": {"name": name}, "arguments": arguments}


@pytest.mark.parametrize(
    ("filter_", "passes"),
    [
        ({"sourceAndType": {"type": "dev.x", "source": "/s"}}, {"type": "dev.x", "source": "/s"}),
        ({"sourceAndType": {"type": "dev.x", "source": ""}}, {"type": "dev.x"}),
        ({"sourceAndType": {"type": "", "source": ""}}, None),
        ({"sourceAndType": {"type": "a"}, "attributes": {"type": "b"}}, {"type": "b"}),
    ],
)
async def test_a_trigger_filters_by_source_and_type(
    filter_: dict[str, Any], passes: dict[str, str] | None
) -> None:
    """Empty texts match anything; attributes decide when both are there."""
    spec = {"broker": "default", "filter": filter_, "subscriber": {"dnsName": "sink.example"}}
    harness = await stored(broker(), manifest(TRIGGER, "orders", spec=spec))
    assert ("True", "") == harness.condition(TRIGGER, "orders")
    [route] = [each for each in harness.routes().values() if isinstance(each, Subscription)]
    assert route.filters == (() if passes is None else ({"attributes": passes},))
    assert route.subscriber.url == "http://sink.example/"
    found = harness.find(TRIGGER, "orders")
    assert found is not None and found.spec == spec, "what was written stays"


async def test_a_trigger_may_name_a_channel_of_2019() -> None:
    """Its subscriber is found by the address of that Channel."""
    ref = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "name": "orders"}
    spec = {"broker": "default", "subscriber": {"ref": ref}}
    harness = await stored(broker(), legacy_channel(), manifest(TRIGGER, "t", spec=spec))
    assert (
        harness.status(LEGACY_CHANNEL, "orders")["address"]["url"]
        == (harness.status(TRIGGER, "t")["subscriberUri"])
    )


@pytest.mark.parametrize(
    ("spec", "partitions", "replicas"),
    [
        ({"channelTemplate": provisioned("kafka", NumPartitions=4, ReplicationFactor=2)}, 4, 2),
        ({"channelTemplate": provisioned("kafka")}, 10, 3),
        ({"channelTemplate": provisioned("in-memory-channel")}, 10, 3),
        (
            {
                "channelTemplateSpec": {
                    "apiVersion": "messaging.knative.dev/v1alpha1",
                    "kind": "KafkaChannel",
                    "spec": {"numPartitions": 6},
                }
            },
            6,
            3,
        ),
    ],
)
async def test_a_brokers_template_is_applied_to_its_topic(
    spec: dict[str, Any], partitions: int, replicas: int
) -> None:
    """As far as it says something of a topic."""
    harness = await stored(broker(spec=spec))
    assert harness.condition(BROKER, "default")[0] == "True"
    topic = harness.admin.topics[TOPIC]
    assert (topic.partitions, topic.replication) == (partitions, replicas)


async def test_what_of_a_template_is_not_used_is_shown() -> None:
    """The events of such a Broker were in memory in 0.5."""
    harness = await stored(broker(spec={"channelTemplate": provisioned("in-memory", a=1)}))
    assert harness.condition(BROKER, "default", "ConfigParsed") == ("True", "KeysNotUsed")
    message = harness.message(BROKER, "default", "ConfigParsed")
    assert "InMemoryChannel: the events of this Broker are in Kafka" in message
    assert "argument a" in message


async def test_an_unknown_provisioner_is_named_with_the_known_ones() -> None:
    """In the condition of the configuration."""
    harness = await stored(broker(spec={"channelTemplate": provisioned("gcp-pubsub")}))
    assert harness.condition(BROKER, "default") == ("False", "InvalidConfiguration")
    assert "kafka, natss" in harness.message(BROKER, "default", "ConfigParsed")


async def test_a_brokers_hostname_is_one_that_the_ingress_knows() -> None:
    """The name of its Service in 0.5."""
    harness = await stored(broker())
    address = harness.status(BROKER, "default")["address"]
    [route] = [each for each in harness.routes().values() if isinstance(each, Addressable)]
    assert route.hosts == (address["hostname"],)
    assert address["hostname"] == f"default-broker.{NAMESPACE}.svc.cluster.local"


async def test_an_event_type_of_2019_refers_to_its_broker() -> None:
    """By the field `broker`."""
    spec = {"type": "t", "source": "/s", "schema": "https://x/", "broker": "default"}
    harness = await stored(broker(), manifest(EVENT_TYPE, "e", spec=spec))
    assert ("True", "") == harness.condition(EVENT_TYPE, "e")


def test_a_trigger_names_the_default_broker() -> None:
    """Where v1 demands a name; the subscriber has one form."""
    admitted = admit(manifest(OLD_TRIGGER, "t", spec={"subscriber": {"dnsName": "a"}}))
    assert admitted.spec == {"broker": "default", "filter": {}, "subscriber": {"dnsName": "a"}}
    both = {"dnsName": "a", "uri": "http://a/"}
    assert "expected exactly one, got both: spec.subscriber.dnsName, spec.subscriber.uri" == (
        refusal(manifest(OLD_TRIGGER, "t", spec={"subscriber": both}))
    )
    filters = {"sourceAndType": {"type": "x"}, "attributes": {"type": "x"}}
    given = {"subscriber": {"dnsName": "a"}, "filter": filters}
    assert "expected exactly one, got both: spec.filter.attributes, spec.filter.sourceAndType" == (
        refusal(manifest(OLD_TRIGGER, "t", spec=given))
    )


def test_arguments_of_a_brokers_template_are_checked() -> None:
    """And its kind."""
    wrong = {"channelTemplate": provisioned("kafka", NumPartitions="3")}
    assert "spec.channelTemplate.arguments.NumPartitions" in refusal(
        manifest(OLD_BROKER, "b", spec=wrong)
    )
    template = {"kind": "KafkaChannel", "spec": {"numPartitions": 0}}
    assert "spec.channelTemplateSpec.spec.numPartitions" in refusal(
        manifest(OLD_BROKER, "b", spec={"channelTemplateSpec": template})
    )
