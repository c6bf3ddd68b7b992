"""GitHubSource from the manifest of the example to the event at a subscriber, with a server that
speaks GitHub's API and calls the webhook, wherever the resources are.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.github_examples import examples
from tests.support.github_server import GitHubServer, github_server
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.manifests import Manifest
from tests.support.sink_process import Request
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[2]
VIEWER = "http://127.0.0.1:8090"
SECRET_SECONDS = 40.0
TAKE_OVER_SECONDS = 30.0
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    """A server that calls the webhooks."""
    with github_server(calls=True) as started:
        yield started


def example(
    headrace: HeadraceUnderTest, github: GitHubServer, path: str, namespace: str
) -> list[Manifest]:
    """The objects of an example, in a namespace. Only where events come from and go to is another
    place in a test, and the token.
    """
    headrace.ensure_namespace(namespace)
    text = (ROOT / "examples" / path).read_text().replace(VIEWER, headrace.sinks.url(namespace))
    found = [each for each in yaml.safe_load_all(text) if each]
    for each in found:
        each["metadata"]["namespace"] = namespace
        if each["kind"] == "GitHubSource":
            each["spec"]["githubAPIURL"] = github.url
    return found


def secret(name: str, namespace: str, **values: str) -> Manifest:
    """A Secret."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def one(found: list[Manifest], kind: str) -> Manifest:
    """The object of a kind."""
    return next(each for each in found if each["kind"] == kind)


def received(headrace: HeadraceUnderTest, sink: str, event: str) -> list[Request]:
    """The events of a type at a sink."""
    type_ = f"dev.knative.source.github.{event}"
    return [each for each in headrace.sinks.requests(sink) if each.headers.get("ce-type") == type_]


def status_of(headrace: HeadraceUnderTest, source: Manifest) -> dict[str, Any]:
    """The status as it is now."""
    return dict((headrace.get(source) or {}).get("status") or {})


def accepted(github: GitHubServer, event: str, payload: Any, guid: str) -> bool:
    """Whether the one webhook took an event."""
    return [each.status for each in github.deliver(event, payload, guid=guid)] == [202]


@pytest.mark.clause("O2", "O8")
def test_the_example_from_the_webhook_to_its_removal(
    headrace: HeadraceUnderTest, github: GitHubServer
) -> None:
    """The webhook is registered, called, changed with the resource, and removed."""
    name = "github-life"
    headrace.sinks.script(name, Script(record=True))
    found = example(headrace, github, "sources/github/github.yaml", name)
    source, trigger = one(found, "GitHubSource"), one(found, "Trigger")
    trigger["spec"]["filters"] = []
    headrace.apply(secret("github", name, accessToken=github.token, secretToken="sesame"))
    headrace.establish(*(each for each in found if each["kind"] in ("Broker", "Trigger")))
    headrace.establish(source)
    [hook] = github.all_hooks
    assert hook["events"] == ["issues", "pull_request", "push"]
    status = status_of(headrace, source)
    assert status["webhookIDKey"] == str(hook["id"])
    assert {each["type"] for each in status["ceAttributes"]} == {
        f"dev.knative.source.github.{each}" for each in ("issues", "pull_request", "push")
    }
    for each in ("SecretsProvided", "WebhookConfigured", "SinkProvided", "Deployed"):
        assert condition({"status": status}, each)["status"] == "True"
    wait_until(lambda: received(headrace, name, "ping"), 20, "the ping arrives")

    [payload, *_] = examples()["push"]
    assert accepted(github, "push", payload, "guid-1")
    wait_until(lambda: received(headrace, name, "push"), 20, "the push arrives")
    [push] = received(headrace, name, "push")
    assert push.headers["ce-id"] == "guid-1"
    assert push.headers["ce-source"] == "https://github.com/knative/docs"
    assert push.headers["ce-ref"] == payload["ref"]
    assert push.headers["ce-owner"] == payload["repository"]["owner"]["login"]

    source["spec"]["eventTypes"] = ["push", "release"]
    headrace.apply(source)
    wait_until(lambda: hook["events"] == ["push", "release"], 20, "the webhook is changed")
    headrace.wait_ready(source)
    headrace.delete(source)
    assert github.all_hooks == []


