"""The dispatcher with a real Kafka and failing subscribers: every path of an event after it is
stored.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.adapters.kafka.options import GroupProtocol
from headrace.codec import delivery_state
from headrace.domain.delivery import BackoffPolicy, DeliveryPolicy
from headrace.domain.record import Record
from headrace.domain.routing import Addressable, DeliveryOrder, Destination, Format, Reply
from headrace_dispatcher.limits import SubscriptionLimits
from tests.support.certificates import Authority
from tests.support.dispatcher_harness import kafka_dispatcher_harness
from tests.support.event_builders import record_headers
from tests.support.kafka import KafkaUnderTest
from tests.support.subscriber import (
    ReceivedRequest,
    after,
    hang,
    ok,
    raw,
    reply,
    retry_after,
    serving,
    status,
)
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka


def ids(requests: Sequence[ReceivedRequest]) -> list[str]:
    return [request.headers["ce-id"] for request in requests]


@pytest.mark.clause("D2", "E2")
async def test_delivers_what_the_filter_matches(kafka: KafkaUnderTest) -> None:
    """Matching events arrive with their attributes and data, the others are done without
    a request.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(
            subscriber.url, filters=({"exact": {"type": "wanted"}},)
        )
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a", type=b"wanted", value=b'{"n": 1}')
        await harness.publish(subscription.topic, "b", type=b"other")
        await harness.publish(subscription.topic, "c", type=b"wanted")
        await subscriber.wait_for_requests(2)
        first = subscriber.requests[0]
        assert ["a", "c"] == ids(subscriber.requests)
        assert b'{"n": 1}' == first.body
        assert "reply" == first.headers["prefer"]
        assert "default" == first.headers["kn-namespace"]
        assert not [name for name in first.headers if "headrace" in name]
        await wait_until_async(
            lambda: harness.committed(subscription) == [3], what="all three are committed"
        )


async def test_retries_through_the_retry_topic_and_commits_at_once(kafka: KafkaUnderTest) -> None:
    """A failing event leaves the live lane: its offset is committed while it waits, and a later
    attempt succeeds.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(500), status(500), ok()) as subscriber,
    ):
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await subscriber.wait_for_requests(3)
        assert ["a", "a", "a"] == ids(subscriber.requests)
        await wait_until_async(
            lambda: harness.committed(subscription) == [1], what="the offset is committed"
        )
        retries = [
            delivery_state.read(record.headers)
            for record in await harness.read(subscription.retry_topic, 2)
        ]
        assert [1, 2] == [state.attempt for state in retries]
        assert {f"{subscription.topic}/0/0"} == {state.origin for state in retries}


async def test_exhausted_events_are_in_the_dead_letter_topic(kafka: KafkaUnderTest) -> None:
    """After retry + 1 attempts the event is a dead letter with the reason; other events are not
    delayed.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(500, body=b"broken")) as subscriber,
    ):
        subscription = harness.subscription(
            subscriber.url, delivery=DeliveryPolicy(retry=2, delay_seconds=0.01)
        )
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a", value=b"payload")
        (dead_letter,) = await harness.read(subscription.dead_topic, 1)
        headers = dict(dead_letter.headers)
        assert 3 == len(subscriber.requests)
        assert (b"a", b"payload", b"500", b"YnJva2Vu") == (
            headers["ce_id"],
            dead_letter.value,
            headers["ce_knativeerrorcode"],
            headers["ce_knativeerrordata"],
        )
        assert subscriber.url.encode() == headers["ce_knativeerrordest"]
        assert headers["headrace_reason"].startswith(b"exhausted: ")


