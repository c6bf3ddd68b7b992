"""CloudPubSubSource and GcpPubSubSource from an applied manifest to the event at a subscriber,
wherever the resources are, with the fake server of Google's own client.
"""

import base64
import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_legacy import manifests
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.manifests import Manifest
from tests.support.pubsub_server import (
    PERMISSION_DENIED,
    PROJECT,
    UNAUTHENTICATED,
    PubSubServer,
)
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
VIEWER = "http://127.0.0.1:8090/"
NAMESPACE = "pubsub"
DEADLINE = 30
pytestmark = pytest.mark.timeout(180)


@contextlib.contextmanager
def topic_in(pubsub: PubSubServer, name: str) -> Iterator[str]:
    """A topic for the block."""
    pubsub.create_topic(name)
    try:
        yield name
    finally:
        pubsub.delete_topic(name)


def example(headrace: HeadraceUnderTest, path: str) -> list[Manifest]:
    """The objects of an example; only where the events go to is another place in a test."""
    text = (EXAMPLES / path).read_text().replace(VIEWER, headrace.sinks.url(""))
    return manifests(text, NAMESPACE)


def source(headrace: HeadraceUnderTest, name: str) -> Manifest:
    """A source of the topic of this name that sends to the sink of this name."""
    return {
        "apiVersion": "events.cloud.google.com/v1",
        "kind": "CloudPubSubSource",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "topic": name,
            "project": PROJECT,
            "sink": {"uri": headrace.sinks.url(name)},
        },
    }


def status_of(headrace: HeadraceUnderTest, resource: Manifest) -> Any:
    """The status as it is now."""
    return (headrace.get(resource) or {}).get("status", {})


def message_ids(headrace: HeadraceUnderTest, sink: str) -> list[str]:
    """The ids of the events that a sink was sent."""
    return [each.headers["ce-id"] for each in headrace.sinks.requests(sink)]


def _has_more_than(headrace: HeadraceUnderTest, sink: str, count: int) -> bool:
    return len(message_ids(headrace, sink)) > count


def _have_all_arrived(
    headrace: HeadraceUnderTest, pubsub: PubSubServer, topic: str, every: set[str]
) -> bool:
    """Whether these messages have arrived. If not, time passes for the server: it may have given
    some to a process that was killed already.
    """
    try:
        wait_until(lambda: set(message_ids(headrace, topic)) == every, 5)
    except AssertionError:
        missing = every - set(message_ids(headrace, topic))
        print("missing:", *(each for each in pubsub.published() if each.id in missing), sep="\n")
        pubsub.advance(DEADLINE + 1)
        return False
    return True


@pytest.mark.clause("O2", "O8")
def test_the_example_delivers_messages(headrace: HeadraceUnderTest, pubsub: PubSubServer) -> None:
    """The subscription exists while the source does, and is deleted with it."""
    with topic_in(pubsub, "orders") as topic:
        headrace.sinks.script(topic, Script(record=True))
        applied = example(headrace, "sources/gcp-pubsub/gcp-pubsub.yaml")
        headrace.establish(*applied)
        status = status_of(headrace, applied[1])
        origin = f"//pubsub.googleapis.com/projects/{PROJECT}/topics/{topic}"
        kind = "google.cloud.pubsub.topic.v1.messagePublished"
        assert status["ceAttributes"] == [{"type": kind, "source": origin}]
        assert (status["projectId"], status["topicId"]) == (PROJECT, topic)
        assert status["subscriptionId"].startswith(f"knative-eventing-{NAMESPACE}-{topic}-")
        assert pubsub.subscriptions() == [status["subscriptionId"]]
        [published] = pubsub.publish(topic, b"paid", key="till-4", color="red")
        wait_until(lambda: message_ids(headrace, topic) == [published], 20, "the event arrives")
        [request] = headrace.sinks.requests(topic)
        assert request.headers["ce-type"] == kind
        assert request.headers["ce-source"] == origin
        assert request.headers["ce-partitionkey"] == "till-4"
        message = json.loads(request.body)["message"]
        assert base64.b64decode(message["data"]) == b"paid"
        assert message["attributes"] == {"color": "red"}
        wait_until(pubsub.all_acknowledged, 20, "it is acknowledged")
        headrace.delete(*applied)
        assert pubsub.subscriptions() == []


