"""IntegrationSources and AwsSqsSources of SQS queues, from a manifest to a subscriber, with moto's
server.
"""

import base64
import copy
import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_sources.adapters.aws.client import DEFAULT_REGION
from tests.support.aws_server import ANY_KEY, REGION, AwsServer, Queue
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.manifests import Manifest, broker, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples/sources/aws-sqs"
NAMESPACE = "aws"
MESSAGES = 300
FAULT_SECONDS = 20.0
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize(
        "everywhere",
        [pytest.param("apache", marks=pytest.mark.kafka), "embedded"],
        indirect=True,
        scope="module",
    ),
]


@pytest.fixture(scope="module")
def headrace(everywhere: HeadraceUnderTest) -> HeadraceUnderTest:
    """The installation, with the Secrets that the sources name."""
    key, secret = ANY_KEY.id.encode(), ANY_KEY.secret.encode()
    everywhere.apply(secret_of("aws", {"aws.accessKey": key, "aws.secretKey": secret}))
    everywhere.apply(secret_of("aws-file", {"credentials": ANY_KEY.file}))
    return everywhere


def secret_of(name: str, values: Mapping[str, bytes]) -> Manifest:
    """A Secret."""
    metadata = {"name": name, "namespace": NAMESPACE}
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def to_uri(url: str) -> Manifest:
    """A sink outside."""
    return {"uri": url}


def example(aws: AwsServer, name: str, arn: str, **sqs: Any) -> Manifest:
    """The example, for a queue of moto's server."""
    manifest: Manifest = yaml.safe_load((EXAMPLES / "aws-sqs.yaml").read_text(encoding="utf-8"))
    manifest["metadata"] |= {"namespace": NAMESPACE, "name": name}
    manifest["spec"]["aws"]["sqs"] |= {
        "arn": arn,
        "overrideEndpoint": True,
        "uriEndpointOverride": aws.url,
        **sqs,
    }
    return manifest


def queue_of(aws: AwsServer, suffix: str = "", **attributes: str) -> Queue:
    """A queue of this test."""
    return aws.queue(f"s-{uuid.uuid4().hex[:12]}{suffix}", **attributes)


def bodies(headrace: HeadraceUnderTest, sink: str) -> list[str]:
    """The bodies that a sink has got."""
    return [request.body.decode() for request in headrace.sinks.requests(sink)]


@pytest.mark.clause("O2", "O8")
def test_the_example_fills_a_broker(headrace: HeadraceUnderTest, aws: AwsServer) -> None:
    """The events have Knative's attributes, and an EventType is created for them."""
    queue, name = queue_of(aws), "default"
    headrace.sinks.script(name, Script(record=True))
    headrace.establish(broker(NAMESPACE, name))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker=name))
    source = example(aws, "orders", queue.arn)
    id = queue.send('{"item": 1}')
    headrace.establish(source)
    wait_until(lambda: bodies(headrace, name), 30, "the event arrives")
    [request] = headrace.sinks.requests(name)
    assert request.body == b'{"item": 1}'
    shown = {each: request.headers[f"ce-{each}"] for each in ("type", "source", "subject", "id")}
    assert shown == {
        "type": "dev.knative.eventing.aws-sqs",
        "source": "dev.knative.eventing.aws-sqs-source",
        "subject": "aws-sqs-source",
        "id": id,
    }
    assert request.headers["content-type"] == "application/json"
    wait_until(lambda: queue.is_empty, 10, "the message is deleted")
    status = (headrace.get(source) or {})["status"]
    assert status["ceAttributes"] == [{"type": shown["type"], "source": shown["source"]}]
    types = headrace.call(
        "GET", f"/apis/eventing.knative.dev/v1beta2/namespaces/{NAMESPACE}/eventtypes"
    )
    assert shown["type"] in [each["spec"]["type"] for each in types["items"]]
    headrace.delete(source)


