"""WebhookSource: the configuration of its adapter."""

from typing import Any

import pytest

from headrace.domain.routing import EventSource
from headrace.resources.kinds import WEBHOOK_SOURCE
from headrace_sources.adapters.webhook import WebhookConfig
from headrace_sources.adapters.webhook_signatures import Scheme
from tests.unit.controller.harness import NAMESPACE, broker, manifest, settled

SINK = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}
SECRET = {"name": "hook", "key": "secret"}


async def config_of(**spec: Any) -> WebhookConfig:
    """What the adapter of a source gets."""
    source = manifest(WEBHOOK_SOURCE, "hook", spec={"sink": SINK, **spec})
    services = ("ingress", "dispatcher", "sources")
    harness = await settled(broker(), source, services=services)
    [route] = [each for each in harness.routes().values() if isinstance(each, EventSource)]
    assert route.adapter == "webhook"
    return WebhookConfig.model_validate(dict(route.config))


async def test_nothing_is_required_but_a_sink() -> None:
    """Requests are not signed then."""
    found = await config_of()
    assert found.source == f"/apis/v1/namespaces/{NAMESPACE}/webhooksources/hook"
    assert (found.scheme, found.secret, found.tolerance_seconds) == (Scheme.NONE, None, 300)


@pytest.mark.parametrize("scheme", [each for each in Scheme if each is not Scheme.NONE])
async def test_every_scheme_is_passed_on(scheme: Scheme) -> None:
    """With the reference to its secret, and the attributes."""
    signature = {"scheme": scheme.value, "secretKeyRef": SECRET, "toleranceSeconds": 60}
    attributes = {"type": {"path": "$.event.type", "prefix": "com.example."}}
    found = await config_of(signature=signature, attributes=attributes)
    assert found.scheme is scheme
    assert found.secret is not None
    assert (found.secret.name, found.secret.key) == ("hook", "secret")
    assert found.tolerance_seconds == 60
    assert found.attributes["type"].prefix == "com.example."