@pytest.mark.parametrize("code", [400, 401, 403, 410, 302])
async def test_statuses_that_are_never_retried_go_to_the_dead_letters_at_once(
    kafka: KafkaUnderTest, code: int
) -> None:
    """There is one attempt and one dead letter."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(status(code)) as subscriber:
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        (dead_letter,) = await harness.read(subscription.dead_topic, 1)
        assert 1 == len(subscriber.requests)
        assert str(code).encode() == dict(dead_letter.headers)["ce_knativeerrorcode"]


@pytest.mark.clause("E11")
async def test_dead_letter_sink_is_fed_from_the_topic_until_it_accepts_the_dead_letter(
    kafka: KafkaUnderTest,
) -> None:
    """The sink gets the event with the error extensions, repeatedly until it answers 2xx."""
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(422)) as subscriber,
        serving(status(503), status(503), ok()) as sink,
    ):
        subscription = harness.subscription(
            subscriber.url, dead_letter_sink=Destination(url=sink.url)
        )
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a", value=b"payload")
        await sink.wait_for_requests(3)
        last = sink.requests[-1]
        assert ("a", b"payload", "422") == (
            last.headers["ce-id"],
            last.body,
            last.headers["ce-knativeerrorcode"],
        )
        assert "prefer" not in last.headers


async def test_a_sink_set_later_starts_at_the_oldest_dead_letter(kafka: KafkaUnderTest) -> None:
    """Dead letters written before the sink existed reach it."""
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(400)) as subscriber,
        serving(ok()) as sink,
    ):
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a", "b")
        await harness.read(subscription.dead_topic, 2)
        harness.routes.put(
            replace(subscription, generation=2, dead_letter_sink=Destination(url=sink.url))
        )
        await sink.wait_for_requests(2)
        assert ["a", "b"] == sorted(ids(sink.requests))


@pytest.mark.parametrize("protocol", list(GroupProtocol))
async def test_dispatchers_share_retries_and_dead_letters_of_one_group(
    kafka: KafkaUnderTest, protocol: GroupProtocol
) -> None:
    """Members that read the retry topic and members that read the dead letter topic share a group,
    and each topic has a reader with any assignment.
    """
    async with (
        kafka_dispatcher_harness(kafka, protocol=protocol) as harness,
        serving(*[status(503)] * 40, status(400)) as subscriber,
        serving(ok()) as sink,
    ):
        subscription = harness.subscription(
            subscriber.url, dead_letter_sink=Destination(url=sink.url), breaker=False
        )
        harness.routes.put(subscription)
        first = await harness.dispatcher()
        names = [f"e{number}" for number in range(60)]
        await harness.publish(subscription.topic, *names[:20])
        await sink.wait_for_requests(20)
        second = await harness.dispatcher()
        await harness.publish(subscription.topic, *names[20:40])
        await sink.wait_for_requests(40)
        second.workers[f"subscription/{subscription.uid}"].on_retry_stored()
        await first.drain()
        await harness.publish(subscription.topic, *names[40:])
        await wait_until_async(
            lambda: set(names) == set(ids(sink.requests)),
            timeout=30,
            what="all letters reach the sink",
        )


@pytest.mark.clause("D13", "E4")
async def test_replies_go_to_the_topic_with_a_hop_count(kafka: KafkaUnderTest) -> None:
    """The reply is stored in the reply topic before the event is done, and counts one hop."""
    answer = reply(
        {"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"}, b'{"ok":true}'
    )
    async with kafka_dispatcher_harness(kafka) as harness, serving(answer) as subscriber:
        replies = kafka.create_topic("replies")
        subscription = harness.subscription(subscriber.url, reply=Reply(topic=replies))
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(
            subscription.topic,
            "a",
            traceparent=b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        (stored,) = await harness.read(replies, 1)
        headers = dict(stored.headers)
        assert (b"r1", b"answer", b'{"ok":true}', b"1") == (
            headers["ce_id"],
            headers["ce_type"],
            stored.value,
            headers["headrace_hops"],
        )


@pytest.mark.parametrize("size", [65_536, 65_537, 900_000])
async def test_a_reply_may_be_as_large_as_an_event(kafka: KafkaUnderTest, size: int) -> None:
    """The subscriber is called once, and its reply is stored completely."""
    answer = reply(
        {"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"}, b"x" * size
    )
    async with kafka_dispatcher_harness(kafka) as harness, serving(answer) as subscriber:
        replies = kafka.create_topic("replies")
        subscription = harness.subscription(subscriber.url, reply=Reply(topic=replies))
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        (stored,) = await harness.read(replies, 1)
        assert size == len(stored.value or b"")
        await wait_until_async(
            lambda: harness.committed(subscription) == [1], what="the event is done"
        )
        assert 1 == len(subscriber.requests)


@pytest.mark.parametrize("structured", [False, True])
async def test_a_reply_larger_than_its_broker_accepts_is_a_dead_letter_at_once(
    kafka: KafkaUnderTest, structured: bool
) -> None:
    """The ingress would refuse such an event there too. The subscriber is not called again."""
    attributes = {"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"}
    event = json.dumps({**attributes, "data": "x" * 150_000}).encode()
    answer = (
        status(200, headers=[("Content-Type", "application/cloudevents+json")], body=event)
        if structured
        else reply(attributes, event)
    )
    async with kafka_dispatcher_harness(kafka) as harness, serving(answer) as subscriber:
        replies = kafka.create_topic("replies")
        harness.routes.put(
            Addressable(
                uid="b",
                generation=1,
                epoch=1,
                namespace="n",
                name="b",
                topic=replies,
                event_bytes_max=100_000,
            )
        )
        subscription = harness.subscription(subscriber.url, reply=Reply(topic=replies))
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        (dead_letter,) = await harness.read(subscription.dead_topic, 1)
        assert (
            b"reply-rejected: the reply is larger than the 100000 bytes"
            in dict(dead_letter.headers)["headrace_reason"]
        )
        assert 1 == len(subscriber.requests)


async def test_two_subscriptions_that_answer_each_other_are_throttled_and_named(
    kafka: KafkaUnderTest,
) -> None:
    """Each subscription receives every reply of both: the hop count limits the length of the
    chains, but not their number, which doubles with each hop.
    """
    first_answer, second_answer = (
        reply({"id": each, "type": "x", "source": "/s", "specversion": "1.0"})
        for each in ("one", "two")
    )
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(first_answer) as first,
        serving(second_answer) as second,
    ):
        topic = kafka.create_topic("loop")
        pair = [
            harness.subscription(each.url, topic=topic, reply=Reply(topic=topic))
            for each in (first, second)
        ]
        for each in pair:
            harness.routes.put(each)
        dispatcher = await harness.dispatcher()
        workers = [dispatcher.workers[f"subscription/{each.uid}"] for each in pair]
        await harness.publish(topic, "a")
        await wait_until_async(
            lambda: all(worker.metrics.loop_held.value > 20 for worker in workers),
            timeout=30,
            what="both are slowed down",
        )
        for worker in workers:
            assert all(f"default/{each.name}" in worker.report().loop for each in pair)

        def requests() -> int:
            return len(first.requests) + len(second.requests)

        # Two deliveries of each chain of up to 9 replies come first; after that each subscription
        # lets 10 replies a second through.
        before = 2 ** (SubscriptionLimits().long_hops + 2) - 2
        await wait_until_async(
            lambda: requests() >= before, timeout=30, what="the deliveries before throttling"
        )
        # What the first deliveries had under way may still follow.
        rate = 100.0
        while rate >= 100 and requests() < 2 * before:
            seen, started = requests(), time.monotonic()
            await wait_until_async(
                lambda seen=seen: requests() >= seen + 100,  # type: ignore[misc]
                timeout=60,
                what="deliveries continue",
            )
            rate = 100 / (time.monotonic() - started)
            print(f"{seen} deliveries, then {rate:.0f} a second")
        assert rate < 100


@pytest.mark.clause("E6")
async def test_a_reply_loop_ends_in_a_dead_letter(kafka: KafkaUnderTest) -> None:
    """The hop count stops a subscriber that answers every event with an event of the same
    channel.
    """
    answer = reply({"id": "again", "type": "loop", "source": "/s", "specversion": "1.0"})
    async with kafka_dispatcher_harness(kafka) as harness, serving(answer) as subscriber:
        subscription = harness.subscription(subscriber.url)
        subscription = replace(subscription, reply=Reply(topic=subscription.topic))
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        (dead_letter,) = await harness.read(subscription.dead_topic, 1)
        assert dict(dead_letter.headers)["headrace_reason"].startswith(b"reply-loop: ")
        assert harness.limits.hops_max + 1 == len(subscriber.requests)


@pytest.mark.clause("E5")
async def test_a_reply_to_a_url_is_retried_without_calling_the_subscriber_again(
    kafka: KafkaUnderTest,
) -> None:
    """The subscriber has processed the event, so only the reply is retried."""
    answer = reply({"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"}, b"42")
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(answer) as subscriber,
        serving(status(503), status(503), ok()) as destination,
    ):
        subscription = harness.subscription(subscriber.url, reply=Reply(url=destination.url))
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await destination.wait_for_requests(3)
        assert 1 == len(subscriber.requests)
        assert [("r1", b"42")] * 3 == [
            (request.headers["ce-id"], request.body) for request in destination.requests
        ]
        assert "prefer" not in destination.requests[0].headers


async def test_a_reply_to_https_trusts_the_certificates_of_its_destination(
    kafka: KafkaUnderTest, tmp_path: Path
) -> None:
    """Those of the routing record, as for subscribers; without them the connection is refused."""
    answer = reply({"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"}, b"42")
    authority = Authority(tmp_path)
    certificate = authority.sign("replies")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(answer) as subscriber,
        serving(ok(), tls=tls) as destination,
    ):
        url, policy = f"https://localhost:{destination.port}/", DeliveryPolicy(retry=0)
        trusting = harness.subscription(
            subscriber.url, reply=Reply(url=url, ca_certs=authority.file.read_text())
        )
        distrusting = harness.subscription(
            subscriber.url, topic=trusting.topic, reply=Reply(url=url), delivery=policy
        )
        harness.routes.put(trusting)
        harness.routes.put(distrusting)
        await harness.dispatcher()
        await harness.publish(trusting.topic, "a")
        await destination.wait_for_requests(1)
        assert ("r1", b"42") == (
            destination.requests[0].headers["ce-id"],
            destination.requests[0].body,
        )
        (dead_letter,) = await harness.read(distrusting.dead_topic, 1)
        assert dict(dead_letter.headers)["headrace_reason"].startswith(b"reply-exhausted: ")
        assert 1 == len(destination.requests)


async def test_an_undeliverable_reply_makes_the_original_a_dead_letter_with_the_reply_address(
    kafka: KafkaUnderTest,
) -> None:
    """Control plane E11: the original event is the dead letter, with the destination of the
    reply.
    """
    answer = reply({"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"}, b"42")
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(answer) as subscriber,
        serving(status(500)) as destination,
    ):
        policy = DeliveryPolicy(retry=1, delay_seconds=0.01)
        subscription = harness.subscription(
            subscriber.url, reply=Reply(url=destination.url), delivery=policy
        )
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a", value=b"original")
        (dead_letter,) = await harness.read(subscription.dead_topic, 1)
        headers = dict(dead_letter.headers)
        assert (b"a", b"original", destination.url.encode()) == (
            headers["ce_id"],
            dead_letter.value,
            headers["ce_knativeerrordest"],
        )
        assert headers["headrace_reason"].startswith(b"reply-exhausted: ")


@pytest.mark.clause("E5")
async def test_a_malformed_reply_fails_the_delivery(kafka: KafkaUnderTest) -> None:
    """A 200 with a body that is not a CloudEvent is retried by the policy, then dead-lettered with
    that reason.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(200, body=b"thanks!")) as subscriber,
    ):
        subscription = harness.subscription(
            subscriber.url, delivery=DeliveryPolicy(retry=1, delay_seconds=0.01)
        )
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        (dead_letter,) = await harness.read(subscription.dead_topic, 1)
        assert dict(dead_letter.headers)["headrace_reason"].startswith(b"reply-invalid: ")
        assert 2 == len(subscriber.requests)


