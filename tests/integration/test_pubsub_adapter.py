"""The adapter for Google Cloud Pub/Sub, with the fake server of Google's own client."""

import asyncio
import json
from collections.abc import Iterator
from functools import partial

import pytest

from headrace.domain.event import Event
from headrace.runtime.clock import SystemClock
from headrace_sources.adapters import gcp_pubsub_stream
from headrace_sources.adapters.gcp_pubsub import GcpPubSubConfig, GcpPubSubSource
from headrace_sources.adapters.gcp_pubsub_events import EventFormat
from headrace_sources.source import SourceFault
from tests.support.pubsub_server import (
    PERMISSION_DENIED,
    PROJECT,
    UNAUTHENTICATED,
    UNAVAILABLE,
    PubSubServer,
    pubsub_server_in,
)
from tests.support.sources import RecordingContext, RecordingEmit, running
from tests.support.wait_until import wait_until_async

TOPIC, SUBSCRIPTION = "laconia", "knative-eventing-default-source-uid-1"
DEADLINE = 10


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubServer]:
    """A server with a topic, and an environment that leads there."""
    with pubsub_server_in() as started:
        for name, value in started.env.items():
            monkeypatch.setenv(name, value)
        started.create_topic(TOPIC)
        yield started


@pytest.fixture
def context() -> RecordingContext:
    """A context with real time."""
    return RecordingContext(clock=SystemClock())


def source(context: RecordingContext, **more: object) -> GcpPubSubSource:
    """The source under test."""
    given = {
        "topic": TOPIC,
        "project": PROJECT,
        "subscription": SUBSCRIPTION,
        "ack_deadline_seconds": DEADLINE,
        **more,
    }
    return GcpPubSubSource(GcpPubSubConfig.model_validate(given), context)


async def _subscribed(server: PubSubServer, context: RecordingContext) -> None:
    await wait_until_async(
        lambda: context.conditions.get("PullSubscriptionReady", ("",))[0] is True,
        what="the subscription is ready",
    )
    assert server.subscription(SUBSCRIPTION)


def _texts(events: list[Event]) -> list[str]:
    """What the messages say, in the order in which the sink has taken them."""
    return [json.loads(event.data or b"")["message"]["data"] for event in events]


def _is_extended(server: PubSubServer, times: int) -> bool:
    return len(server.published()[0].deadlines) >= times


def _goes_back(server: PubSubServer, seconds: int) -> bool:
    return server.published()[0].deadlines[-1:] == (seconds,)


async def test_a_message_is_acknowledged_after_the_sink_has_taken_it(
    server: PubSubServer, context: RecordingContext
) -> None:
    """Its id is that of the event. The status names what was created."""
    emit = RecordingEmit()
    async with running(source(context), emit):
        await _subscribed(server, context)
        emit.gate.clear()
        (published,) = server.publish(TOPIC, b"hello", color="red")
        await emit.wait_for_attempts(1)
        assert [each.acks for each in server.published()] == [0]
        emit.gate.set()
        (event,) = await emit.wait_for(1)
        await wait_until_async(server.all_acknowledged, what="it is acknowledged")
    assert event.attributes["id"] == published
    assert [(each.deliveries, each.acks) for each in server.published()] == [(1, 1)]
    assert context.published == {
        "projectId": PROJECT,
        "topicId": TOPIC,
        "subscriptionId": SUBSCRIPTION,
    }


async def test_the_subscription_is_as_the_configuration_says(
    server: PubSubServer, context: RecordingContext
) -> None:
    """It is created once, changed later, and deleted in the end; twice is no error."""
    emit = RecordingEmit()
    async with running(source(context), emit):
        await _subscribed(server, context)
    created = server.subscription(SUBSCRIPTION)
    assert created is not None
    assert created.topic == f"projects/{PROJECT}/topics/{TOPIC}"
    assert created.enable_message_ordering
    assert created.ack_deadline_seconds == DEADLINE
    assert created.message_retention_duration.days == 7
    context.conditions.clear()
    changed = source(
        context, ack_deadline_seconds=60, retention_seconds=86_400, retain_acked_messages=True
    )
    async with running(changed, emit), running(changed, emit):
        await _subscribed(server, context)
        found = server.subscription(SUBSCRIPTION)
        assert found is not None
        assert (found.ack_deadline_seconds, found.retain_acked_messages) == (60, True)
        assert found.message_retention_duration.days == 1
    await source(context).finalize()
    assert server.subscriptions() == []
    await source(context).finalize()