def test_a_source_of_2019_works_unchanged(
    headrace: HeadraceUnderTest, pubsub: PubSubServer
) -> None:
    """Into a Channel of its time, with the events of its time."""
    with topic_in(pubsub, "published") as topic:
        headrace.sinks.script(topic, Script(record=True))
        applied = example(headrace, "legacy/gcppubsubsource.yaml")
        headrace.establish(*applied)
        assert condition(headrace.get(applied[2]) or {}, "Subscribed")["status"] == "True"
        [published] = pubsub.publish(topic, b"paid")
        wait_until(lambda: message_ids(headrace, topic) == [published], 20, "the event arrives")
        [request] = headrace.sinks.requests(topic)
        assert request.headers["ce-type"] == "google.pubsub.topic.publish"
        assert request.headers["ce-source"] == f"//pubsub.googleapis.com/{PROJECT}/topics/{topic}"
        assert json.loads(request.body)["Data"] == "cGFpZA=="
        headrace.delete(*reversed(applied))
        assert pubsub.subscriptions() == []


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        (UNAUTHENTICATED, "CredentialsRefused", "create a new key of the service account"),
        (PERMISSION_DENIED, "PermissionDenied", "grant roles/pubsub.editor"),
    ],
)
def test_a_refusal_is_a_condition_that_says_what_to_do(
    headrace: HeadraceUnderTest, pubsub: PubSubServer, code: int, reason: str, advice: str
) -> None:
    """Within seconds; the source works when that was done. One that never worked can be deleted."""
    with topic_in(pubsub, f"refused-{code}") as topic, contextlib.ExitStack() as later:
        refused = source(headrace, topic)
        headrace.sinks.script(topic, Script(record=True))

        def is_shown() -> bool:
            found = condition(headrace.get(refused) or {}, "Ready")
            return found.get("reason") == reason and advice in found.get("message", "")

        for method in ("CreateSubscription", "DeleteSubscription"):
            pubsub.refuse(method, code)
            later.callback(pubsub.refuse, method, 0)
        headrace.apply(refused)
        wait_until(is_shown, 10, "the refusal is shown")
        found = condition(headrace.get(refused) or {}, "PullSubscriptionReady")
        assert found["status"] == "False"
        headrace.delete(refused)
        headrace.apply(refused)
        wait_until(is_shown, 10, "the refusal is shown")
        later.close()
        headrace.wait_ready(refused)
        [published] = pubsub.publish(topic, b"x")
        wait_until(lambda: message_ids(headrace, topic) == [published], 20, "the event arrives")
        headrace.delete(refused)


def test_nothing_that_was_acknowledged_is_lost_when_a_process_is_killed(
    headrace: HeadraceUnderTest, pubsub: PubSubServer
) -> None:
    """The other process continues, in the order of each key; the killed one comes back."""
    if "sources-1" not in headrace.services:
        pytest.skip("`headrace up` is one process, and its events are in memory")
    with topic_in(pubsub, "killed") as topic:
        headrace.sinks.script(topic, Script(record=True, delay_seconds=0.05))
        lasting = source(headrace, topic)
        headrace.establish(lasting)
        keys = [f"k{number}" for number in range(8)]
        order: dict[str, list[str]] = {key: [] for key in keys}
        for name in ("sources-0", "sources-1"):
            before = len(message_ids(headrace, topic))
            for _ in range(20):
                for key in keys:
                    order[key] += pubsub.publish(topic, b"x", key=key)
            wait_until(partial(_has_more_than, headrace, topic, before + 20), 20)
            headrace.services[name].kill()
            every = {each for ids in order.values() for each in ids}
            acknowledged = {each.id for each in pubsub.published() if each.acks} & every
            assert acknowledged <= set(message_ids(headrace, topic))
            headrace.run_with(
                name, ["--port", "0", "--instance", name, *headrace.options_of_sources()]
            )
            headrace.wait_until_ready(name)
            pubsub.advance(DEADLINE + 1)
        wait_until(
            partial(_have_all_arrived, headrace, pubsub, topic, every),
            60,
            "all arrive",
        )
        wait_until(pubsub.all_acknowledged, 20, "every message is acknowledged")
        arrived = list(dict.fromkeys(message_ids(headrace, topic)))
        for ids in order.values():
            assert [each for each in arrived if each in ids] == ids
        duplicates = len(message_ids(headrace, topic)) - len(every)
        print(f"{duplicates} of {len(every)} messages were delivered twice")
        headrace.delete(lasting)
