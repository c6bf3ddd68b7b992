"""What an IntegrationSource and an AwsSqsSource become in the routing table."""

from typing import Any

import pytest

from headrace.domain.routing import source_key
from headrace.resources.integration_source import RULES
from headrace.resources.kinds import BROKER, INTEGRATION_SOURCE, LEGACY_AWS_SQS_SOURCE
from headrace.resources.resource import Resource, ResourceKind
from headrace_sources.adapters.aws.sqs import AwsSqsConfig
from headrace_sources.registry import ADAPTERS
from tests.unit.controller.harness import broker, manifest, settled

SINK = {"uri": "http://sink.example/"}
ARN = "arn:aws:sqs:eu-north-1:123456789012:orders"
URL = "https://sqs.eu-north-1.amazonaws.com/123456789012/orders"
SECRET = {"secret": {"ref": {"name": "aws"}}}


def integration_source(auth: Any = None, **sqs: Any) -> Resource:
    """An IntegrationSource of a queue."""
    given = {"arn": ARN, "region": "eu-north-1", **sqs}
    spec = {"aws": {"sqs": given, "auth": auth or SECRET}, "sink": SINK}
    return manifest(INTEGRATION_SOURCE, "orders", spec=spec)


async def config_of(source: Resource, *others: Resource) -> AwsSqsConfig:
    """Its configuration, as the adapter reads it."""
    harness = await settled(*others, source)
    found = harness.find(source.kind, source.name)
    assert found is not None
    route = harness.routes()[source_key(found.uid)]
    assert route.adapter in ADAPTERS
    return AwsSqsConfig.model_validate(dict(route.config))


async def condition_of(kind: ResourceKind, source: Resource) -> tuple[str, str]:
    """The reason of Ready, and its message."""
    harness = await settled(source)
    return harness.condition(kind, source.name)[1], harness.message(kind, source.name, "Ready")


async def test_the_defaults_are_those_of_knative() -> None:
    """Polls of one message, with a pause; AWS's own endpoint; the Secret's keys by name."""
    config = await config_of(integration_source())
    assert (config.arn, config.region, config.endpoint, config.queue_url) == (
        ARN,
        "eu-north-1",
        "",
        "",
    )
    assert (config.max_messages_per_poll, config.delay, config.greedy) == (1, 500, False)
    assert config.delete_after_read
    assert (config.type, config.source, config.subject) == (
        "dev.knative.eventing.aws-sqs",
        "dev.knative.eventing.aws-sqs-source",
        "aws-sqs-source",
    )
    assert config.auth.access_key is not None
    assert config.auth.secret_key is not None
    assert (config.auth.access_key.name, config.auth.access_key.key) == ("aws", "aws.accessKey")
    assert (config.auth.secret_key.name, config.auth.secret_key.key) == ("aws", "aws.secretKey")


async def test_every_field_reaches_the_adapter() -> None:
    """Under its own name."""
    config = await config_of(
        integration_source(
            queueURL=URL,
            deleteAfterRead=False,
            autoCreateQueue=True,
            greedy=True,
            delay=0,
            maxMessagesPerPoll=10,
            waitTimeSeconds=0,
            visibilityTimeout=60,
        )
    )
    assert config.queue_url == URL
    assert not config.delete_after_read
    assert config.auto_create_queue
    assert config.greedy
    assert (config.delay, config.max_messages_per_poll) == (0, 10)
    assert (config.wait_time_seconds, config.visibility_timeout) == (0, 60)


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ({"uriEndpointOverride": "http://local:4566"}, ""),
        (
            {"uriEndpointOverride": "http://local:4566", "overrideEndpoint": True},
            "http://local:4566",
        ),
        ({"protocol": "http"}, "http://sqs.eu-north-1.amazonaws.com"),
        ({"host": "api.aws"}, "https://sqs.eu-north-1.api.aws"),
    ],
)
async def test_an_endpoint_is_used_if_it_is_asked_for(given: dict[str, Any], endpoint: str) -> None:
    """Or another host or protocol of AWS."""
    assert (await config_of(integration_source(**given))).endpoint == endpoint


@pytest.mark.parametrize("url", ["local:4566", "ftp://local", "http://[::1", "http://"])
async def test_an_endpoint_that_is_no_url_is_named(url: str) -> None:
    """Before a process tries it."""
    source = integration_source(uriEndpointOverride=url, overrideEndpoint=True)
    reason, message = await condition_of(INTEGRATION_SOURCE, source)
    assert reason == "InvalidEndpoint"
    assert url in message


async def test_without_a_secret_the_credentials_are_those_of_the_service() -> None:
    """The service account is not used, which a warning says."""
    source = integration_source(auth={"serviceAccountName": "queues"})
    config = await config_of(source)
    assert config.auth.access_key is None
    assert any("serviceAccountName is not used" in each for each in RULES.warnings(source))


async def test_a_variant_without_an_adapter_is_named() -> None:
    """With those that there are."""
    spec = {
        "aws": {"s3": {"arn": "arn:aws:s3:::orders", "region": "eu-north-1"}, "auth": SECRET},
        "sink": SINK,
    }
    source = manifest(INTEGRATION_SOURCE, "objects", spec=spec)
    reason, message = await condition_of(INTEGRATION_SOURCE, source)
    assert reason == "NotSupported"
    assert "spec.aws.s3" in message
    assert "spec.aws.sqs" in message


def test_what_is_given_in_vain_is_a_warning() -> None:
    """A pod template, and an endpoint that is not switched on."""
    source = integration_source(uriEndpointOverride="http://local:4566")
    spec = {**source.spec, "template": {"spec": {"nodeSelector": {"a": "b"}}}}
    found = RULES.warnings(manifest(INTEGRATION_SOURCE, "orders", spec=spec))
    assert [each.partition(" is not used")[0] for each in found] == [
        "spec.template",
        "spec.aws.sqs.uriEndpointOverride",
    ]
    assert RULES.warnings(integration_source()) == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "at least one source type must be specified: spec"),
        ({"timer": {}, "aws": {"sqs": {}}}, "only one source type can be set: spec"),
        ({"aws": {"sqs": {}, "s3": {}}}, "only one source type can be set: spec.aws"),
    ],
)
def test_one_variant_is_given(spec: dict[str, Any], said: str) -> None:
    """With Knative's messages."""
    source = manifest(INTEGRATION_SOURCE, "orders", spec={**spec, "sink": SINK})
    assert said in [str(each) for each in RULES.validate(source)]


async def test_the_kind_of_knative_05_polls_as_it_did() -> None:
    """Ten messages, 3 s, no pause; the credentials are a file."""
    spec = {
        "queueUrl": URL,
        "awsCredsSecret": {"name": "aws", "key": "credentials"},
        "sink": {"apiVersion": BROKER.api_version, "kind": BROKER.kind, "name": "default"},
    }
    source = manifest(LEGACY_AWS_SQS_SOURCE, "orders", spec=spec)
    config = await config_of(source, broker())
    assert (config.max_messages_per_poll, config.wait_time_seconds, config.delay) == (10, 3, 0)
    assert config.whole_message
    assert (config.type, config.source, config.queue_url) == ("aws.sqs.message", URL, URL)
    assert config.auth.credentials_file is not None
    assert config.auth.credentials_file.key == "credentials"
    assert config.auth.access_key is None