def test_the_kind_of_knative_05_sends_what_it_sent(
    headrace: HeadraceUnderTest, aws: AwsServer
) -> None:
    """The whole message, of a queue named by its URL, with a credentials file, to an object that is
    the sink itself.
    """
    # The URL of moto's server has no region.
    queue, name = aws.queue(f"s-{uuid.uuid4().hex[:12]}", region=DEFAULT_REGION), "old"
    headrace.sinks.script(name, Script(record=True))
    headrace.establish(broker(NAMESPACE, name))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker=name))
    source: Manifest = yaml.safe_load((EXAMPLES / "legacy.yaml").read_text(encoding="utf-8"))
    source["metadata"]["namespace"] = NAMESPACE
    source["spec"]["queueUrl"] = queue.url
    source["spec"]["sink"]["name"] = name
    id = queue.send("hello", colour="red")
    headrace.establish(source)
    wait_until(lambda: bodies(headrace, name), 30, "the event arrives")
    [request] = headrace.sinks.requests(name)
    shown = {each: request.headers[f"ce-{each}"] for each in ("type", "source", "id")}
    assert shown == {"type": "aws.sqs.message", "source": queue.url, "id": id}
    message = json.loads(request.body)
    assert (message["MessageId"], message["Body"]) == (id, "hello")
    assert message["MessageAttributes"]["colour"]["StringValue"] == "red"
    wait_until(lambda: queue.is_empty, 10, "the message is deleted")
    headrace.delete(source)


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"arn": "nowhere"}, "QueueNotFound", "queue nowhere in region eu-north-1 does not exist"),
        ({"arn": "arn:aws:s3:::orders"}, "InvalidQueue", "arn:aws:sqs:<region>"),
        (
            {"arn": "orders", "region": "mars", "overrideEndpoint": False},
            "UnknownRegion",
            "'mars' is not a region of AWS",
        ),
        ({"uriEndpointOverride": "localhost"}, "InvalidEndpoint", "uriEndpointOverride"),
    ],
)
def test_what_is_wrong_is_a_condition(
    headrace: HeadraceUnderTest, aws: AwsServer, change: dict[str, Any], reason: str, said: str
) -> None:
    """Within seconds, with what to do, and gone once it is right."""
    queue, name = queue_of(aws), f"wrong-{uuid.uuid4().hex[:8]}"
    headrace.sinks.script(name, Script(record=True))
    right = example(aws, name, queue.arn)
    right["spec"]["sink"] = to_uri(headrace.sinks.url(name))
    wrong = copy.deepcopy(right)
    wrong["spec"]["aws"]["sqs"] |= change
    headrace.apply(wrong)

    def is_shown() -> bool:
        found = condition(headrace.get(wrong) or {}, "Ready")
        return (found.get("status"), found.get("reason")) == ("False", reason)

    wait_until(is_shown, FAULT_SECONDS, f"{reason} is shown")
    assert said in condition(headrace.get(wrong) or {}, "Ready")["message"]
    headrace.establish(right)
    queue.send("hello")
    wait_until(lambda: bodies(headrace, name) == ["hello"], 30, "the event arrives")
    headrace.delete(right)


