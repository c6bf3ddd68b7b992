"""What the ingress decides about a request: its addressable, whether it is accepted, and the
metrics.
"""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.domain.errors import LogUnavailable
from headrace.domain.routing import Format
from headrace.runtime.loading import load
from headrace.runtime.settings import BadSettings
from headrace_ingress.settings import IngressSettings
from tests.support.wait_until import wait_until_async
from tests.unit.ingress.harness import (
    ATTRIBUTES,
    TOPIC,
    IngressHarness,
    ingress_harness,
    request,
    talk,
)

BATCH = ((b"Content-Type", b"application/cloudevents-batch+json"),)


def event(number: int, **members: Any) -> dict[str, Any]:
    """Return one event of a batch."""
    return {"specversion": "1.0", "id": str(number), "source": "/", "type": "t", **members}


def batch(*events: dict[str, Any]) -> bytes:
    """Return a request with these events."""
    return request(json.dumps(events).encode(), fields=BATCH)


async def post(running: IngressHarness, raw: bytes) -> tuple[int, dict[str, Any]]:
    """Send a request; return status and problem document (empty for a success)."""
    answer = await talk(running.ingress.port, raw)
    body = answer.partition(b"\r\n\r\n")[2]
    return int(answer[9:12]), json.loads(body) if body else {}


async def test_the_record_is_the_event_with_its_time_of_arrival() -> None:
    """Attributes become `ce_` headers, the data is unchanged, the partition key is the key of the
    record, and the time of arrival is in RFC 3339 format.
    """
    async with ingress_harness() as running:
        raw = request(
            b'{"a": 1.0}',
            fields=(
                *ATTRIBUTES,
                (b"ce-partitionkey", b"k"),
                (b"Content-Type", b"application/json"),
                (b"Authorization", b"x"),
            ),
        )
        assert (202, {}) == await post(running, raw)
        [[record]] = running.log.topics[TOPIC]
        headers = dict(record.headers)
        assert (b"k", b'{"a": 1.0}') == (record.key, record.value)
        assert re.fullmatch(
            rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", headers.pop("ce_knativearrivaltime")
        )
        assert {
            "ce_specversion": b"1.0",
            "ce_id": b"7",
            "ce_source": b"/shops/1",
            "ce_type": b"order.placed",
            "ce_partitionkey": b"k",
            "content-type": b"application/json",
        } == headers


async def test_a_host_of_its_own_is_an_address_too() -> None:
    """If the path is unknown, the request is looked up by Host, without port and regardless of
    case.
    """
    async with ingress_harness() as running:
        running.add("letters", hosts=("letters-kn-channel.shop.svc.cluster.local",))
        await running.follower.refresh(1)
        raw = request(target=b"/", host=b"Letters-kn-channel.shop.svc.cluster.local:8080")
        assert (202, {}) == await post(running, raw)


async def test_a_broker_made_a_moment_ago_is_found() -> None:
    """A request for a path that the table does not contain yet is answered after the table has been
    read to its end.
    """
    async with ingress_harness() as running:
        await post(running, request())
        running.add("fresh")
        assert (202, {}) == await post(running, request(target=b"/shop/fresh"))


class ScriptedRoutes:
    """Routes whose refresh returns what the test sets."""

    def __init__(self, running: IngressHarness, outcome: Callable[[], bool]) -> None:
        self._outcome = outcome
        self.refreshes = 0
        running.follower.refresh = self.refresh  # type: ignore[method-assign]

    async def refresh(self, timeout_seconds: float) -> bool:
        """Wait for one iteration of the loop, then answer."""
        del timeout_seconds
        self.refreshes += 1
        await asyncio.sleep(0.01)
        outcome = self._outcome()
        await asyncio.sleep(0)  # what the outcome has added to the table is applied
        return outcome


def away() -> bool:
    """A refresh that fails."""
    raise LogUnavailable("no broker answers")


@pytest.mark.parametrize("outcome", [lambda: False, away])
async def test_an_unknown_path_is_no_404_while_the_table_may_be_old(
    outcome: Callable[[], bool],
) -> None:
    """When the table cannot be read to its end, the response asks the sender to try again."""
    async with ingress_harness() as running:
        ScriptedRoutes(running, outcome)
        status, document = await post(running, request(target=b"/shop/unknown"))
        assert (503, "urn:headrace:problem:routes-uncertain") == (status, document["type"])


def broken() -> bool:
    """A refresh with a bug."""
    raise RuntimeError("a mistake")