async def test_the_deadline_is_extended_while_the_sink_works(
    server: PubSubServer, context: RecordingContext
) -> None:
    """A message that takes longer than its deadline is not delivered again."""
    emit = RecordingEmit()
    async with running(source(context), emit):
        await _subscribed(server, context)
        emit.gate.clear()
        server.publish(TOPIC, b"slow")
        await emit.wait_for_attempts(1)
        for count in (1, 2):
            await wait_until_async(
                partial(_is_extended, server, count), what="the deadline is extended"
            )
            server.advance(DEADLINE - 5)
        emit.gate.set()
        await emit.wait_for(1)
        await wait_until_async(server.all_acknowledged)
    assert server.published()[0].deliveries == 1
    assert set(server.published()[0].deadlines) == {DEADLINE}


async def test_what_the_sink_has_not_taken_is_delivered_again_later(
    server: PubSubServer, context: RecordingContext
) -> None:
    """After a time that grows, never at once, with the same id."""
    emit = RecordingEmit()
    emit.refuse = 2
    async with running(source(context), emit):
        await _subscribed(server, context)
        server.publish(TOPIC, b"refused")
        for attempt, wait in ((1, 10), (2, 20)):
            await emit.wait_for_attempts(attempt)
            await wait_until_async(partial(_goes_back, server, wait), what="it goes back")
            assert server.published()[0].deliveries == attempt
            server.advance(wait - 1)
            assert emit.attempts == attempt
            server.advance(2)
        await emit.wait_for(1)
        await wait_until_async(server.all_acknowledged)
    assert emit.attempts == 3
    assert 0 not in server.published()[0].deadlines


async def test_messages_of_one_ordering_key_stay_in_order(
    server: PubSubServer, context: RecordingContext
) -> None:
    """Also when one of them is not taken at first; the key is the partition key."""
    emit = RecordingEmit()
    async with running(source(context), emit):
        await _subscribed(server, context)
        emit.refuse = 1
        server.publish(TOPIC, *(str(number).encode() for number in range(5)), key="k")
        await emit.wait_for_attempts(1)
        await wait_until_async(lambda: 10 in server.published()[0].deadlines, what="it goes back")
        server.publish(TOPIC, b"other", key="l")
        await emit.wait_for(1)
        assert emit.events[0].attributes["partitionkey"] == "l"
        server.advance(11)
        await emit.wait_for(6)
        await wait_until_async(server.all_acknowledged)
    of_key = [each for each in emit.events if each.attributes["partitionkey"] == "k"]
    assert _texts(of_key) == ["MA==", "MQ==", "Mg==", "Mw==", "NA=="]