def test_a_secret_is_read_when_it_is_created_and_changed(
    headrace: HeadraceUnderTest, aws: AwsServer
) -> None:
    """A missing one is named, and so is a missing key. Nothing of it is shown when it is right."""
    queue, name = queue_of(aws), "secretless"
    headrace.sinks.script(name, Script(record=True))
    source = example(aws, name, queue.arn)
    source["spec"]["sink"] = to_uri(headrace.sinks.url(name))
    source["spec"]["aws"]["auth"]["secret"]["ref"]["name"] = "nothing"
    headrace.apply(source)

    def is_shown(text: str) -> bool:
        found = condition(headrace.get(source) or {}, "Ready")
        return text in found.get("message", "")

    wait_until(lambda: is_shown("Secret aws/nothing does not exist"), FAULT_SECONDS, "it is named")
    values = {"aws.accessKey": b"AKIAEXAMPLE", "aws.secretKey": b"not-to-be-shown"}
    headrace.apply(secret_of("nothing", {"other": b"x"}))
    wait_until(
        lambda: is_shown("Secret aws/nothing has no key aws."), FAULT_SECONDS, "the key is named"
    )
    headrace.apply(secret_of("nothing", values))
    headrace.wait_ready(source)
    queue.send("hello")
    wait_until(lambda: bodies(headrace, name) == ["hello"], 30, "the event arrives")
    assert "not-to-be-shown" not in json.dumps(headrace.get(source))
    headrace.delete(source)


def test_another_variant_is_a_condition(headrace: HeadraceUnderTest, aws: AwsServer) -> None:
    """S3 is not supported."""
    source = example(aws, "objects", "orders")
    source["spec"]["sink"] = to_uri(headrace.sinks.url("objects"))
    source["spec"]["aws"]["s3"] = {"arn": "arn:aws:s3:::orders", "region": REGION}
    del source["spec"]["aws"]["sqs"]
    headrace.apply(source)

    def is_shown() -> bool:
        found = condition(headrace.get(source) or {}, "Ready")
        return found.get("reason") == "NotSupported" and "spec.aws.s3" in found.get("message", "")

    wait_until(is_shown, FAULT_SECONDS, "it is named")
    headrace.delete(source)


def test_a_sink_that_fails_leaves_messages_in_the_queue(
    headrace: HeadraceUnderTest, aws: AwsServer
) -> None:
    """Until it takes them: they are hidden from other readers, not deleted."""
    queue, name = queue_of(aws, VisibilityTimeout="2"), "refusing"
    headrace.sinks.script(name, Script(status=503, record=True))
    source = example(aws, name, queue.arn)
    source["spec"]["sink"] = to_uri(headrace.sinks.url(name))
    queue.send("hello")
    headrace.establish(source)
    wait_until(lambda: headrace.sinks.counts(name).get("requests", 0) >= 4, 30, "it is tried")
    assert not queue.is_empty
    headrace.sinks.script(name, Script(record=True))
    wait_until(lambda: queue.is_empty, 60, "the message is deleted")
    headrace.delete(source)


def test_killed_processes_lose_nothing(headrace: HeadraceUnderTest, aws: AwsServer) -> None:
    """Both processes of the service are killed in the middle of a queue: what they had read comes
    again after its visibility timeout, and every message arrives.
    """
    if "sources-1" not in headrace.services:
        pytest.skip("`headrace up` is one process, and its resources end with it")
    queue, name = queue_of(aws, VisibilityTimeout="5"), "ledger"
    headrace.sinks.script(name, Script(record=True, delay_seconds=0.05))
    source = example(aws, name, queue.arn)
    source["spec"]["sink"] = to_uri(headrace.sinks.url(name))
    sent = [f"{number:04}" for number in range(MESSAGES)]
    for body in sent:
        queue.send(body)
    headrace.establish(source)
    for number, holder in enumerate(("sources-0", "sources-1")):
        least = (number + 1) * MESSAGES // 4
        wait_until(lambda least=least: len(bodies(headrace, name)) >= least, 60, "some arrived")  # type: ignore[misc]
        headrace.services[holder].kill()
        headrace.run_with(
            holder, ["--port", "0", "--instance", holder, *headrace.options_of_sources()]
        )
        headrace.wait_until_ready(holder)
    began = time.monotonic()
    wait_until(lambda: queue.is_empty, 90, "every message is deleted")
    print(f"queue empty after {time.monotonic() - began:.1f} s")
    arrived = bodies(headrace, name)
    assert set(arrived) == set(sent)
    assert len(arrived) < 2 * MESSAGES
    headrace.delete(source)