@pytest.mark.clause("D16")
async def test_a_body_with_a_202_is_no_reply(kafka: KafkaUnderTest) -> None:
    """Data plane D16."""
    answer = reply({"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"}, code=202)
    async with kafka_dispatcher_harness(kafka) as harness, serving(answer) as subscriber:
        replies = kafka.create_topic("replies")
        subscription = harness.subscription(subscriber.url, reply=Reply(topic=replies))
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await wait_until_async(
            lambda: harness.committed(subscription) == [1], what="the event is done"
        )
        assert [] == await harness.read(replies, 1, timeout=0.5)


@pytest.mark.clause("E7")
async def test_two_subscriptions_without_filters_one_replying_to_a_url(
    kafka: KafkaUnderTest,
) -> None:
    """The data plane does not use kinds: a channel with two plain subscriptions needs only its
    routing records.
    """
    answer = reply({"id": "r1", "type": "answer", "source": "/s", "specversion": "1.0"})
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(answer) as first,
        serving(ok()) as second,
        serving(ok()) as destination,
    ):
        one = harness.subscription(first.url, reply=Reply(url=destination.url))
        two = harness.subscription(second.url, topic=one.topic)
        harness.routes.put(one)
        harness.routes.put(two)
        await harness.dispatcher()
        await harness.publish(one.topic, "a")
        await asyncio.gather(
            first.wait_for_requests(1),
            second.wait_for_requests(1),
            destination.wait_for_requests(1),
        )
        assert "r1" == destination.requests[0].headers["ce-id"]


