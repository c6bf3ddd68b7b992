"""WebhookSource from the manifests of the example to events at a subscriber, wherever the resources
are.
"""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from headrace_sources.adapters.webhook_signatures import Scheme
from tests.support.headrace_under_test import HeadraceUnderTest, Refused, condition
from tests.support.manifests import Manifest
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until
from tests.unit.sources.adapters.test_webhook_signatures import signed

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sources" / "webhook" / "webhook.yaml"
VIEWER = "http://127.0.0.1:8090"
NAMESPACE = "webhooks"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def sources(headrace: HeadraceUnderTest) -> dict[str, Manifest]:
    """The example, applied and ready: its WebhookSources by name."""
    headrace.sinks.script(NAMESPACE, Script(record=True))
    headrace.ensure_namespace(NAMESPACE)
    text = EXAMPLE.read_text().replace(VIEWER, headrace.sinks.url(NAMESPACE))
    found = [each for each in yaml.safe_load_all(text) if each]
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
    headrace.apply(*(each for each in found if each["kind"] == "Secret"))
    headrace.establish(*(each for each in found if each["kind"] in ("Broker", "Trigger")))
    webhooks = {each["metadata"]["name"]: each for each in found if each["kind"] == "WebhookSource"}
    headrace.establish(*webhooks.values())
    return webhooks


def url_of(headrace: HeadraceUnderTest, source: Manifest) -> str:
    """What a user gives to the provider."""
    url: str = (headrace.get(source) or {})["status"]["address"]["url"]
    return url


