"""What a CloudPubSubSource and a GcpPubSubSource become in the routing table."""

from typing import Any

from headrace.domain.routing import EventSource, source_key
from headrace.resources.kinds import CLOUD_PUBSUB_SOURCE, LEGACY_GCP_PUBSUB_SOURCE
from headrace.resources.resource import Resource
from headrace_sources.adapters.gcp_pubsub import GcpPubSubConfig
from headrace_sources.adapters.gcp_pubsub_events import EventFormat
from headrace_sources.registry import ADAPTERS
from headrace_sources.source import SecretKeyRef
from tests.unit.controller.harness import NAMESPACE, broker, manifest, settled

KEY = {"name": "google-cloud-key", "key": "key.json"}


def source(**spec: Any) -> Resource:
    """A CloudPubSubSource."""
    given = {"topic": "laconia", "sink": {"uri": "http://sink.example/"}, **spec}
    return manifest(CLOUD_PUBSUB_SOURCE, "s", spec=given)


def legacy(**spec: Any) -> Resource:
    """A GcpPubSubSource."""
    given = {"topic": "laconia", "googleCloudProject": "shop-42", **spec}
    return manifest(LEGACY_GCP_PUBSUB_SOURCE, "s", spec=given)


async def route_of(given: Resource, *others: Resource) -> tuple[EventSource, GcpPubSubConfig]:
    """Its record, and its configuration as the adapter reads it."""
    harness = await settled(*others, given)
    found = harness.find(given.kind, given.name)
    assert found is not None
    route = harness.routes()[source_key(found.uid)]
    assert isinstance(route, EventSource)
    assert route.adapter in ADAPTERS
    assert route.config["subscription"] == f"knative-eventing-{NAMESPACE}-s-{found.uid}"
    return route, GcpPubSubConfig.model_validate(dict(route.config))


async def test_the_defaults() -> None:
    """The credentials, and the project with them, are those of the environment."""
    _, config = await route_of(source())
    assert (config.topic, config.project, config.secret) == ("laconia", "", None)
    assert (config.ack_deadline_seconds, config.retention_seconds) == (30, 604_800)
    assert not config.retain_acked_messages
    assert config.event_format is EventFormat.CLOUD_PUB_SUB
    assert config.condition == "PullSubscriptionReady"


async def test_every_field_reaches_the_adapter() -> None:
    """The Secret by reference."""
    _, config = await route_of(
        source(
            project="shop-42",
            secret=KEY,
            ackDeadline="1m30s",
            retainAckedMessages=True,
            retentionDuration="1h",
        )
    )
    assert config.project == "shop-42"
    assert config.secret == SecretKeyRef(name="google-cloud-key", key="key.json")
    assert (config.ack_deadline_seconds, config.retention_seconds) == (90, 3_600)
    assert config.retain_acked_messages


async def test_one_of_2019_has_the_same_adapter() -> None:
    """With the events and the condition of its time; its sink is the reference itself."""
    sink = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
    route, config = await route_of(legacy(gcpCredsSecret=KEY, sink=sink), broker())
    assert route.sink is not None
    assert route.sink_topic is not None
    assert (config.topic, config.project) == ("laconia", "shop-42")
    assert config.secret == SecretKeyRef(name="google-cloud-key", key="key.json")
    assert config.event_format is EventFormat.LEGACY
    assert config.condition == "Subscribed"


async def test_one_of_2019_without_a_sink_says_so() -> None:
    """And nothing is read."""
    harness = await settled(legacy())
    assert harness.condition(LEGACY_GCP_PUBSUB_SOURCE, "s", "SinkProvided") == ("False", "Missing")
    assert not [key for key in harness.routes() if key.startswith("source/")]