async def test_what_is_held_is_bounded(
    server: PubSubServer, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest stays at Pub/Sub until there is room."""
    monkeypatch.setattr(gcp_pubsub_stream, "MESSAGES_MAX", 5)
    emit = RecordingEmit()
    emit.gate.clear()
    async with running(source(context), emit):
        await _subscribed(server, context)
        server.publish(TOPIC, *(b"x" for _ in range(20)))
        await emit.wait_for_attempts(5)
        await wait_until_async(
            lambda: sum(bool(each.deadlines) for each in server.published()) == 5,
            what="those that are held are extended",
        )
        assert emit.attempts == 5
        emit.gate.set()
        await emit.wait_for(20)
        await wait_until_async(server.all_acknowledged)
    assert len({event.attributes["id"] for event in emit.events}) == 20


async def test_two_processes_share_the_subscription(
    server: PubSubServer, context: RecordingContext
) -> None:
    """When one stops, the other has at once what it held, before any deadline."""
    first, second = RecordingEmit(), RecordingEmit()
    first.gate.clear()
    async with running(source(context), first) as task:
        await _subscribed(server, context)
        server.publish(TOPIC, *(b"x" for _ in range(20)))
        await first.wait_for_attempts(20)
        async with running(source(context), second):
            task.cancel()
            await second.wait_for(20, DEADLINE / 2)
            await wait_until_async(server.all_acknowledged)
    assert len({event.attributes["id"] for event in second.events}) == 20
    assert first.events == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (UNAUTHENTICATED, "CredentialsRefused"),
        (PERMISSION_DENIED, "PermissionDenied"),
        (UNAVAILABLE, "Unavailable"),
    ],
)
async def test_a_refusal_is_a_fault_within_seconds(
    server: PubSubServer, context: RecordingContext, code: int, reason: str
) -> None:
    """It says what was done, and what to do. A source that was never subscribed can be deleted."""
    server.refuse("CreateSubscription", code)
    server.refuse("DeleteSubscription", code)
    async with asyncio.timeout(5):
        with pytest.raises(SourceFault, match=f"creating projects/{PROJECT}") as raised:
            await source(context).run(RecordingEmit())
        assert raised.value.reason == reason
        assert raised.value.condition == "PullSubscriptionReady"
        await source(context).finalize()
    context.publish(subscriptionId=SUBSCRIPTION)
    with pytest.raises(SourceFault, match="deleting"):
        await source(context).finalize()


async def test_refused_acknowledgements_are_a_fault(
    server: PubSubServer, context: RecordingContext
) -> None:
    """Of which nothing is lost: the message is delivered again."""
    server.refuse("Acknowledge", PERMISSION_DENIED)
    server.create_subscription(SUBSCRIPTION, TOPIC)
    server.publish(TOPIC, b"x")
    async with asyncio.timeout(10):
        with pytest.raises(SourceFault, match="acknowledging") as raised:
            await source(context).run(RecordingEmit())
    assert raised.value.reason == "PermissionDenied"
    server.refuse("Acknowledge", 0)
    emit = RecordingEmit()
    async with running(source(context), emit):
        server.advance(DEADLINE + 1)
        await emit.wait_for(1)
        await wait_until_async(server.all_acknowledged)


async def test_acknowledgements_are_sent_again_after_an_outage(
    server: PubSubServer, context: RecordingContext
) -> None:
    """Without emitting again."""
    server.refuse("Acknowledge", UNAVAILABLE)
    emit = RecordingEmit()
    async with running(source(context), emit):
        await _subscribed(server, context)
        server.publish(TOPIC, b"x")
        await emit.wait_for(1)
        server.refuse("Acknowledge", 0)
        await wait_until_async(server.all_acknowledged)
    assert emit.attempts == 1


async def test_a_server_that_is_gone_is_a_fault_within_seconds(
    monkeypatch: pytest.MonkeyPatch, context: RecordingContext
) -> None:
    """After a few attempts to reach it again; its address is named."""
    with pubsub_server_in() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        server.create_topic(TOPIC)
        task = asyncio.create_task(source(context).run(RecordingEmit()))
        await _subscribed(server, context)
    with pytest.raises(SourceFault, match=server.address) as raised:
        await asyncio.wait_for(task, 20)
    assert raised.value.reason == "Unavailable"


async def test_a_missing_topic_is_named(server: PubSubServer, context: RecordingContext) -> None:
    """It is not created: a name may be wrong."""
    with pytest.raises(SourceFault, match="check project and topic") as raised:
        await source(context, topic="laconic").run(RecordingEmit())
    assert raised.value.reason == "NotFound"


async def test_a_subscription_of_another_topic_is_left_alone(
    server: PubSubServer, context: RecordingContext
) -> None:
    """Another client may read it."""
    server.create_topic("other")
    server.create_subscription(SUBSCRIPTION, "other")
    with pytest.raises(SourceFault, match="belongs to projects/project-1/topics/other") as raised:
        await source(context).run(RecordingEmit())
    assert raised.value.reason == "SubscriptionTaken"


async def test_a_subscription_that_is_deleted_meanwhile_is_a_fault(
    server: PubSubServer, context: RecordingContext
) -> None:
    """The next start creates it again."""
    emit = RecordingEmit()
    running_task = asyncio.create_task(source(context).run(emit))
    await _subscribed(server, context)
    emit.gate.clear()
    server.publish(TOPIC, b"x")
    await emit.wait_for_attempts(1)
    server.delete_subscription(SUBSCRIPTION)
    with pytest.raises(SourceFault, match="created again") as raised:
        await asyncio.wait_for(running_task, DEADLINE)
    assert raised.value.reason == "NotFound"


async def test_a_deleted_topic_is_shown_and_the_rest_is_read(
    server: PubSubServer, context: RecordingContext
) -> None:
    """A topic that is created later under its name is another one."""
    server.create_subscription(SUBSCRIPTION, TOPIC)
    server.publish(TOPIC, b"x")
    server.delete_topic(TOPIC)
    emit = RecordingEmit()
    async with running(source(context), emit):
        await emit.wait_for(1)
        await wait_until_async(server.all_acknowledged)
    status, reason, _ = context.conditions["PullSubscriptionReady"]
    assert (status, reason) == (False, "TopicDeleted")


async def test_the_form_of_2019(server: PubSubServer, context: RecordingContext) -> None:
    """For sources of Knative 0.5."""
    emit = RecordingEmit()
    async with running(source(context, event_format=EventFormat.LEGACY), emit):
        await _subscribed(server, context)
        server.publish(TOPIC, b"x")
        (event,) = await emit.wait_for(1)
    assert event.attributes["type"] == "google.pubsub.topic.publish"
    assert json.loads(event.data or b"")["Data"] == "eA=="


async def test_without_a_project_the_fault_says_where_to_name_one(
    server: PubSubServer, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may also come from the environment."""
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(SourceFault, match=r"spec\.project") as raised:
        await source(context, project="").run(RecordingEmit())
    assert raised.value.reason == "ProjectUnknown"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    async with running(source(context, project=""), RecordingEmit()):
        await _subscribed(server, context)
