"""The adapter `aws-sqs` with moto's server: what it sends, when it deletes, what it leaves to the
queue, and what it says of what is wrong.
"""

import asyncio
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.domain.event import Event
from headrace.runtime.clock import SystemClock
from headrace_sources.adapters.aws.client import AwsAuth
from headrace_sources.adapters.aws.queue import Failed, SqsQueue
from headrace_sources.adapters.aws.sqs import AwsSqsConfig, AwsSqsSource
from headrace_sources.adapters.aws.sqs_reader import HELD_MAX
from headrace_sources.source import DEPLOYED, NotDelivered, SecretKeyRef, SourceFault
from tests.support.aws_server import ANY_KEY, REGION, AccessKey, AwsServer, Queue, aws_server
from tests.support.sources import RecordingContext, RecordingEmit, running

TYPE, SOURCE, SUBJECT = "dev.knative.eventing.aws-sqs", "dev.knative.eventing.aws-sqs-source", "s"
AUTH = AwsAuth(
    access_key=SecretKeyRef(name="aws", key="aws.accessKey"),
    secret_key=SecretKeyRef(name="aws", key="aws.secretKey"),
)
FILE = AwsAuth(credentials_file=SecretKeyRef(name="aws", key="credentials"))
FAULT_SECONDS = 8.0
"""Within seconds."""


def config(aws: AwsServer, arn: str, **more: Any) -> AwsSqsConfig:
    """A configuration that reads fast."""
    given: dict[str, Any] = {
        "arn": arn,
        "region": REGION,
        "endpoint": aws.url,
        "auth": AUTH,
        "greedy": True,
        "delay": 50,
        "max_messages_per_poll": 10,
        "wait_time_seconds": 1,
        **more,
    }
    return AwsSqsConfig(type=TYPE, source=SOURCE, subject=SUBJECT, **given)


def context(key: AccessKey = ANY_KEY) -> RecordingContext:
    """A context with the Secret."""
    secrets = {
        ("aws", "aws.accessKey"): key.id.encode(),
        ("aws", "aws.secretKey"): key.secret.encode() + b"\n",
        ("aws", "credentials"): key.file,
    }
    return RecordingContext(secrets=secrets, clock=SystemClock())


def new_queue(aws: AwsServer, suffix: str = "", **attributes: str) -> Queue:
    """A queue of this test."""
    return aws.queue(f"q-{uuid.uuid4().hex[:12]}{suffix}", **attributes)


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something of the server is true."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.05)


async def fault_of(source: AwsSqsSource) -> SourceFault:
    """The fault with which it fails, within seconds."""
    with pytest.raises(SourceFault) as raised:
        async with asyncio.timeout(FAULT_SECONDS):
            await source.run(RecordingEmit())
    return raised.value


async def test_a_message_becomes_an_event_and_is_deleted(aws: AwsServer) -> None:
    """With Knative's type, source and subject; the id is the message's, the time when it was
    sent.
    """
    queue, emit, seen = new_queue(aws), RecordingEmit(), context()
    sent = datetime.now(UTC)
    ids = [queue.send("hello"), queue.send('{"a": 1}'), queue.send("{not json")]
    async with running(AwsSqsSource(config(aws, queue.arn), seen), emit):
        events = {event.attributes["id"]: event for event in await emit.wait_for(3)}
        await until(lambda: queue.is_empty)
    assert list(events) == ids
    first, second, third = (events[each] for each in ids)
    assert (first.data, first.attributes["datacontenttype"]) == (b"hello", "text/plain")
    assert (second.data, second.attributes["datacontenttype"]) == (b'{"a": 1}', "application/json")
    assert third.attributes["datacontenttype"] == "text/plain"
    attributes = first.attributes
    assert (attributes["type"], attributes["source"], attributes["subject"]) == (
        TYPE,
        SOURCE,
        SUBJECT,
    )
    shown = datetime.fromisoformat(str(attributes["time"]).replace("Z", "+00:00"))
    assert abs((shown - sent).total_seconds()) < 60
    assert seen.conditions[DEPLOYED] == (True, "", "")