async def test_ordered_delivery_retries_in_place_and_does_not_delay_other_keys(
    kafka: KafkaUnderTest,
) -> None:
    """Later events of a failing key wait for it, in order; another key continues."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(status(500), ok()) as subscriber:
        policy = DeliveryPolicy(retry=3, delay_seconds=0.5, backoff=BackoffPolicy.LINEAR)
        subscription = harness.subscription(
            subscriber.url, order=DeliveryOrder.ORDERED, delivery=policy
        )
        harness.routes.put(subscription)
        await harness.publish(subscription.topic, "a1", key=b"a")
        await harness.publish(subscription.topic, "a2", "a3", key=b"a")
        await harness.publish(subscription.topic, "b1", key=b"b")
        await harness.dispatcher()
        await subscriber.wait_for_requests(5)
        assert ["a1", "b1", "a1", "a2", "a3"] == ids(subscriber.requests)


async def test_ordered_followers_continue_after_a_dead_letter(kafka: KafkaUnderTest) -> None:
    """After the last attempt the event is dead-lettered and its key continues."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(status(400), ok()) as subscriber:
        subscription = harness.subscription(subscriber.url, order=DeliveryOrder.ORDERED)
        harness.routes.put(subscription)
        await harness.publish(subscription.topic, "a1", "a2", key=b"a")
        await harness.dispatcher()
        await subscriber.wait_for_requests(2)
        assert ["a1", "a2"] == ids(subscriber.requests)
        assert 1 == len(await harness.read(subscription.dead_topic, 1))