def send(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Send a request as a provider does."""
    answer = urllib3.request(
        "POST", url, body=body, headers={"content-type": "application/json", **headers}, timeout=20
    )
    return answer.status, answer.data.decode()


def wait_for(headrace: HeadraceUnderTest, id: str) -> dict[str, str]:
    """The headers of the event with this id at the sink."""
    found: list[dict[str, str]] = []

    def arrived() -> bool:
        requests = headrace.sinks.requests(NAMESPACE)
        found[:] = [dict(each.headers) for each in requests if each.headers.get("ce-id") == id]
        return bool(found)

    wait_until(arrived, 20, f"the event {id} arrives")
    return found[0]


def test_a_signed_request_becomes_an_event(
    headrace: HeadraceUnderTest, sources: dict[str, Manifest]
) -> None:
    """And one without a signature does not."""
    url = url_of(headrace, sources["stripe"])
    invoice = {
        "id": "evt_1",
        "type": "invoice.paid",
        "created": 1,
        "data": {"object": {"id": "in_1"}},
    }
    body = json.dumps(invoice).encode()
    assert send(url, body, {})[0] == 401
    headers = signed(Scheme.STRIPE, b"whsec_replace_me", body, at=time.time())
    assert send(url, body, headers) == (202, "accepted\n")
    found = wait_for(headrace, "evt_1")
    assert found["ce-type"] == "com.stripe.invoice.paid"
    assert found["ce-subject"] == "in_1"
    assert found["ce-source"] == f"/apis/v1/namespaces/{NAMESPACE}/webhooksources/stripe"


def test_attributes_are_mapped(headrace: HeadraceUnderTest, sources: dict[str, Manifest]) -> None:
    """As the example says."""
    url = url_of(headrace, sources["builds"])
    body = json.dumps({"status": "failed", "build": {"number": 7, "branches": ["main"]}}).encode()
    token = {"authorization": "Bearer replace-me-by-a-long-random-text", "x-request-id": "build-7"}
    assert send(url, body, token)[0] == 202
    found = wait_for(headrace, "build-7")
    assert found["ce-type"] == "com.example.build.failed"
    assert (found["ce-subject"], found["ce-branch"]) == ("7", "main")
    assert send(url, body, {"authorization": "Bearer other"})[0] == 401


def test_a_sink_that_does_not_answer_is_not_hidden_from_the_provider(
    headrace: HeadraceUnderTest, sources: dict[str, Manifest]
) -> None:
    """Until the sink has the event, the request has no 202."""
    name = "webhook-broken"
    headrace.sinks.script(name, Script(status=400))
    source = {
        **sources["builds"],
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"sink": {"uri": headrace.sinks.url(name)}, "delivery": {"retry": 0}},
    }
    headrace.establish(source)
    status, text = send(url_of(headrace, source), b"{}", {})
    assert status == 503
    assert "the sink has not accepted the event" in text
    headrace.sinks.script(name, Script(record=True))
    assert send(url_of(headrace, source), b"{}", {})[0] == 202
    assert len(headrace.sinks.requests(name)) == 1
    headrace.delete(source)


def test_a_missing_secret_is_named(headrace: HeadraceUnderTest) -> None:
    """In the condition, within seconds, and nothing is received before."""
    source: dict[str, Any] = {
        "apiVersion": "sources.headrace.dev/v1alpha1",
        "kind": "WebhookSource",
        "metadata": {"name": "forgetful", "namespace": NAMESPACE},
        "spec": {
            "signature": {"scheme": "Slack", "secretKeyRef": {"name": "absent", "key": "x"}},
            "sink": {"uri": headrace.sinks.url(NAMESPACE)},
        },
    }
    headrace.ensure_namespace(NAMESPACE)
    headrace.apply(source)

    def named() -> bool:
        found = condition(headrace.get(source) or {}, "SecretsProvided")
        return found.get("status") == "False" and "webhooks/absent" in found.get("message", "")

    wait_until(named, 20, "the Secret is named")
    headrace.delete(source)


def test_a_secret_that_changes_is_used(headrace: HeadraceUnderTest) -> None:
    """Within seconds, and the former one is refused then."""
    metadata = {"name": "changing", "namespace": NAMESPACE}
    source: dict[str, Any] = {
        "apiVersion": "sources.headrace.dev/v1alpha1",
        "kind": "WebhookSource",
        "metadata": metadata,
        "spec": {
            "signature": {"scheme": "Bearer", "secretKeyRef": {"name": "changing", "key": "token"}},
            "sink": {"uri": headrace.sinks.url(NAMESPACE)},
        },
    }
    headrace.sinks.script(NAMESPACE, Script(record=True))
    headrace.ensure_namespace(NAMESPACE)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    headrace.apply({**secret, "data": {"token": base64.b64encode(b"first").decode()}})
    headrace.establish(source)
    url = url_of(headrace, source)

    def status_of(token: str) -> int:
        return send(url, b"{}", {"authorization": f"Bearer {token}"})[0]

    assert (status_of("first"), status_of("second")) == (202, 401)
    headrace.apply({**secret, "data": {"token": base64.b64encode(b"second").decode()}})
    wait_until(lambda: status_of("second") == 202, 30, "the new one is used", every=0.5)
    assert status_of("first") == 401
    headrace.wait_ready(source)
    headrace.delete(source)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ({"signature": {"scheme": "Stripe"}}, "spec.signature.secretKeyRef"),
        ({"attributes": {"type": {"path": "a..b", "prefix": "x"}}}, "spec.attributes"),
        ({"attributes": {"type": {}}}, "header, path, value"),
    ],
)
def test_a_wrong_spec_is_refused_or_named(
    headrace: HeadraceUnderTest, spec: dict[str, Any], part: str
) -> None:
    """By the API, or in the conditions where an API server has only the schema."""
    source = {
        "apiVersion": "sources.headrace.dev/v1alpha1",
        "kind": "WebhookSource",
        "metadata": {"name": "wrong", "namespace": NAMESPACE},
        "spec": {"sink": {"uri": headrace.sinks.url(NAMESPACE)}, **spec},
    }
    headrace.ensure_namespace(NAMESPACE)
    try:
        headrace.apply(source)
    except Refused as error:
        assert part in str(error)
        return
    wait_until(
        lambda: part in condition(headrace.get(source) or {}, "Ready").get("message", ""),
        20,
        "the condition names it",
    )
    headrace.delete(source)