async def test_the_old_kind_sends_the_message_as_the_api_has_it(aws: AwsServer) -> None:
    """And its credentials are a file; the queue is named by URL, whose host is the endpoint."""
    queue, emit = new_queue(aws), RecordingEmit()
    id = queue.send("hello", colour="red")
    given = AwsSqsConfig(
        type="aws.sqs.message",
        source=queue.url,
        whole_message=True,
        queue_url=queue.url,
        region=REGION,
        auth=FILE,
        greedy=True,
    )
    async with running(AwsSqsSource(given, context()), emit):
        [event] = await emit.wait_for(1)
        await until(lambda: queue.is_empty)
    shown = json.loads(event.data or b"")
    assert (shown["MessageId"], shown["Body"]) == (id, "hello")
    assert shown["MessageAttributes"]["colour"] == {
        "BinaryListValues": None,
        "BinaryValue": None,
        "DataType": "String",
        "StringListValues": None,
        "StringValue": "red",
    }
    assert shown["Attributes"]["SentTimestamp"].isdigit()
    assert event.attributes["source"] == queue.url
    assert event.attributes["datacontenttype"] == "application/json"
    assert "subject" not in event.attributes


async def test_a_message_stays_until_the_sink_has_taken_it(aws: AwsServer) -> None:
    """For three visibility timeouts: no other reader gets it, and it is emitted once."""
    queue, emit = new_queue(aws, VisibilityTimeout="1"), RecordingEmit()
    queue.send("slow")
    emit.gate.clear()
    async with running(AwsSqsSource(config(aws, queue.arn), context()), emit):
        await emit.wait_for_attempts(1)
        began = time.monotonic()
        while time.monotonic() - began < 3.5:
            assert await asyncio.to_thread(queue.receive) == []
            await asyncio.sleep(0.1)
        assert await asyncio.to_thread(queue.counts) == (0, 1)
        emit.gate.set()
        await until(lambda: queue.is_empty)
    assert emit.attempts == 1


async def test_what_is_not_delivered_is_left_to_the_queue(aws: AwsServer) -> None:
    """It comes again after its visibility timeout, not before."""
    queue, emit = new_queue(aws, VisibilityTimeout="2"), RecordingEmit()
    queue.send("again")
    emit.refuse = 1
    began = time.monotonic()
    async with running(AwsSqsSource(config(aws, queue.arn), context()), emit):
        await emit.wait_for(1)
        took = time.monotonic() - began
        await until(lambda: queue.is_empty)
    assert emit.attempts == 2
    assert took > 1.8


async def test_the_redrive_policy_ends_what_is_never_delivered(aws: AwsServer) -> None:
    """Other messages are not held up by it."""
    dead = new_queue(aws)
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": "2"})
    queue = new_queue(aws, VisibilityTimeout="1", RedrivePolicy=policy)

    class Refusing(RecordingEmit):
        async def __call__(self, event: Event) -> None:
            if event.data == b"bad":
                raise NotDelivered("status 500")
            await super().__call__(event)

    emit = Refusing()
    queue.send("bad")
    queue.send("good")
    async with running(AwsSqsSource(config(aws, queue.arn), context()), emit):
        await until(lambda: dead.counts() == (1, 0))
        await until(lambda: queue.is_empty)
    assert [event.data for event in emit.events] == [b"good"]


class OrderedEmit(RecordingEmit):
    """Records which message of which group is on its way."""

    def __init__(self, fail: str, until: frozenset[str]) -> None:
        super().__init__()
        self.fail, self.until = fail, until
        """Body of a message, and of those that are delivered before it is."""
        self.under_way: dict[str, int] = defaultdict(int)
        self.most: dict[str, int] = defaultdict(int)
        self.together = self.failed = 0
        self.bodies: dict[str, list[str]] = defaultdict(list)

    @property
    def sent(self) -> frozenset[str]:
        """Bodies of all messages that were delivered."""
        return frozenset(body for bodies in self.bodies.values() for body in bodies)

    async def __call__(self, event: Event) -> None:
        """Takes a moment."""
        group, body = str(event.attributes["partitionkey"]), (event.data or b"").decode()
        self.under_way[group] += 1
        self.most[group] = max(self.most[group], self.under_way[group])
        self.together = max(self.together, sum(self.under_way.values()))
        try:
            await asyncio.sleep(0.02)
            if body == self.fail and not self.until <= self.sent:
                self.failed += 1
                raise NotDelivered("status 503")
            self.bodies[group].append(body)
            await super().__call__(event)
        finally:
            self.under_way[group] -= 1


