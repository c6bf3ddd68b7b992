"""What a request of GitHub is answered, and when."""

import json
from typing import Any

import pytest

from headrace.adapters.memory.clock import MemoryClock
from headrace_sources.adapters.github_receiver import GitHubReceiver
from headrace_sources.source import WebhookRequest, WebhookResponse
from tests.support.github_examples import examples
from tests.support.github_server import signature
from tests.support.sources import RecordingEmit

SECRET = "sesame"
PUSH: dict[str, Any] = {"ref": "refs/heads/main", "compare": "https://github.com/a/b/compare/1...2"}


def receiver(emit: RecordingEmit) -> GitHubReceiver:
    """A receiver of one repository."""
    return GitHubReceiver(
        SECRET.encode(),
        emit,
        naming="knative",
        origin="https://github.com/knative/docs",
        clock=MemoryClock(),
    )


def request(
    name: str = "push",
    payload: Any = PUSH,
    *,
    secret: str = SECRET,
    delivery: str = "guid-1",
    method: str = "POST",
    body: bytes | None = None,
    **headers: str | None,
) -> WebhookRequest:
    """A request as GitHub sends it; a header that is None is left out."""
    content = json.dumps(payload).encode() if body is None else body
    fields: dict[str, str | None] = {
        "content-type": "application/json",
        "x-github-event": name,
        "x-github-delivery": delivery,
        **signature(secret, content),
        **{each.replace("_", "-"): value for each, value in headers.items()},
    }
    found = {each: value for each, value in fields.items() if value is not None}
    return WebhookRequest(method, found, "", content)


async def answer(emit: RecordingEmit, asked: WebhookRequest) -> WebhookResponse:
    """What a request is answered."""
    return await receiver(emit).handle(asked)


async def test_every_signed_example_is_accepted_or_unknown() -> None:
    """202 once the sink has taken the event, whose data is the body, byte for byte."""
    emit, accepted = RecordingEmit(), 0
    for name, payloads in examples().items():
        for number, payload in enumerate(payloads):
            asked = request(name, payload, delivery=f"{name}-{number}")
            found = await answer(emit, asked)
            if found.status == 202:
                accepted += 1
                assert found.body == "accepted"
                assert emit.events[-1].data == asked.body
                assert emit.events[-1].attributes["id"] == f"{name}-{number}"
            else:
                assert found.status == 404, name
    assert accepted == len(emit.events) > 230


async def test_a_redelivery_has_the_same_id() -> None:
    """So a subscriber can see that it is the same event."""
    emit = RecordingEmit()
    for _ in range(2):
        assert 202 == (await answer(emit, request(delivery="once"))).status
    assert ["once", "once"] == [each.attributes["id"] for each in emit.events]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (request(secret="other"), "signature"),
        (request(x_hub_signature_256=None), "SHA-1, which is not accepted"),
        (request(x_hub_signature_256=None, x_hub_signature=None), "x-hub-signature-256"),
        (request(x_hub_signature_256="sha256=zz"), "signature"),
        (request(x_hub_signature_256=signature(SECRET, b"x")["x-hub-signature"]), "signature"),
        (request(x_github_event=None), "X-GitHub-Event"),
        (request(x_github_delivery=None), "X-GitHub-Delivery"),
        (request(body=b"payload=%7B%7D"), "content type json"),
        (request(body=b"[]"), "not a JSON object"),
        (request(body=b"[" * 200_000), "JSON"),
        (request(delivery="a\x01b"), "id"),
    ],
)
async def test_a_bad_request_is_refused_with_the_reason(asked: WebhookRequest, part: str) -> None:
    """400, as by Knative's adapter, and no event."""
    emit = RecordingEmit()
    found = await answer(emit, asked)
    assert found.status == 400
    assert part in found.body or "nested too deeply" in found.body
    assert SECRET not in found.body
    assert emit.attempts == 0


async def test_an_event_type_that_is_not_known() -> None:
    """404, and only for a request with a valid signature."""
    emit = RecordingEmit()
    assert 404 == (await answer(emit, request("workflow_run"))).status
    assert 400 == (await answer(emit, request("workflow_run", secret="other"))).status
    assert [] == emit.events


async def test_only_a_post_is_taken() -> None:
    """405 names it."""
    found = await answer(RecordingEmit(), request(method="GET"))
    assert (405, (("Allow", "POST"),)) == (found.status, found.headers)


async def test_what_the_sink_does_not_take_is_not_accepted() -> None:
    """400: GitHub counts the delivery as failed, and it can be sent again."""
    emit = RecordingEmit()
    emit.refuse = 1
    found = await answer(emit, request())
    assert found.status == 400
    assert "the sink has not accepted the event" in found.body
    assert 202 == (await answer(emit, request())).status