async def test_a_failed_refresh_answers_waiting_requests_and_the_next_request_retries() -> None:
    """All requests get a 503 with Retry-After, and the error is logged once. After the failure, a
    404 is certain again.
    """
    async with ingress_harness() as running:
        fixed = False
        ScriptedRoutes(running, lambda: fixed or broken())
        unknown = request(target=b"/shop/unknown")
        with capture_logs() as logs:
            answers = await asyncio.gather(*(talk(running.ingress.port, unknown) for _ in range(5)))
            assert 503 == (await post(running, unknown))[0]
        assert all(
            answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer.lower()
            for answer in answers
        )
        assert 1 == sum(each["log_level"] == "error" for each in logs)
        fixed = True
        assert 404 == (await post(running, unknown))[0]


async def test_a_waiting_request_that_cannot_be_handled_leaves_no_other_unanswered() -> None:
    """It gets a 503, and the others get their responses."""
    async with ingress_harness() as running:

        def appended() -> bool:
            running.add("fresh")
            return True

        door: Any = running.log
        append = door.append

        def first_breaks(*arguments: Any) -> None:
            door.append = append
            raise RuntimeError("a mistake")

        ScriptedRoutes(running, appended)
        door.append = first_breaks
        fresh = request(target=b"/shop/fresh")
        answers = await asyncio.gather(*(post(running, fresh) for _ in range(3)))
        assert [202, 202, 503] == sorted(status for status, _ in answers)


async def test_requests_for_unknown_paths_share_a_refresh() -> None:
    """Fifty concurrent requests do not cause fifty reads. Each still gets a refresh that began
    after it arrived.
    """
    async with ingress_harness() as running:
        routes = ScriptedRoutes(running, lambda: True)
        answers = await asyncio.gather(
            *(post(running, request(target=b"/shop/unknown")) for _ in range(50))
        )
        assert {404} == {status for status, _ in answers}
        assert routes.refreshes < 10


async def test_nothing_is_404_before_the_table_was_read() -> None:
    """Until then, every address may exist."""
    async with ingress_harness(started=False) as running:
        gate = asyncio.Event()
        start = running.follower.start

        async def slow_start() -> None:
            await gate.wait()
            await start()

        running.follower.start = slow_start  # type: ignore[method-assign]
        starting = asyncio.create_task(running.ingress.start())
        await asyncio.sleep(0)
        status, document = await post(running, request())
        assert (503, "urn:headrace:problem:not-ready") == (status, document["type"])
        assert not running.ingress.ready()
        gate.set()
        await starting
        assert running.ingress.ready()
        assert (202, {}) == await post(running, request())


async def test_a_batch_is_acknowledged_when_all_of_it_is_stored() -> None:
    """Every event becomes a record. An empty batch is accepted and stores nothing."""
    async with ingress_harness() as running:
        assert (202, {}) == await post(running, batch(event(1), event(2, data={"x": 1}), event(3)))
        assert [b"1", b"2", b"3"] == [
            dict(record.headers)["ce_id"] for record in running.log.topics[TOPIC][0]
        ]
        assert 3 == running.metric("headrace_ingress_event_size_bytes_count", name="orders")
        assert (202, {}) == await post(running, batch())


async def test_a_batch_with_one_bad_event_stores_nothing() -> None:
    """The whole batch is checked first. The response names the event and the attribute."""
    async with ingress_harness() as running:
        status, document = await post(running, batch(event(1), event(2, source=""), event(3)))
        assert (400, 1, "source") == (status, document["index"], document["attribute"])
        assert [[]] == running.log.topics[TOPIC]


async def test_a_batch_has_limits_of_events_and_bytes_and_per_event() -> None:
    """The 413 contains the limit that was exceeded."""
    async with ingress_harness(batch_events_max=2, batch_bytes_max=65_536) as running:
        status, document = await post(running, batch(event(1), event(2), event(3)))
        assert (413, 2) == (status, document["limit"])
        status, document = await post(running, batch(event(1, data="x" * 70_000)))
        assert (413, 65_536) == (status, document["limit"])
        running.add("orders", event_bytes_max=500)
        await running.follower.refresh(1)
        status, document = await post(running, batch(event(1), event(2, data="x" * 600)))
        assert (413, 500, 1) == (status, document["limit"], document["index"])
        assert [[]] == running.log.topics[TOPIC]


