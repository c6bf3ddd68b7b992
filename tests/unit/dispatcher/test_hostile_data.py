"""Data and replies that are crafted to be slow to parse do not stop the dispatcher."""

import asyncio
import time

from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace.domain.record import Record
from headrace.domain.routing import Format, Reply
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import CHANNEL, DEAD, REPLY, SUBSCRIBER, dispatcher_harness

SLOW = b"[" * 101 + b'"' + b'\\"' * 450_000
"""An unclosed string inside 101 arrays, which takes quadratic time with a pattern that requires the
closing quote.
"""
STRUCTURED = ((b"content-type", b"application/cloudevents+json"),)


async def test_data_that_is_slow_to_read_is_delivered_in_the_json_format() -> None:
    """The ingress does not parse the data of a binary event, so the event is stored. A Trigger with
    `format: json` has to parse it.
    """
    async with dispatcher_harness() as harness:
        harness.start_worker(format=Format.JSON)
        await harness.store(
            CHANNEL, Record(None, SLOW, record_headers(("content-type", b"application/json")))
        )
        await harness.publish("next")
        await wait_until_async(
            lambda: harness.requests(SUBSCRIBER) == 2, what="both events are sent"
        )
        assert b'"data_base64":"' in harness.sender.sent[0].body


async def test_a_reply_that_is_slow_to_read_fails_the_delivery() -> None:
    """Up to 64 KiB of a reply are read."""
    async with dispatcher_harness() as harness:
        harness.start_worker(reply=Reply(url=REPLY), delivery=DeliveryPolicy(retry=0))
        harness.sender.script(
            SUBSCRIBER,
            Outcome(status=200, headers=STRUCTURED, body=SLOW[:65_536]),
            Outcome(status=202),
        )
        begun = time.thread_time()
        await harness.publish("a", "b")
        await wait_until_async(
            lambda: harness.records(DEAD) != [], what="the event of the bad reply is a dead letter"
        )
        await asyncio.sleep(0)
        assert 1.0 > time.thread_time() - begun
        assert 0 == harness.requests(REPLY)