@pytest.mark.clause("T4", "E8")
async def test_rules_change_in_place(kafka: KafkaUnderTest) -> None:
    """A new subscriber, filter and format are applied while the consumer stays in its group."""
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(ok()) as old,
        serving(ok()) as new,
    ):
        subscription = harness.subscription(old.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await old.wait_for_requests(1)
        changed = replace(
            subscription,
            generation=2,
            subscriber=Destination(url=new.url),
            filters=({"prefix": {"type": "new."}},),
            format=Format.JSON,
        )
        harness.routes.put(changed)
        await harness.publish(subscription.topic, "b", type=b"old.kind")
        await harness.publish(subscription.topic, "c", type=b"new.kind")
        await new.wait_for_requests(1)
        assert "c" == json.loads(new.requests[0].body)["id"]
        assert new.requests[0].headers["content-type"].startswith("application/cloudevents+json")
        assert 1 == len(old.requests)


async def test_a_removed_subscription_stops_within_a_second(kafka: KafkaUnderTest) -> None:
    """No request starts more than a second after the tombstone."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await subscriber.wait_for_requests(1)
        harness.routes.remove(subscription)
        await harness.publish(subscription.topic, *(f"b{number}" for number in range(50)))
        await wait_until_async(
            lambda: harness.committed(subscription) == [1], what="the group is left with its offset"
        )
        assert 1 == len(subscriber.requests)


async def test_retry_after_is_honoured(kafka: KafkaUnderTest) -> None:
    """The second attempt starts no sooner than the subscriber requested."""
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(retry_after("2"), ok()) as subscriber,
    ):
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await subscriber.wait_for_requests(2)
        first, second = subscriber.requests
        assert 1.9 <= second.arrived_at - first.arrived_at < 4.0


async def test_an_attempt_ends_at_its_deadline(kafka: KafkaUnderTest) -> None:
    """A subscriber that never answers takes the timeout and no longer."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(hang(), ok()) as subscriber:
        policy = DeliveryPolicy(retry=1, delay_seconds=0.01, timeout_seconds=0.5)
        subscription = harness.subscription(subscriber.url, delivery=policy)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await subscriber.wait_for_requests(2)
        first, second = subscriber.requests
        assert 0.45 <= second.arrived_at - first.arrived_at < 2.0


async def test_a_long_delay_uses_a_delay_topic(kafka: KafkaUnderTest) -> None:
    """A record that is due after more than 10 s is in a delay topic meanwhile, and the attempt is
    not early.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(503, headers=[("Retry-After", "12")]), ok()) as subscriber,
    ):
        delays = harness.delays(10)
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(delays)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await subscriber.wait_for_requests(1)
        await wait_until_async(
            lambda: harness.committed(subscription) == [1],
            what="the offset is committed while the event waits",
        )
        await subscriber.wait_for_requests(2, timeout_seconds=20)
        first, second = subscriber.requests
        assert 12.0 <= second.arrived_at - first.arrived_at < 15.0
        assert 1 == len(await harness.read(subscription.retry_topic, 1))


async def test_a_record_that_is_no_event_is_kept_as_a_dead_letter(kafka: KafkaUnderTest) -> None:
    """Raw bytes and headers are kept, with the reason; the partition continues."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a", type=b"")
        await harness.publish(subscription.topic, "b")
        (dead_letter,) = await harness.read(subscription.dead_topic, 1)
        await subscriber.wait_for_requests(1)
        assert ["b"] == ids(subscriber.requests)
        assert dict(dead_letter.headers)["headrace_reason"].startswith(b"unreadable: ")