async def test_records_are_structured_where_the_address_says_so() -> None:
    """From each content mode, one event or a batch. The limit is that of the record."""
    async with ingress_harness() as running:
        running.add("orders", format=Format.JSON, event_bytes_max=500)
        await running.follower.refresh(1)
        data = b'{"a": 1.0}'
        fields = (
            *ATTRIBUTES,
            (b"ce-partitionkey", b"k"),
            (b"Content-Type", b"application/json"),
            (b"traceparent", b"00-1-2-01"),
        )
        assert (202, {}) == await post(running, request(data, fields=fields))
        assert (202, {}) == await post(running, batch(event(1), event(2, data="x")))
        records = [each for part in running.log.topics[TOPIC] for each in part]
        assert records[0].key == b"k"
        assert dict(records[0].headers) == {
            "content-type": b"application/cloudevents+json",
            "traceparent": b"00-1-2-01",
        }
        assert b'"data":{"a": 1.0}}' in (records[0].value or b"")
        found = [json.loads(each.value or b"") for each in records]
        assert [each["id"] for each in found] == ["7", "1", "2"]
        assert found[0]["partitionkey"] == "k"
        assert found[0]["knativearrivaltime"].endswith("Z")
        binary = (*ATTRIBUTES, (b"Content-Type", b"application/octet-stream"))
        status, document = await post(running, request(bytes(330), fields=binary))
        assert (413, 500) == (status, document["limit"])
        large = event(2, data_base64="A" * 400)
        status, document = await post(running, batch(event(1), large))
        assert (413, 1) == (status, document["index"])
        assert len(records) == sum(map(len, running.log.topics[TOPIC]))


@pytest.mark.parametrize("budget", ["topic_bytes_max", "bytes_max"])
def test_a_batch_that_could_never_be_on_its_way_is_refused_by_the_settings(budget: str) -> None:
    """The message contains both names. Equal values are allowed."""
    size = 4 * 1_048_576
    with pytest.raises(
        BadSettings, match=f"HEADRACE_INGRESS_BATCH_BYTES_MAX .* HEADRACE_INGRESS_{budget.upper()} "
    ):
        load(IngressSettings, batch_bytes_max=size + 1, **{budget: size})
    assert size == load(IngressSettings, batch_bytes_max=size, **{budget: size}).batch_bytes_max


