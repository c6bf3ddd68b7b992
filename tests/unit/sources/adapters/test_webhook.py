"""Webhooks: requests of several providers, and the events that they become."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.adapters.memory.clock import MemoryClock
from headrace_sources.adapters.webhook import WebhookConfig, WebhookSource
from headrace_sources.adapters.webhook_signatures import Scheme
from headrace_sources.source import SourceFault, WebhookRequest, WebhookResponse
from tests.support.sources import RecordingContext, RecordingEmit, running
from tests.unit.sources.adapters.test_webhook_signatures import NOW, SECRET, signed

SOURCE = "/apis/v1/namespaces/default/webhooksources/source"
STRIPE = {
    "id": "evt_1",
    "type": "invoice.paid",
    "created": 1_699_999_990,
    "data": {"object": {"id": "in_1"}},
}
SLACK = {
    "type": "event_callback",
    "event_id": "Ev1",
    "event_time": 1_699_999_990,
    "event": {"type": "app_mention", "channel": "C1"},
}


class Running:
    """A source that runs, and what it has sent."""

    def __init__(self, context: RecordingContext, emit: RecordingEmit, secret: bytes) -> None:
        self.context, self.emit, self._secret = context, emit, secret
        self.clock = context.clock

    async def send(
        self,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        scheme: Scheme = Scheme.NONE,
        method: str = "POST",
    ) -> WebhookResponse:
        """Send a request; JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {} if isinstance(body, bytes) else {"content-type": "application/json"}
        signature = (
            signed(scheme, self._secret, content, at=self.clock.now()) if self._secret else {}
        )
        handler = self.context.handler
        assert handler is not None
        return await handler(
            WebhookRequest(method, {**fields, **signature, **(headers or {})}, "", content)
        )

    def last(self) -> dict[str, Any]:
        """The attributes of the last event."""
        return dict(self.emit.events[-1].attributes)


def config(scheme: Scheme = Scheme.NONE, **more: Any) -> WebhookConfig:
    """A configuration as the controller writes it."""
    secret = {} if scheme is Scheme.NONE else {"secret": {"name": "hook", "key": "secret"}}
    return WebhookConfig.model_validate({"source": SOURCE, "scheme": scheme, **secret, **more})


@asynccontextmanager
async def running_webhook(scheme: Scheme = Scheme.NONE, **more: Any) -> AsyncIterator[Running]:
    """Run a source until the block ends."""
    secret = SECRET.get(scheme, b"")
    context = RecordingContext(secrets={("hook", "secret"): secret}, clock=MemoryClock(NOW))
    emit = RecordingEmit()
    async with running(WebhookSource(config(scheme, **more), context), emit):
        async with asyncio.timeout(5.0):
            while context.handler is None:
                await asyncio.sleep(0)
        yield Running(context, emit, secret)


async def test_any_post_becomes_an_event() -> None:
    """With an id of its own; the body is the data, unchanged."""
    async with running_webhook() as hook:
        body = b'{"a":  1}'
        found = await hook.send(body, {"content-type": "application/json; charset=utf-8"})
        assert (202, "accepted\n") == (found.status, found.body)
        assert body == hook.emit.events[0].data
        attributes = hook.last()
        assert attributes.pop("id")
        assert attributes == {
            "specversion": "1.0",
            "type": "dev.headrace.webhook",
            "source": SOURCE,
            "datacontenttype": "application/json; charset=utf-8",
        }
        assert hook.context.fields["address"] == {"url": "http://127.0.0.1:8084/default/source"}
        assert hook.context.conditions["SecretsProvided"][0] is True


@pytest.mark.parametrize(
    ("scheme", "body", "headers", "attributes"),
    [
        (
            Scheme.GITHUB,
            {"repository": {"html_url": "https://github.com/a/b"}},
            {"x-github-event": "workflow_run", "x-github-delivery": "guid"},
            {"type": "com.github.workflow_run", "id": "guid", "source": "https://github.com/a/b"},
        ),
        (
            Scheme.STRIPE,
            STRIPE,
            {},
            {
                "type": "com.stripe.invoice.paid",
                "id": "evt_1",
                "subject": "in_1",
                "time": "2023-11-14T22:13:10Z",
                "source": SOURCE,
            },
        ),
        (
            Scheme.SLACK,
            SLACK,
            {},
            {
                "type": "com.slack.app_mention",
                "id": "Ev1",
                "subject": "C1",
                "time": "2023-11-14T22:13:10Z",
            },
        ),
        (
            Scheme.STANDARD,
            {"type": "contact.created", "timestamp": "2022-11-03T20:26:10.344522Z", "data": {}},
            {},
            {
                "type": "contact.created",
                "id": "msg_1",
                "time": "2022-11-03T20:26:10.344522Z",
            },
        ),
        (Scheme.BEARER, {}, {}, {"type": "dev.headrace.webhook", "source": SOURCE}),
    ],
)
async def test_the_events_of_a_provider(
    scheme: Scheme, body: object, headers: dict[str, str], attributes: dict[str, str]
) -> None:
    """Without any mapping."""
    async with running_webhook(scheme) as hook:
        assert 202 == (await hook.send(body, headers, scheme=scheme)).status
        found = hook.last()
        assert {name: found.get(name) for name in attributes} == attributes