async def test_a_retry_record_of_another_subscription_is_dead_lettered(
    kafka: KafkaUnderTest,
) -> None:
    """When it is created again with the same name, records of the older subscription are not
    delivered.
    """
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(500)) as failing,
        serving(ok()) as subscriber,
    ):
        old = harness.subscription(failing.url, delivery=DeliveryPolicy(retry=5, delay_seconds=5))
        harness.routes.put(old)
        await harness.dispatcher()
        await harness.publish(old.topic, "a")
        await harness.read(old.retry_topic, 1)
        harness.routes.remove(old)
        new = replace(old, uid="another", subscriber=Destination(url=subscriber.url))
        harness.routes.put(new)
        (dead_letter,) = await harness.read(new.dead_topic, 1)
        assert dict(dead_letter.headers)["headrace_reason"].startswith(b"misdirected: ")
        assert [] == subscriber.requests


@pytest.mark.clause("D9")
async def test_an_outage_costs_lag_and_no_dead_letters(kafka: KafkaUnderTest) -> None:
    """While all attempts fail, the breaker lets one probe through at a time. After the outage
    everything is delivered.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(status(503)) as subscriber:
        policy = DeliveryPolicy(retry=10, delay_seconds=0.1)
        subscription = harness.subscription(subscriber.url, delivery=policy)
        harness.routes.put(subscription)
        dispatcher = await harness.dispatcher()
        names = [f"e{number}" for number in range(300)]
        await harness.publish(subscription.topic, *names)
        worker = dispatcher.workers[f"subscription/{subscription.uid}"]
        await wait_until_async(
            # Attempts that were on their way when it opens still arrive.
            lambda: (
                worker.report().breaker
                and time.monotonic() - subscriber.requests[-1].arrived_at > 0.3
            ),
            timeout=20,
            what="the breaker opens",
        )
        held = len(subscriber.requests)
        await asyncio.sleep(2.5)
        assert len(subscriber.requests) - held <= 3
        subscriber.answer_with(ok())
        await wait_until_async(
            lambda: set(names) <= set(ids(subscriber.requests[held:])),
            timeout=40,
            what="all are delivered",
        )
        assert [] == await harness.read(subscription.dead_topic, 1, timeout=0.5)


async def test_a_garbled_answer_is_a_failed_attempt(kafka: KafkaUnderTest) -> None:
    """A response that is not HTTP is a failure and is retried."""
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(raw(b"nonsense\r\n\r\n", close=True), ok()) as subscriber,
    ):
        subscription = harness.subscription(subscriber.url)
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await subscriber.wait_for_requests(2)


@pytest.mark.parametrize("protocol", list(GroupProtocol))
async def test_dispatchers_share_partitions_and_hand_over_without_repeating(
    kafka: KafkaUnderTest, protocol: GroupProtocol
) -> None:
    """A second dispatcher joins and the first leaves under load: every event arrives, and drained
    events arrive once.
    """
    async with (
        kafka_dispatcher_harness(kafka, protocol=protocol) as harness,
        serving(after(0.01, ok())) as subscriber,
    ):
        subscription = harness.subscription(subscriber.url, partitions=4)
        harness.routes.put(subscription)
        first = await harness.dispatcher()
        names = [f"e{number}" for number in range(600)]
        for start in range(0, 200, 20):
            await harness.publish(subscription.topic, *names[start : start + 20])
        await subscriber.wait_for_requests(100)
        second = await harness.dispatcher()
        for start in range(200, 400, 20):
            await harness.publish(subscription.topic, *names[start : start + 20])
        key = f"subscription/{subscription.uid}"
        await wait_until_async(
            lambda: len(second.workers[key].lag()) == 2,
            timeout=20,
            what="the second has half of the partitions",
        )
        for start in range(400, 600, 20):
            await harness.publish(subscription.topic, *names[start : start + 20])
        await first.drain()
        await wait_until_async(
            lambda: set(names) <= set(ids(subscriber.requests)),
            timeout=30,
            what="all events arrive",
        )
        await wait_until_async(
            lambda: sum(harness.committed(subscription, partitions=4)) == 600,
            what="all is committed",
        )
        assert len(names) == len(subscriber.requests)


async def test_a_slow_subscriber_keeps_its_partitions_no_longer_than_the_drain(
    kafka: KafkaUnderTest,
) -> None:
    """Requests that cannot be finished in time are cancelled, and the next owner delivers their
    events: at worst twice, never lost.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(hang()) as subscriber:
        subscription = harness.subscription(
            subscriber.url, delivery=DeliveryPolicy(timeout_seconds=60)
        )
        harness.routes.put(subscription)
        first = await harness.dispatcher()
        await harness.publish(subscription.topic, "a")
        await subscriber.wait_for_requests(1)
        subscriber.answer_with(ok())
        await first.drain()
        await harness.dispatcher()
        await subscriber.wait_for_requests(2)
        assert ["a", "a"] == ids(subscriber.requests)
        await wait_until_async(
            lambda: harness.committed(subscription) == [1], what="the second delivery is committed"
        )