def test_a_refused_token_is_named_and_a_new_one_is_used(
    headrace: HeadraceUnderTest, github: GitHubServer
) -> None:
    """Without a restart, and so is a new secret of the webhook."""
    name = "github-secrets"
    headrace.sinks.script(name, Script(record=True))
    source = one(example(headrace, github, "sources/github/github.yaml", name), "GitHubSource")
    source["spec"]["sink"] = {"uri": headrace.sinks.url(name)}
    headrace.apply(secret("github", name, accessToken="revoked", secretToken="first"), source)

    def refused() -> bool:
        found = condition(headrace.get(source) or {}, "WebhookConfigured")
        return (found.get("status"), found.get("reason")) == ("False", "CredentialRefused")

    wait_until(refused, 30, "the condition says so")
    ready = condition(headrace.get(source) or {}, "Ready")
    assert "spec.accessToken" in ready["message"]
    for value in ("first", "second"):
        headrace.apply(secret("github", name, accessToken=github.token, secretToken=value))
        wait_until(
            lambda value=value: [each["config"]["secret"] for each in github.all_hooks] == [value],  # type: ignore[misc]
            SECRET_SECONDS,
            "the webhook has the secret",
        )
        wait_until(
            lambda value=value: accepted(github, "push", {"ref": value}, value),  # type: ignore[misc]
            SECRET_SECONDS,
            "requests with the secret are taken",
        )
    wait_until(lambda: len(received(headrace, name, "push")) >= 2, 20, "both events arrive")
    headrace.delete(source)


def test_the_manifest_of_knative_0_5(headrace: HeadraceUnderTest, github: GitHubServer) -> None:
    """Applied unchanged, to a Channel of that time."""
    name = "github-legacy"
    headrace.sinks.script(name, Script(record=True))
    [source] = example(headrace, github, "legacy/githubsource.yaml", name)
    api, metadata = "eventing.knative.dev/v1alpha1", {"namespace": name}
    channel = {
        "apiVersion": api,
        "kind": "Channel",
        "metadata": {**metadata, "name": "githubsource"},
        "spec": {},
    }
    subscription = {
        "apiVersion": "messaging.knative.dev/v1",
        "kind": "Subscription",
        "metadata": {**metadata, "name": "githubsource"},
        "spec": {
            "channel": {
                "apiVersion": "messaging.knative.dev/v1",
                "kind": "Channel",
                "name": "githubsource",
            },
            "subscriber": {"uri": headrace.sinks.url(name)},
        },
    }
    headrace.apply(secret("githubsecret", name, accessToken=github.token, secretToken="sesame"))
    headrace.establish(channel)
    headrace.establish(subscription)
    headrace.establish(source)
    [payload, *_] = examples()["pull_request"]
    assert accepted(github, "pull_request", payload, "guid-2")
    wait_until(lambda: received(headrace, name, "pull_request"), 20, "the event arrives")
    assert received(headrace, name, "pull_request")[0].headers["ce-number"] == "2"
    headrace.delete(source)
    assert github.all_hooks == []


def test_what_the_sink_does_not_take_is_sent_again_by_github(
    headrace: HeadraceUnderTest, github: GitHubServer
) -> None:
    """With the same id: nothing that GitHub still has is lost, also if the process that registered
    the webhook was killed.
    """
    if "sources-1" not in headrace.services:
        pytest.skip("`headrace up` is one process, and no process survives it")
    name = "github-again"
    headrace.sinks.script(name, Script(record=True))
    source = one(example(headrace, github, "sources/github/github.yaml", name), "GitHubSource")
    source["spec"]["sink"] = {"uri": headrace.sinks.url(name)}
    headrace.apply(secret("github", name, accessToken=github.token, secretToken="sesame"))
    headrace.establish(source)
    [hook] = github.all_hooks
    before = hook["config"]["url"]
    holder = _process_at(headrace, before, name)
    headrace.services[holder].kill()
    [lost] = github.deliver("push", {"ref": "lost"}, guid="guid-3")
    assert lost.status == 502
    wait_until(
        lambda: hook["config"]["url"] != before, TAKE_OVER_SECONDS, "another process registers"
    )
    assert status_of(headrace, source)["webhookIDKey"] == str(hook["id"])
    headers = {"authorization": f"Bearer {github.token}"}
    path = f"/repos/knative/docs/hooks/{hook['id']}/deliveries/{lost.id}/attempts"
    assert github.answer("POST", path, headers, b"").status == 202
    wait_until(lambda: received(headrace, name, "push"), 20, "the event arrives")
    assert [each.headers["ce-id"] for each in received(headrace, name, "push")] == ["guid-3"]
    headrace.run_with(holder, ["--port", "0", "--instance", holder, *headrace.options_of_sources()])
    headrace.wait_until_ready(holder)
    headrace.delete(source)
    assert github.all_hooks == []


def _process_at(headrace: HeadraceUnderTest, url: str, name: str) -> str:
    """The process whose address the webhook has."""
    port = url.partition("//")[2].partition("/")[0].rpartition(":")[2]
    for each in ("sources-0", "sources-1"):
        if f":{port}" in headrace.services[each].output():
            return each
    raise AssertionError(f"no process has printed the port {port} of {name}")