async def test_attributes_are_mapped() -> None:
    """From headers, paths and fixed values, over those of the provider; extensions too."""
    mapping = {
        "type": {"header": "X-Event-Key", "prefix": "com.bitbucket."},
        "source": {"value": "https://bitbucket.org/a/b"},
        "subject": {"path": "$.items[1]['order id']"},
        "id": {"path": "number"},
        "amount": {"path": "amount"},
        "large": {"path": "large"},
        "tenant": {"header": "X-Tenant"},
        "paid": {"path": "paid"},
        "time": {"path": "at"},
    }
    async with running_webhook(attributes=mapping) as hook:
        body = {
            "items": [{}, {"order id": "o-1"}],
            "number": 7,
            "amount": -3,
            "large": 2**40,
            "paid": True,
            "at": 1_699_999_990_123,
        }
        assert 202 == (await hook.send(body, {"x-event-key": "repo:push"})).status
        found = hook.last()
        for name in ("specversion", "datacontenttype"):
            found.pop(name)
        assert found == {
            "type": "com.bitbucket.repo:push",
            "source": "https://bitbucket.org/a/b",
            "subject": "o-1",
            "id": "7",
            "amount": -3,
            "large": str(2**40),
            "paid": True,
            "time": "2023-11-14T22:13:10.123000Z",
        }


async def test_a_request_without_what_is_mapped_is_an_event_all_the_same() -> None:
    """With the default type and source: a provider adds kinds of events over time."""
    mapping = {
        each: {"path": "a.b[3].c"} for each in ("type", "id", "source", "subject", "tenant", "time")
    }
    async with running_webhook(attributes=mapping) as hook:
        bodies: tuple[object, ...] = (
            {},
            {"a": {"b": [1]}},
            {"a": {"b": [0, 0, 0, {"c": {}}]}},
            [],
            b"\xff",
            b"",
        )
        for body in bodies:
            assert 202 == (await hook.send(body)).status
            found = hook.last()
            assert (found["type"], found["source"]) == ("dev.headrace.webhook", SOURCE)
            assert not {"subject", "tenant", "time"} & set(found)


async def test_the_fields_of_a_form_are_mapped() -> None:
    """As those of a slash command in Slack."""
    async with running_webhook(attributes={"subject": {"path": "command"}}) as hook:
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert 202 == (await hook.send(b"command=%2Fdeploy&text=now", form)).status
        assert hook.last()["subject"] == "/deploy"
        assert hook.emit.events[0].data == b"command=%2Fdeploy&text=now"


async def test_a_cloudevent_keeps_its_attributes() -> None:
    """In binary and in structured mode; a mapping applies to it too."""
    attributes = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1"}
    async with running_webhook(attributes={"tenant": {"value": "red"}}) as hook:
        binary = {f"ce-{name}": value for name, value in attributes.items()}
        assert 202 == (await hook.send(b"x", {**binary, "content-type": "text/plain"})).status
        assert hook.last() == {**attributes, "datacontenttype": "text/plain", "tenant": "red"}
        structured = {"content-type": "application/cloudevents+json"}
        body = json.dumps({**attributes, "data": {"a": 1}}).encode()
        assert 202 == (await hook.send(body, structured)).status
        assert (hook.last()["id"], hook.last()["tenant"]) == ("1", "red")
        assert 400 == (await hook.send(b"{}", structured)).status
        unsupported = {"content-type": "application/cloudevents+avro"}
        assert (await hook.send(b"", unsupported)).status in (400, 415)


@pytest.mark.parametrize("scheme", SECRET)
async def test_a_request_that_is_not_signed_is_refused(scheme: Scheme) -> None:
    """401, and no event."""
    async with running_webhook(scheme) as hook:
        handler = hook.context.handler
        assert handler is not None
        found = await handler(WebhookRequest("POST", {}, "", b"{}"))
        assert found.status == 401
        assert hook.emit.attempts == 0


async def test_a_copy_of_a_signed_request_is_not_taken_twice() -> None:
    """It is accepted without an event, since the provider may not have seen the answer."""
    async with running_webhook(Scheme.STRIPE) as hook:
        for _ in range(3):
            assert 202 == (await hook.send(STRIPE, scheme=Scheme.STRIPE)).status
        assert len(hook.emit.events) == 1
        assert isinstance(hook.clock, MemoryClock)
        hook.clock.advance(1.0)
        assert 202 == (await hook.send(STRIPE, scheme=Scheme.STRIPE)).status
        assert ["evt_1", "evt_1"] == [each.attributes["id"] for each in hook.emit.events]