@pytest.mark.clause("D12")
async def test_filter_errors_are_counted_by_kind(kafka: KafkaUnderTest) -> None:
    """An expression that fails matches nothing, and is counted in the metrics."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(
            subscriber.url, filters=({"cesql": "missing = 'x' OR INT(subject) = 1"},)
        )
        harness.routes.put(subscription)
        await harness.dispatcher()
        await harness.publish(subscription.topic, "a", subject=b"no number")
        await wait_until_async(
            lambda: harness.committed(subscription) == [1], what="the event is filtered out"
        )
        page = harness.metrics[0].expose()[0].decode()
        labels = f'kind="",name="{subscription.name}",namespace="default"'
        assert f'headrace_filter_errors_total{{error="missingAttribute",{labels}}} 1.0' in page
        assert [] == subscriber.requests


async def test_an_event_about_to_expire_is_reported_before_it_does(kafka: KafkaUnderTest) -> None:
    """As soon as the oldest event has used half of the retention, the state contains the used
    fraction.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(status(500)) as subscriber:
        policy = DeliveryPolicy(retry=100, delay_seconds=60.0)
        subscription = harness.subscription(
            subscriber.url, order=DeliveryOrder.ORDERED, delivery=policy, retention_seconds=2.0
        )
        harness.routes.put(subscription)
        dispatcher = await harness.dispatcher()
        await harness.publish(subscription.topic, "a", key=b"k")
        worker = dispatcher.workers[f"subscription/{subscription.uid}"]
        await wait_until_async(lambda: worker.report().retention_used >= 50, what="the alarm")
        page = harness.metrics[0].expose()[0].decode()
        assert (
            f'headrace_retention_used_ratio{{kind="",name="{subscription.name}",'
            'namespace="default"}' in page
        )