async def test_a_fifo_queue_keeps_the_order_of_each_group(aws: AwsServer) -> None:
    """One at a time per group, groups in parallel. A message that is not delivered holds back those
    behind it, and nobody else.
    """
    queue = new_queue(aws, ".fifo", VisibilityTimeout="2")
    for number in range(6):
        for group in ("a", "b", "c"):
            queue.send(f"{group}{number}", group)
    others = frozenset(f"{group}{number}" for number in range(6) for group in ("b", "c"))
    emit = OrderedEmit(fail="a1", until=others)
    source = AwsSqsSource(config(aws, queue.arn), context())
    async with running(source, emit):
        await emit.wait_for(18, 30)
        await until(lambda: queue.is_empty)
    for group in ("a", "b", "c"):
        assert emit.bodies[group] == [f"{group}{number}" for number in range(6)]
        assert emit.most[group] == 1
    assert emit.together > 1
    assert emit.failed


async def test_what_is_in_flight_is_bounded(aws: AwsServer) -> None:
    """The rest waits in the queue."""
    queue, emit = new_queue(aws), RecordingEmit()
    for number in range(HELD_MAX + 30):
        queue.send(str(number))
    emit.gate.clear()
    async with running(AwsSqsSource(config(aws, queue.arn), context()), emit):
        await emit.wait_for_attempts(HELD_MAX)
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(queue.counts) == (30, HELD_MAX)
        emit.gate.set()
        await emit.wait_for(HELD_MAX + 30)
        await until(lambda: queue.is_empty)
    assert emit.attempts == HELD_MAX + 30


async def test_a_source_that_is_stopped_gives_back_what_it_has(aws: AwsServer) -> None:
    """Another reader gets it at once, and what was delivered is deleted."""
    queue, emit = new_queue(aws, VisibilityTimeout="600"), RecordingEmit()
    queue.send("taken")
    source = AwsSqsSource(config(aws, queue.arn), context())
    async with running(source, emit):
        await emit.wait_for(1)
        emit.gate.clear()
        queue.send("held")
        await emit.wait_for_attempts(2)
    [left] = queue.receive()
    assert left["Body"] == "held"
    assert queue.counts() == (0, 1)