async def test_a_copy_while_the_first_is_handled_waits() -> None:
    """409: whether the sink takes the first is not known yet."""
    async with running_webhook(Scheme.SLACK) as hook:
        hook.emit.gate.clear()
        first = asyncio.create_task(hook.send(SLACK, scheme=Scheme.SLACK))
        await hook.emit.wait_for_attempts(1)
        copy = await hook.send(SLACK, scheme=Scheme.SLACK)
        assert (409, (("Retry-After", "10"),)) == (copy.status, copy.headers)
        hook.emit.gate.set()
        assert 202 == (await first).status
        assert len(hook.emit.events) == 1


async def test_what_the_sink_does_not_take_may_be_sent_again() -> None:
    """503 with Retry-After, and the same request is no copy then."""
    async with running_webhook(Scheme.STANDARD) as hook:
        hook.emit.refuse = 1
        refused = await hook.send({}, scheme=Scheme.STANDARD)
        assert (503, (("Retry-After", "10"),)) == (refused.status, refused.headers)
        assert 202 == (await hook.send({}, scheme=Scheme.STANDARD)).status
        assert len(hook.emit.events) == 1


async def test_slack_checks_the_address() -> None:
    """The challenge comes back, for a signed request only, and is no event."""
    challenge = {"type": "url_verification", "challenge": "3eZbrw1aB"}
    async with running_webhook(Scheme.SLACK) as hook:
        found = await hook.send(challenge, scheme=Scheme.SLACK)
        assert (200, "3eZbrw1aB") == (found.status, found.body)
        handler = hook.context.handler
        assert handler is not None
        unsigned = WebhookRequest("POST", {}, "", json.dumps(challenge).encode())
        assert 401 == (await handler(unsigned)).status
        assert hook.emit.attempts == 0


async def test_the_handshake_of_cloudevents_webhooks() -> None:
    """The sender's origin is allowed, at any rate."""
    asked = {"webhook-request-origin": "eventgrid.azure.net", "webhook-request-rate": "120"}
    async with running_webhook() as hook:
        found = await hook.send(b"", asked, method="OPTIONS")
        assert found.status == 200
        assert dict(found.headers) == {
            "Allow": "POST, PUT, OPTIONS",
            "WebHook-Allowed-Origin": "eventgrid.azure.net",
            "WebHook-Allowed-Rate": "*",
        }


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_other_methods_are_refused(method: str) -> None:
    """405 names those that are taken."""
    async with running_webhook() as hook:
        found = await hook.send(b"", method=method)
        assert (405, "POST, PUT, OPTIONS") == (found.status, dict(found.headers)["Allow"])


async def test_a_value_that_no_attribute_may_have_is_refused() -> None:
    """400 names the attribute."""
    async with running_webhook(attributes={"subject": {"path": "a"}}) as hook:
        found = await hook.send({"a": "x\x00y"})
        assert found.status == 400
        assert "subject" in found.body


@pytest.mark.parametrize("secrets", [{}, {("hook", "secret"): b""}])
async def test_a_secret_that_cannot_be_used(secrets: dict[tuple[str, str], bytes]) -> None:
    """The condition is SecretsProvided."""
    source = WebhookSource(config(Scheme.STANDARD), RecordingContext(secrets=secrets))
    with pytest.raises(SourceFault) as caught:
        await source.run(RecordingEmit())
    assert caught.value.condition == "SecretsProvided"
    assert "default/hook" in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"scheme": "Stripe"}, "a secret is required"),
        ({"scheme": "GitLab"}, "'GitHub'"),
        ({"attributes": {"Tenant": {"value": "x"}}}, "lower-case"),
        ({"attributes": {"specversion": {"value": "x"}}}, "cannot be mapped"),
        ({"attributes": {"type": {}}}, "exactly one of header, path and value"),
        ({"attributes": {"type": {"header": "a", "value": "b"}}}, "exactly one"),
        ({"attributes": {"type": {"path": "a..b"}}}, "not a path"),
        ({"attributes": {"type": {"path": "$"}}}, "at least one member"),
        ({"attributes": {"type": {"path": "a" * 300}}}, "at most 256"),
        ({"toleranceSeconds": 0}, "greater than 0"),
    ],
)
def test_a_wrong_configuration_is_named(wrong: dict[str, Any], part: str) -> None:
    """Before anything is received."""
    with pytest.raises(ValidationError, match=part):
        WebhookConfig.model_validate({"source": SOURCE, **wrong})