@pytest.mark.parametrize(("events", "header_bytes"), [(1_000, 8_000), (200, 8_000), (1_000, 4_000)])
async def test_headers_that_travel_are_counted_for_every_event_of_a_batch(
    events: int, header_bytes: int
) -> None:
    """75 kB would become up to 13 MiB in Kafka. The batch is refused before the first append, with
    the limit, so that retries do not store a part of it again and again.
    """
    async with ingress_harness(topic_bytes_max=2 * 1_048_576) as running:
        trace = (b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01")
        fields = (*BATCH, trace, (b"tracestate", b"a=" + b"x" * header_bytes))
        body = json.dumps([event(number) for number in range(events)]).encode()
        status, document = await post(running, request(body, fields=fields))
        assert (413, 1_048_576) == (status, document["limit"])
        assert "copy of the headers" in document["detail"]
        assert [[]] == running.log.topics[TOPIC]


def test_a_batch_whose_size_is_taken_fits_the_budgets_of_the_log() -> None:
    """With all settings, the limit of the stored bytes is never above the smallest budget."""
    mebibyte = 1_048_576
    for topic, total, body in ((16, 64, 1), (2, 64, 2), (64, 2, 1), (4, 4, 3)):
        settings = IngressSettings(
            topic_bytes_max=topic * mebibyte,
            bytes_max=total * mebibyte,
            batch_bytes_max=body * mebibyte,
        )
        assert body * mebibyte <= settings.batch_stored_bytes_max <= min(topic, total) * mebibyte


async def test_a_batch_that_is_stored_in_part_is_a_503() -> None:
    """When the budget ends in the middle of a batch the response asks the sender to send all of it
    again.
    """
    async with ingress_harness() as running:
        running.log.topic_bytes_max = 1_000
        events = [event(number, data="x" * 400) for number in range(4)]
        status, document = await post(running, batch(*events))
        assert (503, "urn:headrace:problem:backlog-full") == (status, document["type"])


async def test_a_topic_that_is_full_refuses_and_the_other_does_not() -> None:
    """When the byte budget of one topic is used up, only its own senders get a 503. Its events are
    accepted again when there is capacity.
    """
    async with ingress_harness() as running:
        running.log.create("other")
        running.add("other", topic="other")
        await running.follower.refresh(1)
        running.log.topic_bytes_max = 2_000
        running.log.hold()
        waiting = [asyncio.create_task(post(running, request(b"x" * 1_500)))]
        await wait_until_async(lambda: running.log.waiting == 1, what="one is on its way")
        status, document = await post(running, request(b"x" * 1_500))
        assert (503, 2_000) == (status, document["limit"])
        waiting.append(
            asyncio.create_task(post(running, request(b"x" * 1_500, target=b"/shop/other")))
        )
        await wait_until_async(lambda: running.log.waiting == 2, what="the other topic takes one")
        running.log.release()
        assert [(202, {}), (202, {})] == await asyncio.gather(*waiting)
        assert (202, {}) == await post(running, request(b"x" * 1_500))


async def test_a_changed_limit_holds_for_the_next_event() -> None:
    """A change of a routing record needs no restart, although addresses are cached."""
    async with ingress_harness() as running:
        assert (202, {}) == await post(running, request(b"x" * 600))
        running.add("orders", event_bytes_max=500)
        await running.follower.refresh(1)
        assert 413 == (await post(running, request(b"x" * 600)))[0]
        running.routes.append("addressable/orders", None)
        await running.follower.refresh(1)
        assert 404 == (await post(running, request()))[0]


async def test_what_is_taken_and_refused_is_counted() -> None:
    """Accepted events, their bytes and times are counted by addressable, and refusals by reason.
    Labels come only from the routing table.
    """
    async with ingress_harness() as running:
        running.add(kind="Broker")
        await running.follower.refresh(1)
        await post(running, request(b"x" * 100))
        await post(running, request(fields=()))
        await post(running, request(target=b"/shop/unknown"))
        labels = {"kind": "Broker", "namespace": "shop", "name": "orders"}
        assert 1 == running.metric("headrace_ingress_events_accepted_total", **labels)
        assert 100 == running.metric("headrace_ingress_event_bytes_total", **labels)
        assert 1 == running.metric("headrace_ingress_stored_seconds_count", **labels)
        assert 1 == running.metric("headrace_ingress_event_size_bytes_bucket", le="256.0", **labels)
        assert 1 == running.metric(
            "headrace_ingress_refused_total", reason="invalid-event", code="4xx", **labels
        )
        assert 1 == running.metric(
            "headrace_ingress_refused_total",
            reason="unknown-address",
            code="4xx",
            kind="",
            namespace="",
            name="",
        )


async def test_addressables_of_one_name_and_two_kinds_have_their_own_time_series() -> None:
    """This also holds if the kind becomes known later: a record of an older version has no kind."""
    accepted = "headrace_ingress_events_accepted_total"
    async with ingress_harness() as running:
        assert (202, {}) == await post(running, request())
        assert 1 == running.metric(accepted, kind="", name="orders")
        running.add(kind="Broker")
        running.add(uid="channel", kind="Channel", paths=("/channels/orders",))
        await running.follower.refresh(1)
        for target in (b"/shop/orders", b"/channels/orders", b"/channels/orders"):
            assert (202, {}) == await post(running, request(target=target))
        assert (0, 1, 2) == tuple(
            running.metric(accepted, kind=kind, name="orders") for kind in ("", "Broker", "Channel")
        )
        assert "unknown" not in running.metrics.expose()[0].decode().replace("unknown-address", "")


async def test_draining_answers_requests_in_flight() -> None:
    """A request whose event is being stored gets its 202 before the port is closed, and its
    connection is closed.
    """
    async with ingress_harness() as running:
        running.log.hold()
        answer = asyncio.create_task(talk(running.ingress.port, request()))
        await wait_until_async(lambda: running.log.waiting == 1, what="the event is on its way")
        draining = asyncio.create_task(running.ingress.drain())
        await asyncio.sleep(0)
        assert not running.ingress.ready()
        running.log.release()
        await draining
        raw = await answer
        assert raw.startswith(b"HTTP/1.1 202 ")
        assert b"connection: close" in raw
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", running.ingress.port)


async def test_a_body_that_is_slow_to_read_is_refused_at_once() -> None:
    """An unclosed string of escaped quotes inside 101 arrays is the body of an event and of a
    batch.
    """
    body = b"[" * 101 + b'"' + b'\\"' * 450_000
    async with ingress_harness() as running:
        for content_type in (
            b"application/cloudevents+json",
            b"application/cloudevents-batch+json",
        ):
            status, refusal = await post(
                running, request(body, fields=((b"Content-Type", content_type),))
            )
            assert (400, "the message must not nest JSON deeper than 100 levels") == (
                status,
                refusal["detail"],
            )