async def test_a_source_that_is_stopped_deletes_what_was_delivered(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the request is still to be sent: the message would be delivered twice."""
    queue, emit, may_delete = new_queue(aws), RecordingEmit(), asyncio.Event()
    delete = SqsQueue.delete

    async def slow(self: SqsQueue, receipts: Sequence[str]) -> Sequence[Failed]:
        await may_delete.wait()
        return await delete(self, receipts)

    monkeypatch.setattr(SqsQueue, "delete", slow)
    queue.send("taken")
    async with running(AwsSqsSource(config(aws, queue.arn), context()), emit):
        await emit.wait_for(1)
        asyncio.get_running_loop().call_later(0.3, may_delete.set)
    assert queue.is_empty


async def test_a_queue_is_created_if_that_is_asked_for(aws: AwsServer) -> None:
    """By name alone, too."""
    name = f"q-{uuid.uuid4().hex[:12]}.fifo"
    emit = RecordingEmit()
    source = AwsSqsSource(config(aws, name, auto_create_queue=True), context())
    async with running(source, emit):
        client = aws.client("sqs")
        await until(lambda: bool(client.list_queues(QueueNamePrefix=name).get("QueueUrls")))
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        client.send_message(
            QueueUrl=url, MessageBody="hello", MessageGroupId="g", MessageDeduplicationId="1"
        )
        await emit.wait_for(1)


async def test_a_missing_queue_is_named(aws: AwsServer) -> None:
    """With the region in which it was looked for."""
    fault = await fault_of(AwsSqsSource(config(aws, "nowhere"), context()))
    assert fault.reason == "QueueNotFound"
    assert f"queue nowhere in region {REGION} does not exist" in str(fault)


async def test_a_queue_that_is_deleted_is_named(aws: AwsServer) -> None:
    """While it is being read."""
    queue, seen = new_queue(aws), context()
    source = AwsSqsSource(config(aws, queue.arn), seen)
    run = asyncio.create_task(source.run(RecordingEmit()))
    await until(lambda: seen.conditions.get(DEPLOYED, (None, "", ""))[0] is True)
    queue.client.delete_queue(QueueUrl=queue.url)
    with pytest.raises(SourceFault) as raised:
        async with asyncio.timeout(FAULT_SECONDS):
            await run
    assert raised.value.reason == "QueueNotFound"


@pytest.mark.parametrize("region", ["mars-north-1", "eu north", "EU-NORTH-1"])
async def test_an_unknown_region_is_named(aws: AwsServer, region: str) -> None:
    """Before any request."""
    given = config(aws, "orders", region=region, endpoint="")
    fault = await fault_of(AwsSqsSource(given, context()))
    assert fault.reason == "UnknownRegion"
    assert repr(region) in str(fault)


async def test_refused_credentials_are_reported_without_showing_them() -> None:
    """A key that does not exist, a wrong secret, and one without a right, whose action is named."""
    with aws_server() as aws:
        queue = new_queue(aws)
        good = aws.user("good", "sqs:*")
        reader = aws.user("reader", "sqs:ReceiveMessage", "sqs:GetQueueUrl")
        wrong = AccessKey(good.id, "wrong" * 8)
        unknown = AccessKey("AKIAUNKNOWN000000000", "x" * 40)
        queue.send("hello")
        # Who may not read the attributes of the queue does not know its timeout.
        given = config(aws, queue.arn, visibility_timeout=1)
        with aws.checking():
            for key in (wrong, unknown):
                fault = await fault_of(AwsSqsSource(given, context(key)))
                assert fault.reason == "CredentialsRefused"
                assert key.id not in str(fault)
                assert key.secret not in str(fault)
            fault = await fault_of(AwsSqsSource(given, context(reader)))
            assert fault.reason == "PermissionDenied"
            assert "DeleteMessage" in str(fault)
            emit = RecordingEmit()
            async with running(AwsSqsSource(given, context(good)), emit):
                await emit.wait_for(1)
                own = Queue(aws.client("sqs", good), queue.name, queue.url, REGION)
                await until(lambda: own.is_empty)


async def test_missing_credentials_are_reported(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a Secret nor anything in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    fault = await fault_of(AwsSqsSource(config(aws, "orders", auth=AwsAuth()), context()))
    assert fault.reason == "CredentialsMissing"


async def test_the_credentials_of_the_environment_are_used(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the source names no Secret."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    queue, emit = new_queue(aws), RecordingEmit()
    queue.send("hello")
    async with running(AwsSqsSource(config(aws, queue.arn, auth=AwsAuth()), context()), emit):
        await emit.wait_for(1)


async def test_a_server_that_is_gone_is_reported_and_tried_again() -> None:
    """The source keeps running."""
    with aws_server() as aws:
        queue, seen, emit = new_queue(aws), context(), RecordingEmit()
        async with running(AwsSqsSource(config(aws, queue.arn), seen), emit) as task:
            await until(lambda: seen.conditions.get(DEPLOYED, (None, "", ""))[0] is True)
            aws.stop()
            await until(lambda: seen.conditions[DEPLOYED][:2] == (False, "Unreachable"), 20)
            assert queue.name in seen.conditions[DEPLOYED][2]
            assert not task.done()


async def test_an_endpoint_is_subject_to_the_address_policy(aws: AwsServer) -> None:
    """A URL in a resource does not reach what events may not be posted to."""
    seen = context()
    seen.address_denied = lambda address, port: f"{address} is not allowed"
    for url in (aws.url, aws.url.replace("127.0.0.1", "localhost")):
        fault = await fault_of(AwsSqsSource(config(aws, "orders", endpoint=url), seen))
        assert fault.reason == "EndpointDenied"
        assert "127.0.0.1 is not allowed" in str(fault)


async def test_an_endpoint_that_does_not_answer_is_reported() -> None:
    """Nothing listens there."""
    with aws_server() as aws:
        given = config(aws, "orders")
    fault = await fault_of(AwsSqsSource(given, context()))
    assert fault.reason == "Unreachable"