async def test_expired_events_are_counted_and_reported(
    kafka: KafkaUnderTest,
) -> None:
    """Records were deleted before the group read them: the state contains their number, and the
    remaining records are delivered.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(subscriber.url)
        await harness.publish(subscription.topic, "a", "b", "c")
        harness.delete_records(subscription.topic, before=2)
        harness.routes.put(subscription)
        dispatcher = await harness.dispatcher()
        await subscriber.wait_for_requests(1)
        assert ["c"] == ids(subscriber.requests)
        assert 2 == dispatcher.workers[f"subscription/{subscription.uid}"].report().expired


async def test_data_and_replies_that_are_slow_to_parse_block_nothing(
    kafka: KafkaUnderTest,
) -> None:
    """An unclosed string of escaped quotes inside 101 arrays: as stored data in the JSON format,
    and as a reply.
    """
    slow = b"[" * 101 + b'"' + b'\\"' * 450_000
    structured = [("Content-Type", "application/cloudevents+json")]
    bad_reply = status(200, headers=structured, body=slow[:65_536])
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(ok(), bad_reply, ok()) as subscriber,
    ):
        subscription = harness.subscription(
            subscriber.url, format=Format.JSON, delivery=DeliveryPolicy(retry=0)
        )
        harness.routes.put(subscription)
        await harness.dispatcher()
        stored: list[object] = []
        harness.log.append(
            subscription.topic,
            Record(None, slow, record_headers(("content-type", b"application/json"))),
            stored.append,
        )
        await harness.publish(subscription.topic, "b", "c")
        await subscriber.wait_for_requests(3)
        assert [None] == stored
        [dead_letter] = await harness.read(subscription.dead_topic, 1)
        assert (
            "malformed reply"
            in dict(dead_letter.headers)["ce_knativeerrordata"].decode()
            + delivery_state.read(dead_letter.headers).reason
        )
