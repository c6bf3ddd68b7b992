"""What an IntegrationSource of a timer becomes in the routing table, and of what has no adapter.
Queues are in `test_aws_sources.py`.
"""

from typing import Any

import pytest

from headrace.domain.routing import EventSource
from headrace.resources.integration_source import RULES
from headrace.resources.kinds import INTEGRATION_SOURCE
from headrace.resources.resource import Resource
from headrace_sources.adapters.timer import TimerConfig
from tests.unit.controller.harness import broker, manifest, settled

SINK = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}
AUTH = {"secret": {"ref": {"name": "aws"}}}
BUCKET = {"s3": {"arn": "arn:aws:s3:::orders", "region": "eu-north-1"}, "auth": AUTH}


def source(**spec: Any) -> Resource:
    """An IntegrationSource."""
    return manifest(INTEGRATION_SOURCE, "tick", spec={"sink": SINK, **spec})


async def config_of(timer: dict[str, Any]) -> TimerConfig:
    """What the adapter of a timer gets."""
    services = ("ingress", "dispatcher", "sources")
    harness = await settled(broker(), source(timer=timer), services=services)
    [route] = [each for each in harness.routes().values() if isinstance(each, EventSource)]
    assert route.adapter == "timer"
    [attributes] = harness.status(INTEGRATION_SOURCE, "tick")["ceAttributes"]
    config = TimerConfig.model_validate(dict(route.config))
    assert attributes == {"type": config.type, "source": config.source}
    return config


async def test_the_defaults_are_those_of_knative() -> None:
    """One message a second, without end."""
    found = await config_of({"message": "hello"})
    assert (found.period, found.content_type, found.repeat_count) == (1000, "text/plain", 0)
    assert (found.type, found.source, found.subject) == (
        "dev.knative.eventing.timer",
        "dev.knative.eventing.timer-source",
        "timer-source",
    )


async def test_every_field_reaches_the_adapter() -> None:
    """Under its own name."""
    found = await config_of(
        {"period": 50, "message": "{}", "contentType": "application/json", "repeatCount": 3}
    )
    assert (found.period, found.message) == (50, "{}")
    assert (found.content_type, found.repeat_count) == ("application/json", 3)


async def test_what_has_no_adapter_is_a_condition() -> None:
    """It names what there is."""
    harness = await settled(source(aws=BUCKET, sink={"uri": "http://sink.example/"}))
    assert harness.condition(INTEGRATION_SOURCE, "tick") == ("False", "NotSupported")
    message = harness.message(INTEGRATION_SOURCE, "tick", "Ready")
    assert "spec.aws.s3" in message
    assert "spec.timer" in message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (source(), "at least one source type must be specified"),
        (source(timer={"message": "x"}, aws=BUCKET), "only one source type can be set"),
    ],
)
def test_one_variant_is_given(given: Resource, message: str) -> None:
    """With Knative's words."""
    [error] = RULES.validate(given)
    assert message in str(error)
